
/*
 * Who is held for which VM, and who is told when.
 */


#include "ngx_hatch_agent_private.h"


/* How long the impatient wait for a sign of life of the agent, ms. */
#define NGX_HATCH_WAITER_IMPATIENCE  500

/* How many waiters are told in one turn of the event loop. */
#define NGX_HATCH_WAITER_BATCH       32

#define ngx_hatch_waiter_held(state)                                          \
    ((state) == NGX_HATCH_WAITER_ASKED                                        \
     || (state) == NGX_HATCH_WAITER_ANSWERED                                  \
     || (state) == NGX_HATCH_WAITER_HERD)


static ngx_int_t ngx_hatch_waiter_room(ngx_hatch_agent_t *agent,
    const char *vm);
static void ngx_hatch_waiter_start_timer(ngx_hatch_waiter_t *waiter,
    ngx_msec_t timeout);
static void ngx_hatch_waiter_timer_handler(ngx_event_t *ev);


/* --- states --- */

void
ngx_hatch_waiter_set(ngx_hatch_waiter_t *waiter,
    ngx_hatch_waiter_state_e state)
{
    ngx_hatch_herd_t          *herd;
    ngx_hatch_agent_t         *agent;
    ngx_hatch_waiter_state_e   old;

#if (NGX_DEBUG)
    static const char *const  names[] = {
        "new", "asked", "answered", "herd", "told", "running"
    };

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, waiter->log, 0,
                   "hatch waiter: %s -> %s", names[waiter->state],
                   names[state]);
#endif

    agent = waiter->agent;
    old = waiter->state;
    waiter->state = state;

    switch (old) {

    case NGX_HATCH_WAITER_ASKED:
        ngx_queue_remove(&waiter->queue);
        waiter->group->n--;
        waiter->group = NULL;
        break;

    case NGX_HATCH_WAITER_ANSWERED:
        ngx_queue_remove(&waiter->queue);
        break;

    case NGX_HATCH_WAITER_HERD:
    case NGX_HATCH_WAITER_RUNNING:
        ngx_queue_remove(&waiter->queue);
        herd = waiter->herd;
        waiter->herd = NULL;
        ngx_hatch_herd_left(herd, old);
        break;

    default: /* NEW, TOLD */
        break;
    }

    /* from the group into the herd, the deadline goes on */

    if (state != NGX_HATCH_WAITER_HERD && waiter->timer.timer_set) {
        ngx_del_timer(&waiter->timer);
    }

    if (ngx_hatch_waiter_held(state) && !ngx_hatch_waiter_held(old)) {
        agent->held++;

    } else if (ngx_hatch_waiter_held(old) && !ngx_hatch_waiter_held(state)) {
        agent->held--;

        if (agent->held == 0 && ngx_exiting) {
            ngx_hatch_agent_close(agent);
        }
    }
}


void
ngx_hatch_waiter_leave(ngx_hatch_waiter_t *waiter)
{
    ngx_hatch_group_t  *group;

    if (waiter->state == NGX_HATCH_WAITER_NEW) {
        return;
    }

    group = waiter->group;

    ngx_hatch_waiter_set(waiter, NGX_HATCH_WAITER_NEW);

    if (group) {
        ngx_hatch_group_free_empty(group);
    }
}


ngx_int_t
ngx_hatch_waiter_ask(ngx_hatch_agent_t *agent, ngx_hatch_waiter_t *waiter,
    const char *vm, ngx_uint_t port, ngx_msec_t timeout, ngx_uint_t impatient,
    ngx_uint_t again)
{
    ngx_msec_t          sign;
    ngx_hatch_group_t  *group;

    ngx_hatch_waiter_leave(waiter);

    if (agent->pid != ngx_pid) {
        ngx_hatch_agent_init_process(agent);
    }

    if (ngx_hatch_waiter_room(agent, vm) != NGX_OK) {
        return NGX_BUSY;
    }

    /* a worker that exits has closed it after its last waiter */

    if (agent->connection == NULL && ngx_exiting) {
        ngx_hatch_agent_connect(agent);
    }

    if (agent->connection == NULL && impatient) {
        return NGX_DECLINED;
    }

    if (agent->held == 0) {

        /* nobody was waiting, so nobody was in a hurry to connect */

        agent->lost = ngx_current_msec;

        if (agent->connection == NULL) {
            if (agent->retry.timer_set) {
                ngx_del_timer(&agent->retry);
            }

            ngx_add_timer(&agent->retry, 1);
        }
    }

    group = ngx_hatch_group_get(agent, vm, port, again);

    if (group == NULL) {
        if (ngx_exiting && agent->held == 0) {
            ngx_hatch_agent_close(agent);
        }

        return NGX_ERROR;
    }

    waiter->agent = agent;
    waiter->impatient = impatient && !group->told;
    waiter->deadline = ngx_current_msec + timeout;

    ngx_hatch_waiter_set(waiter, NGX_HATCH_WAITER_ASKED);

    waiter->group = group;
    ngx_queue_insert_tail(&group->waiters, &waiter->queue);
    group->n++;

    sign = ngx_hatch_group_pause(again) + NGX_HATCH_WAITER_IMPATIENCE;

    ngx_hatch_waiter_start_timer(waiter, waiter->impatient
                                         ? ngx_min(timeout, sign) : timeout);

    ngx_hatch_agent_try_send(agent);

    return NGX_AGAIN;
}


ngx_int_t
ngx_hatch_waiter_join(ngx_hatch_agent_t *agent, ngx_hatch_waiter_t *waiter,
    ngx_hatch_herd_t *herd, ngx_msec_t timeout)
{
    ngx_hatch_waiter_leave(waiter);

    waiter->agent = agent;
    waiter->result = NGX_HATCH_WAKE_READY;
    waiter->kind = HATCH_WAKE_KIND_NONE;
    waiter->impatient = 0;

    if (ngx_hatch_herd_room(herd)) {
        ngx_hatch_herd_run(herd, waiter);
        return NGX_OK;
    }

    if (ngx_hatch_waiter_room(agent, ngx_hatch_herd_vm(herd)) != NGX_OK) {
        return NGX_BUSY;
    }

    waiter->deadline = ngx_current_msec + timeout;
    ngx_hatch_herd_add(herd, waiter);
    ngx_hatch_waiter_start_timer(waiter, timeout);

    return NGX_AGAIN;
}


/* May one more be held for this VM? */

static ngx_int_t
ngx_hatch_waiter_room(ngx_hatch_agent_t *agent, const char *vm)
{
    ngx_uint_t          held;
    ngx_queue_t        *q, *bucket;
    ngx_hatch_group_t  *group;

    if (agent->held >= agent->max_held) {
        return NGX_BUSY;
    }

    held = ngx_hatch_herd_held(&agent->herds, vm);
    bucket = ngx_hatch_group_bucket(agent, vm);

    for (q = ngx_queue_head(bucket);
         q != ngx_queue_sentinel(bucket);
         q = ngx_queue_next(q))
    {
        group = ngx_queue_data(q, ngx_hatch_group_t, queue);

        if (ngx_strcmp(group->vm, vm) == 0) {
            held += group->n;
        }
    }

    return held < agent->max_held_per_vm ? NGX_OK : NGX_BUSY;
}


ngx_msec_t
ngx_hatch_waiter_left(ngx_msec_t deadline)
{
    ngx_msec_int_t  left;

    left = (ngx_msec_int_t) (deadline - ngx_current_msec);

    return left > 0 ? (ngx_msec_t) left : 1;
}


static void
ngx_hatch_waiter_start_timer(ngx_hatch_waiter_t *waiter, ngx_msec_t timeout)
{
    waiter->timer.handler = ngx_hatch_waiter_timer_handler;
    waiter->timer.data = waiter;
    waiter->timer.log = waiter->log;

    ngx_add_timer(&waiter->timer, timeout);
}


static void
ngx_hatch_waiter_timer_handler(ngx_event_t *ev)
{
    ngx_hatch_group_t   *group;
    ngx_hatch_waiter_t  *waiter;

    waiter = ev->data;
    group = waiter->group;

    /* impatient: no sign of life; but it may have been all of its time */

    waiter->result = waiter->impatient
                     && (ngx_msec_int_t) (waiter->deadline - ngx_current_msec)
                        > 0
                     ? NGX_HATCH_WAKE_NO_AGENT : NGX_HATCH_WAKE_TIMEOUT;

    ngx_hatch_waiter_set(waiter, NGX_HATCH_WAITER_TOLD);

    if (group) {
        ngx_hatch_group_free_empty(group);
    }

    waiter->handler(waiter);
}


void
ngx_hatch_waiter_be_patient(ngx_hatch_waiter_t *waiter)
{
    if (waiter->impatient) {
        waiter->impatient = 0;
        ngx_add_timer(&waiter->timer, ngx_hatch_waiter_left(waiter->deadline));
    }
}


/* --- telling --- */

/*
 * A thousand requests that begin at once would hold up all others: some now,
 * the rest after the events that are due.
 */

void
ngx_hatch_waiter_tell(ngx_hatch_agent_t *agent)
{
    ngx_uint_t           n;
    ngx_queue_t         *q;
    ngx_hatch_waiter_t  *waiter;

    for (n = 0; n < NGX_HATCH_WAITER_BATCH; n++) {

        if (ngx_queue_empty(&agent->answered)) {
            ngx_hatch_work_end(&agent->telling);
            return;
        }

        q = ngx_queue_head(&agent->answered);
        waiter = ngx_queue_data(q, ngx_hatch_waiter_t, queue);

        ngx_hatch_waiter_set(waiter, NGX_HATCH_WAITER_TOLD);
        waiter->handler(waiter);
    }

    ngx_hatch_work_begin(&agent->telling, "answering held requests");

    if (!agent->tell.posted) {
        ngx_post_event(&agent->tell, &ngx_posted_next_events);
    }
}


void
ngx_hatch_waiter_tell_handler(ngx_event_t *ev)
{
    ngx_hatch_waiter_tell(ev->data);
}
