
#include "ngx_hatch_herd.h"

#include "hatch_id.h"


/* Who takes longer than this, ms, does not count any more. */
#define NGX_HATCH_HERD_SLOW        250
#define NGX_HATCH_HERD_TICK        50

#define NGX_HATCH_HERD_WINDOW_MAX  64

/* It ends when nobody waits, but not sooner after the wake than this, ms. */
#define NGX_HATCH_HERD_TIME        1000


struct ngx_hatch_herd_s {
    ngx_queue_t              queue;     /* of herds */
    char                     vm[HATCH_ID_SIZE];
    ngx_uint_t               port;
    ngx_msec_t               since;
    ngx_queue_t              waiting;
    ngx_queue_t              running;   /* the first of them first */
    ngx_uint_t               n_waiting;
    ngx_uint_t               n_running;
    ngx_uint_t               window;
    ngx_event_t              next;      /* posted: there is room */
    ngx_event_t              timer;
};


static ngx_hatch_herd_t *ngx_hatch_herd_create(ngx_queue_t *herds,
    const char *vm, ngx_uint_t port);
static void ngx_hatch_herd_next(ngx_event_t *ev);
static void ngx_hatch_herd_tick(ngx_event_t *ev);
static void ngx_hatch_herd_free(ngx_hatch_herd_t *herd);


ngx_hatch_herd_t *
ngx_hatch_herd_get(ngx_queue_t *herds, const char *vm, ngx_uint_t port)
{
    ngx_hatch_herd_t  *herd;

    herd = ngx_hatch_herd_find(herds, vm, port);

    return herd ? herd : ngx_hatch_herd_create(herds, vm, port);
}


static ngx_hatch_herd_t *
ngx_hatch_herd_create(ngx_queue_t *herds, const char *vm, ngx_uint_t port)
{
    ngx_hatch_herd_t  *herd;

    herd = ngx_calloc(sizeof(ngx_hatch_herd_t), ngx_cycle->log);
    if (herd == NULL) {
        return NULL;
    }

    (void) ngx_cpystrn((u_char *) herd->vm, (u_char *) vm, HATCH_ID_SIZE);
    herd->port = port;
    herd->since = ngx_current_msec;

    ngx_queue_init(&herd->waiting);
    ngx_queue_init(&herd->running);

    herd->window = NGX_HATCH_HERD_WINDOW;

    herd->next.handler = ngx_hatch_herd_next;
    herd->next.data = herd;
    herd->next.log = ngx_cycle->log;

    herd->timer.handler = ngx_hatch_herd_tick;
    herd->timer.data = herd;
    herd->timer.log = ngx_cycle->log;

    ngx_queue_insert_tail(herds, &herd->queue);
    ngx_add_timer(&herd->timer, NGX_HATCH_HERD_TICK);

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, ngx_cycle->log, 0,
                   "hatch herd of %s:%ui begins", herd->vm, port);

    return herd;
}


ngx_hatch_herd_t *
ngx_hatch_herd_find(ngx_queue_t *herds, const char *vm, ngx_uint_t port)
{
    ngx_queue_t       *q;
    ngx_hatch_herd_t  *herd;

    for (q = ngx_queue_head(herds);
         q != ngx_queue_sentinel(herds);
         q = ngx_queue_next(q))
    {
        herd = ngx_queue_data(q, ngx_hatch_herd_t, queue);

        if (herd->port == port && ngx_strcmp(herd->vm, vm) == 0) {
            return herd;
        }
    }

    return NULL;
}


ngx_uint_t
ngx_hatch_herd_held(ngx_queue_t *herds, const char *vm)
{
    ngx_uint_t         n;
    ngx_queue_t       *q;
    ngx_hatch_herd_t  *herd;

    n = 0;

    for (q = ngx_queue_head(herds);
         q != ngx_queue_sentinel(herds);
         q = ngx_queue_next(q))
    {
        herd = ngx_queue_data(q, ngx_hatch_herd_t, queue);

        if (ngx_strcmp(herd->vm, vm) == 0) {
            n += herd->n_waiting;
        }
    }

    return n;
}


const char *
ngx_hatch_herd_vm(ngx_hatch_herd_t *herd)
{
    return herd->vm;
}


ngx_uint_t
ngx_hatch_herd_room(ngx_hatch_herd_t *herd)
{
    return herd->n_running < herd->window && herd->n_waiting == 0;
}


void
ngx_hatch_herd_run(ngx_hatch_herd_t *herd, ngx_hatch_waiter_t *waiter)
{
    ngx_hatch_waiter_set(waiter, NGX_HATCH_WAITER_RUNNING);

    waiter->herd = herd;
    waiter->since = ngx_current_msec;

    ngx_queue_insert_tail(&herd->running, &waiter->queue);
    herd->n_running++;
}


void
ngx_hatch_herd_add(ngx_hatch_herd_t *herd, ngx_hatch_waiter_t *waiter)
{
    ngx_hatch_waiter_set(waiter, NGX_HATCH_WAITER_HERD);

    waiter->herd = herd;

    ngx_queue_insert_tail(&herd->waiting, &waiter->queue);
    herd->n_waiting++;

    /* the first ones still in this turn of the event loop */

    if (!herd->next.posted) {
        ngx_post_event(&herd->next, &ngx_posted_events);
    }
}


void
ngx_hatch_herd_left(ngx_hatch_herd_t *herd, ngx_hatch_waiter_state_e state)
{
    if (state == NGX_HATCH_WAITER_HERD) {
        herd->n_waiting--;
        return;
    }

    herd->n_running--;

    if (!herd->next.posted) {
        ngx_post_event(&herd->next, &ngx_posted_next_events);
    }
}


/*
 * As many begin as there is room for.  One that begins may end at once; that
 * only posts this event again.
 */

static void
ngx_hatch_herd_next(ngx_event_t *ev)
{
    ngx_queue_t         *q;
    ngx_hatch_herd_t    *herd;
    ngx_hatch_waiter_t  *waiter;

    herd = ev->data;

    while (herd->n_running < herd->window && herd->n_waiting != 0) {
        q = ngx_queue_head(&herd->waiting);
        waiter = ngx_queue_data(q, ngx_hatch_waiter_t, queue);

        ngx_hatch_herd_run(herd, waiter);
        waiter->handler(waiter);
    }

    if (herd->n_waiting == 0
        && ngx_current_msec - herd->since >= NGX_HATCH_HERD_TIME)
    {
        ngx_hatch_herd_free(herd);
    }
}


static void
ngx_hatch_herd_tick(ngx_event_t *ev)
{
    ngx_queue_t         *q;
    ngx_hatch_herd_t    *herd;
    ngx_hatch_waiter_t  *waiter;

    herd = ev->data;

    while (!ngx_queue_empty(&herd->running)) {
        q = ngx_queue_head(&herd->running);
        waiter = ngx_queue_data(q, ngx_hatch_waiter_t, queue);

        if (ngx_current_msec - waiter->since < NGX_HATCH_HERD_SLOW) {
            break;
        }

        ngx_hatch_waiter_set(waiter, NGX_HATCH_WAITER_TOLD);

        if (herd->window < NGX_HATCH_HERD_WINDOW_MAX) {
            herd->window++;
        }
    }

    ngx_add_timer(ev, NGX_HATCH_HERD_TICK);
    ngx_hatch_herd_next(&herd->next);
}


/* Nobody waits any more; who is under way needs it no longer. */

static void
ngx_hatch_herd_free(ngx_hatch_herd_t *herd)
{
    ngx_queue_t  *q;

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, ngx_cycle->log, 0,
                   "hatch herd of %s:%ui ends", herd->vm, herd->port);

    while (!ngx_queue_empty(&herd->running)) {
        q = ngx_queue_head(&herd->running);
        ngx_hatch_waiter_set(ngx_queue_data(q, ngx_hatch_waiter_t, queue),
                             NGX_HATCH_WAITER_TOLD);
    }

    if (herd->timer.timer_set) {
        ngx_del_timer(&herd->timer);
    }

    if (herd->next.posted) {
        ngx_delete_posted_event(&herd->next);
    }

    ngx_queue_remove(&herd->queue);
    ngx_free(herd);
}
