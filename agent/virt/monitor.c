#define _GNU_SOURCE

#include "monitor.h"
#include "virt_cleanup.h"
#include "virt_error.h"

#include "hatch_clock.h"
#include "hatch_json.h"

#include <errno.h>
#include <inttypes.h>
#include <libvirt/libvirt-qemu.h>
#include <stdio.h>
#include <string.h>
#include <time.h>


/* Ours among QEMU's sets of descriptors; libvirt counts its own from 0. */
#define MONITOR_SET     77077
#define MONITOR_FD      "hatch-devices"

/* How often it is looked whether a load has ended, ms. */
#define MONITOR_STEP    2


static int
monitor_answer(const char *command, const char *text, json_object **result,
    hatch_err_t *err)
{
    json_object               *value;
    cleanup_json json_object  *reply = json_tokener_parse(text);

    if (reply != NULL && json_object_object_get_ex(reply, "return", &value)) {
        if (result != NULL) {
            *result = json_object_get(value);
        }

        return 0;
    }

    if (reply == NULL || !json_object_object_get_ex(reply, "error", &value)) {
        return hatch_err_set(err, HATCH_ERR_LIBVIRT, "QEMU gave no answer to "
                             "\"%s\"", command);
    }

    return hatch_err_set(err, HATCH_ERR_LIBVIRT, "QEMU refused \"%s\": %s",
                         command, hatch_json_string(value, "desc", "?"));
}


/* With one descriptor that QEMU gets, or -1. */
static int
monitor_call(virDomainPtr domain, const char *command, json_object *arguments,
    int fd, json_object **result, hatch_err_t *err)
{
    int                        rc;
    cleanup_free char         *reply = NULL;
    cleanup_json json_object  *call = json_object_new_object();

    (void) json_object_object_add(call, "execute",
                                  json_object_new_string(command));

    if (arguments != NULL) {
        (void) json_object_object_add(call, "arguments", arguments);
    }

    rc = fd == -1
         ? virDomainQemuMonitorCommand(domain,
                                       json_object_to_json_string(call),
                                       &reply, 0)
         : virDomainQemuMonitorCommandWithFiles(domain,
                                       json_object_to_json_string(call),
                                       1, &fd, NULL, NULL, &reply, 0);

    return rc == -1 ? virt_error(err, "cannot talk to QEMU")
                    : monitor_answer(command, reply, result, err);
}


int
monitor_run(virDomainPtr domain, const char *command, json_object *arguments,
    json_object **result, hatch_err_t *err)
{
    return monitor_call(domain, command, arguments, -1, result, err);
}


static json_object *
monitor_set(void)
{
    json_object  *set = json_object_new_object();

    (void) json_object_object_add(set, "fdset-id",
                                  json_object_new_int(MONITOR_SET));

    return set;
}


int
monitor_save_devices(virDomainPtr domain, int fd, hatch_err_t *err)
{
    int           rc;
    char          name[32];
    hatch_err_t   ignored;
    json_object  *arguments;

    /* one of an agent that was killed here */
    (void) monitor_run(domain, "remove-fd", monitor_set(), NULL, &ignored);

    rc = monitor_call(domain, "add-fd", monitor_set(), fd, NULL, err);
    if (rc != 0) {
        return rc;
    }

    (void) snprintf(name, sizeof(name), "/dev/fdset/%d", MONITOR_SET);
    arguments = json_object_new_object();
    (void) json_object_object_add(arguments, "filename",
                                  json_object_new_string(name));
    (void) json_object_object_add(arguments, "live",
                                  json_object_new_boolean(0));

    /* despite its name: all devices, of any machine */
    rc = monitor_run(domain, "xen-save-devices-state", arguments, NULL, err);

    (void) monitor_run(domain, "remove-fd", monitor_set(), NULL, &ignored);

    return rc;
}


/* 1: loaded, 0: not yet. */
static int
monitor_look(virDomainPtr domain, hatch_err_t *err)
{
    int                        rc;
    const char                *status;
    cleanup_json json_object  *result = NULL;

    rc = monitor_run(domain, "query-migrate", NULL, &result, err);
    if (rc != 0) {
        return rc;
    }

    status = hatch_json_string(result, "status", "");

    if (strcmp(status, "completed") == 0) {
        return 1;
    }

    if (strcmp(status, "failed") == 0) {
        return hatch_err_set(err, HATCH_ERR_CORRUPT, "QEMU cannot load the "
                             "state of the devices: %s",
                             hatch_json_string(result, "error-desc", "?"));
    }

    return 0;
}


int
monitor_load_devices(virDomainPtr domain, int fd, unsigned ms,
    hatch_err_t *err)
{
    int                    rc;
    uint64_t               deadline = hatch_clock_ms() + ms;
    json_object           *arguments = json_object_new_object();
    const struct timespec  step = { 0, MONITOR_STEP * 1000000 };

    (void) json_object_object_add(arguments, "fdname",
                                  json_object_new_string(MONITOR_FD));
    rc = monitor_call(domain, "getfd", arguments, fd, NULL, err);
    if (rc != 0) {
        return rc;
    }

    arguments = json_object_new_object();
    (void) json_object_object_add(arguments, "uri",
                                  json_object_new_string("fd:" MONITOR_FD));
    rc = monitor_run(domain, "migrate-incoming", arguments, NULL, err);

    while (rc == 0) {
        rc = monitor_look(domain, err);

        if (rc != 0) {
            break;
        }

        if (hatch_clock_ms() >= deadline) {
            return hatch_err_set(err, HATCH_ERR_TIMEOUT, "QEMU has not loaded "
                                 "the state of the devices within %u s",
                                 ms / 1000);
        }

        (void) nanosleep(&step, NULL);
    }

    return rc == 1 ? 0 : rc;
}


int
monitor_version(virDomainPtr domain, char *version, size_t size,
    hatch_err_t *err)
{
    int                        rc;
    json_object               *qemu;
    cleanup_json json_object  *result = NULL;

    rc = monitor_run(domain, "query-version", NULL, &result, err);

    if (rc == 0 && json_object_object_get_ex(result, "qemu", &qemu)) {
        (void) snprintf(version, size, "%" PRId64 ".%" PRId64 ".%" PRId64 " %s",
                        hatch_json_integer(qemu, "major", 0),
                        hatch_json_integer(qemu, "minor", 0),
                        hatch_json_integer(qemu, "micro", 0),
                        hatch_json_string(result, "package", ""));
    }

    return rc;
}


/* --- what QEMU tells people --- */

static int
monitor_human(virDomainPtr domain, const char *line, json_object **text,
    hatch_err_t *err)
{
    json_object  *arguments = json_object_new_object();

    (void) json_object_object_add(arguments, "command-line",
                                  json_object_new_string(line));

    return monitor_run(domain, "human-monitor-command", arguments, text, err);
}


uint64_t
monitor_address(virDomainPtr domain, uint64_t physical)
{
    char                       line[64];
    uint64_t                   found = 0;
    const char                *at;
    hatch_err_t                ignored;
    cleanup_json json_object  *text = NULL;

    (void) snprintf(line, sizeof(line), "gpa2hva 0x%" PRIx64, physical);

    if (monitor_human(domain, line, &text, &ignored) == 0) {
        at = strstr(json_object_get_string(text), " is 0x");

        if (at == NULL || sscanf(at, " is 0x%" SCNx64, &found) != 1) {
            found = 0;
        }
    }

    return found;
}


/*
 * The guest's memory, which is the image; what libvirt made for it and nobody
 * uses; the firmware, which is saved beside it (vm/memory_rom.c); an area of
 * zeroes for cards' firmware; and tables that QEMU makes anew at each start.
 */
static int
monitor_knows_block(const char *name)
{
    size_t  i;

    static const char *const  known[] = {
        "hatchram", "pc.ram", "pc.bios", "pc.rom", "/rom@etc/"
    };

    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strncmp(name, known[i], strlen(known[i])) == 0) {
            return 1;
        }
    }

    return 0;
}


static int
monitor_check_blocks(const char *text, hatch_err_t *err)
{
    char         name[128], unit[8];
    const char  *line;

    /* the first one is the heading */
    for (line = strchr(text, '\n'); line != NULL; line = strchr(line, '\n')) {
        line++;

        /* one without a name, which libvirt made, is no part of the guest */
        if (sscanf(line, "%127s %7s", name, unit) == 2
            && strcmp(unit + 1, "iB") != 0 && !monitor_knows_block(name))
        {
            return hatch_err_set(err, HATCH_ERR_CONFLICT, "it has memory that "
                                 "is not known, \"%s\"", name);
        }
    }

    return 0;
}


size_t
monitor_firmware(virDomainPtr domain)
{
    size_t                     len = 0;
    const char                *line;
    hatch_err_t                ignored;
    cleanup_json json_object  *text = NULL;

    if (monitor_human(domain, "info ramblock", &text, &ignored) != 0) {
        return 0;
    }

    /* name, size of its pages, offset, used, in all */
    line = strstr(json_object_get_string(text), "pc.bios ");

    if (line == NULL
        || sscanf(line, "pc.bios %*u %*s 0x%*x 0x%zx", &len) != 1)
    {
        return 0;
    }

    return len;
}


int
monitor_check_memory(virDomainPtr domain, hatch_err_t *err)
{
    int                        rc;
    json_object               *blocked;
    cleanup_json json_object  *text = NULL, *migrate = NULL;

    rc = monitor_human(domain, "info ramblock", &text, err);

    if (rc == 0) {
        rc = monitor_check_blocks(json_object_get_string(text), err);
    }

    if (rc == 0) {
        rc = monitor_run(domain, "query-migrate", NULL, &migrate, err);
    }

    if (rc == 0
        && json_object_object_get_ex(migrate, "blocked-reasons", &blocked)
        && json_object_array_length(blocked) != 0)
    {
        rc = hatch_err_set(err, HATCH_ERR_CONFLICT, "QEMU cannot save its "
                           "devices: %s", json_object_get_string(
                               json_object_array_get_idx(blocked, 0)));
    }

    return rc;
}
