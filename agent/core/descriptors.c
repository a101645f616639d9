#define _GNU_SOURCE

#include "descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>


/* Of the kernel, where nobody has set another (fs.nr_open). */
#define DESCRIPTORS_MOST  1048576


void
descriptors_raise(void)
{
    struct rlimit  limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == -1) {
        return;
    }

    limit.rlim_cur = limit.rlim_max < DESCRIPTORS_MOST ? limit.rlim_max
                                                       : DESCRIPTORS_MOST;
    (void) setrlimit(RLIMIT_NOFILE, &limit);
}


unsigned long
descriptors_max(void)
{
    struct rlimit  limit;

    return getrlimit(RLIMIT_NOFILE, &limit) == 0
           ? (unsigned long) limit.rlim_cur : 1024;
}


int
descriptors_short(int errnum)
{
    return errnum == EMFILE || errnum == ENFILE || errnum == ENOBUFS
           || errnum == ENOMEM;
}


int
descriptors_are_short(void)
{
    int  fd = open("/", O_PATH | O_CLOEXEC), errnum = errno;

    if (fd == -1) {
        return descriptors_short(errnum);
    }

    (void) close(fd);

    return 0;
}
