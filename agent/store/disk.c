#define _GNU_SOURCE

#include "disk.h"
#include "image_base.h"
#include "statedir.h"
#include "core/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


#define DISK_FOLDER  "disks"

/* A disk that was before a restore of which nobody saw the end. */
#define DISK_ASIDE   ".qcow2.aside-"

/* A qcow2: how it begins, and where version 3 says that it is damaged. */
#define DISK_MAGIC     "QFI\xfb"
#define DISK_HEAD      80
#define DISK_FEATURES  79
#define DISK_CORRUPT   2

/* What an empty qcow2 takes, bytes. */
#define DISK_EMPTY   (256 * 1024)


void
disk_path(const config_t *config, const char *id, char *path)
{
    statedir_path(config, DISK_FOLDER, id, ".qcow2", path);
}


int
disk_create(const config_t *config, const vm_t *vm, const image_t *image,
    hatch_err_t *err)
{
    int          rc;
    char         path[STATEDIR_PATH], size[32], out[1024];
    hatch_err_t  why;
    const char  *argv[] = {
        "qemu-img", "create", "-q", "-f", "qcow2", path, size, NULL, NULL,
        NULL, NULL, NULL
    };

    disk_path(config, vm->id, path);
    (void) snprintf(size, sizeof(size), "%uM", vm->disk_mib);

    if (image->rootfs_path[0] != '\0') {
        argv[7] = "-F";
        argv[8] = image->format;
        argv[9] = "-b";
        argv[10] = image->rootfs_path;
    }

    rc = tool_run(argv, "cannot create the disk", out, sizeof(out), err);

    if (rc != 0) {
        rc = statedir_room(path, DISK_EMPTY, &why);
        *err = rc != 0 ? why : *err;
        rc = rc != 0 ? rc : HATCH_ERR_SYSTEM;
        err->code = (hatch_err_code_t) rc;
    }

    if (rc == 0 && chmod(path, 0600) == -1) {
        rc = hatch_err_errno(err, errno, "cannot protect \"%s\"", path);
    }

    if (rc == 0) {
        rc = statedir_sync(path, err);
    }

    if (rc == 0 && image->rootfs_path[0] != '\0') {
        rc = image_base_note_vm(config, vm->id, image->id, image->rootfs_path,
                                err);
    }

    if (rc != 0) {
        disk_delete(config, vm->id);
    }

    return rc;
}


/* Its header, as far as a QEMU that runs would stumble over it later. */
static int
disk_check_head(const char *path, hatch_err_t *err)
{
    int          fd;
    char         head[DISK_HEAD];
    ssize_t      n = -1;
    struct stat  st;

    memset(head, 0, sizeof(head));
    fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd != -1 && fstat(fd, &st) == 0) {
        n = pread(fd, head, sizeof(head), 0);
    }

    if (n < 0) {
        (void) hatch_err_errno(err, errno, "cannot read \"%s\"", path);
    }

    if (fd != -1) {
        (void) close(fd);
    }

    if (n < 0) {
        return (int) err->code;
    }

    /* to the agent, which is root, that is nothing; to QEMU's user it is */
    if ((st.st_mode & 0600) != 0600) {
        return hatch_err_set(err, HATCH_ERR_DENIED, "the disk \"%s\" has mode "
                             "%04o, its owner must be able to read and write "
                             "it: Permission denied", path,
                             (unsigned) st.st_mode & 07777);
    }

    if (memcmp(head, DISK_MAGIC, sizeof(DISK_MAGIC) - 1) != 0) {
        return hatch_err_set(err, HATCH_ERR_HOST, "the disk \"%s\" is damaged: "
                             "it does not begin as a qcow2 does", path);
    }

    return (head[DISK_FEATURES] & DISK_CORRUPT) != 0
           ? hatch_err_set(err, HATCH_ERR_HOST, "the disk \"%s\" is damaged: "
                           "it is marked as corrupt", path) : 0;
}


int
disk_check(const config_t *config, const char *id, hatch_err_t *err)
{
    int          rc;
    char         path[STATEDIR_PATH], doing[STATEDIR_PATH + 32], out[8192];
    const char  *argv[] = {
        "qemu-img", "info", "-U", "-f", "qcow2", path, NULL
    };

    disk_path(config, id, path);
    (void) snprintf(doing, sizeof(doing), "the disk \"%s\" is damaged", path);
    rc = disk_check_head(path, err);

    if (rc == 0) {
        rc = tool_run(argv, doing, out, sizeof(out), err);
    }

    return rc != HATCH_ERR_INVALID
           ? rc : (int) (err->code = HATCH_ERR_HOST);
}


void
disk_delete(const config_t *config, const char *id)
{
    char    path[STATEDIR_PATH];
    glob_t  aside;
    size_t  i;

    static const char *const  suffix[] = {
        ".qcow2.new", ".qcow2.old", ".qcow2"
    };

    for (i = 0; i < sizeof(suffix) / sizeof(suffix[0]); i++) {
        statedir_path(config, DISK_FOLDER, id, suffix[i], path);
        (void) unlink(path);
    }

    statedir_path(config, DISK_FOLDER, id, DISK_ASIDE "*", path);

    if (glob(path, GLOB_NOSORT, NULL, &aside) == 0) {
        for (i = 0; i < aside.gl_pathc; i++) {
            (void) unlink(aside.gl_pathv[i]);
        }
    }

    globfree(&aside);

    image_base_forget_vm(config, id);
}


int
disk_stage(const config_t *config, const char *id, const char *from,
    hatch_err_t *err)
{
    char  path[STATEDIR_PATH];

    statedir_path(config, DISK_FOLDER, id, ".qcow2.new", path);

    return statedir_copy(from, path, err);
}


static int64_t
disk_written(const char *path)
{
    struct stat  st;

    return stat(path, &st) == 0
           ? st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec : 0;
}


int64_t
disk_staged(const config_t *config, const char *id)
{
    char  path[STATEDIR_PATH];

    statedir_path(config, DISK_FOLDER, id, ".qcow2.new", path);

    return disk_written(path);
}


int64_t
disk_changed(const config_t *config, const char *id)
{
    char  path[STATEDIR_PATH];

    disk_path(config, id, path);

    return disk_written(path);
}


int
disk_is_swapped(const config_t *config, const char *id)
{
    char  path[STATEDIR_PATH];

    statedir_path(config, DISK_FOLDER, id, ".qcow2.old", path);

    return access(path, F_OK) == 0;
}


int
disk_swap(const config_t *config, const char *id, hatch_err_t *err)
{
    int   rc;
    char  path[STATEDIR_PATH], new[STATEDIR_PATH], old[STATEDIR_PATH];

    disk_path(config, id, path);
    statedir_path(config, DISK_FOLDER, id, ".qcow2.new", new);
    statedir_path(config, DISK_FOLDER, id, ".qcow2.old", old);

    rc = statedir_rename(path, old, err);

    return rc == 0 ? statedir_rename(new, path, err) : rc;
}


int
disk_keep(const config_t *config, const char *id, hatch_err_t *err)
{
    char  old[STATEDIR_PATH];

    statedir_path(config, DISK_FOLDER, id, ".qcow2.old", old);

    return statedir_unlink(old, err);
}


int
disk_put_aside(const config_t *config, const char *id, char *path,
    hatch_err_t *err)
{
    char  old[STATEDIR_PATH], suffix[64];

    statedir_path(config, DISK_FOLDER, id, ".qcow2.old", old);

    /* after when it was last written: no two have the same */
    (void) snprintf(suffix, sizeof(suffix), DISK_ASIDE "%" PRId64,
                    disk_written(old));
    statedir_path(config, DISK_FOLDER, id, suffix, path);

    return statedir_rename(old, path, err);
}


int
disk_unswap(const config_t *config, const char *id, hatch_err_t *err)
{
    int   rc = 0;
    char  path[STATEDIR_PATH], new[STATEDIR_PATH], old[STATEDIR_PATH];

    disk_path(config, id, path);
    statedir_path(config, DISK_FOLDER, id, ".qcow2.new", new);
    statedir_path(config, DISK_FOLDER, id, ".qcow2.old", old);

    if (access(old, F_OK) == 0) {
        rc = statedir_rename(old, path, err);
    }

    return rc == 0 ? statedir_unlink(new, err) : rc;
}
