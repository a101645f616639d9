
/*
 * Idle connections to guests, kept for the next request: found by address in
 * constant time, however many VMs are awake.  Knows connections, no requests.
 *
 * One pool per upstream block and worker; event loop only.  The address is all
 * of the sockaddr, with the incarnation that hatch_route has put there, so a
 * connection to a guest that is gone is never found.
 */


#ifndef _NGX_HATCH_POOL_H_INCLUDED_
#define _NGX_HATCH_POOL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


typedef struct ngx_hatch_pool_idle_s  ngx_hatch_pool_idle_t;


typedef struct {
    /* configuration */
    ngx_uint_t               max;           /* idle ones; 0: none are kept */
    ngx_uint_t               max_per_host;
    ngx_uint_t               requests;      /* on one connection */
    ngx_msec_t               time;          /* of one connection */
    ngx_msec_t               timeout;       /* of an idle one */

    /* of this worker */
    ngx_pid_t                pid;
    ngx_uint_t               mask;          /* of hash[] */
    ngx_hatch_pool_idle_t  **hash;          /* the top one of each address */
    ngx_hatch_pool_idle_t   *free;
    ngx_queue_t              idle;          /* waits longest: last */
    ngx_event_t              timer;
} ngx_hatch_pool_t;


/* An idle connection to this address, or NULL. */
ngx_connection_t *ngx_hatch_pool_get(ngx_hatch_pool_t *pool,
    struct sockaddr *sockaddr, socklen_t socklen, ngx_log_t *log);

/*
 * Keeps a connection that nobody uses; of a pool that is full, the one that
 * waits longest makes room.  NGX_DECLINED: it is not kept (it is used up, or
 * its host has enough), and still the caller's.  At most half of
 * worker_connections are kept.
 */
ngx_int_t ngx_hatch_pool_put(ngx_hatch_pool_t *pool, ngx_connection_t *c,
    struct sockaddr *sockaddr, socklen_t socklen);

#endif /* _NGX_HATCH_POOL_H_INCLUDED_ */
