
/*
 * Idle connections to guests, kept for the next request: found by key in
 * constant time, however many VMs are awake.  Knows connections, no requests.
 *
 * One pool per upstream block and worker; event loop only.  The key says
 * which guest, and how it is spoken to, so that a connection to a guest that
 * is gone, or one that speaks something else, is never found.
 */


#ifndef _NGX_HATCH_POOL_H_INCLUDED_
#define _NGX_HATCH_POOL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


typedef struct ngx_hatch_pool_idle_s  ngx_hatch_pool_idle_t;


/*
 * Two connections with the same key can take each other's place.  Every bit
 * counts.
 */

typedef struct {
    uint64_t                 guest;         /* another one, another guest */
    uint64_t                 address[2];    /* as in the zone, zero-padded */
    uint64_t                 protocol;      /* what is spoken */
    uint64_t                 name;          /* a hash of TLS' names, ... */

    uint64_t                 hash;          /* of these, by the pool itself */
} ngx_hatch_pool_key_t;

/* ... port and family, which share a word with it. */

#define ngx_hatch_pool_name(name, port, family)                               \
    ((name) | (uint64_t) (port) << 32 | (uint64_t) (family) << 48)


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
    ngx_uint_t               all;           /* most in all pools */
    ngx_queue_t              pools;         /* of this process */
    ngx_hatch_pool_idle_t  **hash;          /* the top one of each key */
    ngx_hatch_pool_idle_t   *free;
    ngx_queue_t              idle;          /* waits longest: last */
    ngx_event_t              timer;
} ngx_hatch_pool_t;


/*
 * An idle connection with this key, or NULL.  With fresh, only one which its
 * guest cannot have closed yet: idle for less than the guest's timeout by half
 * a second, or for less than a second where the guest named none.
 */
ngx_connection_t *ngx_hatch_pool_get(ngx_hatch_pool_t *pool,
    ngx_hatch_pool_key_t *key, ngx_uint_t fresh, ngx_log_t *log);

/*
 * Keeps a connection that nobody uses, for at most timeout ms, which is what
 * its guest said (0: it said nothing).  Of a pool that is full, the one that
 * waits longest makes room.  NGX_DECLINED: it is not kept (it is used up, or
 * its host has enough), and still the caller's.  The key is one that
 * ngx_hatch_pool_get() was called with.
 *
 * All pools of a worker keep at most half of worker_connections; when they
 * have as many, the one that waits longest in any of them makes room.
 */
ngx_int_t ngx_hatch_pool_put(ngx_hatch_pool_t *pool, ngx_connection_t *c,
    ngx_hatch_pool_key_t *key, ngx_msec_t timeout);

#endif /* _NGX_HATCH_POOL_H_INCLUDED_ */
