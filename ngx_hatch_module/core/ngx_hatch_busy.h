
/*
 * Requests in flight: each stamps its VM again while it lasts, so that an
 * open WebSocket, a stream or a slow transfer is use.  A worker that is killed
 * leaves nothing behind but a last stamp.
 */


#ifndef _NGX_HATCH_BUSY_H_INCLUDED_
#define _NGX_HATCH_BUSY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_hatch_zone.h"


typedef struct {
    ngx_hatch_zone_t        *zone;
    ngx_queue_t              requests;      /* ngx_hatch_busy_node_t */
    ngx_event_t              timer;
    ngx_msec_t               interval;      /* of the timer, if it is set */
    ngx_pid_t                pid;
} ngx_hatch_busy_t;


/* A request; not active at first.  The memory is the caller's. */

typedef struct {
    ngx_queue_t              queue;
    uint64_t                 generation;
    uint64_t                 idle_timeout;  /* as in the zone */
    ngx_msec_t               pass_until;
    uint32_t                 slot;
    unsigned                 active:1;
    unsigned                 pass:1;        /* it may not keep the VM awake */
} ngx_hatch_busy_node_t;


/* The cycle ends, in the process that used it. */
void ngx_hatch_busy_cleanup(void *data);

/* The request stamps its VM now and until ngx_hatch_busy_end(). */
void ngx_hatch_busy_begin(ngx_hatch_busy_t *hb, ngx_hatch_busy_node_t *node,
    hatch_zone_peer_t *vm, ngx_uint_t pass);

/* The same once more, for the VM of the last time. */
void ngx_hatch_busy_again(ngx_hatch_busy_t *hb, ngx_hatch_busy_node_t *node);

/* The last stamp.  Nothing if it is not active. */
void ngx_hatch_busy_end(ngx_hatch_busy_t *hb, ngx_hatch_busy_node_t *node);


#endif /* _NGX_HATCH_BUSY_H_INCLUDED_ */
