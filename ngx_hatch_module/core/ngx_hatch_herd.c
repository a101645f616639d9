
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
    ngx_queue_t              gone;
    ngx_uint_t               n;         /* of gone */
    ngx_uint_t               window;
    ngx_hatch_herd_pt        let_go;
    ngx_event_t              next;      /* posted: there is room */
    ngx_event_t              timer;
};


static void ngx_hatch_herd_count(ngx_hatch_herd_t *herd,
    ngx_hatch_herd_member_t *member);
static void ngx_hatch_herd_post(ngx_hatch_herd_t *herd);
static void ngx_hatch_herd_next(ngx_event_t *ev);
static void ngx_hatch_herd_tick(ngx_event_t *ev);
static void ngx_hatch_herd_forget(ngx_hatch_herd_t *herd,
    ngx_hatch_herd_member_t *member);
static void ngx_hatch_herd_free(ngx_hatch_herd_t *herd);


ngx_hatch_herd_t *
ngx_hatch_herd_create(ngx_queue_t *herds, const char *vm, ngx_uint_t port,
    ngx_hatch_herd_pt let_go)
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
    ngx_queue_init(&herd->gone);

    herd->window = NGX_HATCH_HERD_WINDOW;
    herd->let_go = let_go;

    herd->next.handler = ngx_hatch_herd_next;
    herd->next.data = herd;
    herd->next.log = ngx_cycle->log;

    herd->timer.handler = ngx_hatch_herd_tick;
    herd->timer.data = herd;
    herd->timer.log = ngx_cycle->log;

    ngx_queue_insert_tail(herds, &herd->queue);
    ngx_add_timer(&herd->timer, NGX_HATCH_HERD_TICK);

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
ngx_hatch_herd_join(ngx_hatch_herd_t *herd, ngx_hatch_herd_member_t *member)
{
    if (herd->n >= herd->window || !ngx_queue_empty(&herd->waiting)) {
        ngx_hatch_herd_add(herd, member);
        return 0;
    }

    member->herd = herd;
    ngx_queue_insert_tail(&herd->gone, &member->queue);
    ngx_hatch_herd_count(herd, member);

    return 1;
}


void
ngx_hatch_herd_add(ngx_hatch_herd_t *herd, ngx_hatch_herd_member_t *member)
{
    ngx_queue_insert_tail(&herd->waiting, &member->queue);
    member->herd = herd;
    member->gone = 0;

    ngx_hatch_herd_post(herd);
}


static void
ngx_hatch_herd_count(ngx_hatch_herd_t *herd, ngx_hatch_herd_member_t *member)
{
    member->gone = 1;
    member->since = ngx_current_msec;
    herd->n++;
}


/* Looks at it again, in the next turn of the event loop. */

static void
ngx_hatch_herd_post(ngx_hatch_herd_t *herd)
{
    if (!herd->next.posted) {
        ngx_post_event(&herd->next, &ngx_posted_next_events);
    }
}


/*
 * Lets go of as many as there is room for.  Whoever is let go may end at
 * once; that only posts this event again.
 */

static void
ngx_hatch_herd_next(ngx_event_t *ev)
{
    ngx_queue_t              *q;
    ngx_hatch_herd_t         *herd;
    ngx_hatch_herd_member_t  *member;

    herd = ev->data;

    while (herd->n < herd->window && !ngx_queue_empty(&herd->waiting)) {
        q = ngx_queue_head(&herd->waiting);
        ngx_queue_remove(q);
        ngx_queue_insert_tail(&herd->gone, q);

        member = ngx_queue_data(q, ngx_hatch_herd_member_t, queue);
        ngx_hatch_herd_count(herd, member);
        herd->let_go(member);
    }

    if (ngx_queue_empty(&herd->waiting)
        && ngx_current_msec - herd->since >= NGX_HATCH_HERD_TIME)
    {
        ngx_hatch_herd_free(herd);
    }
}


static void
ngx_hatch_herd_tick(ngx_event_t *ev)
{
    ngx_queue_t              *q;
    ngx_hatch_herd_t         *herd;
    ngx_hatch_herd_member_t  *member;

    herd = ev->data;

    while (!ngx_queue_empty(&herd->gone)) {
        q = ngx_queue_head(&herd->gone);
        member = ngx_queue_data(q, ngx_hatch_herd_member_t, queue);

        if (ngx_current_msec - member->since < NGX_HATCH_HERD_SLOW) {
            break;
        }

        ngx_hatch_herd_forget(herd, member);

        if (herd->window < NGX_HATCH_HERD_WINDOW_MAX) {
            herd->window++;
        }
    }

    ngx_add_timer(ev, NGX_HATCH_HERD_TICK);
    ngx_hatch_herd_next(&herd->next);
}


static void
ngx_hatch_herd_forget(ngx_hatch_herd_t *herd, ngx_hatch_herd_member_t *member)
{
    ngx_queue_remove(&member->queue);
    member->herd = NULL;

    if (member->gone) {
        member->gone = 0;
        herd->n--;
    }
}


void
ngx_hatch_herd_leave(ngx_hatch_herd_member_t *member)
{
    ngx_hatch_herd_t  *herd;

    herd = member->herd;

    if (herd == NULL) {
        return;
    }

    ngx_hatch_herd_forget(herd, member);
    ngx_hatch_herd_post(herd);
}


/* Nobody waits any more; who is under way needs it no longer. */

static void
ngx_hatch_herd_free(ngx_hatch_herd_t *herd)
{
    while (!ngx_queue_empty(&herd->gone)) {
        ngx_hatch_herd_forget(herd,
                              ngx_queue_data(ngx_queue_head(&herd->gone),
                                             ngx_hatch_herd_member_t, queue));
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
