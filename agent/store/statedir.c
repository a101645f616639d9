#define _GNU_SOURCE

#include "statedir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>


/* By errno.  Under systemd all but a few folders are read only, or hidden. */
static int
statedir_refused(const char *doing, const char *path, hatch_err_t *err)
{
    if (errno == EROFS) {
        return hatch_err_set(err, HATCH_ERR_SYSTEM, "cannot %s \"%.200s\": "
                             "%s; \"hatch-agent --check\" says whether the "
                             "unit keeps the agent from it", doing, path,
                             strerror(errno));
    }

    return hatch_err_errno(err, errno, "cannot %s \"%s\"", doing, path);
}


static int
statedir_mkdir(const char *path, mode_t mode, hatch_err_t *err)
{
    char  dir[STATEDIR_PATH], *p;

    (void) snprintf(dir, sizeof(dir), "%s", path);

    for (p = strchr(dir + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
        *p = '\0';

        if (mkdir(dir, 0755) == -1 && errno != EEXIST) {
            return statedir_refused("create", dir, err);
        }

        *p = '/';
    }

    if (mkdir(dir, mode) == -1 && errno != EEXIST) {
        return statedir_refused("create", dir, err);
    }

    return 0;
}


/*
 * Of this process, and with it gone: kept open until then.  A record lock,
 * since the kernel tells who holds it.
 */
static int  statedir_locked = -1;


int
statedir_lock(const config_t *config, hatch_err_t *err)
{
    int           fd;
    char          path[STATEDIR_PATH];
    struct flock  lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    (void) snprintf(path, sizeof(path), "%s/lock", config->state_dir);

    if (statedir_locked != -1 || access(config->state_dir, F_OK) == -1) {
        return 0;
    }

    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd != -1 && fcntl(fd, F_SETLK, &lock) == 0) {
        statedir_locked = fd;
        return 0;
    }

    if (fd == -1 || (errno != EACCES && errno != EAGAIN)) {
        (void) statedir_refused("lock", path, err);

    } else {
        lock.l_pid = 0;
        (void) fcntl(fd, F_GETLK, &lock);
        (void) hatch_err_set(err, HATCH_ERR_BUSY, "\"state_dir\": \"%s\" is in "
                             "use by another agent, pid %d; stop it or name "
                             "another directory", config->state_dir,
                             (int) lock.l_pid);
    }

    if (fd != -1) {
        (void) close(fd);
    }

    return (int) err->code;
}


int
statedir_open(const config_t *config, hatch_err_t *err)
{
    int     rc;
    char    path[STATEDIR_PATH];
    size_t  i;

    static const struct {
        const char  *name;
        mode_t       mode;
    } folders[] = {
        { "images", 0700 }, { "templates", 0700 }, { "pending", 0700 },
        { "snapshots", 0711 }, { "disks", 0711 }, { "seeds", 0711 },
        { "saved", 0700 }, { "vms", 0700 }, { "running", 0700 },
        { "memory", 0711 }
    };

    rc = statedir_mkdir(config->image_dir, 0755, err);

    if (rc == 0) {
        rc = statedir_mkdir(config->state_dir, 0711, err);
    }

    if (rc == 0) {
        rc = statedir_lock(config, err);
    }

    for (i = 0; rc == 0 && i < sizeof(folders) / sizeof(folders[0]); i++) {
        statedir_path(config, folders[i].name, "", "", path);
        path[strlen(path) - 1] = '\0';
        rc = statedir_mkdir(path, folders[i].mode, err);
    }

    return rc;
}


static int
statedir_check_dir(const char *key, const char *path, int mode,
    hatch_err_t *err)
{
    struct stat  st;

    if (stat(path, &st) == -1) {
        return errno == ENOENT
               ? 0 : hatch_err_errno(err, errno, "\"%s\": \"%s\"", key, path);
    }

    if (!S_ISDIR(st.st_mode)) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\": \"%s\" is not "
                             "a directory", key, path);
    }

    return access(path, mode) == 0
           ? 0 : hatch_err_errno(err, errno, "\"%s\": \"%s\"", key, path);
}


int
statedir_check(const config_t *config, hatch_err_t *err)
{
    int  rc;

    rc = statedir_check_dir("state_dir", config->state_dir, R_OK | W_OK | X_OK,
                         err);

    return rc == 0 ? statedir_check_dir("image_dir", config->image_dir,
                                     R_OK | X_OK, err) : rc;
}


void
statedir_path(const config_t *config, const char *folder, const char *name,
    const char *suffix, char *path)
{
    (void) snprintf(path, STATEDIR_PATH, "%s/%s/%s%s", config->state_dir,
                    folder, name, suffix);
}


static int
statedir_sync_one(const char *path, hatch_err_t *err)
{
    int  fd, rc;

    fd = open(path, O_RDONLY | O_CLOEXEC);
    rc = fd != -1 ? fsync(fd) : -1;

    if (rc == -1) {
        rc = hatch_err_errno(err, errno, "cannot sync \"%s\"", path);
    }

    if (fd != -1) {
        (void) close(fd);
    }

    return rc;
}


/* A name is on disk only when its directory is. */
static int
statedir_sync_parent(const char *path, hatch_err_t *err)
{
    char  dir[STATEDIR_PATH];

    (void) snprintf(dir, sizeof(dir), "%s", path);
    *strrchr(dir, '/') = '\0';

    return statedir_sync_one(dir, err);
}


int
statedir_sync(const char *path, hatch_err_t *err)
{
    int  rc = statedir_sync_one(path, err);

    return rc == 0 ? statedir_sync_parent(path, err) : rc;
}


static int
statedir_write_all(int fd, const char *text, size_t len)
{
    ssize_t  n;

    while (len != 0) {
        n = write(fd, text, len);

        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }

            return -1;
        }

        text += n;
        len -= (size_t) n;
    }

    return fsync(fd);
}


int
statedir_write(const char *path, const char *text, size_t len, hatch_err_t *err)
{
    int   fd, rc = 0, is_new = access(path, F_OK) == -1;
    char  temp[STATEDIR_PATH + 8];

    (void) snprintf(temp, sizeof(temp), "%s.tmp", path);

    fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd == -1 || statedir_write_all(fd, text, len) == -1
        || rename(temp, path) == -1)
    {
        rc = hatch_err_errno(err, errno, "cannot write \"%s\"", path);
        (void) unlink(temp);
    }

    if (fd != -1) {
        (void) close(fd);
    }

    if (rc != 0) {
        return rc;
    }

    rc = statedir_sync_parent(path, err);

    /* whoever is told that it failed does not expect it to be there */
    if (rc != 0 && is_new) {
        (void) unlink(path);
    }

    return rc;
}


int
statedir_unlink(const char *path, hatch_err_t *err)
{
    if (unlink(path) == -1) {
        return errno == ENOENT
               ? 0 : hatch_err_errno(err, errno, "cannot remove \"%s\"", path);
    }

    return statedir_sync_parent(path, err);
}


int
statedir_rename(const char *from, const char *to, hatch_err_t *err)
{
    if (rename(from, to) == -1) {
        return hatch_err_errno(err, errno, "cannot rename \"%s\"", from);
    }

    return statedir_sync_parent(to, err);
}


int
statedir_room(const char *path, off_t bytes, hatch_err_t *err)
{
    int   fd, errnum = 0;
    char  dir[STATEDIR_PATH];

    (void) snprintf(dir, sizeof(dir), "%s", path);
    *strrchr(dir, '/') = '\0';

    fd = open(dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);

    if (fd == -1 || fallocate(fd, 0, 0, bytes) == -1) {
        errnum = errno;
    }

    if (fd != -1) {
        (void) close(fd);
    }

    /* a file system without nameless files, or without reservation */
    if (errnum == EOPNOTSUPP || errnum == EISDIR || errnum == ENOSYS) {
        errnum = 0;
    }

    return errnum == 0
           ? 0 : hatch_err_errno(err, errnum, "cannot write \"%s\"", path);
}


/*
 * One run of data, from begin to end; -1 with errno.  Older kernels cannot
 * copy_file_range() from one file system to another; sendfile() can.
 */
static int
statedir_copy_range(int from, int to, off_t begin, off_t end)
{
    int      plain = 0;
    off_t    in = begin, out = begin;
    ssize_t  n;

    while (in < end) {
        n = plain ? sendfile(to, from, &in, (size_t) (end - in))
                  : copy_file_range(from, &in, to, &out, (size_t) (end - in),
                                    0);

        if (n < 0 && !plain && (errno == EXDEV || errno == EINVAL
                                || errno == EOPNOTSUPP || errno == ENOSYS))
        {
            if (lseek(to, in, SEEK_SET) == -1) {
                return -1;
            }

            plain = 1;
            continue;
        }

        if (n < 0 && errno == EINTR) {
            continue;
        }

        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return -1;
        }
    }

    return 0;
}


static int
statedir_copy_data(int from, int to, off_t size)
{
    off_t  data, hole = 0;

    if (ioctl(to, FICLONE, from) == 0) {
        return 0;
    }

    if (ftruncate(to, size) == -1) {
        return -1;
    }

    while (hole < size) {
        data = lseek(from, hole, SEEK_DATA);

        if (data == -1) {
            return errno == ENXIO ? 0 : -1;     /* only holes are left */
        }

        hole = lseek(from, data, SEEK_HOLE);

        if (hole == -1 || statedir_copy_range(from, to, data, hole) == -1) {
            return -1;
        }
    }

    return 0;
}


static int
statedir_copy_to(int in, off_t size, const char *to)
{
    int  fd, errnum = 0;

    fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd == -1) {
        return errno;
    }

    if (statedir_copy_data(in, fd, size) == -1 || fsync(fd) == -1) {
        errnum = errno;
        (void) unlink(to);
    }

    (void) close(fd);

    return errnum;
}


int
statedir_copy(const char *from, const char *to, hatch_err_t *err)
{
    int          in, errnum;
    struct stat  st;

    in = open(from, O_RDONLY | O_CLOEXEC);

    if (in == -1 || fstat(in, &st) == -1) {
        errnum = errno;

    } else {
        errnum = statedir_copy_to(in, st.st_size, to);
    }

    if (in != -1) {
        (void) close(in);
    }

    return errnum == 0
           ? statedir_sync_parent(to, err)
           : hatch_err_errno(err, errnum, "cannot copy \"%s\"", from);
}


int
statedir_each(const config_t *config, const char *folder,
    void (*entry)(void *ctx, const char *name), void *ctx)
{
    DIR            *dir;
    char            path[STATEDIR_PATH];
    struct dirent  *e;

    statedir_path(config, folder, "", "", path);
    dir = opendir(path);

    if (dir == NULL) {
        return errno == ENOENT ? 0 : -1;
    }

    while ((e = readdir(dir)) != NULL) {
        if (e->d_name[0] != '.') {
            entry(ctx, e->d_name);
        }
    }

    (void) closedir(dir);

    return 0;
}
