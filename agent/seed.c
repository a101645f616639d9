#define _GNU_SOURCE

#include "seed.h"

#include "hatch_id.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>


#define SEED_SUFFIX  ".iso"

extern char  **environ;

static const char *const  seed_files[] = {
    "user-data", "meta-data", "network-config"
};

#define SEED_FILES  (sizeof(seed_files) / sizeof(seed_files[0]))


void
seed_path(const config_t *config, const char *id, char *path)
{
    (void) snprintf(path, SEED_PATH_MAX, "%s/seeds/%s" SEED_SUFFIX,
                    config->state_dir, id);
}


static int
seed_make_dir(const config_t *config, hatch_err_t *err)
{
    char  dir[SEED_PATH_MAX], *p;

    (void) snprintf(dir, sizeof(dir), "%s/seeds/", config->state_dir);

    /* QEMU's user must be able to go through, not to look around */
    for (p = strchr(dir + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
        *p = '\0';

        if (mkdir(dir, 0711) == -1 && errno != EEXIST) {
            return hatch_err_errno(err, errno, "cannot create \"%s\"", dir);
        }

        *p = '/';
    }

    return 0;
}


static int
seed_write(const char *dir, const char *name, const char *text,
    hatch_err_t *err)
{
    int      fd, errnum;
    char     path[SEED_PATH_MAX];
    size_t   len = strlen(text);
    ssize_t  n;

    (void) snprintf(path, sizeof(path), "%s/%s", dir, name);

    fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd == -1) {
        return hatch_err_errno(err, errno, "cannot create \"%s\"", path);
    }

    n = write(fd, text, len);
    errnum = n < 0 ? errno : ENOSPC;
    (void) close(fd);

    return n == (ssize_t) len
           ? 0 : hatch_err_errno(err, errnum, "cannot write \"%s\"", path);
}


static int
seed_write_files(const char *dir, const vm_t *vm, const char *user_data,
    hatch_err_t *err)
{
    int   rc;
    char  text[512];

    rc = seed_write(dir, "user-data", user_data, err);

    if (rc == 0) {
        /* '_' is no character of a host name */
        (void) snprintf(text, sizeof(text),
                        "instance-id: %s\nlocal-hostname: vm-%s\n", vm->id,
                        vm->id + strlen(HATCH_ID_VM));
        rc = seed_write(dir, "meta-data", text, err);
    }

    if (rc == 0) {
        /* by MAC: clones of one disk have one machine-id, so one DUID */
        (void) snprintf(text, sizeof(text), vm->enable_network
                        ? "version: 2\nethernets:\n  hatch0:\n"
                          "    match:\n      macaddress: \"%s\"\n"
                          "    dhcp4: true\n    dhcp-identifier: mac\n"
                        : "version: 2\nethernets: {}\n", vm->guest_mac);
        rc = seed_write(dir, "network-config", text, err);
    }

    return rc;
}


static int
seed_run_xorriso(const char *dir, const char *iso, hatch_err_t *err)
{
    int                          rc, status;
    pid_t                        pid;
    posix_spawn_file_actions_t   actions;
    const char                  *argv[] = {
        "xorriso", "-as", "genisoimage", "-quiet", "-volid", "CIDATA",
        "-joliet", "-rock", "-output", iso, dir, NULL
    };

    (void) posix_spawn_file_actions_init(&actions);
    (void) posix_spawn_file_actions_addopen(&actions, STDIN_FILENO,
                                            "/dev/null", O_RDONLY, 0);
    (void) posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO,
                                            "/dev/null", O_WRONLY, 0);
    (void) posix_spawn_file_actions_addopen(&actions, STDERR_FILENO,
                                            "/dev/null", O_WRONLY, 0);

    rc = posix_spawnp(&pid, argv[0], &actions, NULL, (char **) argv, environ);
    (void) posix_spawn_file_actions_destroy(&actions);

    if (rc != 0) {
        return hatch_err_errno(err, rc, "cannot run xorriso");
    }

    while (waitpid(pid, &status, 0) == -1 && errno == EINTR) {
        /* void */
    }

    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return hatch_err_set(err, HATCH_ERR_SYSTEM, "xorriso cannot write "
                             "\"%s\"; is the disk full?", iso);
    }

    return 0;
}


/* The folder in which a seed is put together; also one that was left. */
static void
seed_delete_dir(const config_t *config, const char *name)
{
    char    path[SEED_PATH_MAX + 32];
    size_t  i;

    for (i = 0; i < SEED_FILES; i++) {
        (void) snprintf(path, sizeof(path), "%s/seeds/%s/%s",
                        config->state_dir, name, seed_files[i]);
        (void) unlink(path);
    }

    (void) snprintf(path, sizeof(path), "%s/seeds/%s", config->state_dir,
                    name);
    (void) rmdir(path);
}


int
seed_create(const config_t *config, const vm_t *vm, const char *user_data,
    hatch_err_t *err)
{
    int   rc;
    char  dir[SEED_PATH_MAX], iso[SEED_PATH_MAX], name[HATCH_ID_SIZE + 2];

    rc = seed_make_dir(config, err);
    if (rc != 0) {
        return rc;
    }

    seed_path(config, vm->id, iso);
    (void) snprintf(name, sizeof(name), "%s.d", vm->id);
    (void) snprintf(dir, sizeof(dir), "%s/seeds/%s", config->state_dir, name);

    if (mkdir(dir, 0700) == -1) {
        return hatch_err_errno(err, errno, "cannot create \"%s\"", dir);
    }

    rc = seed_write_files(dir, vm, user_data, err);

    if (rc == 0) {
        rc = seed_run_xorriso(dir, iso, err);
    }

    if (rc == 0 && chmod(iso, 0600) == -1) {
        rc = hatch_err_errno(err, errno, "cannot protect \"%s\"", iso);
    }

    seed_delete_dir(config, name);

    if (rc != 0) {
        (void) unlink(iso);
    }

    return rc;
}


void
seed_delete(const config_t *config, const char *id)
{
    char  iso[SEED_PATH_MAX];

    seed_path(config, id, iso);
    (void) unlink(iso);
}


void
seed_delete_orphans(const config_t *config, unsigned *n)
{
    DIR            *dir;
    char            path[SEED_PATH_MAX], id[HATCH_ID_SIZE];
    size_t          len;
    struct dirent  *entry;

    *n = 0;

    (void) snprintf(path, sizeof(path), "%s/seeds", config->state_dir);
    dir = opendir(path);

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        len = strcspn(entry->d_name, ".");

        /* not one of ours, or of a VM that is there or being made */
        if (len >= sizeof(id)
            || !hatch_id_valid(HATCH_ID_VM, entry->d_name, len))
        {
            continue;
        }

        (void) snprintf(id, sizeof(id), "%.*s", (int) len, entry->d_name);

        if (table_has(id)) {
            continue;
        }

        if (strcmp(entry->d_name + len, SEED_SUFFIX) == 0) {
            seed_delete(config, id);
        } else {
            seed_delete_dir(config, entry->d_name);
        }

        (*n)++;
    }

    if (dir != NULL) {
        (void) closedir(dir);
    }
}
