#define _GNU_SOURCE

#include "seed.h"
#include "statedir.h"
#include "core/tool.h"

#include "hatch_id.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


static const char *const  seed_files[] = {
    "user-data", "meta-data", "network-config"
};

/* More than a seed takes, bytes. */
#define SEED_ROOM   (SEED_DATA_MAX + 512 * 1024)

#define SEED_FILES  (sizeof(seed_files) / sizeof(seed_files[0]))


void
seed_path(const config_t *config, const char *id, char *path)
{
    statedir_path(config, "seeds", id, ".iso", path);
}


static int
seed_write(const char *dir, const char *name, const char *text,
    hatch_err_t *err)
{
    int      fd, errnum;
    char     path[STATEDIR_PATH];
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


/* What a name may have and a host name may not. */
static void
seed_host_name(char *name)
{
    for ( /* void */ ; *name != '\n'; name++) {
        *name = *name == '_' || *name == '.'
                ? '-' : (char) tolower((unsigned char) *name);
    }
}


static int
seed_write_files(const char *dir, const vm_t *vm, const char *user_data,
    hatch_err_t *err)
{
    int   rc;
    char  text[512];

    rc = seed_write(dir, "user-data", user_data, err);

    if (rc == 0) {
        (void) snprintf(text, sizeof(text),
                        "instance-id: %s\nlocal-hostname: \"%s\"\n", vm->id,
                        vm->name);
        seed_host_name(strrchr(text, ' ') + 1);
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


/* Its last line is only that it gives up; the first complaint is the cause. */
static const char *
seed_complaint(char *out)
{
    char  *line, *rest = out;

    while ((line = strsep(&rest, "\n")) != NULL) {
        if (strstr(line, "FAILURE :") != NULL
            || strstr(line, "FATAL :") != NULL)
        {
            return line;
        }
    }

    return NULL;
}


static int
seed_run_xorriso(const char *dir, const char *iso, hatch_err_t *err)
{
    int          rc;
    char         out[2048], end[121];
    const char  *complaint;
    const char  *argv[] = {
        "xorriso", "-as", "genisoimage", "-quiet", "-volid", "CIDATA",
        "-joliet", "-rock", "-output", iso, dir, NULL
    };

    rc = tool_run(argv, "cannot write the seed", out, sizeof(out), err);

    /* Debian's 1.5.4 crashes now and then, one run in thousands */
    if (rc != 0) {
        (void) unlink(iso);
        rc = tool_run(argv, "cannot write the seed", out, sizeof(out), err);
    }

    if (rc == 0) {
        return 0;
    }

    (void) unlink(iso);

    if (rc == HATCH_ERR_INVALID) {
        complaint = seed_complaint(out);
        rc = hatch_err_set(err, HATCH_ERR_SYSTEM, "xorriso cannot write "
                           "\"%s\": %s", iso,
                           hatch_err_end(complaint != NULL ? complaint
                                         : "it does not say why", end,
                                         sizeof(end)));

        if (statedir_room(iso, SEED_ROOM, err) != 0) {
            rc = (int) err->code;
        }
    }

    return rc;
}


/* The folder in which a seed is put together; also one that was left. */
static void
seed_delete_dir(const config_t *config, const char *name)
{
    char    path[STATEDIR_PATH + 32];
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
    char  dir[STATEDIR_PATH], iso[STATEDIR_PATH], name[HATCH_ID_SIZE + 2];

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

    if (rc == 0) {
        rc = statedir_sync(iso, err);
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
    char  iso[STATEDIR_PATH], name[HATCH_ID_SIZE + 2];

    seed_path(config, id, iso);
    (void) unlink(iso);

    (void) snprintf(name, sizeof(name), "%s.d", id);
    seed_delete_dir(config, name);
}
