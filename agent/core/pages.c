#define _GNU_SOURCE

#include "pages.h"
#include "cleanup.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>


/* What is read of the process, and written, at once. */
#define PAGES_PIECE    256

/* Entries of the page map that are read at once. */
#define PAGES_MAP      512

/* So much may wait for the disk, bytes, twice. */
#define PAGES_WAITING  (32 * 1024 * 1024)

#define PAGES_CMDLINE  65536

/* Bits of /proc/PID/pagemap. */
#define PAGES_PRESENT  (UINT64_C(1) << 63)
#define PAGES_SWAPPED  (UINT64_C(1) << 62)
#define PAGES_FILE     (UINT64_C(1) << 61)


/* A run of changed pages, of one area. */
typedef struct {
    uint64_t  address;
    uint64_t  offset;           /* in the file */
    size_t    len;              /* bytes, at most PAGES_PIECE pages */
} pages_run_t;

typedef int (*pages_each_t)(void *ctx, const pages_run_t *run,
    hatch_err_t *err);


/* --- which process --- */

static int
pages_names(pid_t pid, const char *file, char *text)
{
    int      fd;
    char     path[64];
    ssize_t  n = -1;

    (void) snprintf(path, sizeof(path), "/proc/%d/cmdline", (int) pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd != -1) {
        n = read(fd, text, PAGES_CMDLINE);
        (void) close(fd);
    }

    return n > 0 && memmem(text, (size_t) n, file, strlen(file)) != NULL;
}


/* Only one that maps it counts: others may be told of it. */
static int
pages_maps(pid_t pid, const char *file)
{
    int                  found = 0;
    char                 path[64];
    FILE                *maps;
    size_t               size = 0;
    cleanup_free char   *line = NULL;

    (void) snprintf(path, sizeof(path), "/proc/%d/maps", (int) pid);
    maps = fopen(path, "re");

    while (maps != NULL && !found && getline(&line, &size, maps) != -1) {
        line[strcspn(line, "\n")] = '\0';
        found = strchr(line, '/') != NULL
                && strcmp(strchr(line, '/'), file) == 0;
    }

    if (maps != NULL) {
        (void) fclose(maps);
    }

    return found;
}


int
pages_find(const char *file, pid_t *pid, hatch_err_t *err)
{
    DIR                *proc;
    pid_t               found = 0;
    struct dirent      *e;
    cleanup_free char  *text = malloc(PAGES_CMDLINE);

    if (text == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot look for a process");
    }

    if (*pid != 0 && pages_names(*pid, file, text) && pages_maps(*pid, file)) {
        return 0;
    }

    proc = opendir("/proc");

    while (proc != NULL && found == 0 && (e = readdir(proc)) != NULL) {
        if (isdigit((unsigned char) e->d_name[0])
            && pages_names((pid_t) atoi(e->d_name), file, text)
            && pages_maps((pid_t) atoi(e->d_name), file))
        {
            found = (pid_t) atoi(e->d_name);
        }
    }

    if (proc != NULL) {
        (void) closedir(proc);
    }

    if (found == 0) {
        return hatch_err_set(err, HATCH_ERR_NOT_FOUND, "no process maps "
                             "\"%s\"", file);
    }

    *pid = found;

    return 0;
}


/* --- its mapping --- */

static int
pages_read_maps(pages_t *pages, const char *file, hatch_err_t *err)
{
    int                 at;
    char                path[64], perms[8];
    FILE               *maps;
    size_t              size = 0;
    pages_area_t        a;
    cleanup_free char  *line = NULL;

    (void) snprintf(path, sizeof(path), "/proc/%d/maps", (int) pages->pid);
    maps = fopen(path, "re");

    if (maps == NULL) {
        return hatch_err_errno(err, errno, "cannot read \"%s\"", path);
    }

    while (getline(&line, &size, maps) != -1) {
        line[strcspn(line, "\n")] = '\0';

        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %*s %n",
                   &a.start, &a.end, perms, &a.offset, &at) != 4
            || strcmp(line + at, file) != 0)
        {
            continue;
        }

        if (perms[3] != 'p' || pages->n == PAGES_AREAS) {
            (void) fclose(maps);
            return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" is mapped in "
                                 "a way that is not expected", file);
        }

        pages->area[pages->n++] = a;
    }

    (void) fclose(maps);

    return 0;
}


/* The file from its beginning to its end, once. */
static int
pages_is_whole(const pages_t *pages, uint64_t size)
{
    unsigned  i;
    uint64_t  end = 0;

    for (i = 0; i < pages->n; i++) {
        if (pages->area[i].offset != end) {
            return 0;
        }

        end += pages->area[i].end - pages->area[i].start;
    }

    return end == size;
}


int
pages_open(pages_t *pages, pid_t pid, const char *file, uint64_t size,
    hatch_err_t *err)
{
    int   rc;
    char  path[64];

    memset(pages, 0, sizeof(*pages));
    pages->pid = pid;

    rc = pages_read_maps(pages, file, err);

    if (rc == 0 && pages->n == 0) {
        rc = hatch_err_set(err, HATCH_ERR_NOT_FOUND, "process %d does not map "
                           "\"%s\"", (int) pid, file);
    }

    if (rc == 0 && !pages_is_whole(pages, size)) {
        rc = hatch_err_set(err, HATCH_ERR_INVALID, "process %d maps \"%s\" "
                           "not whole", (int) pid, file);
    }

    if (rc != 0) {
        return rc;
    }

    (void) snprintf(path, sizeof(path), "/proc/%d/pagemap", (int) pid);
    pages->pagemap = open(path, O_RDONLY | O_CLOEXEC);

    return pages->pagemap != -1
           ? 0 : hatch_err_errno(err, errno, "cannot read \"%s\"", path);
}


void
pages_close(pages_t *pages)
{
    (void) close(pages->pagemap);
    pages->pagemap = -1;
}


int
pages_read(pid_t pid, uint64_t address, void *to, size_t len, hatch_err_t *err)
{
    ssize_t       n;
    struct iovec  mine = { to, len };
    struct iovec  other = { (void *) (uintptr_t) address, len };

    n = process_vm_readv(pid, &mine, 1, &other, 1, 0);

    if (n == (ssize_t) len) {
        return 0;
    }

    return hatch_err_errno(err, n == -1 ? errno : EFAULT, "cannot read memory "
                           "of process %d", (int) pid);
}


int
pages_write(pid_t pid, uint64_t address, const void *from, size_t len,
    hatch_err_t *err)
{
    int      fd;
    char     path[64];
    ssize_t  n = -1;

    /* also where the process itself may not write */
    (void) snprintf(path, sizeof(path), "/proc/%d/mem", (int) pid);
    fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd != -1) {
        n = pwrite(fd, from, len, (off_t) address);
    }

    if (n != (ssize_t) len) {
        (void) hatch_err_errno(err, n == -1 ? errno : EFAULT, "cannot write "
                               "memory of process %d", (int) pid);
    }

    if (fd != -1) {
        (void) close(fd);
    }

    return n == (ssize_t) len ? 0 : (int) err->code;
}


/* --- the changed ones --- */

static int
pages_is_changed(uint64_t entry)
{
    return (entry & (PAGES_PRESENT | PAGES_SWAPPED)) != 0
           && (entry & PAGES_FILE) == 0;
}


/* The runs among n entries of one area, which begin at address. */
static int
pages_runs(const pages_area_t *area, uint64_t address, const uint64_t *map,
    size_t n, pages_each_t each, void *ctx, hatch_err_t *err)
{
    int          rc;
    size_t       i, j;
    pages_run_t  run;

    for (i = 0; i < n; i = j) {
        for (j = i; j < n && j - i < PAGES_PIECE && pages_is_changed(map[j]);
             j++)
        {
            /* void */
        }

        if (j == i) {
            j++;
            continue;
        }

        run.address = address + i * PAGES_SIZE;
        run.offset = area->offset + run.address - area->start;
        run.len = (j - i) * PAGES_SIZE;

        rc = each(ctx, &run, err);
        if (rc != 0) {
            return rc;
        }
    }

    return 0;
}


static int
pages_each_run(const pages_t *pages, pages_each_t each, void *ctx,
    hatch_err_t *err)
{
    int                  rc = 0;
    size_t               n;
    unsigned             i;
    uint64_t             at, map[PAGES_MAP];
    const pages_area_t  *area;

    for (i = 0; rc == 0 && i < pages->n; i++) {
        area = &pages->area[i];

        for (at = area->start; rc == 0 && at < area->end;
             at += n * PAGES_SIZE)
        {
            n = (area->end - at) / PAGES_SIZE;
            n = n < PAGES_MAP ? n : PAGES_MAP;

            if (pread(pages->pagemap, map, n * sizeof(map[0]),
                      (off_t) (at / PAGES_SIZE * sizeof(map[0])))
                != (ssize_t) (n * sizeof(map[0])))
            {
                return hatch_err_set(err, HATCH_ERR_SYSTEM, "cannot read the "
                                     "page map of process %d",
                                     (int) pages->pid);
            }

            rc = pages_runs(area, at, map, n, each, ctx, err);
        }
    }

    return rc;
}


/* --- into the file --- */

typedef struct {
    const pages_t  *pages;
    int             fd;
    pages_stop_t    stop;
    void           *ctx;
    uint64_t        written;    /* pages */
    uint64_t        from;       /* of what waits for the disk */
    uint64_t        to;
    uint64_t        before;     /* where what waited before begins */
    uint64_t        before_to;
    char            buffer[PAGES_PIECE * PAGES_SIZE];
    char            file[PAGES_PIECE * PAGES_SIZE];
} pages_job_t;


static int
pages_is_zero(const char *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PAGES_SIZE - 1) == 0;
}


/* Lets the disk begin with what was written, and waits for what was before. */
static void
pages_pace(pages_job_t *job, uint64_t offset, size_t len)
{
    if (job->to == 0) {
        job->from = offset;
    }

    job->to = offset + len;

    if (job->written * PAGES_SIZE % PAGES_WAITING >= len) {
        return;
    }

    if (job->before_to > job->before) {
        (void) sync_file_range(job->fd, (off_t) job->before,
                               (off_t) (job->before_to - job->before),
                               SYNC_FILE_RANGE_WAIT_BEFORE
                               | SYNC_FILE_RANGE_WRITE
                               | SYNC_FILE_RANGE_WAIT_AFTER);
    }

    (void) sync_file_range(job->fd, (off_t) job->from,
                           (off_t) (job->to - job->from),
                           SYNC_FILE_RANGE_WRITE);
    job->before = job->from;
    job->before_to = job->to;
    job->to = 0;
}


/* Pages that are all zeroes, or all not. */
static int
pages_put(pages_job_t *job, const char *from, uint64_t offset, size_t len,
    int zero, hatch_err_t *err)
{
    ssize_t  n;

    if (zero) {
        if (fallocate(job->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      (off_t) offset, (off_t) len) == 0)
        {
            return 0;
        }

        if (errno != EOPNOTSUPP) {
            return hatch_err_errno(err, errno, "cannot write the memory");
        }
    }

    n = pwrite(job->fd, from, len, (off_t) offset);

    if (n != (ssize_t) len) {
        return hatch_err_errno(err, n == -1 ? errno : ENOSPC, "cannot write "
                               "the memory");
    }

    job->written += len / PAGES_SIZE;
    pages_pace(job, offset, len);

    return 0;
}


static int
pages_save_run(void *ctx, const pages_run_t *run, hatch_err_t *err)
{
    int           rc, zero;
    size_t        i, j;
    pages_job_t  *job = ctx;

    if (job->stop != NULL && job->stop(job->ctx)) {
        return hatch_err_set(err, HATCH_ERR_BUSY, "it was cancelled");
    }

    rc = pages_read(job->pages->pid, run->address, job->buffer, run->len, err);

    for (i = 0; rc == 0 && i < run->len; i = j) {
        zero = pages_is_zero(job->buffer + i);

        for (j = i + PAGES_SIZE;
             j < run->len && pages_is_zero(job->buffer + j) == zero;
             j += PAGES_SIZE)
        {
            /* void */
        }

        rc = pages_put(job, job->buffer + i, run->offset + i, j - i, zero,
                       err);
    }

    return rc;
}


int
pages_save(const pages_t *pages, int fd, pages_stop_t stop, void *ctx,
    uint64_t *written, hatch_err_t *err)
{
    int                        rc;
    cleanup_free pages_job_t  *job = calloc(1, sizeof(*job));

    if (job == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot write the memory");
    }

    job->pages = pages;
    job->fd = fd;
    job->stop = stop;
    job->ctx = ctx;

    rc = pages_each_run(pages, pages_save_run, job, err);
    *written = job->written;

    if (rc == 0 && fdatasync(fd) == -1) {
        rc = hatch_err_errno(err, errno, "cannot write the memory");
    }

    return rc;
}


/* --- looking at them --- */

static int
pages_compare_run(void *ctx, const pages_run_t *run, hatch_err_t *err)
{
    int           rc = 0;
    pages_job_t  *job = ctx;

    job->written += run->len / PAGES_SIZE;

    if (job->fd == -1) {
        return 0;
    }

    rc = pages_read(job->pages->pid, run->address, job->buffer, run->len, err);

    if (rc == 0 && pread(job->fd, job->file, run->len, (off_t) run->offset)
                   != (ssize_t) run->len)
    {
        rc = hatch_err_set(err, HATCH_ERR_TRUNCATED, "the memory image is too "
                           "short");
    }

    if (rc == 0 && memcmp(job->buffer, job->file, run->len) != 0) {
        rc = hatch_err_set(err, HATCH_ERR_CORRUPT, "memory and memory image "
                           "differ at byte %" PRIu64, run->offset);
    }

    return rc;
}


int64_t
pages_changed(const pages_t *pages, int fd, hatch_err_t *err)
{
    cleanup_free pages_job_t  *job = calloc(1, sizeof(*job));

    if (job == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot look at the memory");
    }

    job->pages = pages;
    job->fd = fd;

    if (pages_each_run(pages, pages_compare_run, job, err) != 0) {
        return (int64_t) err->code;
    }

    return (int64_t) job->written;
}
