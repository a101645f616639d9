/*
 * hatch-agent: argument, start order, exit codes.  No logic.
 *
 * Exit status: 0 after SIGTERM or SIGINT, or if --check found nothing wrong;
 * 1 if it cannot start, or its state directory turns out to be another's.
 */

#define _GNU_SOURCE

#include "core/config.h"
#include "core/fault.h"
#include "api/http.h"
#include "sleep/idle.h"
#include "virt/host.h"
#include "virt/net.h"
#include "virt/spoof.h"
#include "store/image.h"
#include "core/descriptors.h"
#include "core/listen.h"
#include "core/log.h"
#include "core/work.h"
#include "core/tool.h"
#include "store/pending.h"
#include "vm/files.h"
#include "vm/operation.h"
#include "vm/routes.h"
#include "vm/snapshot.h"
#include "store/statedir.h"
#include "store/statedir_owner.h"
#include "virt/stats.h"
#include "virt/sync.h"
#include "table/table.h"
#include "store/template.h"
#include "vm/tidy.h"
#include "virt/virt.h"
#include "virt/virt_cleanup.h"
#include "sleep/wake.h"

#include "hatch_guard.h"

#include <errno.h>
#include <malloc.h>
#include <libxml/parser.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>


/* How long stopping may take, s. */
#define MAIN_STOP_TIMEOUT  5


static volatile int  main_status;           /* what the agent ends with */
static volatile int  main_was_connected;    /* the sync thread's */


/* Makes the directory that a path is in, with its parents. */
static int
main_make_parent(const char *path, hatch_err_t *err)
{
    char  dir[PATH_MAX], *p;

    (void) snprintf(dir, sizeof(dir), "%s", path);

    for (p = dir + 1; *p != '\0'; p++) {
        if (*p != '/') {
            continue;
        }

        *p = '\0';

        if (mkdir(dir, 0755) == -1 && errno != EEXIST) {
            return hatch_err_errno(err, errno, "cannot create \"%s\"", dir);
        }

        *p = '/';
    }

    return 0;
}


static int
main_make_parents(const config_t *config, hatch_err_t *err)
{
    int  rc;

    rc = main_make_parent(config->zone, err);

    if (rc == 0) {
        rc = main_make_parent(config->socket, err);
    }

    return rc == 0 ? main_make_parent(config->wake_socket, err) : rc;
}


/*
 * Waited for, in the one thread that does: those that end the agent, and those
 * that others end at, or make read its configuration and open its log anew.
 */
static void
main_block_signals(sigset_t *set)
{
    (void) sigemptyset(set);
    (void) sigaddset(set, SIGINT);
    (void) sigaddset(set, SIGTERM);
    (void) sigaddset(set, SIGHUP);
    (void) sigaddset(set, SIGUSR1);
    (void) sigaddset(set, SIGUSR2);
    (void) pthread_sigmask(SIG_BLOCK, set, NULL);
    (void) signal(SIGPIPE, SIG_IGN);
}


/* Zone and sockets: what is there already must be ours. */
static int
main_check_files(const config_t *config, int running, hatch_err_t *err)
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


/* What stands in the configuration, and in the network that there is. */
static int
main_check_network(const config_t *config, hatch_err_t *err)
{
    int                         rc;
    hatch_err_t                 why;
    cleanup_conn virConnectPtr  conn = virt_get(err);

    rc = conn != NULL ? net_follow(conn, config, 1, err) : (int) err->code;

    if (rc == 0 && virt_driver(conn)->has_guests
        && spoof_check(config, &why) != 0)
    {
        fprintf(stderr, "hatch-agent: warning: %s\n", why.text);
    }

    return rc;
}


/* A directory that no agent has marked yet, as the first connection would. */
static int
main_check_owner(const config_t *config, hatch_err_t *err)
{
    int            rc;
    virConnectPtr  conn;

    if (statedir_owner_judged()) {
        return 0;
    }

    rc = snapshot_open(config, err);
    conn = rc == 0 ? virt_get(err) : NULL;

    if (conn != NULL) {
        rc = files_judge(config, conn, err);
        (void) virConnectClose(conn);
    }

    return rc;
}


/* What VMs cannot be made without. */
static void
main_check_tools(void)
{
    size_t  i;

    static const struct {
        const char  *name;
        const char  *package;
        const char  *use;
    } tools[] = {
        { "qemu-img", "qemu-utils", "disk" },
        { "xorriso", "xorriso", "cloud-init drive" }
    };

    for (i = 0; i < sizeof(tools) / sizeof(tools[0]); i++) {
        if (!tool_is_there(tools[i].name)) {
            fprintf(stderr, "hatch-agent: warning: there is no %s in PATH, so "
                    "no VM with a %s can be created; install it (Debian: %s)"
                    "\n", tools[i].name, tools[i].use, tools[i].package);
        }
    }
}


/* An agent may be running, with this configuration. */
static int
main_check(const config_t *config, hatch_err_t *err)
{
    int   rc;
    char  warning[HOST_TEXT];

    rc = statedir_check(config, err);

    if (rc == 0) {
        rc = statedir_owner_check(config, err);
    }

    if (rc == 0) {
        rc = main_check_files(config, 1, err);
    }

    if (rc == 0) {
        rc = virt_init(&sync_handlers, err);
    }

    if (rc == 0) {
        rc = virt_open(config->connect, err);
    }

    if (rc == 0) {
        rc = main_check_network(config, err);
    }

    if (rc == 0) {
        rc = main_check_owner(config, err);
    }

    if (rc != 0) {
        return rc;
    }

    main_check_tools();

    if (host_check(config, warning)) {
        fprintf(stderr, "hatch-agent: warning: %s\n", warning);
    }

    virt_close();
    printf("hatch-agent: configuration and connection to %s are ok\n",
           config->connect);

    return 0;
}


/* What is kept in state_dir, which is locked first. */
static int
main_open_state(const config_t *config, hatch_err_t *err)
{
    int  rc;

    rc = statedir_open(config, err);

    if (rc == 0 && !statedir_owner_judged()) {
        log_event(LOG_INFO, "\"%s\" does not say whose it is; until libvirt "
                  "has been asked nothing in it is recovered or deleted",
                  config->state_dir);
    }

    if (rc == 0) {
        rc = image_open(config, err);
    }

    if (rc == 0) {
        rc = template_open(config, err);
    }

    if (rc == 0) {
        rc = snapshot_open(config, err);
    }

    if (rc == 0) {
        rc = pending_open(config, err);
    }

    if (rc == 0) {
        snapshot_report(config);
    }

    return rc;
}


/*
 * On each connection to libvirt.  A directory or a network that is not ours, or
 * not as configured: the agent ends, with status 1.
 */
static int
main_connected(const config_t *config, virConnectPtr conn, hatch_err_t *err)
{
    int  rc;

    rc = files_open(config, conn, err);

    if (rc == 0) {
        rc = net_follow(conn, config, 0, err);
    }

    /* at the first connection: nobody has used directory and network yet */
    if ((rc == HATCH_ERR_INVALID || rc == HATCH_ERR_FOREIGN)
        && !main_was_connected && main_status == 0)
    {
        log_event(LOG_ERROR, "%s", err->text);
        main_status = 1;
        (void) kill(getpid(), SIGTERM);
    }

    if (rc == 0) {
        main_was_connected = 1;
    }

    return rc;
}


static int
main_adopt(const config_t *config, hatch_err_t *err)
{
    int   rc = statedir_owner_adopt(config, err);
    char  libvirt[128];

    if (rc == 0) {
        statedir_owner_libvirt(config, libvirt, sizeof(libvirt));
        printf("hatch-agent: \"%s\" belongs to %s and this host now\n",
               config->state_dir, libvirt);
    }

    return rc;
}


/* The table of VMs is true to libvirt. */
static void
main_settled(void)
{
    if (table_is_complete()) {
        spoof_request();
    }

    tidy_request();
}


static const sync_listener_t  main_listener = { main_connected, main_settled };


/*
 * What is another's is seen before anything is made, even a lock; and again,
 * since the agent that had it may just have marked the directory.
 */
static int
main_check_place(const config_t *config, hatch_err_t *err)
{
    int  rc = statedir_owner_check(config, err);

    if (rc == 0) {
        rc = statedir_lock(config, err);
    }

    if (rc == 0) {
        rc = statedir_owner_check(config, err);
    }

    return rc == 0 ? main_check_files(config, 0, err) : rc;
}


static int
main_start(const config_t *config, hatch_err_t *err)
{
    int  rc = main_check_place(config, err);

    if (rc == 0) {
        rc = main_make_parents(config, err);
    }

    if (rc == 0) {
        rc = hatch_guard_install() == 0 ? table_open(config, err)
                                        : HATCH_ERR_SYSTEM;
    }

    if (rc == 0) {
        rc = main_open_state(config, err);
    }

    if (rc == 0) {
        rc = virt_init(&sync_handlers, err);
    }

    if (rc == 0) {
        host_init();
        rc = tidy_start(config, err);
    }

    if (rc == 0) {
        rc = sync_start(config, &main_listener, err);
    }

    if (rc == 0) {
        rc = spoof_start(config, err);
    }

    if (rc == 0) {
        rc = wake_start(config, err);
    }

    if (rc == 0) {
        rc = idle_start(config, err);
    }

    if (rc == 0) {
        rc = stats_start(config, err);
    }

    if (rc == 0) {
        rc = http_start(config, err);
    }

    return rc;
}


/*
 * libvirt calls have no deadline of their own: with a daemon that hangs, a
 * thread may never come back.  Nothing is lost by leaving it behind.
 */
static void
main_give_up(int signo)
{
    (void) signo;

    _exit(main_status);
}


static void
main_told(const char *key, int live, const char *before, const char *now)
{
    if (live) {
        log_event(LOG_INFO, "SIGHUP: \"%s\" is %s now, it was %s", key, now,
                  before);
    } else {
        log_event(LOG_WARN, "SIGHUP: \"%s\" stays %s until the agent is "
                  "restarted, then it is %s", key, before, now);
    }
}


/* The file may have changed; environment and arguments have not. */
static void
main_reload(config_t *config, int argc, char **argv)
{
    hatch_err_t  err;

    if (config_reload(config, argc, argv, main_told, &err) != 0) {
        log_event(LOG_ERROR, "SIGHUP: nothing is changed: %s", err.text);
        return;
    }

    log_set_level((log_level_t) log_parse_level(config->log_level));
    work_reload();
    sync_reload();
    stats_reload();
    log_event(LOG_INFO, "SIGHUP: the configuration was read again");
}


/*
 * A heartbeat every half a second until a signal ends it: "hatch_readyz
 * max_age=1s" must not see a gap.
 */
static void
main_loop(config_t *config, int argc, char **argv, const sigset_t *set)
{
    int              signo;
    hatch_err_t      err, told = { 0, "" };
    struct timespec  step = { 0, 500000000 };

    do {
        err.code = 0;
        err.text[0] = '\0';
        table_beat(&err);

        if (err.code != 0 && strcmp(err.text, told.text) != 0) {
            log_event(LOG_WARN, "%s", err.text);
        }

        told = err;
        signo = sigtimedwait(set, NULL, &step);

        if (signo == SIGHUP) {
            main_reload(config, argc, argv);

        } else if (signo == SIGUSR1 || signo == SIGUSR2) {
            log_event(LOG_WARN, "SIG%s is ignored: the agent logs to standard "
                      "error, and a new one takes the place of one that has "
                      "ended", sigabbrev_np(signo));
        }
    } while (signo != SIGINT && signo != SIGTERM);
}


/* In the other order than main_start() has. */
static void
main_stop(void)
{
    log_event(LOG_INFO, "stopping; the VMs keep running");

    (void) signal(SIGALRM, main_give_up);
    (void) alarm(MAIN_STOP_TIMEOUT);

    http_stop();
    stats_stop();
    idle_stop();
    wake_stop();
    sync_stop();
    tidy_stop();
    routes_close();
    table_close();
}


int
main(int argc, char **argv)
{
    int          rc;
    sigset_t     set;
    hatch_err_t  err;

    /* threads that nobody joins read it to the very end */
    static config_t  config;

    /* what QEMU's user must reach depends on nobody's shell */
    (void) umask(022);
    descriptors_raise();

    if (fault_list_wanted()) {
        operation_print_points();
        return 0;
    }

    rc = config_load(&config, argc, argv, &err);
    if (rc == 1) {
        return 0;
    }

    if (rc == 0) {
        log_open((log_level_t) log_parse_level(config.log_level));

        if (!config.check) {
            main_block_signals(&set);
        }

        /* else each of many short threads leaves memory to an arena of its
         * own: a third more with 10 000 VMs */
        (void) mallopt(M_ARENA_MAX, 2);

        /* what a list of 10 000 VMs took is given back, also after the first
         * time, at which the thresholds would rise to its size */
        (void) mallopt(M_MMAP_THRESHOLD, 256 * 1024);
        (void) mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
        xmlInitParser();

        rc = config.check ? main_check(&config, &err) : config.adopt
             ? main_adopt(&config, &err) : main_start(&config, &err);
    }

    if (rc != 0) {
        fprintf(stderr, "hatch-agent: %s\n", err.text);
        return 1;
    }

    if (config.check || config.adopt) {
        return 0;
    }

    log_event(LOG_INFO, "started, API on %s", config.socket);
    main_loop(&config, argc, argv, &set);
    main_stop();

    return main_status;
}
