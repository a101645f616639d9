/* The rules of the configuration that a length or a range cannot say. */

#define _GNU_SOURCE

#include "config.h"
#include "log.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>


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
        { "default_initrd_path", config->default_initrd_path },
        { "default_rootfs_path", config->default_rootfs_path }
    };

    for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (paths[i].value[0] != '/' && paths[i].value[0] != '\0') {
            return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must be an "
                                 "absolute path, not \"%s\"", paths[i].key,
                                 paths[i].value);
        }
    }

    /* sizeof(sun_path) is 108 */
    if (strlen(config->socket) > 107 || strlen(config->wake_socket) > 107) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must be at "
                             "most 107 bytes long",
                             strlen(config->socket) > 107
                             ? "socket" : "wake_socket");
    }

    if (strcmp(config->socket, config->wake_socket) == 0) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"socket\" and "
                             "\"wake_socket\" must not be the same, \"%s\"",
                             config->socket);
    }

    return 0;
}


static int
config_group(const char *key, const char *name, gid_t *gid, hatch_err_t *err)
{
    const struct group  *group = getgrnam(name);

    if (group == NULL) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\": there is no "
                             "group \"%s\"", key, name);
    }

    *gid = group->gr_gid;

    return 0;
}


int
config_has_member(const char *name, const char *user)
{
    char                 *const *member;
    const struct group   *group = getgrnam(name);
    const struct passwd  *its = getpwnam(user);

    if (group != NULL && its != NULL && its->pw_gid == group->gr_gid) {
        return 1;
    }

    for (member = group != NULL ? group->gr_mem : NULL;
         member != NULL && *member != NULL; member++)
    {
        if (strcmp(*member, user) == 0) {
            return 1;
        }
    }

    return 0;
}


/*
 * The group that may read the zone, nginx's, and the one that may use the
 * sockets: administrators', if nginx's user is in it, else nginx's, too.
 */
static int
config_find_groups(config_t *config, hatch_err_t *err)
{
    int  rc = 0;

    config->gid = (gid_t) -1;

    if (config->group[0] != '\0') {
        rc = config_group("group", config->group, &config->gid, err);

    } else if (geteuid() == 0) {
        /* that of Debian's nginx workers, where there is one */
        (void) config_group("group", CONFIG_NGINX, &config->gid, NULL);
    }

    config->socket_gid = config->gid;

    if (rc == 0 && config->socket_group[0] != '\0') {
        return config_group("socket_group", config->socket_group,
                            &config->socket_gid, err);
    }

    if (rc == 0 && config->group[0] == '\0' && geteuid() == 0
        && config_has_member(CONFIG_GROUP, CONFIG_NGINX))
    {
        (void) config_group("socket_group", CONFIG_GROUP, &config->socket_gid,
                            NULL);
    }

    return rc;
}


int
config_check(config_t *config, hatch_err_t *err)
{
    int              prefix;
    char             address[64], rest;
    const char      *p;
    struct in_addr   in;

    if (strcmp(config->memory, "auto") != 0
        && strcmp(config->memory, "image") != 0
        && strcmp(config->memory, "classic") != 0)
    {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"memory\" must be "
                             "\"auto\", \"image\" or \"classic\", not "
                             "\"%.40s\"", config->memory);
    }

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

    if (config_find_groups(config, err) != 0) {
        return HATCH_ERR_INVALID;
    }

    return config_check_paths(config, err);
}
