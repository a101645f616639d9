#define _GNU_SOURCE

#include "host_kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>


#define HOST_KVM  "/dev/kvm"


#if defined(__x86_64__) || defined(__i386__)

/* " svm", and not " svm_lock". */
static int
host_has_word(const char *line, const char *word)
{
    const char  *p = line;
    size_t       len = strlen(word);

    while ((p = strstr(p, word)) != NULL) {
        p += len;

        if (*p == ' ' || *p == '\n' || *p == '\0') {
            return 1;
        }
    }

    return 0;
}

#endif


/*
 * /dev/kvm alone says nothing: on some machines it opens and guests hang.
 * Only a processor that has virtualization, and says so, is used.
 */
int
host_kvm_flag(void)
{
#if defined(__x86_64__) || defined(__i386__)
    int       found = 0;
    char     *line = NULL;
    FILE     *cpuinfo;
    size_t    size = 0;

    cpuinfo = fopen("/proc/cpuinfo", "re");
    if (cpuinfo == NULL) {
        return 0;
    }

    while (!found && getline(&line, &size, cpuinfo) > 0) {
        found = strncmp(line, "flags", 5) == 0
                && (host_has_word(line, " vmx") || host_has_word(line, " svm"));
    }

    free(line);
    (void) fclose(cpuinfo);

    return found;
#else
    return 1;
#endif
}


int
host_kvm_seen(void)
{
    return access(HOST_KVM, F_OK) == 0;
}


/* For qemu_user_run(). */
static int
host_kvm_try(const void *arg)
{
    int  fd = open(HOST_KVM, O_RDWR | O_CLOEXEC);

    (void) arg;

    return fd == -1 ? errno
           : ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION ? 0 : ENODEV;
}


int
host_kvm_open_as(const qemu_user_t *user)
{
    int  rc = qemu_user_run(user, host_kvm_try, NULL);

    /* nobody can say that he could; that he could not, its mode says */
    return rc == -1 && user->uid != 0
           && qemu_user_may(user, HOST_KVM, R_OK | W_OK) == 0 ? EACCES : rc;
}
