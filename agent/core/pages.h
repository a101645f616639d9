/*
 * The memory of another process that is a private mapping of a file, as QEMU's
 * of its guest is (vm/memory.h).  A page that the process has written to since
 * is a copy of its own ("changed"); all others are the file's.
 *
 * Nothing here is safe while the process runs on: the caller has its guest
 * stand still.  Needs what the kernel asks of a debugger: CAP_SYS_PTRACE, or
 * the same user.  Any thread.
 */

#ifndef HATCH_AGENT_PAGES_H_INCLUDED
#define HATCH_AGENT_PAGES_H_INCLUDED

#include <stdint.h>
#include <sys/types.h>

#include "hatch_err.h"


#define PAGES_AREAS  8
#define PAGES_SIZE   4096u


/* A part of the mapping: the kernel may have split it. */
typedef struct {
    uint64_t  start;
    uint64_t  end;
    uint64_t  offset;           /* in the file */
} pages_area_t;


typedef struct {
    pid_t         pid;
    int           pagemap;      /* descriptor of /proc/PID/pagemap */
    unsigned      n;
    pages_area_t  area[PAGES_AREAS];
} pages_t;


/*
 * Finds the process's mapping of the file of that name and size, all of it.
 * HATCH_ERR_NOT_FOUND: it maps no such file; HATCH_ERR_DENIED: the kernel does
 * not let us look.  0: pages_close() follows.
 */
int pages_open(pages_t *pages, pid_t pid, const char *file, uint64_t size,
    hatch_err_t *err);
void pages_close(pages_t *pages);

/*
 * The process that maps that file, found by its command line: the one that was
 * in *pid, if it is still that one, else another one, which is put there.
 * HATCH_ERR_NOT_FOUND.
 */
int pages_find(const char *file, pid_t *pid, hatch_err_t *err);

/* Asked before each piece of at most 1 MiB: non-zero ends it. */
typedef int (*pages_stop_t)(void *ctx);

/*
 * Writes the changed pages to where they belong in the file, fd; zeroes become
 * a hole.  Not more than 64 MiB of what was written wait for the disk.
 * *written is the number of pages.  HATCH_ERR_BUSY if stop() ended it.  On disk
 * when it returns 0.
 */
int pages_save(const pages_t *pages, int fd, pages_stop_t stop, void *ctx,
    uint64_t *written, hatch_err_t *err);

/*
 * How many pages are changed; -1 with err.  With fd, they are compared to the
 * file's, and one that differs is HATCH_ERR_CORRUPT.
 */
int64_t pages_changed(const pages_t *pages, int fd, hatch_err_t *err);

/*
 * Has the process drop its changed pages (MADV_DONTNEED), so that its memory is
 * the file's, after all of its threads stand still and the pages were compared
 * to the file's once more.  Should this process end meanwhile, the other one is
 * killed with it (PTRACE_O_EXITKILL): it never runs on with registers of ours.
 * On failure it is as it was.  x86-64 only; elsewhere HATCH_ERR_INVALID.
 */
int pages_drop(const pages_t *pages, int fd, hatch_err_t *err);

/* A few bytes of the process's memory.  0, or an error. */
int pages_read(pid_t pid, uint64_t address, void *to, size_t len,
    hatch_err_t *err);
int pages_write(pid_t pid, uint64_t address, const void *from, size_t len,
    hatch_err_t *err);

#endif /* HATCH_AGENT_PAGES_H_INCLUDED */
