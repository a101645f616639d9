
#include "ngx_hatch_busy.h"


/*
 * How often requests in flight stamp, ms: four times within the VM's idle
 * time, but no oftener than MIN and at least every MAX.
 */
#define NGX_HATCH_BUSY_MIN  25
#define NGX_HATCH_BUSY_MAX  1000

/* Those that pass; fits HATCH_ACTIVITY_PASS. */
#define NGX_HATCH_BUSY_PASS  100

/* So long a request that passes holds off sleep; a stream must end, ms. */
#define NGX_HATCH_BUSY_PASS_MAX  10000


static ngx_inline void ngx_hatch_busy_go(ngx_hatch_busy_t *hb,
    ngx_hatch_busy_node_t *node);
static ngx_inline void ngx_hatch_busy_stamp(ngx_hatch_busy_t *hb,
    ngx_hatch_busy_node_t *node, uint64_t now, uint64_t fresh);
static ngx_inline ngx_msec_t ngx_hatch_busy_interval(
    ngx_hatch_busy_node_t *node);
static void ngx_hatch_busy_timer(ngx_event_t *ev);


void
ngx_hatch_busy_cleanup(void *data)
{
    ngx_hatch_busy_t  *hb = data;

    if (hb->pid == ngx_pid && hb->timer.timer_set) {
        ngx_del_timer(&hb->timer);
    }
}


void
ngx_hatch_busy_begin(ngx_hatch_busy_t *hb, ngx_hatch_busy_node_t *node,
    hatch_zone_peer_t *vm, ngx_uint_t pass)
{
    node->slot = vm->slot;
    node->generation = vm->generation;
    node->idle_timeout = vm->idle_timeout;
    node->pass = pass;

    ngx_hatch_busy_go(hb, node);
}


void
ngx_hatch_busy_again(ngx_hatch_busy_t *hb, ngx_hatch_busy_node_t *node)
{
    ngx_hatch_busy_go(hb, node);
}


static ngx_inline void
ngx_hatch_busy_go(ngx_hatch_busy_t *hb, ngx_hatch_busy_node_t *node)
{
    ngx_msec_t  interval;

    if (hb->pid != ngx_pid) {
        hb->pid = ngx_pid;
        ngx_queue_init(&hb->requests);
        hb->timer.handler = ngx_hatch_busy_timer;
        hb->timer.data = hb;
        hb->timer.log = ngx_cycle->log;
        hb->timer.cancelable = 1;
    }

    if (!node->active) {
        node->active = 1;
        node->pass_until = ngx_current_msec + NGX_HATCH_BUSY_PASS_MAX;
        ngx_queue_insert_tail(&hb->requests, &node->queue);
    }

    ngx_hatch_busy_stamp(hb, node, ngx_hatch_zone_now(),
                         hatch_activity_fresh(node->idle_timeout));

    interval = ngx_hatch_busy_interval(node);

    if (!hb->timer.timer_set) {
        hb->interval = interval;
        ngx_add_timer(&hb->timer, interval);

    } else if (interval < hb->interval) {
        hb->interval = interval;
        ngx_del_timer(&hb->timer);
        ngx_add_timer(&hb->timer, interval);
    }
}


void
ngx_hatch_busy_end(ngx_hatch_busy_t *hb, ngx_hatch_busy_node_t *node)
{
    if (!node->active) {
        return;
    }

    ngx_hatch_busy_stamp(hb, node, ngx_hatch_zone_now(), 0);

    ngx_queue_remove(&node->queue);
    node->active = 0;
}


static ngx_inline void
ngx_hatch_busy_stamp(ngx_hatch_busy_t *hb, ngx_hatch_busy_node_t *node,
    uint64_t now, uint64_t fresh)
{
    hatch_activity_t  *activity;

    activity = &hb->zone->activity;

    if (!node->pass) {

        if (!hatch_activity_stamped(activity, node->slot, node->generation,
                                    now, fresh))
        {
            hatch_activity_stamp(activity, node->slot, node->generation, now,
                                 fresh);
        }

    } else if ((ngx_msec_int_t) (node->pass_until - ngx_current_msec) > 0) {
        hatch_activity_pass(activity, node->slot, node->generation, now,
                            fresh);
    }
}


static ngx_inline ngx_msec_t
ngx_hatch_busy_interval(ngx_hatch_busy_node_t *node)
{
    if (node->pass) {
        return NGX_HATCH_BUSY_PASS;
    }

    if (node->idle_timeout == 0
        || node->idle_timeout / 4 >= NGX_HATCH_BUSY_MAX)
    {
        return NGX_HATCH_BUSY_MAX;
    }

    return ngx_max(node->idle_timeout / 4, NGX_HATCH_BUSY_MIN);
}


static void
ngx_hatch_busy_timer(ngx_event_t *ev)
{
    uint64_t                now;
    ngx_msec_t              interval;
    ngx_queue_t            *q;
    hatch_zone_t           *zone;
    hatch_zone_vm_t         vm;
    ngx_hatch_busy_t       *hb;
    ngx_hatch_busy_node_t  *node;

    hb = ev->data;
    zone = ngx_hatch_zone_get(hb->zone);
    now = ngx_hatch_zone_now();
    interval = NGX_HATCH_BUSY_MAX;

    if (ngx_queue_empty(&hb->requests)) {
        return;
    }

    ngx_hatch_zone_follow(hb->zone, ev->log);

    for (q = ngx_queue_head(&hb->requests);
         q != ngx_queue_sentinel(&hb->requests);
         q = ngx_queue_next(q))
    {
        node = ngx_queue_data(q, ngx_hatch_busy_node_t, queue);

        /* somebody may have changed it meanwhile */

        if (zone && hatch_zone_read(zone, node->slot, &vm) == 0
            && vm.generation == node->generation)
        {
            node->idle_timeout = vm.idle_timeout;
        }

        ngx_hatch_busy_stamp(hb, node, now,
                             ngx_hatch_busy_interval(node) / 2);

        interval = ngx_min(interval, ngx_hatch_busy_interval(node));
    }

    hb->interval = interval;
    ngx_add_timer(ev, interval);
}
