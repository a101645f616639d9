#define _GNU_SOURCE

#include "disk.h"
#include "tool.h"
#include "state.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>


#define DISK_FOLDER  "disks"


void
disk_path(const config_t *config, const char *id, char *path)
{
    state_path(config, DISK_FOLDER, id, ".qcow2", path);
}


int
disk_create(const config_t *config, const vm_t *vm, const image_t *image,
    hatch_err_t *err)
{
    int          rc;
    char         path[STATE_PATH_MAX], size[32], out[1024];
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

    if (rc == 0 && chmod(path, 0600) == -1) {
        rc = hatch_err_errno(err, errno, "cannot protect \"%s\"", path);
    }

    if (rc != 0) {
        (void) unlink(path);
    }

    return rc;
}


void
disk_delete(const config_t *config, const char *id)
{
    char    path[STATE_PATH_MAX];
    size_t  i;

    static const char *const  suffix[] = {
        ".qcow2.new", ".qcow2.old", ".qcow2"
    };

    for (i = 0; i < sizeof(suffix) / sizeof(suffix[0]); i++) {
        state_path(config, DISK_FOLDER, id, suffix[i], path);
        (void) unlink(path);
    }
}


int
disk_stage(const config_t *config, const char *id, const char *from,
    hatch_err_t *err)
{
    char  path[STATE_PATH_MAX];

    state_path(config, DISK_FOLDER, id, ".qcow2.new", path);

    return state_copy(from, path, err);
}


int
disk_swap(const config_t *config, const char *id, hatch_err_t *err)
{
    int   rc;
    char  path[STATE_PATH_MAX], new[STATE_PATH_MAX], old[STATE_PATH_MAX];

    disk_path(config, id, path);
    state_path(config, DISK_FOLDER, id, ".qcow2.new", new);
    state_path(config, DISK_FOLDER, id, ".qcow2.old", old);

    rc = state_rename(path, old, err);

    return rc == 0 ? state_rename(new, path, err) : rc;
}


int
disk_keep(const config_t *config, const char *id, hatch_err_t *err)
{
    char  old[STATE_PATH_MAX];

    state_path(config, DISK_FOLDER, id, ".qcow2.old", old);

    return state_unlink(old, err);
}


int
disk_unswap(const config_t *config, const char *id, hatch_err_t *err)
{
    int   rc = 0;
    char  path[STATE_PATH_MAX], new[STATE_PATH_MAX], old[STATE_PATH_MAX];

    disk_path(config, id, path);
    state_path(config, DISK_FOLDER, id, ".qcow2.new", new);
    state_path(config, DISK_FOLDER, id, ".qcow2.old", old);

    if (access(old, F_OK) == 0) {
        rc = state_rename(old, path, err);
    }

    return rc == 0 ? state_unlink(new, err) : rc;
}
