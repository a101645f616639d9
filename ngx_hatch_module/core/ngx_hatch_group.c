
/*
 * What is asked of the agent, and when: a group is all who wait for one port
 * of one VM.
 */


#include "ngx_hatch_agent_private.h"


/*
 * An answer may come before the zone has what it is about, so a question is
 * put again at once, so often; then after pauses that double, ms.
 */
#define NGX_HATCH_GROUP_AT_ONCE      3
#define NGX_HATCH_GROUP_PAUSE        10
#define NGX_HATCH_GROUP_PAUSE_MAX    1000


static void ngx_hatch_group_pause_handler(ngx_event_t *ev);


ngx_queue_t *
ngx_hatch_group_bucket(ngx_hatch_agent_t *agent, const char *vm)
{
    return &agent->groups[ngx_crc32_short((u_char *) vm, ngx_strlen(vm))
                          % NGX_HATCH_AGENT_BUCKETS];
}


ngx_hatch_group_t *
ngx_hatch_group_get(ngx_hatch_agent_t *agent, const char *vm, ngx_uint_t port,
    ngx_uint_t again)
{
    ngx_queue_t        *q, *bucket;
    ngx_hatch_group_t  *group;

    bucket = ngx_hatch_group_bucket(agent, vm);

    for (q = ngx_queue_head(bucket);
         q != ngx_queue_sentinel(bucket);
         q = ngx_queue_next(q))
    {
        group = ngx_queue_data(q, ngx_hatch_group_t, queue);

        if (group->port == port && ngx_strcmp(group->vm, vm) == 0) {

            /* one who has not asked yet does not wait for those who have */

            if (again == 0 && group->pause.timer_set) {
                ngx_hatch_group_enqueue(agent, group);
            }

            return group;
        }
    }

    group = ngx_calloc(sizeof(ngx_hatch_group_t), ngx_cycle->log);
    if (group == NULL) {
        return NULL;
    }

    (void) ngx_cpystrn((u_char *) group->vm, (u_char *) vm, HATCH_ID_SIZE);
    group->port = port;
    group->request = ++agent->request * NGX_HATCH_AGENT_BUCKETS
                     + (bucket - agent->groups);
    group->agent = agent;
    group->pause.handler = ngx_hatch_group_pause_handler;
    group->pause.data = group;
    group->pause.log = ngx_cycle->log;

    ngx_queue_init(&group->waiters);
    ngx_queue_insert_tail(bucket, &group->queue);

    group->again = again;

    if (ngx_hatch_group_pause(again) != 0) {
        ngx_add_timer(&group->pause, ngx_hatch_group_pause(again));

    } else {
        ngx_hatch_group_enqueue(agent, group);
    }

    return group;
}


ngx_msec_t
ngx_hatch_group_pause(ngx_uint_t again)
{
    if (again < NGX_HATCH_GROUP_AT_ONCE) {
        return 0;
    }

    again = ngx_min(again - NGX_HATCH_GROUP_AT_ONCE, 16);

    return ngx_min((ngx_msec_t) NGX_HATCH_GROUP_PAUSE << again,
                   NGX_HATCH_GROUP_PAUSE_MAX);
}


void
ngx_hatch_group_ask_again(ngx_hatch_agent_t *agent, ngx_hatch_group_t *group)
{
    ngx_msec_t  pause;

    pause = ngx_hatch_group_pause(++group->again);

    if (pause == 0) {
        ngx_hatch_group_enqueue(agent, group);

    } else if (!group->to_send && !group->pause.timer_set) {
        ngx_add_timer(&group->pause, pause);
    }
}


static void
ngx_hatch_group_pause_handler(ngx_event_t *ev)
{
    ngx_hatch_group_t  *group;

    group = ev->data;

    ngx_hatch_group_enqueue(group->agent, group);
    ngx_hatch_agent_try_send(group->agent);
}


void
ngx_hatch_group_enqueue(ngx_hatch_agent_t *agent, ngx_hatch_group_t *group)
{
    if (group->pause.timer_set) {
        ngx_del_timer(&group->pause);
    }

    if (!group->to_send) {
        group->to_send = 1;
        ngx_queue_insert_tail(&agent->unsent, &group->unsent);
    }
}


void
ngx_hatch_group_free_empty(ngx_hatch_group_t *group)
{
    if (group->n != 0) {
        return;
    }

    if (group->to_send) {
        ngx_queue_remove(&group->unsent);
    }

    if (group->pause.timer_set) {
        ngx_del_timer(&group->pause);
    }

    ngx_queue_remove(&group->queue);
    ngx_free(group);
}


void
ngx_hatch_group_told(ngx_hatch_group_t *group)
{
    ngx_queue_t  *q;

    group->told = 1;

    for (q = ngx_queue_head(&group->waiters);
         q != ngx_queue_sentinel(&group->waiters);
         q = ngx_queue_next(q))
    {
        ngx_hatch_waiter_be_patient(ngx_queue_data(q, ngx_hatch_waiter_t,
                                                   queue));
    }
}


void
ngx_hatch_group_answer(ngx_hatch_agent_t *agent, ngx_hatch_group_t *group,
    ngx_hatch_wake_result_e result, hatch_wake_message_t *m)
{
    ngx_hatch_herd_t    *herd;
    ngx_hatch_waiter_t  *waiter;

    herd = NULL;

    if (result == NGX_HATCH_WAKE_READY && m->kind != HATCH_WAKE_KIND_NONE) {
        herd = ngx_hatch_herd_get(&agent->herds, group->vm, group->port);
    }

    while (!ngx_queue_empty(&group->waiters)) {
        waiter = ngx_queue_data(ngx_queue_head(&group->waiters),
                                ngx_hatch_waiter_t, queue);
        waiter->result = result;
        waiter->kind = m->kind;
        waiter->retry = m->timeout;
        waiter->incarnation = result == NGX_HATCH_WAKE_READY ? m->incarnation
                                                             : 0;

        if (herd != NULL) {
            ngx_hatch_waiter_be_patient(waiter);
            ngx_hatch_herd_add(herd, waiter);
            continue;
        }

        ngx_hatch_waiter_set(waiter, NGX_HATCH_WAITER_ANSWERED);
        ngx_queue_insert_tail(&agent->answered, &waiter->queue);
    }

    ngx_hatch_group_free_empty(group);
}


void
ngx_hatch_waiter_answer_all(ngx_hatch_agent_t *agent,
    ngx_uint_t only_impatient)
{
    ngx_uint_t           i;
    ngx_queue_t         *q, *next, *w, *sentinel;
    ngx_hatch_group_t   *group;
    ngx_hatch_waiter_t  *waiter;

    for (i = 0; i < NGX_HATCH_AGENT_BUCKETS; i++) {
        for (q = ngx_queue_head(&agent->groups[i]);
             q != ngx_queue_sentinel(&agent->groups[i]);
             q = next)
        {
            next = ngx_queue_next(q);
            group = ngx_queue_data(q, ngx_hatch_group_t, queue);
            sentinel = ngx_queue_sentinel(&group->waiters);

            for (w = ngx_queue_head(&group->waiters); w != sentinel; ) {
                waiter = ngx_queue_data(w, ngx_hatch_waiter_t, queue);
                w = ngx_queue_next(w);

                if (only_impatient && !waiter->impatient) {
                    continue;
                }

                waiter->result = NGX_HATCH_WAKE_NO_AGENT;
                ngx_hatch_waiter_set(waiter, NGX_HATCH_WAITER_ANSWERED);
                ngx_queue_insert_tail(&agent->answered, &waiter->queue);
            }

            ngx_hatch_group_free_empty(group);
        }
    }
}
