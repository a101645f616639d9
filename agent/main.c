/*
 * hatch-agent: argument, start order, exit codes.  No logic.
 *
 * Exit status: 0 after SIGTERM or SIGINT, or if --check found nothing wrong;
 * 1 if it cannot start, or its state directory turns out to be another's.
 */

#define _GNU_SOURCE

#include "core/config.h"
#include "core/fault.h"
#include "service.h"
#include "check/check.h"
#include "api/http.h"
#include "sleep/idle.h"
#include "virt/host.h"
#include "virt/net.h"
#include "virt/spoof.h"
#include "store/image.h"
#include "core/descriptors.h"
#include "core/log.h"
#include "core/notify.h"
#include "core/watchdog.h"
#include "core/work.h"
#include "store/memory_record.h"
#include "store/pending.h"
#include "vm/again.h"
#include "vm/files.h"
#include "vm/memory.h"
#include "vm/operation.h"
#include "vm/routes.h"
#include "vm/save_all.h"
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
        again_request();
    }

    tidy_request();
}


static void
main_observed(const config_t *config, const vm_t *vm, hatch_state_t state)
{
    if (state == HATCH_STATE_RUNNING) {
        memory_seen_running(config, vm->id);
    }

    again_observed(vm, state);
}


static const sync_listener_t  main_listener = {
    main_connected, main_settled, main_observed
};


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

    return rc == 0 ? check_files(config, 0, err) : rc;
}


static int
main_start(const config_t *config, hatch_err_t *err)
{
    int  rc = main_check_place(config, err);
    int  fresh = access(config->zone, F_OK) == -1;

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
        again_open(config, fresh);
        rc = virt_init(&sync_handlers, err);
    }

    if (rc == 0) {
        host_init();
        rc = tidy_start(config, err);
    }

    /* who is told when the table is complete, before it can be */
    if (rc == 0) {
        rc = spoof_start(config, err);
    }

    if (rc == 0) {
        rc = sync_start(config, &main_listener, err);
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

    if (rc == 0) {
        rc = watchdog_start(err);
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

    service_reloading();

    if (config_reload(config, argc, argv, main_told, &err) != 0) {
        log_event(LOG_ERROR, "SIGHUP: nothing is changed: %s", err.text);
        service_reloaded();
        return;
    }

    log_set_level((log_level_t) log_parse_level(config->log_level));
    work_reload();
    sync_reload();
    stats_reload();
    log_event(LOG_INFO, "SIGHUP: the configuration was read again");
    service_reloaded();
}


/*
 * A heartbeat every half a second until a signal ends it: "hatch_readyz
 * max_age=1s" must not see a gap.  Until the agent is ready it is looked more
 * often: nginx may be waiting to be started.
 */
static void
main_loop(config_t *config, int argc, char **argv, const sigset_t *set)
{
    int              signo;
    hatch_err_t      err, told = { 0, "" };
    struct timespec  step;

    do {
        watchdog_works(WATCHDOG_MAIN);
        err.code = 0;
        err.text[0] = '\0';
        table_beat(&err);

        if (err.code != 0 && strcmp(err.text, told.text) != 0) {
            log_event(LOG_WARN, "%s", err.text);
        }

        told = err;
        step.tv_sec = 0;
        step.tv_nsec = service_beat() ? 500000000 : 20000000;

        watchdog_waits(WATCHDOG_MAIN);
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
    service_stopping();
    log_event(LOG_INFO, "stopping; the VMs keep running");

    (void) signal(SIGALRM, main_give_up);
    (void) alarm(MAIN_STOP_TIMEOUT);

    http_stop();
    again_stop();
    stats_stop();
    idle_stop();
    wake_stop();
    sync_stop();
    tidy_stop();
    routes_close();
    table_close();
}


/* Why there is no agent: for the log, and whoever looks at the unit. */
static void
main_fail(const config_t *config, const hatch_err_t *err)
{
    if (config->check || config->adopt) {
        fprintf(stderr, "hatch-agent: %s\n", err->text);
        return;
    }

    log_event(LOG_ERROR, "%s", err->text);
    notify_send("STATUS=%s", err->text);
}


/* 0 if all VMs that were up are saved, else 1. */
static int
main_save_all(const config_t *config, hatch_err_t *err)
{
    int  rc = virt_init(&sync_handlers, err);

    if (rc == 0) {
        rc = save_all(config, err);
    }

    if (rc < 0) {
        log_event(LOG_ERROR, "no VM is saved: %s", err->text);
    }

    return rc != 0;
}


/* What ends by itself: its exit status, or -1: the agent is meant. */
static int
main_command(const config_t *config)
{
    hatch_err_t  err;

    if (config->check) {
        return check_all(config);
    }

    if (config->save_all) {
        return main_save_all(config, &err);
    }

    if (config->adopt && main_adopt(config, &err) != 0) {
        main_fail(config, &err);
        return 1;
    }

    return config->adopt ? 0 : -1;
}


/* A sanitizer's; nobody else has it. */
extern void  __lsan_do_leak_check(void) __attribute__((weak));


/*
 * Not by exit(), which would run the destructors of libraries (libxml2's frees
 * what it shares) under threads that nobody can join: libvirt's event loop, and
 * operations that wait for a libvirt that hangs.  All that is ours is closed.
 */
static void
main_end(void)
{
    if (__lsan_do_leak_check != NULL) {
        __lsan_do_leak_check();
    }

    (void) fflush(NULL);
    _exit(main_status);
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
    notify_open();

    if (fault_list_wanted()) {
        operation_print_points();
        return 0;
    }

    log_open(LOG_INFO);
    rc = config_load(&config, argc, argv, &err);

    if (rc == 1) {
        return 0;
    }

    if (rc != 0) {
        main_fail(&config, &err);
        return 1;
    }

    log_set_level((log_level_t) log_parse_level(config.log_level));
    memory_open(&config);

    /* else each of many short threads leaves memory to an arena of its own: a
     * third more with 10 000 VMs */
    (void) mallopt(M_ARENA_MAX, 2);

    /* what a list of 10 000 VMs took is given back, also after the first time,
     * at which the thresholds would rise to its size */
    (void) mallopt(M_MMAP_THRESHOLD, 256 * 1024);
    (void) mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
    xmlInitParser();

    rc = main_command(&config);

    if (rc != -1) {
        return rc;
    }

    main_block_signals(&set);

    if (main_start(&config, &err) != 0) {
        main_fail(&config, &err);
        return 1;
    }

    log_event(LOG_INFO, "hatch-agent " HATCH_VERSION " started, API on %s",
              config.socket);
    main_loop(&config, argc, argv, &set);
    main_stop();
    main_end();
}
