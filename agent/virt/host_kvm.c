#define _GNU_SOURCE

#include "host_kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/kvm.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>


#define HOST_KVM     "/dev/kvm"
#define HOST_GROUPS  256

/* Of the child: it could not become that user. */
#define HOST_UNTRIED  255


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


/* All that libvirt gives a QEMU of this user: his groups, and gid. */
static int
host_groups(uid_t uid, gid_t gid, gid_t *groups)
{
    int             n = HOST_GROUPS - 1;
    char            text[4096];
    struct passwd   entry, *user = NULL;

    if (getpwuid_r(uid, &entry, text, sizeof(text), &user) != 0
        || user == NULL
        || getgrouplist(user->pw_name, user->pw_gid, groups, &n) == -1)
    {
        n = 0;
    }

    groups[n] = gid;

    return n + 1;
}


/*
 * In a child of a process with threads: system calls only, and not by the C
 * library, which would have the threads follow.
 */
static void
host_kvm_child(uid_t uid, gid_t gid, const gid_t *groups, int n)
{
    int  fd;

    if (syscall(SYS_setgroups, (long) n, groups) != 0
        || syscall(SYS_setresgid, (long) gid, (long) gid, (long) gid) != 0
        || syscall(SYS_setresuid, (long) uid, (long) uid, (long) uid) != 0)
    {
        _exit(HOST_UNTRIED);
    }

    fd = open(HOST_KVM, O_RDWR | O_CLOEXEC);

    _exit(fd == -1 ? errno
          : ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION ? 0 : ENODEV);
}


int
host_kvm_open_as(uid_t uid, gid_t gid)
{
    int    n, status;
    gid_t  groups[HOST_GROUPS];
    pid_t  pid;

    n = host_groups(uid, gid, groups);
    pid = fork();

    if (pid == 0) {
        host_kvm_child(uid, gid, groups, n);
    }

    if (pid == -1) {
        return -1;
    }

    while (waitpid(pid, &status, 0) == -1) {
        if (errno != EINTR) {
            return -1;
        }
    }

    return WIFEXITED(status) && WEXITSTATUS(status) != HOST_UNTRIED
           ? WEXITSTATUS(status) : -1;
}
