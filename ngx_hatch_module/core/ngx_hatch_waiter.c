
/*
 * Who is held for which VM, and who is told when.
 */


#include "ngx_hatch_agent_private.h"


/* How long the impatient wait for a sign of life of the agent, ms. */
#define NGX_HATCH_WAKE_IMPATIENCE  500

/* How many waiters are told in one turn of the event loop. */
#define NGX_HATCH_WAKE_BATCH       32


static ngx_queue_t *ngx_hatch_wake_bucket(ngx_hatch_wake_t *hw,
    const char *vm);
static ngx_hatch_wake_group_t *ngx_hatch_wake_group(ngx_hatch_wake_t *hw,
    const char *vm, ngx_uint_t port, ngx_uint_t *held);
static void ngx_hatch_wake_answer_one(ngx_hatch_wake_t *hw,
    ngx_hatch_waiter_t *waiter, ngx_hatch_wake_result_t result);
static void ngx_hatch_wake_let_go(ngx_hatch_herd_member_t *member);
static void ngx_hatch_wake_leave(ngx_hatch_wake_t *hw,
    ngx_hatch_waiter_t *waiter);
static void ngx_hatch_wake_timer_handler(ngx_event_t *ev);
static void ngx_hatch_wake_free_group(ngx_hatch_wake_group_t *group);


static ngx_queue_t *
ngx_hatch_wake_bucket(ngx_hatch_wake_t *hw, const char *vm)
{
    return &hw->groups[ngx_crc32_short((u_char *) vm, ngx_strlen(vm))
                       % NGX_HATCH_WAKE_BUCKETS];
}


/* The group for that port, a new one if need be; how many wait for the VM. */

static ngx_hatch_wake_group_t *
ngx_hatch_wake_group(ngx_hatch_wake_t *hw, const char *vm, ngx_uint_t port,
    ngx_uint_t *held)
{
    ngx_queue_t             *q, *bucket;
    ngx_hatch_wake_group_t  *group, *found;

    bucket = ngx_hatch_wake_bucket(hw, vm);
    found = NULL;
    *held = 0;

    for (q = ngx_queue_head(bucket);
         q != ngx_queue_sentinel(bucket);
         q = ngx_queue_next(q))
    {
        group = ngx_queue_data(q, ngx_hatch_wake_group_t, queue);

        if (ngx_strcmp(group->vm, vm) == 0) {
            *held += group->n;

            if (group->port == port) {
                found = group;
            }
        }
    }

    if (found) {
        return found;
    }

    group = ngx_calloc(sizeof(ngx_hatch_wake_group_t), ngx_cycle->log);
    if (group == NULL) {
        return NULL;
    }

    (void) ngx_cpystrn((u_char *) group->vm, (u_char *) vm, HATCH_ID_SIZE);
    group->port = port;
    group->request = ++hw->request * NGX_HATCH_WAKE_BUCKETS
                     + (bucket - hw->groups);
    ngx_queue_init(&group->waiters);
    ngx_queue_insert_tail(bucket, &group->queue);
    ngx_hatch_wake_enqueue(hw, group);

    return group;
}


void
ngx_hatch_wake_enqueue(ngx_hatch_wake_t *hw, ngx_hatch_wake_group_t *group)
{
    if (!group->to_send) {
        group->to_send = 1;
        ngx_queue_insert_tail(&hw->unsent, &group->unsent);
    }
}


static void
ngx_hatch_wake_free_group(ngx_hatch_wake_group_t *group)
{
    if (group->to_send) {
        ngx_queue_remove(&group->unsent);
    }

    ngx_queue_remove(&group->queue);
    ngx_free(group);
}


/* --- waiters --- */

ngx_msec_t
ngx_hatch_wake_left(ngx_msec_t deadline)
{
    ngx_msec_int_t  left;

    left = (ngx_msec_int_t) (deadline - ngx_current_msec);

    return left > 0 ? (ngx_msec_t) left : 1;
}


ngx_int_t
ngx_hatch_wake_ask(ngx_hatch_wake_t *hw, ngx_hatch_waiter_t *waiter,
    const char *vm, ngx_uint_t port, ngx_msec_t timeout, ngx_uint_t impatient)
{
    ngx_uint_t               held;
    ngx_hatch_wake_group_t  *group;

    if (hw->pid != ngx_pid) {
        ngx_hatch_wake_init_process(hw);
    }

    if (hw->connection == NULL) {
        if (impatient) {
            return NGX_DECLINED;
        }

        if (hw->held == 0) {
            /* nobody was waiting, so nobody was in a hurry to connect */
            hw->lost = ngx_current_msec;

            if (hw->retry.timer_set) {
                ngx_del_timer(&hw->retry);
            }

            ngx_add_timer(&hw->retry, 1);
        }
    }

    if (hw->held >= hw->max_held) {
        return NGX_BUSY;
    }

    group = ngx_hatch_wake_group(hw, vm, port, &held);
    if (group == NULL) {
        return NGX_ERROR;
    }

    if (held >= hw->max_held_per_vm) {
        if (group->n == 0) {
            ngx_hatch_wake_free_group(group);
        }

        return NGX_BUSY;
    }

    waiter->wake = hw;
    waiter->group = group;
    waiter->waiting = 1;
    waiter->impatient = impatient && !group->told;
    waiter->deadline = ngx_current_msec + timeout;
    waiter->timer.handler = ngx_hatch_wake_timer_handler;
    waiter->timer.data = waiter;
    waiter->timer.log = waiter->log;

    ngx_queue_insert_tail(&group->waiters, &waiter->queue);
    waiter->queued = 1;
    group->n++;
    hw->held++;

    ngx_add_timer(&waiter->timer,
                  waiter->impatient
                  ? ngx_min(timeout, NGX_HATCH_WAKE_IMPATIENCE) : timeout);

    if (ngx_hatch_wake_send(hw) != NGX_OK) {
        /* the read handler finds out, too; not from here, in a request */
        hw->connection->read->ready = 1;
        ngx_post_event(hw->connection->read, &ngx_posted_events);
    }

    return NGX_AGAIN;
}


ngx_int_t
ngx_hatch_wake_join(ngx_hatch_wake_t *hw, ngx_hatch_waiter_t *waiter,
    const char *vm, ngx_uint_t port, ngx_msec_t timeout)
{
    ngx_hatch_herd_t  *herd;

    if (hw->pid != ngx_pid || ngx_queue_empty(&hw->herds)
        || hw->held >= hw->max_held)
    {
        return NGX_OK;
    }

    herd = ngx_hatch_herd_find(&hw->herds, vm, port);

    if (herd == NULL || ngx_hatch_herd_join(herd, &waiter->herd)) {
        return NGX_OK;
    }

    waiter->wake = hw;
    waiter->waiting = 1;
    waiter->result = NGX_HATCH_WAKE_READY;
    waiter->timer.handler = ngx_hatch_wake_timer_handler;
    waiter->timer.data = waiter;
    waiter->timer.log = waiter->log;

    hw->held++;
    ngx_add_timer(&waiter->timer, timeout);

    return NGX_AGAIN;
}


/* It does not wait any more; it may be in a herd still. */

static void
ngx_hatch_wake_leave(ngx_hatch_wake_t *hw, ngx_hatch_waiter_t *waiter)
{
    ngx_hatch_wake_group_t  *group;

    group = waiter->group;

    if (waiter->queued) {
        waiter->queued = 0;
        ngx_queue_remove(&waiter->queue);
    }

    waiter->waiting = 0;
    waiter->group = NULL;
    hw->held--;

    if (waiter->timer.timer_set) {
        ngx_del_timer(&waiter->timer);
    }

    if (group && --group->n == 0) {
        ngx_hatch_wake_free_group(group);
    }

    if (hw->held == 0 && ngx_exiting) {
        ngx_hatch_wake_close(hw);
    }
}


void
ngx_hatch_wake_forget(ngx_hatch_waiter_t *waiter)
{
    if (waiter->waiting) {
        ngx_hatch_wake_leave(waiter->wake, waiter);
    }

    ngx_hatch_herd_leave(&waiter->herd);
}


static void
ngx_hatch_wake_timer_handler(ngx_event_t *ev)
{
    ngx_hatch_wake_t    *hw;
    ngx_hatch_waiter_t  *waiter;

    waiter = ev->data;
    hw = waiter->wake;

    waiter->result = waiter->impatient ? NGX_HATCH_WAKE_NO_AGENT
                                       : NGX_HATCH_WAKE_TIMEOUT;
    ngx_hatch_wake_leave(hw, waiter);
    ngx_hatch_herd_leave(&waiter->herd);
    waiter->handler(waiter);
}


/* A waiter has its answer; it is told in its turn. */

static void
ngx_hatch_wake_answer_one(ngx_hatch_wake_t *hw, ngx_hatch_waiter_t *waiter,
    ngx_hatch_wake_result_t result)
{
    ngx_queue_remove(&waiter->queue);
    ngx_queue_insert_tail(&hw->answered, &waiter->queue);

    waiter->group->n--;
    waiter->group = NULL;
    waiter->result = result;

    if (waiter->timer.timer_set) {
        ngx_del_timer(&waiter->timer);
    }
}


/* All of a group have. */

void
ngx_hatch_wake_answer(ngx_hatch_wake_t *hw, ngx_hatch_wake_group_t *group,
    ngx_hatch_wake_result_t result, ngx_uint_t kind, ngx_msec_t retry)
{
    ngx_hatch_herd_t    *herd;
    ngx_hatch_waiter_t  *waiter;

    herd = NULL;

    if (result == NGX_HATCH_WAKE_READY && kind != HATCH_WAKE_KIND_NONE) {
        herd = ngx_hatch_herd_find(&hw->herds, group->vm, group->port);

        if (herd == NULL) {
            herd = ngx_hatch_herd_create(&hw->herds, group->vm, group->port,
                                         ngx_hatch_wake_let_go);
        }
    }

    while (!ngx_queue_empty(&group->waiters)) {
        waiter = ngx_queue_data(ngx_queue_head(&group->waiters),
                                ngx_hatch_waiter_t, queue);
        waiter->kind = kind;
        waiter->retry = retry;

        if (herd == NULL || ngx_hatch_herd_join(herd, &waiter->herd)) {
            ngx_hatch_wake_answer_one(hw, waiter, result);
            continue;
        }

        /* its deadline goes on until its turn has come */

        ngx_queue_remove(&waiter->queue);
        waiter->queued = 0;
        waiter->group = NULL;
        waiter->result = result;

        if (waiter->impatient) {
            waiter->impatient = 0;
            ngx_add_timer(&waiter->timer,
                          ngx_hatch_wake_left(waiter->deadline));
        }
    }

    ngx_hatch_wake_free_group(group);
}


static void
ngx_hatch_wake_let_go(ngx_hatch_herd_member_t *member)
{
    ngx_hatch_waiter_t  *waiter;

    waiter = (ngx_hatch_waiter_t *)
             ((u_char *) member - offsetof(ngx_hatch_waiter_t, herd));

    ngx_hatch_wake_leave(waiter->wake, waiter);
    waiter->handler(waiter);
}


/* There is no agent: for all, or for those who do not need one. */

void
ngx_hatch_wake_answer_all(ngx_hatch_wake_t *hw, ngx_uint_t only_impatient)
{
    ngx_uint_t               i;
    ngx_queue_t             *q, *next, *w, *sentinel;
    ngx_hatch_waiter_t      *waiter;
    ngx_hatch_wake_group_t  *group;

    for (i = 0; i < NGX_HATCH_WAKE_BUCKETS; i++) {
        for (q = ngx_queue_head(&hw->groups[i]);
             q != ngx_queue_sentinel(&hw->groups[i]);
             q = next)
        {
            next = ngx_queue_next(q);
            group = ngx_queue_data(q, ngx_hatch_wake_group_t, queue);
            sentinel = ngx_queue_sentinel(&group->waiters);

            for (w = ngx_queue_head(&group->waiters); w != sentinel; ) {
                waiter = ngx_queue_data(w, ngx_hatch_waiter_t, queue);
                w = ngx_queue_next(w);

                if (!only_impatient || waiter->impatient) {
                    ngx_hatch_wake_answer_one(hw, waiter,
                                              NGX_HATCH_WAKE_NO_AGENT);
                }
            }

            if (group->n == 0) {
                ngx_hatch_wake_free_group(group);
            }
        }
    }
}


/*
 * A thousand requests that begin at once would hold up all others: some now,
 * the rest after the events that are due.
 */

void
ngx_hatch_wake_tell(ngx_hatch_wake_t *hw)
{
    ngx_uint_t           n;
    ngx_queue_t         *q;
    ngx_hatch_waiter_t  *waiter;

    for (n = 0; n < NGX_HATCH_WAKE_BATCH; n++) {

        if (ngx_queue_empty(&hw->answered)) {
            return;
        }

        q = ngx_queue_head(&hw->answered);
        waiter = ngx_queue_data(q, ngx_hatch_waiter_t, queue);

        ngx_hatch_wake_leave(hw, waiter);
        waiter->handler(waiter);
    }

    ngx_post_event(&hw->tell, &ngx_posted_next_events);
}


void
ngx_hatch_wake_tell_handler(ngx_event_t *ev)
{
    ngx_hatch_wake_tell(ev->data);
}
