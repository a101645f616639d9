#define _GNU_SOURCE

#include "statedir_owner.h"
#include "statedir.h"
#include "core/cleanup.h"
#include "core/place.h"
#include "core/text.h"

#include "hatch_json.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>


#define OWNER_FILE      "owner.json"
#define OWNER_FILE_MAX  4096

#define OWNER_MACHINE   "/etc/machine-id"
#define OWNER_ID        32              /* hexadecimal digits */


typedef struct {
    place_t  libvirt;
    char     machine[OWNER_ID + 1];     /* "": there is none */
} owner_t;


static int  owner_judged;               /* atomic: any thread asks */


/* Containers and images before their first boot have none. */
static void
owner_machine(char machine[OWNER_ID + 1])
{
    size_t              len, n = 0;
    hatch_err_t         err;
    cleanup_free char  *text = NULL;

    machine[0] = '\0';

    if (text_read(OWNER_MACHINE, OWNER_FILE_MAX, &text, &len, &err) != 0) {
        return;
    }

    while (n < OWNER_ID && isxdigit((unsigned char) text[n])) {
        n++;
    }

    if (n == OWNER_ID && (text[n] == '\0' || text[n] == '\n')) {
        (void) snprintf(machine, OWNER_ID + 1, "%.*s", OWNER_ID, text);
    }
}


static void
owner_here(const config_t *config, owner_t *owner)
{
    place_read(config->connect, &owner->libvirt);
    owner_machine(owner->machine);
}


static void
owner_text(const place_t *libvirt, char *text, size_t size)
{
    (void) snprintf(text, size, "%.40s%s%.60s", libvirt->driver,
                    libvirt->driver[0] != '\0' ? "://" : "", libvirt->place);
}


void
statedir_owner_libvirt(const config_t *config, char *text, size_t size)
{
    owner_t  here;

    owner_here(config, &here);
    owner_text(&here.libvirt, text, size);
}


static void
owner_path(const config_t *config, char path[STATEDIR_PATH])
{
    (void) snprintf(path, STATEDIR_PATH, "%s/" OWNER_FILE, config->state_dir);
}


/* Fills owner with what the mark says.  1 if there is none. */
static int
owner_read(const config_t *config, owner_t *owner, hatch_err_t *err)
{
    int                        rc;
    char                       path[STATEDIR_PATH];
    size_t                     len;
    int64_t                    format;
    hatch_err_t                why;
    cleanup_free char         *text = NULL;
    cleanup_json json_object  *mark = NULL;

    owner_path(config, path);
    rc = text_read(path, OWNER_FILE_MAX, &text, &len, &why);

    if (rc == HATCH_ERR_ABSENT) {
        return 1;
    }

    /* one that nobody could read may well say that this is its host */
    if (rc != 0 && rc != HATCH_ERR_CORRUPT) {
        *err = why;
        return rc;
    }

    if (rc == 0) {
        rc = hatch_json_parse(text, len, &mark, &why);
    }

    format = rc == 0 ? hatch_json_integer(mark, "format", 0) : 0;

    if (format > STATEDIR_FORMAT) {
        return hatch_err_set(err, HATCH_ERR_VERSION, "\"state_dir\": "
                             "\"%.100s\" is a newer agent's: it has format "
                             "%lld, this one knows %d; start that agent",
                             config->state_dir, (long long) format,
                             STATEDIR_FORMAT);
    }

    if (rc != 0 || format < 1
        || hatch_json_string(mark, "place", "")[0] == '\0')
    {
        return hatch_err_set(err, HATCH_ERR_CORRUPT, "\"%.120s\" does not say "
                             "whose the directory is (%.100s); "
                             STATEDIR_HOWTO, path,
                             rc != 0 ? why.text : "no \"format\" or \"place\"");
    }

    (void) snprintf(owner->libvirt.driver, sizeof(owner->libvirt.driver),
                    "%s", hatch_json_string(mark, "driver", ""));
    (void) snprintf(owner->libvirt.place, sizeof(owner->libvirt.place),
                    "%s", hatch_json_string(mark, "place", ""));
    (void) snprintf(owner->machine, sizeof(owner->machine), "%s",
                    hatch_json_string(mark, "machine_id", ""));

    return 0;
}


int
statedir_owner_check(const config_t *config, hatch_err_t *err)
{
    int      rc;
    char     there[128], this[128];
    owner_t  mark, here;

    rc = owner_read(config, &mark, err);

    if (rc != 0) {
        return rc == 1 ? 0 : rc;
    }

    owner_here(config, &here);

    if (strcmp(mark.libvirt.driver, here.libvirt.driver) != 0
        || strcmp(mark.libvirt.place, here.libvirt.place) != 0)
    {
        owner_text(&mark.libvirt, there, sizeof(there));
        owner_text(&here.libvirt, this, sizeof(this));

        return hatch_err_set(err, HATCH_ERR_FOREIGN, "\"state_dir\": \"%.70s\""
                             " has the VMs of %.50s, not of %.50s; "
                             STATEDIR_HOWTO, config->state_dir, there, this);
    }

    /* one without an id may be any host */
    if (mark.machine[0] != '\0' && here.machine[0] != '\0'
        && strcmp(mark.machine, here.machine) != 0)
    {
        return hatch_err_set(err, HATCH_ERR_FOREIGN, "\"state_dir\": \"%.70s\""
                             " belongs to host %s, not to this one, %s; "
                             STATEDIR_HOWTO, config->state_dir, mark.machine,
                             here.machine);
    }

    __atomic_store_n(&owner_judged, 1, __ATOMIC_RELEASE);

    return 0;
}


int
statedir_owner_judged(void)
{
    return __atomic_load_n(&owner_judged, __ATOMIC_ACQUIRE);
}


int
statedir_owner_mark(const config_t *config, hatch_err_t *err)
{
    int                        rc;
    char                       path[STATEDIR_PATH];
    owner_t                    here;
    const char                *text;
    cleanup_json json_object  *mark = json_object_new_object();

    owner_here(config, &here);

    (void) json_object_object_add(mark, "format",
                                  json_object_new_int(STATEDIR_FORMAT));
    (void) json_object_object_add(mark, "driver", json_object_new_string(
                                      here.libvirt.driver));
    (void) json_object_object_add(mark, "place", json_object_new_string(
                                      here.libvirt.place));

    if (here.machine[0] != '\0') {
        (void) json_object_object_add(mark, "machine_id",
                                      json_object_new_string(here.machine));
    }

    owner_path(config, path);
    text = json_object_to_json_string_ext(mark, STATEDIR_JSON);
    rc = statedir_write(path, text, strlen(text), err);

    if (rc == 0) {
        __atomic_store_n(&owner_judged, 1, __ATOMIC_RELEASE);
    }

    return rc;
}


int
statedir_owner_adopt(const config_t *config, hatch_err_t *err)
{
    int      rc;
    owner_t  mark;

    if (access(config->state_dir, F_OK) == -1) {
        return hatch_err_errno(err, errno, "\"state_dir\": \"%s\"",
                               config->state_dir);
    }

    rc = owner_read(config, &mark, err);

    if (rc < 0 && rc != HATCH_ERR_CORRUPT) {
        return rc;
    }

    rc = statedir_lock(config, err);

    return rc == 0 ? statedir_owner_mark(config, err) : rc;
}
