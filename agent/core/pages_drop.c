/* Another process's pages are dropped: it makes the system call itself. */

#define _GNU_SOURCE

#include "pages.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>


#ifdef __x86_64__

#define DROP_THREADS  4096
#define DROP_VDSO     65536


/* All of its threads, which stand still. */
typedef struct {
    pid_t   pid;
    size_t  n;
    pid_t   thread[DROP_THREADS];
} drop_t;


static int
drop_has(const drop_t *drop, pid_t thread)
{
    size_t  i;

    for (i = 0; i < drop->n; i++) {
        if (drop->thread[i] == thread) {
            return 1;
        }
    }

    return 0;
}


/* Until it stands; one that ends meanwhile is none. */
static int
drop_stop(drop_t *drop, pid_t thread)
{
    int  status;

    if (ptrace(PTRACE_SEIZE, thread, NULL, PTRACE_O_EXITKILL) == -1) {
        return errno == ESRCH ? 0 : -1;
    }

    if (ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) == -1
        || waitpid(thread, &status, __WALL) == -1)
    {
        return errno == ESRCH || errno == ECHILD ? 0 : -1;
    }

    if (WIFSTOPPED(status)) {
        drop->thread[drop->n++] = thread;
    }

    return 0;
}


/* A thread that is not stopped yet may begin another: until there is none. */
static int
drop_stop_all(drop_t *drop)
{
    DIR            *dir;
    int             news, rc = 0;
    char            path[64];
    pid_t           thread;
    struct dirent  *e;

    (void) snprintf(path, sizeof(path), "/proc/%d/task", (int) drop->pid);

    do {
        news = 0;
        dir = opendir(path);

        while (dir != NULL && rc == 0 && (e = readdir(dir)) != NULL) {
            thread = (pid_t) atoi(e->d_name);

            if (isdigit((unsigned char) e->d_name[0])
                && !drop_has(drop, thread))
            {
                rc = drop->n < DROP_THREADS ? drop_stop(drop, thread) : -1;
                news = 1;
            }
        }

        if (dir == NULL) {
            return -1;
        }

        (void) closedir(dir);
    } while (rc == 0 && news);

    return rc;
}


static void
drop_let_go(const drop_t *drop)
{
    size_t  i;

    for (i = 0; i < drop->n; i++) {
        (void) ptrace(PTRACE_DETACH, drop->thread[i], NULL, NULL);
    }
}


/* Where in the process a "syscall" stands: in its vDSO, there is always one. */
static uint64_t
drop_find_syscall(pid_t pid)
{
    char         path[64], line[512];
    FILE        *maps;
    size_t       n;
    uint64_t     start, end, found = 0;
    hatch_err_t  err;

    static const unsigned char  code[2] = { 0x0f, 0x05 };
    unsigned char               text[DROP_VDSO], *at;

    (void) snprintf(path, sizeof(path), "/proc/%d/maps", (int) pid);
    maps = fopen(path, "re");

    while (maps != NULL && found == 0
           && fgets(line, sizeof(line), maps) != NULL)
    {
        if (strstr(line, "[vdso]") == NULL
            || sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) != 2)
        {
            continue;
        }

        n = end - start < sizeof(text) ? (size_t) (end - start)
                                       : sizeof(text);

        if (pages_read(pid, start, text, n, &err) == 0) {
            at = memmem(text, n, code, sizeof(code));
            found = at != NULL ? start + (uint64_t) (at - text) : 0;
        }
    }

    if (maps != NULL) {
        (void) fclose(maps);
    }

    return found;
}


/*
 * One system call by a thread that stands.  Its registers are as before
 * afterwards, so that a call of its own that we interrupted is made again.
 */
static int
drop_call(pid_t thread, uint64_t code, const pages_area_t *area)
{
    int                      status, rc = -1;
    struct user_regs_struct  before, regs;

    if (ptrace(PTRACE_GETREGS, thread, NULL, &before) == -1) {
        return -1;
    }

    regs = before;
    regs.rip = code;
    regs.rax = SYS_madvise;
    regs.orig_rax = (unsigned long long) -1;    /* nothing to make again */
    regs.rdi = area->start;
    regs.rsi = area->end - area->start;
    regs.rdx = MADV_DONTNEED;

    if (ptrace(PTRACE_SETREGS, thread, NULL, &regs) == 0
        && ptrace(PTRACE_SINGLESTEP, thread, NULL, NULL) == 0
        && waitpid(thread, &status, __WALL) == thread
        && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP
        && ptrace(PTRACE_GETREGS, thread, NULL, &regs) == 0)
    {
        rc = (int64_t) regs.rax == 0 ? 0 : -1;
        errno = (int) -(int64_t) regs.rax;
    }

    /* a process with registers of ours must not go on */
    if (ptrace(PTRACE_SETREGS, thread, NULL, &before) == -1) {
        (void) kill(thread, SIGKILL);
        return -1;
    }

    return rc;
}


int
pages_drop(const pages_t *pages, int fd, hatch_err_t *err)
{
    int       rc = 0;
    drop_t    drop;
    unsigned  i;
    uint64_t  code = drop_find_syscall(pages->pid);

    drop.pid = pages->pid;
    drop.n = 0;

    if (code == 0 || drop_stop_all(&drop) != 0) {
        rc = hatch_err_errno(err, code == 0 ? EACCES : errno, "cannot stop "
                             "process %d", (int) pages->pid);
    }

    if (rc == 0) {
        rc = (int) (pages_changed(pages, fd, err) < 0 ? err->code : 0);
    }

    for (i = 0; rc == 0 && i < pages->n; i++) {
        if (drop_call(drop.thread[0], code, &pages->area[i]) != 0) {
            rc = hatch_err_errno(err, errno, "process %d cannot drop its "
                                 "memory", (int) pages->pid);
        }
    }

    drop_let_go(&drop);

    return rc;
}

#else

int
pages_drop(const pages_t *pages, int fd, hatch_err_t *err)
{
    (void) pages;
    (void) fd;

    return hatch_err_set(err, HATCH_ERR_INVALID, "dropping a guest's memory "
                         "is not known for this processor");
}

#endif
