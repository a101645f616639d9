#define _GNU_SOURCE

#include "hatch_file.h"
#include "hatch_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>


uint32_t
hatch_file_layout(const uint32_t *numbers, unsigned n)
{
    unsigned  i, shift;
    uint32_t  hash = 2166136261u;

    for (i = 0; i < n; i++) {
        for (shift = 0; shift < 32; shift += 8) {
            hash = (hash ^ ((numbers[i] >> shift) & 0xff)) * 16777619u;
        }
    }

    return hash;
}


static int
hatch_file_check_head(const hatch_file_head_t *head,
    const hatch_file_kind_t *kind, const char *path, off_t size,
    uint32_t min_slots, hatch_err_t *err)
{
    if (head->magic != kind->magic) {
        return hatch_err_set(err, HATCH_ERR_FOREIGN,
                             "%s \"%s\" is not a Hatch %s; remove the file or "
                             "name another", kind->what, path, kind->what);
    }

    if (head->version != kind->version) {
        return hatch_err_set(err, HATCH_ERR_VERSION,
                             "%s \"%s\" has version %u, this build speaks %u; "
                             "run the same version of nginx module and agent",
                             kind->what, path, (unsigned) head->version,
                             (unsigned) kind->version);
    }

    if (head->layout != kind->layout()) {
        return hatch_err_set(err, HATCH_ERR_LAYOUT,
                             "%s \"%s\" has layout %08x, this build %08x; "
                             "build nginx module and agent from one source",
                             kind->what, path, (unsigned) head->layout,
                             (unsigned) kind->layout());
    }

    if (head->slots == 0 || head->slots > kind->slots_max
        || head->size != kind->size(head->slots))
    {
        return hatch_err_set(err, HATCH_ERR_CORRUPT,
                             "%s \"%s\" is corrupted: its head says %u slots "
                             "and %llu bytes; restart its owner",
                             kind->what, path, (unsigned) head->slots,
                             (unsigned long long) head->size);
    }

    if ((uint64_t) size < head->size) {
        return hatch_err_set(err, HATCH_ERR_TRUNCATED,
                             "%s \"%s\" is truncated: %lld of %llu bytes; "
                             "restart its owner", kind->what, path,
                             (long long) size,
                             (unsigned long long) head->size);
    }

    if (head->slots < min_slots) {
        return hatch_err_set(err, HATCH_ERR_SLOTS,
                             "%s \"%s\" has too few slots: %u, needed %u; "
                             "set \"vms\" of hatch_zone and \"zone_vms\" of "
                             "the agent to the same number", kind->what, path,
                             (unsigned) head->slots, (unsigned) min_slots);
    }

    return 0;
}


static int
hatch_file_map(hatch_file_t *file, const hatch_file_kind_t *kind,
    const char *path, int fd, const struct stat *st, int writable,
    size_t size, uint32_t slots, hatch_err_t *err)
{
    void  *base;

    base = mmap(NULL, size, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                MAP_SHARED, fd, 0);

    if (base == MAP_FAILED) {
        return hatch_err_errno(err, errno, "cannot map %s \"%s\"", kind->what,
                               path);
    }

    (void) hatch_guard_add(base, size);

    file->base = base;
    file->size = size;
    file->slots = slots;
    file->writable = writable;
    file->fd = fd;
    file->dev = st->st_dev;
    file->ino = st->st_ino;

    return 0;
}


static int
hatch_file_open_fd(hatch_file_t *file, const hatch_file_kind_t *kind,
    const char *path, int fd, int writable, uint32_t min_slots,
    hatch_err_t *err)
{
    int                rc;
    ssize_t            n;
    struct stat        st;
    hatch_file_head_t  head;

    if (fstat(fd, &st) == -1) {
        return hatch_err_errno(err, errno, "cannot stat %s \"%s\"",
                               kind->what, path);
    }

    if (!S_ISREG(st.st_mode)) {
        return hatch_err_set(err, HATCH_ERR_FOREIGN,
                             "%s \"%s\" is not a regular file", kind->what,
                             path);
    }

    if (st.st_size == 0) {
        return hatch_err_set(err, HATCH_ERR_EMPTY,
                             "%s \"%s\" is empty; restart its owner",
                             kind->what, path);
    }

    memset(&head, 0, sizeof(head));
    n = pread(fd, &head, sizeof(head), 0);

    if (n < 0) {
        return hatch_err_errno(err, errno, "cannot read %s \"%s\"",
                               kind->what, path);
    }

    /* a short file that begins with our magic was ours once */
    if ((size_t) n < sizeof(head) && head.magic == kind->magic) {
        return hatch_err_set(err, HATCH_ERR_TRUNCATED,
                             "%s \"%s\" is truncated: %lld bytes; restart its "
                             "owner", kind->what, path,
                             (long long) st.st_size);
    }

    rc = hatch_file_check_head(&head, kind, path, st.st_size, min_slots, err);
    if (rc != 0) {
        return rc;
    }

    return hatch_file_map(file, kind, path, fd, &st, writable, head.size,
                          head.slots, err);
}


int
hatch_file_open(hatch_file_t *file, const hatch_file_kind_t *kind,
    const char *path, int writable, uint32_t min_slots, hatch_err_t *err)
{
    int  fd, rc;

    /* O_NONBLOCK: a FIFO in its place must not hang nginx */
    fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);

    if (fd == -1) {
        return hatch_err_errno(err, errno, "cannot open %s \"%s\"",
                               kind->what, path);
    }

    rc = hatch_file_open_fd(file, kind, path, fd, writable, min_slots, err);

    if (rc != 0) {
        (void) close(fd);
        return rc;
    }

    if (!writable) {
        (void) close(fd);
        file->fd = -1;
    }

    return 0;
}


static int
hatch_file_fill(const hatch_file_kind_t *kind, const char *temp, int fd,
    uint32_t slots, mode_t mode, uid_t uid, gid_t gid, hatch_err_t *err)
{
    int                errnum;
    hatch_file_head_t  head;

    memset(&head, 0, sizeof(head));
    head.magic = kind->magic;
    head.version = kind->version;
    head.layout = kind->layout();
    head.size = kind->size(slots);
    head.slots = slots;

    /* all blocks now: on a full disk a later write would be a SIGBUS */
    errnum = posix_fallocate(fd, 0, (off_t) head.size);
    if (errnum != 0) {
        return hatch_err_errno(err, errnum, "cannot allocate %llu bytes for "
                               "\"%s\"", (unsigned long long) head.size, temp);
    }

    if (pwrite(fd, &head, sizeof(head), 0) != (ssize_t) sizeof(head)
        || fchown(fd, uid, gid) == -1 || fchmod(fd, mode) == -1)
    {
        return hatch_err_errno(err, errno, "cannot write \"%s\"", temp);
    }

    return 0;
}


int
hatch_file_create(hatch_file_t *file, const hatch_file_kind_t *kind,
    const char *path, uint32_t slots, mode_t mode, uid_t uid, gid_t gid,
    hatch_err_t *err)
{
    return hatch_file_create_filled(file, kind, path, slots, mode, uid, gid,
                                    NULL, NULL, err);
}


int
hatch_file_create_filled(hatch_file_t *file, const hatch_file_kind_t *kind,
    const char *path, uint32_t slots, mode_t mode, uid_t uid, gid_t gid,
    void (*fill)(hatch_file_t *file, const void *data), const void *data,
    hatch_err_t *err)
{
    int   fd, rc, n;
    char  temp[PATH_MAX];

    n = snprintf(temp, sizeof(temp), "%s.XXXXXX", path);
    if (n < 0 || (size_t) n >= sizeof(temp)) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "the path of the %s is "
                             "too long", kind->what);
    }

    fd = mkostemp(temp, O_CLOEXEC);
    if (fd == -1) {
        return hatch_err_errno(err, errno, "cannot create %s \"%s\"",
                               kind->what, path);
    }

    rc = hatch_file_fill(kind, temp, fd, slots, mode, uid, gid, err);

    if (rc == 0) {
        rc = hatch_file_open_fd(file, kind, temp, fd, 1, slots, err);
    }

    if (rc != 0) {
        (void) unlink(temp);
        (void) close(fd);
        return rc;
    }

    if (fill != NULL) {
        fill(file, data);
    }

    /* the lock goes with the file: nobody else can take it in between */
    (void) flock(fd, LOCK_EX | LOCK_NB);

    if (rename(temp, path) == -1) {
        rc = hatch_err_errno(err, errno, "cannot rename \"%s\" to \"%s\"",
                             temp, path);
        (void) unlink(temp);
        hatch_file_close(file);
    }

    return rc;
}


/* Somebody of another version may own it: the lock is the same. */
static int
hatch_file_is_held(const char *path)
{
    int  fd, held;

    fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    held = fd != -1 && flock(fd, LOCK_EX | LOCK_NB) == -1
           && errno == EWOULDBLOCK;

    if (fd != -1) {
        (void) close(fd);
    }

    return held;
}


static int
hatch_file_busy(const hatch_file_kind_t *kind, const char *path,
    hatch_err_t *err)
{
    return hatch_err_set(err, HATCH_ERR_BUSY,
                         "%s \"%s\" is in use by another process; stop it "
                         "or name another file", kind->what, path);
}


int
hatch_file_may_replace(const hatch_file_kind_t *kind, const char *path,
    const hatch_err_t *why, hatch_err_t *err)
{
    struct stat  st;

    switch (why->code) {

    case HATCH_ERR_ABSENT:
        if (lstat(path, &st) == -1) {
            return 0;
        }

        return hatch_err_set(err, HATCH_ERR_FOREIGN, "%s \"%s\" is a symbolic "
                             "link to nothing; remove it or name another "
                             "file", kind->what, path);

    case HATCH_ERR_EMPTY:
    case HATCH_ERR_TRUNCATED:
    case HATCH_ERR_VERSION:
    case HATCH_ERR_LAYOUT:
    case HATCH_ERR_SLOTS:
    case HATCH_ERR_CORRUPT:
        return hatch_file_is_held(path) ? hatch_file_busy(kind, path, err) : 0;

    default:
        if (err != NULL) {
            *err = *why;
        }

        return (int) why->code;
    }
}


int
hatch_file_lock(hatch_file_t *file, const hatch_file_kind_t *kind,
    const char *path, hatch_err_t *err)
{
    if (flock(file->fd, LOCK_EX | LOCK_NB) == 0) {
        return 0;
    }

    if (errno == EWOULDBLOCK) {
        return hatch_file_busy(kind, path, err);
    }

    return hatch_err_errno(err, errno, "cannot lock %s \"%s\"", kind->what,
                           path);
}


void
hatch_file_unlock(hatch_file_t *file)
{
    (void) flock(file->fd, LOCK_UN);
}


void
hatch_file_relock(hatch_file_t *file)
{
    (void) flock(file->fd, LOCK_EX | LOCK_NB);
}


void
hatch_file_close(hatch_file_t *file)
{
    if (file->base == NULL) {
        return;
    }

    hatch_guard_remove(file->base);
    (void) munmap(file->base, file->size);

    if (file->fd >= 0) {
        (void) close(file->fd);
    }

    memset(file, 0, sizeof(*file));
    file->fd = -1;
}


int
hatch_file_replaced(const hatch_file_t *file, const char *path)
{
    struct stat               st;
    const hatch_file_head_t  *head = file->base;

    /*
     * With zeroes over it (hatch_guard.h) it holds the file no more, whose
     * inode number may be that of another one by now.
     */
    return __atomic_load_n(&head->magic, __ATOMIC_RELAXED) == 0
           || stat(path, &st) == -1
           || st.st_dev != file->dev
           || st.st_ino != file->ino
           || (uint64_t) st.st_size < file->size;
}
