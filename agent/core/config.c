#define _GNU_SOURCE

#include "config_private.h"
#include "cleanup.h"
#include "text.h"

#include "hatch_file.h"
#include "hatch_json.h"
#include "hatch_route_store.h"
#include "hatch_zone.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


#define CONFIG_FILE_MAX  (1024 * 1024)


const config_key_t  config_keys[] = {
#define STRING(key, when, min, otherwise)                                     \
    { #key, CONFIG_STRING, CONFIG_ ## when, offsetof(config_t, key), min,     \
      CONFIG_TEXT - 1, otherwise }
#define INTEGER(key, when, min, max, otherwise)                               \
    { #key, CONFIG_INTEGER, CONFIG_ ## when, offsetof(config_t, key), min,    \
      max, otherwise }
#define BOOLEAN(key, when, otherwise)                                         \
    { #key, CONFIG_BOOLEAN, CONFIG_ ## when, offsetof(config_t, key), 0, 1,   \
      otherwise }
#define DURATION(key, otherwise)                                              \
    { #key, CONFIG_DURATION, CONFIG_LIVE, offsetof(config_t, key),            \
      CONFIG_DURATION_MIN, CONFIG_DURATION_MAX, otherwise }

    STRING(connect, RESTART, 1, "qemu:///system"),
    STRING(zone, RESTART, 1, HATCH_ZONE_PATH),
    STRING(socket, RESTART, 1, "/run/hatch/agent.sock"),
    STRING(wake_socket, RESTART, 1, "/run/hatch/wake.sock"),
    STRING(state_dir, RESTART, 1, "/var/lib/hatch/agent"),
    STRING(image_dir, RESTART, 1, "/var/lib/hatch/images"),
    STRING(route_store, RESTART, 1, HATCH_STORE_PATH),
    STRING(group, RESTART, 0, ""),
    STRING(socket_group, RESTART, 0, ""),
    STRING(virt_type, RESTART, 1, "auto"),
    STRING(network_name, RESTART, 1, "hatch"),
    STRING(bridge_name, RESTART, 1, "hatch0"),
    STRING(bridge_cidr, RESTART, 1, "10.201.0.1/20"),
    STRING(default_kernel_path, IMAGE, 0, ""),
    STRING(default_initrd_path, IMAGE, 0, ""),
    STRING(default_rootfs_path, IMAGE, 0, ""),
    STRING(default_boot_args, IMAGE, 0,
           "console=ttyS0 quiet reboot=t panic=-1 no_timer_check "
           "tsc=reliable cryptomgr.notests"),
    STRING(log_level, LIVE, 1, "info"),
    STRING(memory, RESTART, 1, "auto"),

    INTEGER(zone_vms, RESTART, 1, HATCH_SLOTS_MAX, "16384"),
    INTEGER(default_vcpu, LIVE, 1, 32, "1"),
    INTEGER(default_mem_mib, LIVE, 128, 65536, "512"),
    INTEGER(resync_interval, LIVE, 1, 3600, "30"),
    INTEGER(stop_timeout, LIVE, 0, 600, "10"),
    INTEGER(libvirt_timeout, LIVE, 1, 3600, "40"),
    INTEGER(save_timeout, LIVE, 1, 86400, "300"),
    INTEGER(save_all_timeout, LIVE, 1, 86400, "300"),
    INTEGER(max_starts, LIVE, 1, 256, "8"),
    INTEGER(max_vms, LIVE, 0, HATCH_SLOTS_MAX, "0"),
    INTEGER(max_vcpus, LIVE, 0, 1 << 24, "0"),
    INTEGER(max_mem_mib, LIVE, 0, 1 << 30, "0"),
    INTEGER(max_disk_mib, LIVE, 0, 1 << 30, "0"),
    INTEGER(max_overlay_size_mib, LIVE, 1, CONFIG_DISK_MAX, "65536"),
    INTEGER(max_snapshots_per_vm, LIVE, 0, 10000, "10"),
    INTEGER(host_memory_reserve_mib, LIVE, 0, 1 << 24, "256"),

    BOOLEAN(spoof_protection, RESTART, "true"),
    BOOLEAN(guest_isolation, LIVE, "false"),

    DURATION(stats_interval, "15s"),
    DURATION(idle_timeout, "10m"),
    DURATION(park_after, "1m"),
    DURATION(save_after, "30m"),

    { NULL, CONFIG_STRING, CONFIG_RESTART, 0, 0, 0, NULL }

#undef STRING
#undef INTEGER
#undef BOOLEAN
#undef DURATION
};

#define CONFIG_KEYS  (sizeof(config_keys) / sizeof(config_keys[0]) - 1)


static const char  config_usage[] =
    "usage: hatch-agent [--config FILE] [--connect URI] [--zone PATH]\n"
    "                   [--socket PATH] [--wake-socket PATH]\n"
    "                   [--state-dir DIR] [--image-dir DIR]\n"
    "                   [--check] [--save-all] [--adopt] [--version]\n"
    "                   [--help]\n"
    "\n"
    "Manages virtual machines through libvirt and publishes their state to\n"
    "nginx.  Configuration: " CONFIG_FILE ", HATCH_* in the environment,\n"
    "and the options above, each overriding the one before.\n"
    "\n"
    "  --check     say what was found of configuration, host and libvirt;\n"
    "              exit with 0 or, if no VM could be made, with 1\n"
    "  --save-all  save the memory of all VMs that are up, since the host\n"
    "              stops; exit with 0 or, if some are not saved, with 1\n"
    "  --adopt     mark the state directory, which has moved, as that of this\n"
    "              libvirt and host, then exit with 0\n";


/*
 * "never" (or "null", as JSON says it), or numbers with units: "600", "10m",
 * "1h30m", "1.5s", "500ms".  A number without a unit is seconds.
 */
static int
config_parse_duration(const char *text, int64_t *ms)
{
    char    *end;
    size_t   i;
    double   n, sum = 0;

    static const struct {
        const char  *name;
        double       ms;
    } units[] = {
        { "ms", 1 }, { "s", 1e3 }, { "m", 60e3 }, { "h", 3600e3 },
        { "d", 86400e3 }
    };

    if (strcmp(text, "never") == 0 || strcmp(text, "null") == 0) {
        *ms = HATCH_JSON_NEVER;
        return 0;
    }

    do {
        if (!isdigit((unsigned char) *text)) {
            return -1;
        }

        n = strtod(text, &end);

        for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
            if (strncmp(end, units[i].name, strlen(units[i].name)) == 0) {
                break;
            }
        }

        if (i == sizeof(units) / sizeof(units[0])) {
            /* only the last number may have no unit, if it is the first */
            if (*end != '\0' || sum != 0 || n >= 1e9) {
                return -1;
            }

            *ms = (int64_t) (n * 1000 + 0.5);
            return 0;
        }

        sum += n * units[i].ms;
        text = end + strlen(units[i].name);
    } while (*text != '\0');

    *ms = sum < 1e12 ? (int64_t) (sum + 0.5) : INT64_MAX;

    return 0;
}


static int
config_set_duration(config_number_t *field, const config_key_t *key,
    const char *value, const char *where, hatch_err_t *err)
{
    int64_t  ms = 0;

    if (config_parse_duration(value, &ms) != 0
        || (ms != HATCH_JSON_NEVER && (ms < key->min || ms > key->max)))
    {
        return hatch_err_set(err, HATCH_ERR_INVALID, "%s: \"%s\" must be %g "
                             "to %lld seconds, as in 600, \"10m\" or "
                             "\"1h30m\", or \"never\", not \"%.40s\"", where,
                             key->name, (double) key->min / 1000,
                             (long long) key->max / 1000, value);
    }

    *field = ms;

    return 0;
}


static int
config_set_boolean(config_number_t *field, const config_key_t *key,
    const char *value, const char *where, hatch_err_t *err)
{
    const int  n = strcmp(value, "true") == 0;

    if (!n && strcmp(value, "false") != 0) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "%s: \"%s\" must be "
                             "true or false, not \"%.40s\"", where,
                             key->name, value);
    }

    *field = n;

    return 0;
}


/* Notes which of those that a host may make longer somebody has set. */
static void
config_note_set(config_t *config, const config_key_t *key)
{
    if (key->offset == offsetof(config_t, libvirt_timeout)) {
        config->libvirt_timeout_set = 1;
    }

    if (key->offset == offsetof(config_t, save_timeout)) {
        config->save_timeout_set = 1;
    }
}


/* Sets one key from text; `where` says where the text came from. */
static int
config_set(config_t *config, const config_key_t *key, const char *value,
    const char *where, hatch_err_t *err)
{
    char             *end, *field = (char *) config + key->offset;
    size_t            len;
    int64_t           n;
    config_number_t  *number = (config_number_t *) (void *) field;

    config_note_set(config, key);

    if (key->type == CONFIG_STRING) {
        len = strlen(value);

        if ((int64_t) len < key->min || (int64_t) len > key->max) {
            return hatch_err_set(err, HATCH_ERR_INVALID, "%s: \"%s\" must be "
                                 "%lld to %lld bytes long, not %zu", where,
                                 key->name, (long long) key->min,
                                 (long long) key->max, len);
        }

        memcpy(field, value, len + 1);
        return 0;
    }

    if (key->type == CONFIG_DURATION) {
        return config_set_duration(number, key, value, where, err);
    }

    if (key->type == CONFIG_BOOLEAN) {
        return config_set_boolean(number, key, value, where, err);
    }

    errno = 0;
    n = strtoll(value, &end, 10);

    if (errno != 0 || end == value || *end != '\0' || n < key->min
        || n > key->max)
    {
        return hatch_err_set(err, HATCH_ERR_INVALID, "%s: \"%s\" must be %lld "
                             "to %lld, not \"%.40s\"", where, key->name,
                             (long long) key->min, (long long) key->max,
                             value);
    }

    *number = n;

    return 0;
}


static int
config_load_file(config_t *config, const char *path, int required,
    hatch_err_t *err)
{
    int                  rc;
    size_t               i, len = 0;
    hatch_err_t          why;
    cleanup_free char   *text = NULL;
    cleanup_json json_object  *object = NULL;
    json_object         *value;
    hatch_json_field_t   fields[CONFIG_KEYS + 1];

    rc = text_read(path, CONFIG_FILE_MAX, &text, &len, err);
    if (rc != 0) {
        return rc == HATCH_ERR_ABSENT && !required ? 0 : rc;
    }

    (void) snprintf(config->file, sizeof(config->file), "%s", path);

    memset(fields, 0, sizeof(fields));

    for (i = 0; i < CONFIG_KEYS; i++) {
        fields[i].name = config_keys[i].name;
        fields[i].type = config_keys[i].type == CONFIG_STRING
                         ? HATCH_JSON_STRING
                         : config_keys[i].type == CONFIG_INTEGER
                         ? HATCH_JSON_INTEGER
                         : config_keys[i].type == CONFIG_BOOLEAN
                         ? HATCH_JSON_BOOLEAN : HATCH_JSON_ANY;
        fields[i].min = config_keys[i].min;
        fields[i].max = config_keys[i].max;
    }

    if (hatch_json_parse(text, len, &object, &why) != 0
        || hatch_json_check(object, fields, &why) != 0)
    {
        return hatch_err_set(err, HATCH_ERR_INVALID, "%.100s: %.140s", path,
                             why.text);
    }

    for (i = 0; i < CONFIG_KEYS; i++) {
        if (!json_object_object_get_ex(object, config_keys[i].name, &value)) {
            continue;
        }

        rc = config_set(config, &config_keys[i],
                        value != NULL ? json_object_get_string(value)
                                      : "null", path, err);
        if (rc != 0) {
            return rc;
        }
    }

    return 0;
}


static int
config_load_environment(config_t *config, hatch_err_t *err)
{
    int          rc;
    char         name[64], *p;
    size_t       i;
    const char  *value;

    for (i = 0; i < CONFIG_KEYS; i++) {
        (void) snprintf(name, sizeof(name), "HATCH_%s", config_keys[i].name);

        for (p = name; *p != '\0'; p++) {
            *p = (char) toupper((unsigned char) *p);
        }

        value = getenv(name);
        if (value == NULL) {
            continue;
        }

        rc = config_set(config, &config_keys[i], value, name, err);
        if (rc != 0) {
            return rc;
        }
    }

    return 0;
}


static const struct option  config_options[] = {
    { "config", required_argument, NULL, 'c' },
    { "connect", required_argument, NULL, 0 },
    { "zone", required_argument, NULL, 0 },
    { "socket", required_argument, NULL, 0 },
    { "wake-socket", required_argument, NULL, 0 },
    { "state-dir", required_argument, NULL, 0 },
    { "image-dir", required_argument, NULL, 0 },
    { "check", no_argument, NULL, 'C' },
    { "adopt", no_argument, NULL, 'A' },
    { "save-all", no_argument, NULL, 'S' },
    { "version", no_argument, NULL, 'V' },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 }
};


/* Sets the key that an option stands for: --state-dir is state_dir. */
static int
config_set_option(config_t *config, const char *option, const char *value,
    hatch_err_t *err)
{
    char    name[32], where[40], *p;
    size_t  i;

    (void) snprintf(name, sizeof(name), "%s", option);
    (void) snprintf(where, sizeof(where), "--%s", option);

    for (p = name; *p != '\0'; p++) {
        if (*p == '-') {
            *p = '_';
        }
    }

    for (i = 0; i < CONFIG_KEYS; i++) {
        if (strcmp(config_keys[i].name, name) == 0) {
            return config_set(config, &config_keys[i], value, where, err);
        }
    }

    return hatch_err_set(err, HATCH_ERR_INVALID, "no option \"%s\"", where);
}


/*
 * The first pass looks only for --config, --help and --version; the second
 * sets what is to override file and environment.
 */
static int
config_arguments(config_t *config, int argc, char **argv, int first,
    const char **file, hatch_err_t *err)
{
    int  opt, index, rc;

    optind = 1;
    opterr = 0;

    while ((opt = getopt_long(argc, argv, "", config_options, &index)) != -1) {
        switch (opt) {

        case 'c':
            *file = optarg;
            break;

        case 'C':
            config->check = 1;
            break;

        case 'A':
            config->adopt = 1;
            break;

        case 'S':
            config->save_all = 1;
            break;

        case 'V':
            printf("hatch-agent " HATCH_VERSION "\n");
            return 1;

        case 'h':
            fputs(config_usage, stdout);
            return 1;

        case 0:
            rc = first ? 0 : config_set_option(config,
                                               config_options[index].name,
                                               optarg, err);
            if (rc != 0) {
                return rc;
            }
            break;

        default:
            return hatch_err_set(err, HATCH_ERR_INVALID, "invalid option or "
                                 "missing value: \"%s\"; see --help",
                                 argv[optind - 1]);
        }
    }

    if (optind < argc) {
        return hatch_err_set(err, HATCH_ERR_INVALID,
                             "unexpected argument \"%s\"; see --help",
                             argv[optind]);
    }

    return 0;
}


int
config_load(config_t *config, int argc, char **argv, hatch_err_t *err)
{
    int          rc;
    size_t       i;
    const char  *file = NULL;

    memset(config, 0, sizeof(*config));
    config->image = config;

    for (i = 0; i < CONFIG_KEYS; i++) {
        rc = config_set(config, &config_keys[i], config_keys[i].otherwise,
                        "default", err);
        if (rc != 0) {
            return rc;
        }
    }

    config->libvirt_timeout_set = 0;
    config->save_timeout_set = 0;

    rc = config_arguments(config, argc, argv, 1, &file, err);

    if (rc == 0) {
        rc = config_load_file(config, file != NULL ? file : CONFIG_FILE,
                              file != NULL, err);
    }

    if (rc == 0) {
        rc = config_load_environment(config, err);
    }

    if (rc == 0) {
        rc = config_arguments(config, argc, argv, 0, &file, err);
    }

    return rc == 0 ? config_check(config, err) : rc;
}
