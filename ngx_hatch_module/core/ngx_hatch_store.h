
/*
 * The route store in an nginx process.  Look-ups run in the event loop (they
 * neither lock nor wait); writes wait for the disk and for other processes,
 * so they run in a thread of the thread pool, many in one commit.  Knows
 * cycles, events and threads, no requests.
 */


#ifndef _NGX_HATCH_STORE_H_INCLUDED_
#define _NGX_HATCH_STORE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_thread_pool.h>

#include "hatch_route_store.h"
#include "ngx_hatch_work.h"
#include "ngx_hatch_zone.h"


typedef struct ngx_hatch_write_s   ngx_hatch_write_t;
typedef struct ngx_hatch_opened_s  ngx_hatch_opened_t;


typedef struct {
    ngx_str_t               dir;            /* NUL-terminated */
    size_t                  size;
    ngx_thread_pool_t      *thread_pool;    /* NULL: no writes, no index */

    ngx_hatch_zone_t       *zone;           /* a new route needs its VM */

    ngx_hatch_opened_t     *opened;         /* NULL: not open */
    hatch_err_t             reason;         /* why not */
    ngx_msec_t              retry;          /* next attempt, ngx_current_msec */
} ngx_hatch_store_t;


typedef enum {
    NGX_HATCH_WRITE_CREATE = 0,
    NGX_HATCH_WRITE_UPDATE,
    NGX_HATCH_WRITE_DELETE
} ngx_hatch_write_op_e;


/* One change of a route.  The caller keeps it until done() is called. */

struct ngx_hatch_write_s {
    ngx_queue_t             queue;
    ngx_hatch_write_op_e    op;

    /*
     * create: all fields but times; update and delete: id.  On success the
     * route as it is now (not for delete).
     */
    hatch_route_t           route;

    unsigned                choose:1;       /* create: invent a subdomain */
    ngx_uint_t              port;           /* update: 0 leaves it */
    ngx_int_t               auto_wake;      /* update: -1 leaves it */

    int                     rc;             /* 0 or a hatch_err_code_t */
    hatch_err_t             err;

    void                  (*done)(ngx_hatch_write_t *write);
    void                   *data;
};


/*
 * Configuration time: makes the directory, gives it to the workers' user, and
 * has a child process with that user's rights open the store as a worker will.
 */
ngx_int_t ngx_hatch_store_check(ngx_cycle_t *cycle, ngx_hatch_store_t *hs);

/* Any process: registers the closing with the cycle. */
ngx_int_t ngx_hatch_store_init_module(ngx_cycle_t *cycle,
    ngx_hatch_store_t *hs);

/*
 * The store, opened if need be, or NULL; hs->reason then says why.  Event
 * loop only; never waits once open.
 */
hatch_store_t *ngx_hatch_store_get(ngx_hatch_store_t *hs);

/* Has the index built, or seen whole, if that is not under way. */
void ngx_hatch_store_index(ngx_hatch_store_t *hs);

/* Every route; or NGX_ERROR with err filled.  As ngx_hatch_store_get(). */
ngx_int_t ngx_hatch_store_count(ngx_hatch_store_t *hs, uint64_t *count,
    hatch_err_t *err);

/*
 * Queues a change; done() is called from the event loop, after the change is
 * on disk and visible to every worker, or with an error.  NGX_ERROR: it was
 * not queued and done() will not be called.
 */
ngx_int_t ngx_hatch_store_write(ngx_hatch_store_t *hs,
    ngx_hatch_write_t *write);


/* --- between ngx_hatch_store*.c --- */

/*
 * A store that this process has open.  LMDB must not open one file twice in
 * a process, and a single-process nginx has two cycles at once when it
 * reloads: so cycles share it.
 */

struct ngx_hatch_opened_s {
    ngx_queue_t             queue;
    ngx_uint_t              refs;
    dev_t                   dev;
    ino_t                   ino;
    hatch_store_t          *store;

    ngx_queue_t             waiting;        /* of ngx_hatch_write_t */
    ngx_queue_t             running;        /* those of the task */
    ngx_queue_t             finished;       /* to be told, one in a turn */
    ngx_event_t             finish;
    ngx_hatch_work_t        work;           /* until all are told */
    ngx_thread_task_t      *task;
    ngx_hatch_zone_map_t   *zone;           /* for the task */
    unsigned                busy:1;         /* the task is under way */

    ngx_thread_task_t      *index_task;
    ngx_msec_t              index_next;     /* not before that */
    unsigned                indexing:1;     /* that task is */
    unsigned                index_failed:1; /* and that was logged */
};


/*
 * --- for each request ---
 *
 * Where the requests for a subdomain go: as hatch_store_lookup().  Has the
 * index built where there is none to use.
 */

static ngx_inline int
ngx_hatch_store_lookup(ngx_hatch_store_t *hs, ngx_str_t *subdomain,
    hatch_target_t *target, hatch_err_t *err)
{
    int             rc;
    hatch_store_t  *store;

    if (hs->opened == NULL && ngx_hatch_store_get(hs) == NULL) {
        *err = hs->reason;
        return HATCH_ERR_UNAVAILABLE;
    }

    store = hs->opened->store;

    rc = hatch_store_lookup(store, (char *) subdomain->data, subdomain->len,
                            target, err);

    if (hatch_store_index_wanted(store)) {
        ngx_hatch_store_index(hs);
    }

    return rc;
}


ngx_int_t ngx_hatch_store_write_init(ngx_hatch_opened_t *opened);
ngx_int_t ngx_hatch_store_index_init(ngx_hatch_opened_t *opened);


#endif /* _NGX_HATCH_STORE_H_INCLUDED_ */
