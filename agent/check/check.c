#define _GNU_SOURCE

#include "check.h"
#include "check_private.h"
#include "core/descriptors.h"
#include "core/listen.h"
#include "store/statedir.h"
#include "store/statedir_owner.h"
#include "virt/sync.h"
#include "virt/virt.h"
#include "vm/files.h"
#include "vm/snapshot.h"

#include "hatch_zone.h"

#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>


/* What an agent takes without a VM, and for each that wakes at a time. */
#define CHECK_DESCRIPTORS     64
#define CHECK_DESCRIPTORS_VM  3

/* VMs of which each has a port of the bridge, and may be woken at a time. */
#define CHECK_PORTS           1023


/* --- lines --- */

void
check_found(const char *what, const char *format, ...)
{
    va_list  args;

    printf("%s: ", what);
    va_start(args, format);
    (void) vprintf(format, args);
    va_end(args);
    printf("\n");
}


/* In their order among those of standard output, also in a file. */
static void __attribute__((format(printf, 2, 0)))
check_say(const char *kind, const char *format, va_list args)
{
    (void) fflush(stdout);
    fprintf(stderr, "hatch-agent: %s: ", kind);
    (void) vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
}


void
check_warn(const char *format, ...)
{
    va_list  args;

    va_start(args, format);
    check_say("warning", format, args);
    va_end(args);
}


void
check_error(check_t *check, const char *format, ...)
{
    va_list  args;

    check->errors++;
    va_start(args, format);
    check_say("error", format, args);
    va_end(args);
}


/* --- zone, sockets, state directory --- */

int
check_files(const config_t *config, int running, hatch_err_t *err)
{
    int           rc;
    hatch_zone_t  zone;

    rc = hatch_zone_attach(&zone, config->zone, 0, err);

    if (rc == 0) {
        hatch_zone_detach(&zone);
    }

    if (rc == HATCH_ERR_FOREIGN) {
        return rc;
    }

    rc = listen_check("socket", config->socket, err);

    if (rc == 0 || (rc == HATCH_ERR_BUSY && running)) {
        rc = listen_check("wake_socket", config->wake_socket, err);
    }

    return rc == HATCH_ERR_BUSY && running ? 0 : rc;
}


/* A directory that no agent has marked yet, as the first connection would. */
static int
check_unmarked(const config_t *config, virConnectPtr conn, hatch_err_t *err)
{
    int  rc = snapshot_open(config, err);

    return rc == 0 ? files_judge(config, conn, err) : rc;
}


static void
check_owner(check_t *check)
{
    hatch_err_t  err;

    if (statedir_owner_check(check->config, &err) != 0
        || check_files(check->config, 1, &err) != 0
        || (check->conn != NULL && !statedir_owner_judged()
            && check_unmarked(check->config, check->conn, &err) != 0))
    {
        check_error(check, "%s", err.text);
    }
}


/* --- the process --- */

static void
check_user(const check_t *check)
{
    const struct passwd  *user = getpwuid(geteuid());
    const struct group   *group;

    if (geteuid() != 0) {
        check_warn("this is user %s, but the agent is meant to be root; what "
                   "is said here counts for this user",
                   user != NULL ? user->pw_name : "?");
        return;     /* only root gives files to groups */
    }

    group = check->config->gid != (gid_t) -1
            ? getgrgid(check->config->gid) : NULL;

    if (group == NULL) {
        check_warn("there is no group of nginx's workers, so they cannot read "
                   "the zone; name it as \"group\"");
    } else {
        check_found("zone", "%s, for group %s", check->config->zone,
                    group->gr_name);
    }

    group = check->config->socket_gid != (gid_t) -1
            ? getgrgid(check->config->socket_gid) : NULL;
    check_found("sockets", "%s, %s, for group %s", check->config->socket,
                check->config->wake_socket,
                group != NULL ? group->gr_name : "(none)");

    /* the sockets belong to a group that nginx's user is not in */
    if (group != NULL && check->config->socket_gid != check->config->gid
        && getpwnam(CONFIG_NGINX) != NULL
        && !config_has_member(group->gr_name, CONFIG_NGINX))
    {
        check_warn("nginx's user, " CONFIG_NGINX ", is not in group %s, so "
                   "nginx cannot use the sockets; mend it with \"usermod -aG "
                   "%s " CONFIG_NGINX "\", then restart nginx",
                   group->gr_name, group->gr_name);

    } else if (check->config->socket_gid == check->config->gid
               && check->config->socket_group[0] == '\0'
               && getgrnam(CONFIG_GROUP) != NULL
               && strcmp(group != NULL ? group->gr_name : "", CONFIG_GROUP)
                  != 0)
    {
        check_warn("group " CONFIG_GROUP " does not get the sockets, since "
                   "nginx's user, " CONFIG_NGINX ", is not in it; mend it with "
                   "\"usermod -aG " CONFIG_GROUP " " CONFIG_NGINX "\", then "
                   "restart nginx and the agent");
    }
}


static void
check_descriptors(const check_t *check)
{
    unsigned long  has, vms, wanted;

    has = check->unit_descriptors != 0 ? check->unit_descriptors
                                       : descriptors_max();
    vms = check->config->max_vms != 0 && check->config->max_vms < CHECK_PORTS
          ? (unsigned long) check->config->max_vms : CHECK_PORTS;
    wanted = CHECK_DESCRIPTORS + CHECK_DESCRIPTORS_VM * vms;

    check_found("file descriptors", "%lu", has);

    if (has < wanted) {
        check_warn("at most %lu file descriptors: if %lu VMs are woken at a "
                   "time, some wait; %lu are enough (systemd: LimitNOFILE=, "
                   "a shell: ulimit -Hn)", has, vms, wanted);
    }
}


/* --- all --- */

int
check_all(const config_t *config)
{
    check_t  check = { .config = config, .unit_hides = "" };

    check_found("version", "%s", HATCH_VERSION);
    check_found("configuration", "%s", config->file[0] != '\0'
                ? config->file : "defaults, environment and arguments");
    check_user(&check);
    check_unit(&check);
    check_descriptors(&check);
    check_paths(&check);
    check_libvirt(&check);
    check_owner(&check);

    if (check.conn != NULL) {
        check_qemu(&check);
    }

    check_tools(&check);
    check_disks(&check);

    if (check.conn != NULL) {
        check_network(&check);
        (void) virConnectClose(check.conn);
        virt_close();
    }

    if (check.errors != 0) {
        return 1;
    }

    printf("ok\n");

    return 0;
}
