/*
 * What hatch-agent.service keeps the agent from: --check is run in a shell,
 * which may write and see more than the unit.
 */

#define _GNU_SOURCE

#include "check_private.h"
#include "core/tool.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


#define CHECK_UNIT     "hatch-agent.service"
#define CHECK_GUESTS   "hatch-guests.service"
#define CHECK_SYSTEMD  "/run/systemd/system"

/* What "systemctl show" says of a unit with many lines of ReadWritePaths=. */
#define CHECK_SHOWN    16384


/* A property, up to the end of its line; "" if it was not shown. */
static void
check_property(const char *shown, const char *name, char *value, size_t size)
{
    size_t       len = strlen(name);
    const char  *line;

    value[0] = '\0';

    for (line = shown; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';

        if (strncmp(line, name, len) == 0 && line[len] == '=') {
            line += len + 1;
            (void) snprintf(value, size, "%.*s", (int) strcspn(line, "\n"),
                            line);
            return;
        }
    }
}


static int
check_is_below(const char *path, const char *folder)
{
    size_t  len = strlen(folder);

    while (len > 0 && folder[len - 1] == '/') {
        len--;
    }

    return strncmp(path, folder, len) == 0
           && (path[len] == '/' || path[len] == '\0');
}


/* Is it below one of these folders, which have a space between them? */
static int
check_is_among(const char *path, const char *folders)
{
    char  *next, *folder, copy[CHECK_SHOWN];

    (void) snprintf(copy, sizeof(copy), "%s", folders);

    for (folder = strtok_r(copy, " ", &next); folder != NULL;
         folder = strtok_r(NULL, " ", &next))
    {
        if (check_is_below(path, folder + strspn(folder, "-+"))) {
            return 1;
        }
    }

    return 0;
}


/* 0, or -1: it was said. */
static int
check_unit_sees(check_t *check, const char *key, const char *path)
{
    if (check_is_among(path, check->unit_hides)) {
        check_error(check, "\"%s\": " CHECK_UNIT " does not see \"%s\": its "
                    "ProtectHome= and PrivateTmp= hide %s; name another", key,
                    path, check->unit_hides);
        return -1;
    }

    return 0;
}


/* What the unit that was shown may write to. */
static void
check_unit_writable(const char *shown, char writable[CHECK_SHOWN])
{
    char  strict[16];

    check_property(shown, "ReadWritePaths", writable, CHECK_SHOWN);
    check_property(shown, "ProtectSystem", strict, sizeof(strict));

    if (strcmp(strict, "strict") != 0) {
        (void) snprintf(writable, CHECK_SHOWN, "/");
    }
}


static void
check_unit_writes(check_t *check, const char *key, const char *path,
    int is_file, const char *writable)
{
    char  folder[PATH_MAX];

    (void) snprintf(folder, sizeof(folder), "%s", path);

    if (is_file) {
        *strrchr(folder, '/') = '\0';
    }

    if (check_unit_sees(check, key, path) == 0
        && !check_is_among(folder, writable))
    {
        check_error(check, "\"%s\": " CHECK_UNIT " cannot write in \"%s\"; "
                    "make the folder, and say \"ReadWritePaths=%s\" below "
                    "[Service] with \"systemctl edit hatch-agent "
                    "hatch-guests\"", key, folder, folder);
    }
}


static void
check_unit_paths(check_t *check, const char *shown)
{
    char             writable[CHECK_SHOWN];
    size_t           i;
    const config_t  *c = check->config;

    const struct {
        const char  *key;
        const char  *path;
    } read[] = {
        { "image_dir", c->image_dir },
        { "default_kernel_path", c->default_kernel_path },
        { "default_initrd_path", c->default_initrd_path },
        { "default_rootfs_path", c->default_rootfs_path }
    };

    for (i = 0; i < sizeof(read) / sizeof(read[0]); i++) {
        if (read[i].path[0] == '/') {
            (void) check_unit_sees(check, read[i].key, read[i].path);
        }
    }

    check_unit_writable(shown, writable);
    check_unit_writes(check, "zone", c->zone, 1, writable);
    check_unit_writes(check, "socket", c->socket, 1, writable);
    check_unit_writes(check, "wake_socket", c->wake_socket, 1, writable);
    check_unit_writes(check, "state_dir", c->state_dir, 0, writable);
}


/* 0, or -1: there is none. */
static int
check_show(const char *unit, char shown[CHECK_SHOWN])
{
    char         value[32];
    hatch_err_t  err;

    const char *const  argv[] = {
        "systemctl", "show", unit, "--property=LoadState,LimitNOFILE,"
        "ProtectSystem,ProtectHome,PrivateTmp,ReadWritePaths", NULL
    };

    if (access(CHECK_SYSTEMD, F_OK) == -1 || !tool_is_there(argv[0])
        || tool_run(argv, "unit", shown, CHECK_SHOWN, &err) != 0)
    {
        return -1;
    }

    check_property(shown, "LoadState", value, sizeof(value));

    return strcmp(value, "loaded") == 0 ? 0 : -1;
}


/* The one that saves VMs when the host stops, and notes that. */
static void
check_unit_guests(const check_t *check)
{
    char         shown[CHECK_SHOWN], writable[CHECK_SHOWN];
    const char  *folder = check->config->state_dir;

    if (check_show(CHECK_GUESTS, shown) != 0) {
        return;
    }

    check_unit_writable(shown, writable);

    if (!check_is_among(folder, writable)) {
        check_warn("\"state_dir\": " CHECK_GUESTS " cannot write in \"%s\", "
                   "so it cannot note which memory it saves; say "
                   "\"ReadWritePaths=%s\" there, too", folder, folder);
    }
}


void
check_unit(check_t *check)
{
    char  shown[CHECK_SHOWN], value[32];

    /* another configuration is for an agent of somebody's own */
    if ((check->config->file[0] != '\0'
         && strcmp(check->config->file, CONFIG_FILE) != 0)
        || check_show(CHECK_UNIT, shown) != 0)
    {
        return;
    }

    check_property(shown, "LimitNOFILE", value, sizeof(value));
    check->unit_descriptors = strcmp(value, "infinity") == 0 ? ULONG_MAX
                              : strtoul(value, NULL, 10);

    check_property(shown, "ProtectHome", value, sizeof(value));
    if (strcmp(value, "yes") == 0 || strcmp(value, "tmpfs") == 0) {
        check->unit_hides = "/home /root /run/user";
    }

    check_property(shown, "PrivateTmp", value, sizeof(value));
    if (strcmp(value, "yes") == 0) {
        check->unit_hides = check->unit_hides[0] != '\0'
                            ? "/home /root /run/user /tmp /var/tmp"
                            : "/tmp /var/tmp";
    }

    check_unit_paths(check, shown);
    check_unit_guests(check);
}
