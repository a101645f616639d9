#define _GNU_SOURCE

#include "config.h"
#include "cleanup.h"
#include "log.h"

#include "hatch_file.h"
#include "hatch_json.h"
#include "hatch_route_store.h"
#include "hatch_zone.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


#define CONFIG_FILE_MAX  (1024 * 1024)


typedef enum {
    CONFIG_STRING,
    CONFIG_INTEGER
} config_type_t;


/* One row per key: the file, the environment and the checks follow it. */
static const struct config_key {
    const char     *name;
    config_type_t   type;
    size_t          offset;
    int64_t         min;            /* of the number, or of the length */
    int64_t         max;
    const char     *otherwise;
} config_keys[] = {
#define STRING(key, min, otherwise)                                           \
    { #key, CONFIG_STRING, offsetof(config_t, key), min, CONFIG_TEXT - 1,     \
      otherwise }
#define INTEGER(key, min, max, otherwise)                                     \
    { #key, CONFIG_INTEGER, offsetof(config_t, key), min, max, otherwise }

    STRING(connect, 1, "qemu:///system"),
    STRING(zone, 1, HATCH_ZONE_PATH),
    STRING(socket, 1, "/run/hatch/agent.sock"),
    STRING(wake_socket, 1, "/run/hatch/wake.sock"),
    STRING(state_dir, 1, "/var/lib/hatch/agent"),
    STRING(image_dir, 1, "/var/lib/hatch/images"),
    STRING(route_store, 1, HATCH_STORE_PATH),
    STRING(group, 0, ""),
    STRING(virt_type, 1, "auto"),
    STRING(network_name, 1, "hatch"),
    STRING(bridge_name, 1, "hatch0"),
    STRING(bridge_cidr, 1, "10.201.0.1/20"),
    STRING(default_kernel_path, 0, ""),
    STRING(default_initrd_path, 0, ""),
    STRING(default_boot_args, 0,
           "console=ttyS0 quiet reboot=t panic=-1 no_timer_check "
           "tsc=reliable"),
    STRING(log_level, 1, "info"),

    INTEGER(zone_vms, 1, HATCH_SLOTS_MAX, "16384"),
    INTEGER(default_vcpu, 1, 32, "1"),
    INTEGER(default_mem_mib, 128, 65536, "512"),
    INTEGER(resync_interval, 1, 3600, "30"),
    INTEGER(stop_timeout, 0, 600, "10")

#undef STRING
#undef INTEGER
};

#define CONFIG_KEYS  (sizeof(config_keys) / sizeof(config_keys[0]))


static const char  config_usage[] =
    "usage: hatch-agent [--config FILE] [--connect URI] [--zone PATH]\n"
    "                   [--socket PATH] [--wake-socket PATH]\n"
    "                   [--state-dir DIR] [--image-dir DIR]\n"
    "                   [--check] [--version] [--help]\n"
    "\n"
    "Manages virtual machines through libvirt and publishes their state to\n"
    "nginx.  Configuration: " CONFIG_FILE ", HATCH_* in the environment,\n"
    "and the options above, each overriding the one before.\n"
    "\n"
    "  --check    check the configuration and the libvirt connection, then\n"
    "             exit with 0 or, saying what is wrong, with 1\n";


/* Sets one key from text; `where` says where the text came from. */
static int
config_set(config_t *config, const struct config_key *key, const char *value,
    const char *where, hatch_err_t *err)
{
    char     *end, *field = (char *) config + key->offset;
    size_t    len;
    int64_t   n;

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

    memcpy(field, &n, sizeof(n));

    return 0;
}


static int
config_read(const char *path, char *text, size_t size, size_t *len,
    hatch_err_t *err)
{
    int      fd;
    ssize_t  n;

    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd == -1) {
        return hatch_err_errno(err, errno, "cannot read \"%s\"", path);
    }

    n = read(fd, text, size);
    (void) close(fd);

    if (n < 0) {
        return hatch_err_errno(err, errno, "cannot read \"%s\"", path);
    }

    if ((size_t) n == size) {
        return hatch_err_set(err, HATCH_ERR_INVALID,
                             "\"%s\" is larger than %zu bytes", path, size);
    }

    *len = (size_t) n;

    return 0;
}


static int
config_load_file(config_t *config, const char *path, int required,
    hatch_err_t *err)
{
    int                  rc;
    size_t               i, len = 0;
    hatch_err_t          why;
    cleanup_free char   *text = malloc(CONFIG_FILE_MAX);
    cleanup_json json_object  *object = NULL;
    json_object         *value;
    hatch_json_field_t   fields[CONFIG_KEYS + 1];

    if (text == NULL) {
        return hatch_err_errno(err, errno, "cannot read \"%s\"", path);
    }

    rc = config_read(path, text, CONFIG_FILE_MAX, &len, err);
    if (rc != 0) {
        return rc == HATCH_ERR_ABSENT && !required ? 0 : rc;
    }

    memset(fields, 0, sizeof(fields));

    for (i = 0; i < CONFIG_KEYS; i++) {
        fields[i].name = config_keys[i].name;
        fields[i].type = config_keys[i].type == CONFIG_STRING
                         ? HATCH_JSON_STRING : HATCH_JSON_INTEGER;
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
                        json_object_get_string(value), path, err);
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


static int
config_check_paths(const config_t *config, hatch_err_t *err)
{
    size_t  i;

    const struct {
        const char  *key;
        const char  *value;
    } paths[] = {
        { "zone", config->zone },
        { "socket", config->socket },
        { "wake_socket", config->wake_socket },
        { "state_dir", config->state_dir },
        { "image_dir", config->image_dir },
        { "route_store", config->route_store },
        { "default_kernel_path", config->default_kernel_path },
        { "default_initrd_path", config->default_initrd_path }
    };

    for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (paths[i].value[0] != '/' && paths[i].value[0] != '\0') {
            return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must be an "
                                 "absolute path, not \"%s\"", paths[i].key,
                                 paths[i].value);
        }
    }

    /* sizeof(sun_path) is 108 */
    if (strlen(config->socket) > 107) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"socket\" must be at "
                             "most 107 bytes long, not \"%s\"",
                             config->socket);
    }

    return 0;
}


/* The group that may read the zone and use the socket. */
static int
config_find_group(config_t *config, hatch_err_t *err)
{
    struct group  *group;

    config->gid = (gid_t) -1;

    if (config->group[0] != '\0') {
        group = getgrnam(config->group);

        if (group == NULL) {
            return hatch_err_set(err, HATCH_ERR_INVALID,
                                 "\"group\": there is no group \"%s\"",
                                 config->group);
        }

    } else {
        /* that of Debian's nginx workers, where there is one */
        group = geteuid() == 0 ? getgrnam("www-data") : NULL;
    }

    if (group != NULL) {
        config->gid = group->gr_gid;
    }

    return 0;
}


/* The rules that a length or a range cannot say. */
static int
config_check(config_t *config, hatch_err_t *err)
{
    int              prefix;
    char             address[64], rest;
    const char      *p;
    struct in_addr   in;

    if (strcmp(config->virt_type, "auto") != 0
        && strcmp(config->virt_type, "kvm") != 0
        && strcmp(config->virt_type, "qemu") != 0)
    {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"virt_type\" must be "
                             "auto, kvm or qemu, not \"%s\"",
                             config->virt_type);
    }

    if (log_parse_level(config->log_level) < 0) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"log_level\" must be "
                             "error, warn, info or debug, not \"%s\"",
                             config->log_level);
    }

    if (sscanf(config->bridge_cidr, "%63[0-9.]/%d%c", address, &prefix,
               &rest) != 2
        || inet_pton(AF_INET, address, &in) != 1 || prefix < 8 || prefix > 29)
    {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"bridge_cidr\" must be "
                             "an IPv4 address and a prefix of 8 to 29, as in "
                             "10.201.0.1/20, not \"%s\"",
                             config->bridge_cidr);
    }

    /* IFNAMSIZ is 16 */
    for (p = config->bridge_name; *p != '\0'; p++) {
        if ((!isalnum((unsigned char) *p) && strchr("-_.", *p) == NULL)
            || p - config->bridge_name > 14)
        {
            return hatch_err_set(err, HATCH_ERR_INVALID, "\"bridge_name\" "
                                 "must be at most 15 letters, digits, \"-\", "
                                 "\"_\" and \".\", not \"%s\"",
                                 config->bridge_name);
        }
    }

    if (config_find_group(config, err) != 0) {
        return HATCH_ERR_INVALID;
    }

    return config_check_paths(config, err);
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

    for (i = 0; i < CONFIG_KEYS; i++) {
        rc = config_set(config, &config_keys[i], config_keys[i].otherwise,
                        "default", err);
        if (rc != 0) {
            return rc;
        }
    }

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
