
#include "ngx_hatch_zone.h"

#include "hatch_clock.h"
#include "hatch_guard.h"


/* How often a worker looks for a zone, and for a new one in its place, ms. */
#define NGX_HATCH_ZONE_ABSENT_POLL    50
#define NGX_HATCH_ZONE_ATTACHED_POLL  500


static void ngx_hatch_zone_poll(ngx_event_t *ev);
static void ngx_hatch_zone_attach(ngx_hatch_zone_t *hz, ngx_log_t *log);
static void ngx_hatch_zone_cleanup(void *data);
static ngx_int_t ngx_hatch_zone_put_aside(ngx_str_t *path, ngx_log_t *log);
static void ngx_hatch_zone_owner(ngx_cycle_t *cycle, ngx_uid_t *uid,
    ngx_gid_t *gid);


ngx_int_t
ngx_hatch_zone_check(ngx_cycle_t *cycle, ngx_hatch_zone_t *hz)
{
    u_char  *last, dir[NGX_MAX_PATH];

    /* a copy: ngx_create_full_path() leaves a path cut where it failed */

    last = ngx_cpystrn(dir, hz->path.data, NGX_MAX_PATH);

    if (ngx_create_full_path(dir, 0755) != 0) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "\"hatch_zone\": cannot create directory of \"%V\"",
                      &hz->path);
        return NGX_ERROR;
    }

    while (last > dir + 1 && *last != '/') {
        last--;
    }

    *last = '\0';

    if (access((char *) dir, W_OK|X_OK) == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "\"hatch_zone\": directory \"%s\" of \"%V\" "
                      "is not writable", dir, &hz->path);
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_hatch_zone_init_module(ngx_cycle_t *cycle, ngx_hatch_zone_t *hz)
{
    int                  rc;
    hatch_err_t          err;
    ngx_uid_t            uid;
    ngx_gid_t            gid;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(cycle->pool, 0);
    if (cln == NULL) {
        return;
    }

    cln->handler = ngx_hatch_zone_cleanup;
    cln->data = hz;

    ngx_hatch_zone_owner(cycle, &uid, &gid);

    /*
     * An error here would end the master, and with it what works.  Proxying
     * works without the file; only idle times are then not known.
     */

    rc = hatch_activity_own(&hz->activity, (char *) hz->activity_path.data,
                            hz->vms, uid, gid, &err);

    /* a file of somebody's, or one that was damaged: it gets another name */

    if (rc == HATCH_ERR_FOREIGN
        && ngx_hatch_zone_put_aside(&hz->activity_path, cycle->log) == NGX_OK)
    {
        rc = hatch_activity_own(&hz->activity,
                                (char *) hz->activity_path.data, hz->vms, uid,
                                gid, &err);
    }

    if (rc != 0) {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, 0,
                      "hatch: %s; requests are not recorded", err.text);
    }
}


static ngx_int_t
ngx_hatch_zone_put_aside(ngx_str_t *path, ngx_log_t *log)
{
    u_char  aside[NGX_MAX_PATH];

    *ngx_snprintf(aside, NGX_MAX_PATH - 1, "%V.aside-%T-%P", path, ngx_time(),
                  ngx_pid)
        = '\0';

    if (ngx_rename_file(path->data, aside) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_ALERT, log, ngx_errno,
                      ngx_rename_file_n " \"%V\" to \"%s\" failed", path,
                      aside);
        return NGX_ERROR;
    }

    ngx_log_error(NGX_LOG_WARN, log, 0, "hatch: \"%V\" was no activity file, "
                  "it is kept as \"%s\"", path, aside);

    return NGX_OK;
}


static void
ngx_hatch_zone_owner(ngx_cycle_t *cycle, ngx_uid_t *uid, ngx_gid_t *gid)
{
    ngx_core_conf_t  *ccf;

    *uid = (ngx_uid_t) -1;
    *gid = (ngx_gid_t) -1;

    if (geteuid() != 0) {
        return;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    *uid = ccf->user;
    *gid = ccf->group;
}


static void
ngx_hatch_zone_cleanup(void *data)
{
    ngx_hatch_zone_t  *hz = data;

    if (hz->poll.timer_set) {
        ngx_del_timer(&hz->poll);
    }

    if (hz->map != NULL) {
        ngx_hatch_zone_unref(hz->map);
        hz->map = NULL;
    }

    hatch_activity_detach(&hz->activity);
}


void
ngx_hatch_zone_init_process(ngx_hatch_zone_t *hz)
{
    if (hz->pid == ngx_pid) {
        return;
    }

    hz->pid = ngx_pid;

    (void) hatch_guard_install();

    hz->poll.handler = ngx_hatch_zone_poll;
    hz->poll.data = hz;
    hz->poll.log = ngx_cycle->log;
    hz->poll.cancelable = 1;

    ngx_hatch_zone_poll(&hz->poll);
}


static void
ngx_hatch_zone_poll(ngx_event_t *ev)
{
    ngx_hatch_zone_t  *hz;

    hz = ev->data;

    if (hz->map == NULL
        || !hatch_zone_intact(&hz->map->zone)
        || hatch_file_replaced(&hz->map->zone.file, (char *) hz->path.data))
    {
        ngx_hatch_zone_attach(hz, ev->log);
    }

    ngx_hatch_zone_follow(hz, ev->log);

    ngx_add_timer(ev, hz->map != NULL ? NGX_HATCH_ZONE_ATTACHED_POLL
                                      : NGX_HATCH_ZONE_ABSENT_POLL);
}


/*
 * A reload that changes "vms=" puts a new file in the place of the old one,
 * with what was in it.  A worker of before goes over to it: its requests in
 * flight stamp their VMs there from now on.
 */

void
ngx_hatch_zone_follow(ngx_hatch_zone_t *hz, ngx_log_t *log)
{
    hatch_err_t  err;

    if (hz->activity.file.slots == 0
        || !hatch_activity_replaced(&hz->activity,
                                    (char *) hz->activity_path.data))
    {
        hz->unfollowed = 0;
        return;
    }

    if (hatch_activity_reattach(&hz->activity,
                                (char *) hz->activity_path.data, &err)
        == 0)
    {
        ngx_log_error(NGX_LOG_NOTICE, log, 0, "hatch: went over to the new "
                      "\"%V\"", &hz->activity_path);
        return;
    }

    if (!hz->unfollowed) {
        hz->unfollowed = 1;
        ngx_log_error(NGX_LOG_WARN, log, 0, "hatch: %s; requests are recorded "
                      "in the file that was there before", err.text);
    }
}


static void
ngx_hatch_zone_attach(ngx_hatch_zone_t *hz, ngx_log_t *log)
{
    ngx_int_t              rc;
    hatch_err_t            err;
    ngx_hatch_zone_map_t  *map;

    map = ngx_calloc(sizeof(ngx_hatch_zone_map_t), log);
    if (map == NULL) {
        return;
    }

    rc = hatch_zone_attach(&map->zone, (char *) hz->path.data, 1, &err);

    if (rc == 0 && map->zone.file.slots > hz->vms) {
        rc = hatch_err_set(&err, HATCH_ERR_SLOTS,
                           "zone \"%s\" has %u slots, more than \"vms=%u\" "
                           "of hatch_zone; raise it",
                           (char *) hz->path.data,
                           (unsigned) map->zone.file.slots,
                           (unsigned) hz->vms);
        hatch_zone_detach(&map->zone);
    }

    if (rc == 0) {
        map->refs = 1;

        if (hz->map != NULL) {
            ngx_hatch_zone_unref(hz->map);
        }

        hz->map = map;
        hz->reason.code = 0;

        ngx_log_error(NGX_LOG_NOTICE, log, 0, "hatch: attached to zone "
                      "\"%V\", %ui slots", &hz->path,
                      (ngx_uint_t) map->zone.file.slots);
        return;
    }

    ngx_free(map);

    /* a zone that somebody truncated holds no data, a removed one does */

    if (hz->map != NULL && !hatch_zone_intact(&hz->map->zone)) {
        ngx_hatch_zone_unref(hz->map);
        hz->map = NULL;
    }

    if (err.code != hz->reason.code) {
        ngx_log_error(NGX_LOG_WARN, log, 0, "hatch: %s", err.text);
    }

    hz->reason = err;
}


hatch_zone_t *
ngx_hatch_zone_get(ngx_hatch_zone_t *hz)
{
    /* a single process gets no init_process for a new cycle */

    if (hz->pid != ngx_pid) {
        ngx_hatch_zone_init_process(hz);
    }

    if (hz->map == NULL) {
        return NULL;
    }

    if (!hatch_zone_intact(&hz->map->zone)) {
        (void) hatch_err_set(&hz->reason, HATCH_ERR_TRUNCATED,
                             "zone \"%s\" was truncated; restart the agent",
                             (char *) hz->path.data);
        return NULL;
    }

    if (!hatch_zone_published(&hz->map->zone)) {
        (void) hatch_err_set(&hz->reason, HATCH_ERR_ABSENT,
                             "the agent has not published its VMs yet");
        return NULL;
    }

    return &hz->map->zone;
}


ngx_hatch_zone_map_t *
ngx_hatch_zone_ref(ngx_hatch_zone_t *hz)
{
    if (ngx_hatch_zone_get(hz) == NULL) {
        return NULL;
    }

    hz->map->refs++;

    return hz->map;
}


void
ngx_hatch_zone_unref(ngx_hatch_zone_map_t *map)
{
    if (--map->refs == 0) {
        hatch_zone_detach(&map->zone);
        ngx_free(map);
    }
}


uint64_t
ngx_hatch_zone_now(void)
{
    static uint64_t    now;
    static ngx_msec_t  turn;

    if (turn != ngx_current_msec || now == 0) {
        turn = ngx_current_msec;
        now = hatch_clock_ms();
    }

    return now;
}


uint64_t
ngx_hatch_zone_age(uint64_t then)
{
    uint64_t  now;

    now = hatch_clock_ms();

    return now > then ? now - then : 0;
}
