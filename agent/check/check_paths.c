/* Folders and files, and who must get to them. */

#define _GNU_SOURCE

#include "check_private.h"
#include "core/cleanup.h"
#include "core/text.h"
#include "store/image.h"
#include "store/image_file.h"
#include "store/records.h"
#include "store/statedir.h"
#include "vm/saved_file.h"

#include "hatch_json.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/statvfs.h>
#include <unistd.h>


/* Less room is said, MiB; with next to nothing no VM can be made. */
#define CHECK_ROOM      1024
#define CHECK_ROOM_MIN  16

/* More than a record of an image has. */
#define CHECK_RECORD    65536

#define CHECK_HELPER    "/etc/apparmor.d/usr.lib.libvirt.virt-aa-helper"


/* --- there, and writable --- */

/* The folder that path is in or, where it is not there yet, will be made in. */
static void
check_folder(const char *path, char folder[PATH_MAX])
{
    char  *end;

    (void) snprintf(folder, PATH_MAX, "%s", path);

    do {
        end = strrchr(folder, '/');
        end[end == folder] = '\0';
    } while (end != folder && access(folder, F_OK) == -1);
}


static void
check_parent(check_t *check, const char *key, const char *path)
{
    char  folder[PATH_MAX];

    check_folder(path, folder);

    if (access(folder, W_OK | X_OK) == -1) {
        check_error(check, "\"%s\": nothing can be made in \"%s\": %s; %s", key,
                    folder, strerror(errno), errno == EROFS
                    ? "name another, or let the unit write there "
                      "(ReadWritePaths=)"
                    : "name another, or have it belong to the agent's user");
    }
}


static void
check_room(check_t *check, const char *what, const char *path)
{
    char            folder[PATH_MAX];
    uint64_t        mib;
    struct statvfs  st;

    /* of path itself, if it is there */
    (void) snprintf(folder, sizeof(folder), "%s", path);

    if (access(path, F_OK) == -1) {
        check_folder(path, folder);
    }

    if (statvfs(folder, &st) == -1) {
        return;
    }

    mib = (uint64_t) st.f_bavail * st.f_frsize >> 20;
    check_found(what, "%s, %llu MiB free", path, (unsigned long long) mib);

    if (mib < CHECK_ROOM_MIN) {
        check_error(check, "there is no room in \"%s\" (%llu MiB)", folder,
                    (unsigned long long) mib);

    } else if (mib < CHECK_ROOM) {
        check_warn("there is little room in \"%s\": %llu MiB", folder,
                   (unsigned long long) mib);
    }
}


/* That of the configuration, or else a record of that id. */
static void
check_default(check_t *check)
{
    char                       path[STATEDIR_PATH];
    size_t                     len;
    hatch_err_t                err;
    const config_t            *c = check->config;
    cleanup_free char         *text = NULL;
    cleanup_json json_object  *record = NULL;

    if (c->default_kernel_path[0] != '\0' || c->default_rootfs_path[0] != '\0')
    {
        check->has_default = 1;
        check->has_disk = c->default_rootfs_path[0] != '\0';
        return;
    }

    statedir_path(c, "images", IMAGE_DEFAULT, ".json", path);

    if (text_read(path, CHECK_RECORD, &text, &len, &err) == 0
        && hatch_json_parse(text, len, &record, &err) == 0)
    {
        check->is_record = 1;
        check->has_default = 1;
        check->has_disk = hatch_json_string(record, "rootfs_path", "")[0]
                          != '\0';
    }
}


void
check_paths(check_t *check)
{
    hatch_err_t      err;
    const config_t  *c = check->config;

    check_default(check);
    check_parent(check, "zone", c->zone);
    check_parent(check, "socket", c->socket);
    check_parent(check, "wake_socket", c->wake_socket);

    if (statedir_check(c, &err) != 0) {
        check_error(check, "%s", err.text);
        return;
    }

    if (access(c->state_dir, F_OK) == -1) {
        check_parent(check, "state_dir", c->state_dir);
    }

    check_room(check, "state_dir", c->state_dir);
}


/* --- in reach of QEMU's user --- */

/*
 * What the helper that makes a VM's AppArmor profile may read, to see what is
 * below a disk: by its name, or in a few places.
 */
static int
check_is_known(const char *path)
{
    size_t       i;
    const char  *name = strrchr(path, '/') + 1, *end = strrchr(name, '.');

    static const char *const  suffixes[] = {
        ".img", ".raw", ".qcow", ".qcow2", ".qed", ".vmdk", ".vhd", ".iso"
    };
    static const char *const  folders[] = {
        "/var/lib/libvirt/images/", "/media/", "/mnt/", "/opt/", "/srv/",
        "/home/", "/root/"
    };

    for (i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        if (strncmp(path, folders[i], strlen(folders[i])) == 0) {
            return 1;
        }
    }

    for (i = 0; end != NULL && i < sizeof(suffixes) / sizeof(suffixes[0]);
         i++)
    {
        if (strcasecmp(end, suffixes[i]) == 0) {
            return 1;
        }
    }

    return strcmp(name, "disk") == 0 || strncmp(name, "disk.", 5) == 0;
}


static void
check_suffix(const char *what, const char *path)
{
    if (path[0] == '/' && !check_is_known(path)
        && access(CHECK_HELPER, F_OK) == 0)
    {
        check_warn("%s: where AppArmor is on, libvirt cannot read \"%s\" to "
                   "allow it, since it knows disks by their suffix; name it "
                   ".qcow2, .raw or .img", what, path);
    }
}


/* 0, or -1: it was said. */
static int
check_reach(check_t *check, const char *what, const char *path)
{
    hatch_err_t  err;

    if (path[0] != '/' || !check->has_user
        || qemu_user_reach(&check->user, path, &err) == 0)
    {
        return 0;
    }

    check_error(check, "%s: %s", what, err.text);

    return -1;
}


static void
check_file(check_t *check, const char *what, const char *path)
{
    if (path[0] == '/' && access(path, R_OK) == -1) {
        check_error(check, "%s: cannot read \"%s\": %s", what, path,
                    strerror(errno));
        return;
    }

    (void) check_reach(check, what, path);
}


static void
check_missing(check_t *check, int is_default, const char *what,
    const char *file)
{
    if (is_default) {
        check_error(check, "%s: there is no file \"%s\" in \"%s\"", what,
                    file, check->config->image_dir);
    } else {
        check_warn("%s: there is no file \"%s\" in \"%s\"", what, file,
                   check->config->image_dir);
    }
}


/* Images that were made with the API; the agent may be writing them. */
static void
check_image(void *ctx, const char *name)
{
    int                        is_default;
    char                       path[STATEDIR_PATH], real[CONFIG_TEXT];
    char                       what[96];
    size_t                     i, len, end = strlen(name);
    check_t                   *check = ctx;
    hatch_err_t                err;
    const char                *file;
    cleanup_free char         *text = NULL;
    cleanup_json json_object  *record = NULL;

    static const char *const  keys[] = {
        "kernel_path", "initrd_path", "rootfs_path"
    };

    statedir_path(check->config, "images", name, "", path);

    if (end < 6 || strcmp(name + end - 5, ".json") != 0
        || text_read(path, CHECK_RECORD, &text, &len, &err) != 0
        || hatch_json_parse(text, len, &record, &err) != 0)
    {
        return;
    }

    is_default = strcmp(name, IMAGE_DEFAULT ".json") == 0;

    for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        file = hatch_json_string(record, keys[i], "");
        (void) snprintf(what, sizeof(what), "image %.*s, %s",
                        (int) (end < 45 ? end - 5 : 40), name, keys[i]);

        if (file[0] == '\0' || (is_default && !check->is_record)) {
            continue;
        }

        if (image_file_resolve(check->config, keys[i], file, real, &err) != 0) {
            check_missing(check, is_default, what, file);
            continue;
        }

        (void) check_reach(check, what, real);

        if (i == 2) {
            check_suffix(what, real);
        }
    }
}


void
check_disks(check_t *check)
{
    char             path[STATEDIR_PATH];
    size_t           i;
    const config_t  *c = check->config;

    static const char *const  folders[] = { "disks", "seeds", "snapshots" };

    if (check->local && saved_folder(c->connect, path) == 0) {
        check_room(check, "saved memory", path);
    }

    /* each has VMs' files in it; they lie side by side */
    for (i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        statedir_path(c, folders[i], "vm", "", path);

        if (check_reach(check, "state_dir", path) != 0) {
            break;
        }
    }

    (void) check_reach(check, "image_dir", c->image_dir);
    check_file(check, "default_kernel_path", c->default_kernel_path);
    check_file(check, "default_initrd_path", c->default_initrd_path);
    check_file(check, "default_rootfs_path", c->default_rootfs_path);

    if (check->has_guests) {
        check_suffix("default_rootfs_path", c->default_rootfs_path);
    }

    if (!check->has_default) {
        check_found("default image", "none: VMs need an \"image_id\"");
    }

    (void) statedir_each(c, "images", check_image, check);
}
