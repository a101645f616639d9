/*
 * libFuzzer: a configuration file, and behind a NUL each, HATCH_* variables
 * as NAME=VALUE.  Whatever it says, what is loaded keeps its rules.
 */

#define _GNU_SOURCE

#include "kit.h"

#include "hatch_file.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


/*
 * Users and groups in place of libc's, which asks the system's files anew
 * each time: that took half of the time.
 */
struct group *
getgrnam(const char *name)
{
    static char           nginx[] = CONFIG_NGINX, other[] = "other";
    static char          *none[] = { NULL }, *some[] = { other, nginx, NULL };
    static struct group   group;

    group.gr_name = other;
    group.gr_mem = none;

    if (strcmp(name, CONFIG_NGINX) == 0) {
        group.gr_gid = 33;

    } else if (strcmp(name, CONFIG_GROUP) == 0) {
        group.gr_gid = 104;
        group.gr_mem = some;

    } else if (strcmp(name, "other") == 0) {
        group.gr_gid = 1000;

    } else {
        return NULL;
    }

    return &group;
}


struct passwd *
getpwnam(const char *name)
{
    static struct passwd  user = { .pw_uid = 33, .pw_gid = 33 };

    return strcmp(name, CONFIG_NGINX) == 0 ? &user : NULL;
}


static void
check_text(const char *text)
{
    char  copy[sizeof(((hatch_err_t *) NULL)->text)];

    kit_must(strlen(text) < sizeof(copy));
    memcpy(copy, text, strlen(text) + 1);
    hatch_err_utf8(copy);
    kit_must(strcmp(copy, text) == 0);
}


static void
check_config(const config_t *c)
{
    kit_must(c->zone[0] == '/' && c->socket[0] == '/');
    kit_must(strlen(c->socket) < 108 && strlen(c->bridge_name) < 16);
    kit_must(c->zone_vms >= 1 && c->zone_vms <= HATCH_SLOTS_MAX);
    kit_must(c->default_mem_mib >= 128 && c->default_mem_mib <= 65536);
    kit_must(c->stop_timeout >= 0 && c->stop_timeout <= 600);
    kit_must(c->save_timeout >= 1 && c->max_starts >= 1);
    kit_must(c->idle_timeout == -1
             || (c->idle_timeout >= CONFIG_DURATION_MIN
                 && c->idle_timeout <= CONFIG_DURATION_MAX));
    kit_must(c->save_after == -1 || c->save_after >= CONFIG_DURATION_MIN);
}


/* Up to so many variables; what they set is taken back. */
#define VARIABLES  8

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int                rc;
    char              *text = kit_text(data, size), *p, *value;
    char              *variable[VARIABLES], name[VARIABLES][48];
    char               file[256], program[] = "hatch-agent";
    char               option[] = "--config";
    char              *argv[] = { program, option, file, NULL };
    size_t             len = strlen(text);
    unsigned           i, n = 0;
    config_t           config;
    hatch_err_t        err = { HATCH_OK, "" };

    kit_write("agent.json", text, len);
    (void) snprintf(file, sizeof(file), "%s", kit_path("agent.json"));

    for (p = text + len; p < text + size && n < VARIABLES; p += strlen(p)) {
        value = strchr(++p, '=');

        if (value != NULL && value - p < 40) {
            (void) snprintf(name[n], sizeof(name[n]), "HATCH_%.*s",
                            (int) (value - p), p);

            /* setenv() would keep each value for ever */
            kit_must(asprintf(&variable[n], "HATCH_%s", p) != -1
                     && putenv(variable[n]) == 0);
            n++;
        }
    }

    rc = config_load(&config, 3, argv, &err);

    if (rc == 0) {
        check_config(&config);
    } else {
        kit_must(rc < 0 && err.text[0] != '\0');
        check_text(err.text);
    }

    for (i = 0; i < n; i++) {
        (void) unsetenv(name[i]);
        free(variable[i]);
    }

    free(text);

    return 0;
}
