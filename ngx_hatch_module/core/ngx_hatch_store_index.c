
/*
 * The index of the routes, built in a thread: at the start of a worker, where
 * it is nearly always whole already, and whenever look-ups cannot use it.
 */


#include "ngx_hatch_store.h"


/* So many routes hold the writer's lock for less than a millisecond. */
#define NGX_HATCH_INDEX_PART   500

/* How long after an attempt, or a failed one, there is another, ms. */
#define NGX_HATCH_INDEX_AGAIN  100
#define NGX_HATCH_INDEX_RETRY  5000


static void ngx_hatch_index_thread(void *data, ngx_log_t *log);
static void ngx_hatch_index_completed(ngx_event_t *ev);


/* The task's context. */

typedef struct {
    ngx_hatch_opened_t  *opened;
    int                  rc;
    hatch_err_t          err;
} ngx_hatch_index_ctx_t;


ngx_int_t
ngx_hatch_store_index_init(ngx_hatch_opened_t *opened)
{
    ngx_thread_task_t      *task;
    ngx_hatch_index_ctx_t  *ctx;

    task = ngx_calloc(sizeof(ngx_thread_task_t)
                      + sizeof(ngx_hatch_index_ctx_t), ngx_cycle->log);
    if (task == NULL) {
        return NGX_ERROR;
    }

    ctx = (ngx_hatch_index_ctx_t *) (task + 1);
    ctx->opened = opened;

    task->ctx = ctx;
    task->handler = ngx_hatch_index_thread;
    task->event.handler = ngx_hatch_index_completed;
    task->event.data = ctx;

    opened->index_task = task;
    opened->index_next = ngx_current_msec;

    return NGX_OK;
}


void
ngx_hatch_store_index(ngx_hatch_store_t *hs)
{
    ngx_hatch_opened_t  *opened;

    opened = hs->opened;

    if (hs->thread_pool == NULL || opened == NULL || opened->indexing
        || (ngx_msec_int_t) (ngx_current_msec - opened->index_next) < 0)
    {
        return;
    }

    opened->index_task->event.log = ngx_cycle->log;
    opened->indexing = 1;

    if (ngx_thread_task_post(hs->thread_pool, opened->index_task) != NGX_OK) {
        opened->indexing = 0;
        opened->index_next = ngx_current_msec + NGX_HATCH_INDEX_RETRY;
    }
}


static void
ngx_hatch_index_thread(void *data, ngx_log_t *log)
{
    ngx_hatch_index_ctx_t *ctx = data;

    int  more;

    do {
        ctx->rc = hatch_store_index_build(ctx->opened->store,
                                          NGX_HATCH_INDEX_PART, &more,
                                          &ctx->err);

    } while (more && !ngx_exiting && !ngx_terminate && !ngx_quit);
}


static void
ngx_hatch_index_completed(ngx_event_t *ev)
{
    ngx_hatch_index_ctx_t *ctx = ev->data;

    ngx_hatch_opened_t  *opened;

    opened = ctx->opened;
    opened->indexing = 0;
    opened->index_next = ngx_current_msec + NGX_HATCH_INDEX_AGAIN;

    if (ctx->rc == 0) {
        hatch_store_index_use(opened->store);
        opened->index_failed = 0;
        return;
    }

    if (ctx->rc == HATCH_ERR_UNAVAILABLE) {
        (void) hatch_store_remap(opened->store, NULL);
        return;
    }

    opened->index_next = ngx_current_msec + NGX_HATCH_INDEX_RETRY;

    if (!opened->index_failed) {
        opened->index_failed = 1;
        ngx_log_error(NGX_LOG_WARN, ev->log, 0, "hatch: look-ups of routes "
                      "take longer: %s", ctx->err.text);
    }
}
