
/*
 * The zone in an nginx process: attached, watched for replacement, and the
 * activity file beside it.  Knows cycles and events, no requests.
 */


#ifndef _NGX_HATCH_ZONE_H_INCLUDED_
#define _NGX_HATCH_ZONE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "hatch_activity.h"
#include "hatch_zone.h"


/*
 * One attachment.  It stays mapped while somebody holds a reference: a write
 * task reads the zone from its thread while the event loop may already have
 * moved on to a new file.  Counted by the event loop only.
 */

typedef struct {
    hatch_zone_t             zone;
    ngx_uint_t               refs;
} ngx_hatch_zone_map_t;


typedef struct {
    ngx_str_t                path;          /* NUL-terminated */
    ngx_str_t                activity_path;
    ngx_uint_t               vms;

    ngx_hatch_zone_map_t    *map;           /* NULL: not attached */
    hatch_activity_t         activity;      /* mapped by the master */
    ngx_uint_t               unfollowed;    /* another is there, unusable */

    hatch_err_t              reason;        /* why it is not attached */
    ngx_event_t              poll;
    ngx_pid_t                pid;           /* of the process that polls */
} ngx_hatch_zone_t;


/* Configuration time: checks that the activity file can be made. */
ngx_int_t ngx_hatch_zone_check(ngx_cycle_t *cycle, ngx_hatch_zone_t *hz);

/* Master, after the configuration was accepted: maps the activity file. */
void ngx_hatch_zone_init_module(ngx_cycle_t *cycle, ngx_hatch_zone_t *hz);

/* Worker: attaches and begins to watch. */
void ngx_hatch_zone_init_process(ngx_hatch_zone_t *hz);

/*
 * The zone, or NULL while there is none to read; hz->reason then says why.
 * Never blocks.  Valid until the handler returns to the event loop.
 */
hatch_zone_t *ngx_hatch_zone_get(ngx_hatch_zone_t *hz);

/* The same, kept mapped until the reference is given back. */
ngx_hatch_zone_map_t *ngx_hatch_zone_ref(ngx_hatch_zone_t *hz);
void ngx_hatch_zone_unref(ngx_hatch_zone_map_t *map);

/*
 * Worker: goes over to the activity file that is at its path now, if that is
 * another one.  Each poll of the zone does it; who stamps at intervals does it
 * before, so that no stamp goes into a file that nobody reads.
 */
void ngx_hatch_zone_follow(ngx_hatch_zone_t *hz, ngx_log_t *log);

/*
 * The zone's time, ms, as of the beginning of this turn of the event loop:
 * nginx's own clock with another origin.  For stamps, of which nobody needs
 * more (idle times are longer), and as cheap.
 */
uint64_t ngx_hatch_zone_now(void);

/* ms since `then`, a time in the zone. */
uint64_t ngx_hatch_zone_age(uint64_t then);


#endif /* _NGX_HATCH_ZONE_H_INCLUDED_ */
