
/*
 * Writing routes.
 *
 * Changes wait in a queue; while no task is under way, all that wait go into
 * one task, and that is one transaction and one commit.  So a worker has at
 * most one thread in the store, eight clients share a disk flush, and a
 * change never waits for more than the commit before its own.
 *
 * A new route is checked against the zone inside the transaction: the agent
 * first takes a VM out of the zone and then deletes its routes, in a
 * transaction of its own.  Whichever of the two comes first, no route stays
 * behind.
 */


#include "ngx_hatch_store.h"

#include "hatch_clock.h"


/* A random subdomain is taken once in 2^60 times; this often is a bug. */
#define NGX_HATCH_WRITE_TRIES  4


static void ngx_hatch_write_start(ngx_hatch_opened_t *opened,
    ngx_hatch_store_t *hs);
static void ngx_hatch_write_thread(void *data, ngx_log_t *log);
static int ngx_hatch_write_batch(ngx_hatch_opened_t *opened,
    ngx_queue_t *first, ngx_queue_t *end);
static int ngx_hatch_write_run(ngx_hatch_opened_t *opened,
    hatch_store_txn_t *txn, ngx_hatch_write_t *write);
static int ngx_hatch_write_create(ngx_hatch_opened_t *opened,
    hatch_store_txn_t *txn, ngx_hatch_write_t *write);
static int ngx_hatch_write_taken(ngx_hatch_opened_t *opened,
    hatch_store_txn_t *txn, ngx_hatch_write_t *write);
static void ngx_hatch_write_completed(ngx_event_t *ev);
static void ngx_hatch_write_finish(ngx_event_t *ev);


/* The task's context: all else hangs off the store. */

typedef struct {
    ngx_hatch_opened_t  *opened;
    ngx_hatch_store_t   *hs;
    unsigned             remap:1;   /* the store outgrew our mapping */
} ngx_hatch_write_ctx_t;


ngx_int_t
ngx_hatch_store_write_init(ngx_hatch_opened_t *opened)
{
    ngx_thread_task_t      *task;
    ngx_hatch_write_ctx_t  *ctx;

    /* no pool: it outlives the cycle that opened the store */

    task = ngx_calloc(sizeof(ngx_thread_task_t)
                      + sizeof(ngx_hatch_write_ctx_t), ngx_cycle->log);
    if (task == NULL) {
        return NGX_ERROR;
    }

    ctx = (ngx_hatch_write_ctx_t *) (task + 1);
    ctx->opened = opened;

    task->ctx = ctx;
    task->handler = ngx_hatch_write_thread;
    task->event.handler = ngx_hatch_write_completed;
    task->event.data = ctx;

    opened->task = task;
    ngx_queue_init(&opened->waiting);
    ngx_queue_init(&opened->running);
    ngx_queue_init(&opened->finished);

    opened->finish.handler = ngx_hatch_write_finish;
    opened->finish.data = opened;
    opened->finish.log = ngx_cycle->log;

    return NGX_OK;
}


ngx_int_t
ngx_hatch_store_write(ngx_hatch_store_t *hs, ngx_hatch_write_t *write)
{
    ngx_hatch_opened_t  *opened;

    if (hs->thread_pool == NULL || ngx_hatch_store_get(hs) == NULL) {
        return NGX_ERROR;
    }

    opened = hs->opened;

    ngx_queue_insert_tail(&opened->waiting, &write->queue);

    if (!opened->busy) {
        ngx_hatch_write_start(opened, hs);
    }

    return NGX_OK;
}


static void
ngx_hatch_write_start(ngx_hatch_opened_t *opened, ngx_hatch_store_t *hs)
{
    ngx_hatch_write_ctx_t  *ctx;

    ngx_queue_add(&opened->running, &opened->waiting);
    ngx_queue_init(&opened->waiting);

    ctx = opened->task->ctx;
    ctx->hs = hs;
    ctx->remap = 0;

    opened->zone = ngx_hatch_zone_ref(hs->zone);
    opened->task->event.log = ngx_cycle->log;
    opened->busy = 1;
    ngx_hatch_work_begin(&opened->work, "a write of the route store");

    if (ngx_thread_task_post(hs->thread_pool, opened->task) != NGX_OK) {

        /* the pool's queue is full; it has logged that */

        ngx_queue_t        *q;
        ngx_hatch_write_t  *write;

        for (q = ngx_queue_head(&opened->running);
             q != ngx_queue_sentinel(&opened->running);
             q = ngx_queue_next(q))
        {
            write = ngx_queue_data(q, ngx_hatch_write_t, queue);
            write->rc = hatch_err_set(&write->err, HATCH_ERR_BUSY,
                                      "too many writes are waiting");
        }

        ngx_post_event(&opened->task->event, &ngx_posted_events);
    }
}


/* In a thread: touches the store, the zone and the batch, nothing else. */

static void
ngx_hatch_write_thread(void *data, ngx_log_t *log)
{
    ngx_hatch_write_ctx_t *ctx = data;

    int                  rc;
    ngx_queue_t         *q, *next;
    ngx_hatch_opened_t  *opened;

    opened = ctx->opened;
    q = ngx_queue_head(&opened->running);

    rc = ngx_hatch_write_batch(opened, q,
                               ngx_queue_sentinel(&opened->running));
    if (rc == 0) {
        return;
    }

    if (rc == HATCH_ERR_UNAVAILABLE) {
        ctx->remap = 1;
        return;
    }

    /* one of them spoilt it for all: each by itself */

    for ( /* void */ ; q != ngx_queue_sentinel(&opened->running); q = next) {
        next = ngx_queue_next(q);
        (void) ngx_hatch_write_batch(opened, q, next);
    }
}


static int
ngx_hatch_write_batch(ngx_hatch_opened_t *opened, ngx_queue_t *first,
    ngx_queue_t *end)
{
    int                 rc;
    hatch_err_t         err;
    ngx_queue_t        *q;
    hatch_store_txn_t   txn;
    ngx_hatch_write_t  *write;

    rc = hatch_store_begin(opened->store, &txn, &err);

    if (rc == 0) {

        for (q = first; q != end; q = ngx_queue_next(q)) {
            write = ngx_queue_data(q, ngx_hatch_write_t, queue);
            write->rc = ngx_hatch_write_run(opened, &txn, write);

            if (write->rc != 0 && write->rc != HATCH_ERR_EXISTS
                && write->rc != HATCH_ERR_NOT_FOUND
                && write->rc != HATCH_ERR_BUSY)
            {
                rc = write->rc;
                err = write->err;
                hatch_store_abort(&txn);
                break;
            }
        }
    }

    if (rc == 0) {
        rc = hatch_store_commit(&txn, &err);
    }

    if (rc != 0) {

        for (q = first; q != end; q = ngx_queue_next(q)) {
            write = ngx_queue_data(q, ngx_hatch_write_t, queue);
            write->rc = rc;
            write->err = err;
        }
    }

    return rc;
}


static int
ngx_hatch_write_run(ngx_hatch_opened_t *opened, hatch_store_txn_t *txn,
    ngx_hatch_write_t *write)
{
    switch (write->op) {

    case NGX_HATCH_WRITE_CREATE:
        return ngx_hatch_write_create(opened, txn, write);

    case NGX_HATCH_WRITE_UPDATE:
        return hatch_store_update(txn, write->route.id, write->port,
                                  write->auto_wake, hatch_clock_wall_ms(),
                                  &write->route, &write->err);

    default: /* NGX_HATCH_WRITE_DELETE */
        return hatch_store_delete(txn, write->route.id, &write->err);
    }
}


static int
ngx_hatch_write_create(ngx_hatch_opened_t *opened, hatch_store_txn_t *txn,
    ngx_hatch_write_t *write)
{
    int               rc;
    uint32_t          slot;
    ngx_uint_t        tries;
    hatch_zone_vm_t   vm;

    if (opened->zone == NULL) {
        return hatch_err_set(&write->err, HATCH_ERR_BUSY,
                             "the agent has not published its VMs yet");
    }

    if (hatch_zone_find(&opened->zone->zone, write->route.vm, &slot, &vm)
        != 0)
    {
        return hatch_err_set(&write->err, HATCH_ERR_NOT_FOUND, "no VM \"%s\"",
                             write->route.vm);
    }

    write->route.created = hatch_clock_wall_ms();
    write->route.updated = write->route.created;

    for (tries = 0; tries < NGX_HATCH_WRITE_TRIES; tries++) {

        if (hatch_id_make(HATCH_ID_ROUTE, write->route.id) != 0
            || (write->choose
                && hatch_random(write->route.subdomain, HATCH_LABEL_AUTO)
                   != 0))
        {
            return hatch_err_set(&write->err, HATCH_ERR_SYSTEM,
                                 "no random numbers");
        }

        rc = hatch_store_create(txn, &write->route, &write->err);

        if (rc != HATCH_ERR_EXISTS) {
            return rc;
        }

        if (!write->choose) {
            return ngx_hatch_write_taken(opened, txn, write);
        }
    }

    return HATCH_ERR_EXISTS;
}


/* By a VM that is not there?  Then nobody sees it among the VMs. */

static int
ngx_hatch_write_taken(ngx_hatch_opened_t *opened, hatch_store_txn_t *txn,
    ngx_hatch_write_t *write)
{
    char             id[HATCH_ID_SIZE];
    uint32_t         slot;
    hatch_zone_vm_t  vm;

    if (hatch_store_holder(txn, write->route.subdomain, id) != 0
        || hatch_zone_find(&opened->zone->zone, id, &slot, &vm)
           != HATCH_ERR_NOT_FOUND)
    {
        return HATCH_ERR_EXISTS;
    }

    return hatch_err_set(&write->err, HATCH_ERR_EXISTS, "subdomain \"%s\" "
                         "is already in use by orphan %s, a VM that libvirt "
                         "does not have any more; DELETE /orphans/%s frees "
                         "it", write->route.subdomain, id, id);
}


static void
ngx_hatch_write_completed(ngx_event_t *ev)
{
    ngx_hatch_write_ctx_t *ctx = ev->data;

    int                  rc;
    ngx_hatch_store_t   *hs;
    ngx_hatch_opened_t  *opened;

    opened = ctx->opened;
    hs = ctx->hs;

    opened->busy = 0;

    if (opened->zone != NULL) {
        ngx_hatch_zone_unref(opened->zone);
        opened->zone = NULL;
    }

    if (ctx->remap) {
        rc = hatch_store_remap(opened->store, NULL);

        /* the index is being built: the next attempt will tell */
        ctx->remap = rc == 0 || rc == HATCH_ERR_BUSY;
    }

    if (ctx->remap) {

        /* nothing was done: the same ones again, with those that came since */

        if (!ngx_queue_empty(&opened->waiting)) {
            ngx_queue_add(&opened->running, &opened->waiting);
        }

        ngx_queue_init(&opened->waiting);
        ngx_queue_add(&opened->waiting, &opened->running);
        ngx_queue_init(&opened->running);

    } else {
        ngx_queue_add(&opened->finished, &opened->running);
        ngx_queue_init(&opened->running);
    }

    /* the next ones first: a done() may add to them */

    if (!ngx_queue_empty(&opened->waiting)) {
        ngx_hatch_write_start(opened, hs);
    }

    ngx_hatch_write_finish(&opened->finish);
}


/*
 * Many that were in one commit would be answered, and soon ask again, all at
 * once; who asks for something else meanwhile waits for all of them.
 */

static void
ngx_hatch_write_finish(ngx_event_t *ev)
{
    ngx_hatch_opened_t *opened = ev->data;

    ngx_queue_t        *q;
    ngx_hatch_write_t  *write;

    if (!ngx_queue_empty(&opened->finished)) {
        q = ngx_queue_head(&opened->finished);
        ngx_queue_remove(q);

        write = ngx_queue_data(q, ngx_hatch_write_t, queue);
        write->done(write);
    }

    if (!ngx_queue_empty(&opened->finished)) {
        if (!ev->posted) {
            ngx_post_event(ev, &ngx_posted_next_events);
        }

        return;
    }

    /* all are answered; a worker that exits may do so */

    if (!opened->busy) {
        ngx_hatch_work_end(&opened->work);
    }
}
