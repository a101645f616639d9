
/*
 * Holding a request until its VM can be used.
 *
 * The phase handler stops, and when the agent has answered the phases run
 * again from where they stopped: the route, the VM and its state are looked
 * up anew, as if the request had come just then.  Its body waits in the
 * socket, or in HTTP/2's window; nothing of it is read before.
 *
 * A VM that runs is asked for, too, once per worker and port after each start
 * of its guest: only then it is known that its service is up, and after that
 * nobody is asked any more.  ngx_hatch_waiter.h has the states of a hold.
 */


#include "ngx_http_hatch_module.h"
#include "ngx_hatch_herd.h"


#define ngx_http_hatch_told(waiter)                                           \
    ((waiter)->state == NGX_HATCH_WAITER_TOLD                                 \
     || (waiter)->state == NGX_HATCH_WAITER_RUNNING)


static ngx_uint_t ngx_http_hatch_hold_unneeded(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx, hatch_zone_peer_t *vm);
static ngx_hatch_herd_t *ngx_http_hatch_hold_herd(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx);
static ngx_int_t ngx_http_hatch_hold_begin(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx, hatch_zone_peer_t *vm, ngx_uint_t runs);
static ngx_http_hatch_hold_t *ngx_http_hatch_hold_create(
    ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx);
static ngx_int_t ngx_http_hatch_hold_wait(ngx_http_request_t *r,
    ngx_http_hatch_hold_t *hold);
static ngx_int_t ngx_http_hatch_hold_timed_out(ngx_http_request_t *r);
static void ngx_http_hatch_hold_handler(ngx_hatch_waiter_t *waiter);
static uint64_t ngx_http_hatch_usec(void);


ngx_int_t
ngx_http_hatch_wake_allowed(ngx_http_request_t *r, ngx_uint_t *allowed)
{
    ngx_str_t                   value;
    ngx_http_hatch_loc_conf_t  *hlcf;

    hlcf = ngx_http_hatch_loc_conf(r);

    if (ngx_http_complex_value(r, hlcf->wake, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    *allowed = value.len != 0
               && !(value.len == 1 && value.data[0] == '0')
               && !(value.len == 3 && ngx_strncmp(value.data, "off", 3) == 0);

    return NGX_OK;
}


ngx_int_t
ngx_http_hatch_hold(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx,
    hatch_zone_peer_t *vm, hatch_state_t state)
{
    ngx_uint_t           runs;
    ngx_hatch_waiter_t  *waiter;

    runs = state == HATCH_STATE_RUNNING;

    if (runs && ngx_http_hatch_hold_unneeded(r, ctx, vm)) {
        return NGX_DECLINED;
    }

    waiter = ctx->hold ? &ctx->hold->waiter : NULL;

    if (!runs && waiter && waiter->state == NGX_HATCH_WAITER_TOLD
        && waiter->result == NGX_HATCH_WAKE_NO_AGENT)
    {
        ngx_hatch_waiter_leave(waiter);

        return ngx_http_hatch_route_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "agent_unavailable",
                                           "the VM sleeps, and there is no "
                                           "agent to wake it", 1);
    }

    return ngx_http_hatch_hold_begin(r, ctx, vm, runs);
}


/* The VM runs: is there anything to wait for, or anybody to ask? */

static ngx_uint_t
ngx_http_hatch_hold_unneeded(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx,
    hatch_zone_peer_t *vm)
{
    uint64_t             of;
    ngx_hatch_waiter_t  *waiter;

    /* one without an address is refused later, one of no agent is let go */

    if (vm->family == 0 || vm->incarnation == 0) {
        return 1;
    }

    if (ctx->hold == NULL) {

        /* nearly every request */

        return ngx_http_hatch_is_served(ctx)
               && ngx_http_hatch_hold_herd(r, ctx) == NULL;
    }

    waiter = &ctx->hold->waiter;

    if (!ngx_http_hatch_told(waiter)) {
        return 0;
    }

    if (waiter->result == NGX_HATCH_WAKE_READY) {

        /*
         * What the agent said is true of the guest that it spoke of, not of
         * one that was started since.  If it does not say which, as those of
         * before, it is the one that ran when it was asked.
         */

        of = waiter->incarnation ? waiter->incarnation : ctx->hold->asked;

        if (of == vm->incarnation) {
            ngx_http_hatch_set_served(ctx);

        } else if (of != 0) {
            return 0;
        }
    }

    ctx->hold->time = ngx_http_hatch_usec() - ctx->hold->since;

    return 1;
}


/* Those for the same VM, if it has just woken; nearly never is there any. */

static ngx_hatch_herd_t *
ngx_http_hatch_hold_herd(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx)
{
    ngx_hatch_agent_t  *agent;

    agent = &ngx_http_hatch_main_conf(r)->agent;

    /* a single process that has reloaded has not asked in this cycle yet */

    if (agent->pid != ngx_pid || ngx_queue_empty(&agent->herds)) {
        return NULL;
    }

    return ngx_hatch_herd_find(&agent->herds, ctx->route.vm,
                               ctx->route.target_port);
}


/* Joins the herd of a VM that is known to be served, or asks the agent. */

static ngx_int_t
ngx_http_hatch_hold_begin(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx,
    hatch_zone_peer_t *vm, ngx_uint_t runs)
{
    ngx_int_t               rc;
    ngx_msec_t              left;
    ngx_hatch_herd_t       *herd;
    ngx_hatch_agent_t      *agent;
    ngx_http_hatch_hold_t  *hold;

    agent = &ngx_http_hatch_main_conf(r)->agent;

    hold = ctx->hold ? ctx->hold : ngx_http_hatch_hold_create(r, ctx);
    if (hold == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    left = hold->deadline - ngx_current_msec;

    if ((ngx_msec_int_t) left <= 0) {
        return ngx_http_hatch_hold_timed_out(r);
    }

    if (runs && ngx_http_hatch_is_served(ctx)) {

        herd = ngx_http_hatch_hold_herd(r, ctx);

        if (herd == NULL) {
            return NGX_DECLINED;
        }

        hold->waiter.incarnation = vm->incarnation;
        rc = ngx_hatch_waiter_join(agent, &hold->waiter, herd, left);

    } else {
        hold->asked = runs ? vm->incarnation : 0;
        rc = ngx_hatch_waiter_ask(agent, &hold->waiter, ctx->route.vm,
                                  ctx->route.target_port, left, runs,
                                  hold->again++);
    }

    switch (rc) {

    case NGX_OK:
    case NGX_DECLINED:
        return NGX_DECLINED;

    case NGX_AGAIN:
        return ngx_http_hatch_hold_wait(r, hold);

    case NGX_BUSY:
        return ngx_http_hatch_route_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "too_many_held", "too many "
                                           "requests wait for VMs to wake",
                                           1);

    default: /* NGX_ERROR */
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
}


static ngx_http_hatch_hold_t *
ngx_http_hatch_hold_create(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx)
{
    ngx_http_hatch_hold_t  *hold;

    hold = ngx_pcalloc(r->pool, sizeof(ngx_http_hatch_hold_t));
    if (hold == NULL) {
        return NULL;
    }

    hold->since = ngx_http_hatch_usec();
    hold->deadline = ngx_current_msec
                     + ngx_http_hatch_loc_conf(r)->wake_timeout;

    hold->waiter.handler = ngx_http_hatch_hold_handler;
    hold->waiter.data = ctx;
    hold->waiter.log = r->connection->log;

    ctx->hold = hold;

    return hold;
}


static ngx_int_t
ngx_http_hatch_hold_wait(ngx_http_request_t *r, ngx_http_hatch_hold_t *hold)
{
    ngx_event_t  *rev;

    if (!hold->counted) {
        hold->counted = 1;
        hatch_activity_count_held(&ngx_http_hatch_main_conf(r)->zone.activity,
                                  ngx_worker);
    }

    r->write_event_handler = ngx_http_request_empty_handler;

    /* the connection of a subrequest is watched for its main request */

    if (r != r->main) {
        return NGX_AGAIN;
    }

    if (ngx_http_hatch_loc_conf(r)->ignore_abort) {
        r->read_event_handler = ngx_http_block_reading;
        return NGX_AGAIN;
    }

    r->read_event_handler = ngx_http_test_reading;
    rev = r->connection->read;

    /* a client that has left already causes no more events */

    if (rev->ready) {
        ngx_post_event(rev, &ngx_posted_events);

    } else if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_hatch_hold_timed_out(ngx_http_request_t *r)
{
    return ngx_http_hatch_route_refuse(r, NGX_HTTP_GATEWAY_TIME_OUT,
                                       "wake_timeout", "the VM did not "
                                       "become ready in time", 1);
}


/* The agent has answered, or the time is over: the phases run again. */

static void
ngx_http_hatch_hold_handler(ngx_hatch_waiter_t *waiter)
{
    ngx_connection_t      *c;
    ngx_http_request_t    *r;
    ngx_http_hatch_ctx_t  *ctx;

    ctx = waiter->data;

    if (waiter->result == NGX_HATCH_WAKE_READY
        && waiter->kind != HATCH_WAKE_KIND_NONE)
    {
        ctx->hold->kind = waiter->kind;
    }

    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (r == r->main) {
        r->read_event_handler = ngx_http_block_reading;
    }

    r->write_event_handler = ngx_http_core_run_phases;

    ngx_http_core_run_phases(r);

    ngx_http_run_posted_requests(c);
}


ngx_int_t
ngx_http_hatch_hold_result(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx)
{
    ngx_uint_t               retry;
    ngx_hatch_waiter_t      *waiter;
    ngx_hatch_wake_result_e  result;

    waiter = &ctx->hold->waiter;

    if (!ngx_http_hatch_told(waiter)
        || waiter->result == NGX_HATCH_WAKE_READY
        || waiter->result == NGX_HATCH_WAKE_NO_AGENT)
    {
        return NGX_DECLINED;
    }

    result = waiter->result;
    retry = ngx_max((waiter->retry + 999) / 1000, 1);

    ngx_hatch_waiter_leave(waiter);

    switch (result) {

    case NGX_HATCH_WAKE_GONE:
        return ngx_http_hatch_route_refuse(r, NGX_HTTP_NOT_FOUND,
                                           "vm_not_found",
                                           "the VM no longer exists", 1);

    case NGX_HATCH_WAKE_REFUSED:
        return ngx_http_hatch_route_refuse(r, NGX_HTTP_BAD_GATEWAY,
                                           "guest_refused",
                                           "the VM does not accept "
                                           "connections on the route's port",
                                           1);

    case NGX_HATCH_WAKE_TIMEOUT:
        return ngx_http_hatch_hold_timed_out(r);

    case NGX_HATCH_WAKE_KEPT:
        return ngx_http_hatch_route_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "wake_failed",
                                           "the VM's saved memory cannot be "
                                           "restored now, and is kept; it is "
                                           "tried again, and a stop of the VM "
                                           "gives it up", retry);

    case NGX_HATCH_WAKE_FULL:
        return ngx_http_hatch_route_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "wake_failed",
                                           "the VM's disk cannot be written; "
                                           "the host's disk is full", retry);

    default: /* NGX_HATCH_WAKE_FAILED */
        return ngx_http_hatch_route_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "wake_failed",
                                           "the VM could not be woken",
                                           retry);
    }
}


static uint64_t
ngx_http_hatch_usec(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}
