
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
 * nobody is asked any more.
 */


#include "ngx_http_hatch_module.h"


/*
 * Ports that are known to be served, by this worker: sets of four, a cache
 * line each, twice as many places as there are VMs.  Who is not in it asks the
 * agent once more, so it may be too small, but it should not be.
 */

#define NGX_HTTP_HATCH_SERVED_SET  4

typedef struct {
    uint64_t                 guest;         /* 0: the place is free */
    uint32_t                 slot;
    uint32_t                 port;
} ngx_http_hatch_served_t;


static ngx_http_hatch_served_t *ngx_http_hatch_served(
    ngx_http_hatch_ctx_t *ctx);
static ngx_uint_t ngx_http_hatch_is_served(ngx_http_hatch_ctx_t *ctx);
static void ngx_http_hatch_set_served(ngx_http_hatch_ctx_t *ctx);
static ngx_int_t ngx_http_hatch_wake_ask(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx, ngx_uint_t runs);
static void ngx_http_hatch_wake_prepare(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx);
static ngx_int_t ngx_http_hatch_wake_wait(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_wake_timed_out(ngx_http_request_t *r);
static void ngx_http_hatch_wake_handler(ngx_hatch_waiter_t *waiter);
static uint64_t ngx_http_hatch_usec(void);


static ngx_http_hatch_served_t  *ngx_http_hatch_served_sets;
static ngx_uint_t                ngx_http_hatch_served_mask;


/* The set of the VM and port; NULL: there is no memory for any. */

static ngx_http_hatch_served_t *
ngx_http_hatch_served(ngx_http_hatch_ctx_t *ctx)
{
    uint32_t    hash;
    ngx_uint_t  n, vms;

    if (ngx_http_hatch_served_sets == NULL) {

        vms = ngx_http_hatch_main_conf(ctx->request)->zone.vms;

        for (n = 64; n < vms * 2 / NGX_HTTP_HATCH_SERVED_SET; n *= 2) {
            /* void */
        }

        /* as much of it is used as VMs are */

        ngx_http_hatch_served_sets = ngx_calloc(n * NGX_HTTP_HATCH_SERVED_SET
                                            * sizeof(ngx_http_hatch_served_t),
                                            ngx_cycle->log);
        if (ngx_http_hatch_served_sets == NULL) {
            return NULL;
        }

        ngx_http_hatch_served_mask = n - 1;
    }

    hash = (ctx->busy.slot * 31 + ctx->route.target_port) * 0x9e3779b1u;

    return &ngx_http_hatch_served_sets[(hash >> 12
                                        & ngx_http_hatch_served_mask)
                                       * NGX_HTTP_HATCH_SERVED_SET];
}


static ngx_uint_t
ngx_http_hatch_is_served(ngx_http_hatch_ctx_t *ctx)
{
    ngx_uint_t                i;
    ngx_http_hatch_served_t  *s;

    s = ngx_http_hatch_served(ctx);

    if (s == NULL) {
        return 0;
    }

    for (i = 0; i < NGX_HTTP_HATCH_SERVED_SET && s[i].guest != 0; i++) {
        if (s[i].guest == ctx->guest && s[i].slot == ctx->busy.slot
            && s[i].port == ctx->route.target_port)
        {
            return 1;
        }
    }

    return 0;
}


static void
ngx_http_hatch_set_served(ngx_http_hatch_ctx_t *ctx)
{
    ngx_uint_t                i, place;
    ngx_http_hatch_served_t  *s;

    static ngx_uint_t  turn;

    s = ngx_http_hatch_served(ctx);
    if (s == NULL) {
        return;
    }

    /* its own place, of a guest that was there before; a free one; any */

    place = turn++ % NGX_HTTP_HATCH_SERVED_SET;

    for (i = 0; i < NGX_HTTP_HATCH_SERVED_SET; i++) {
        if (s[i].guest == 0
            || (s[i].slot == ctx->busy.slot
                && s[i].port == ctx->route.target_port))
        {
            place = i;
            break;
        }
    }

    s[place].slot = ctx->busy.slot;
    s[place].port = ctx->route.target_port;
    s[place].guest = ctx->guest;
}


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
ngx_http_hatch_wake_hold(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx,
    hatch_zone_peer_t *vm, hatch_state_t state)
{
    ngx_uint_t  runs;

    runs = state == HATCH_STATE_RUNNING;

    /* what the agent said is of the guest that it is now, or asked again */

    if (ctx->served && runs) {
        ngx_http_hatch_set_served(ctx);
    }

    ctx->served = 0;

    /* one without an address is nginx's to refuse */

    if (runs && (ctx->ungated || vm->family == 0 || vm->incarnation == 0)) {
        return NGX_DECLINED;
    }

    /* nearly every request: nothing to wait for, nobody to ask */

    if (runs && ctx->hold == NULL && ngx_http_hatch_is_served(ctx)
        && ngx_queue_empty(&ngx_http_hatch_main_conf(r)->wake.herds))
    {
        return NGX_DECLINED;
    }

    if (ctx->ungated) {
        return ngx_http_hatch_route_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "agent_unavailable",
                                           "the VM sleeps, and there is no "
                                           "agent to wake it");
    }

    return ngx_http_hatch_wake_ask(r, ctx, runs);
}


/* Joins the herd of a VM that is known to be served, or asks the agent. */

static ngx_int_t
ngx_http_hatch_wake_ask(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx,
    ngx_uint_t runs)
{
    ngx_int_t                    rc;
    ngx_msec_t                   left;
    ngx_http_hatch_hold_t       *hold;
    ngx_http_hatch_main_conf_t  *hmcf;

    hmcf = ngx_http_hatch_main_conf(r);

    if (ctx->hold == NULL) {
        ctx->hold = ngx_pcalloc(r->pool, sizeof(ngx_http_hatch_hold_t));
        if (ctx->hold == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ctx->hold->since = ngx_http_hatch_usec();
        ctx->hold->deadline = ngx_current_msec
                              + ngx_http_hatch_loc_conf(r)->wake_timeout;
        hatch_activity_count_held(&hmcf->zone.activity, ngx_worker);
    }

    hold = ctx->hold;
    left = hold->deadline - ngx_current_msec;

    if ((ngx_msec_int_t) left <= 0) {
        return ngx_http_hatch_wake_timed_out(r);
    }

    if (runs && ngx_http_hatch_is_served(ctx)) {

        rc = NGX_OK;

        if (hold->waiter.herd.herd == NULL && !ctx->let_go) {
            ctx->let_go = 1;
            ngx_http_hatch_wake_prepare(r, ctx);
            rc = ngx_hatch_wake_join(&hmcf->wake, &hold->waiter, ctx->route.vm,
                                     ctx->route.target_port, left);
        }

        if (rc == NGX_OK) {
            hold->time = ngx_http_hatch_usec() - hold->since;
            return NGX_DECLINED;
        }

    } else {
        ngx_http_hatch_wake_prepare(r, ctx);
        rc = ngx_hatch_wake_ask(&hmcf->wake, &hold->waiter, ctx->route.vm,
                                ctx->route.target_port, left, runs);
    }

    switch (rc) {

    case NGX_AGAIN:
        return ngx_http_hatch_wake_wait(r);

    case NGX_DECLINED:
        ctx->ungated = 1;
        return NGX_DECLINED;

    case NGX_BUSY:
        return ngx_http_hatch_route_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "too_many_held", "too many "
                                           "requests wait for VMs to wake");

    default:
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
}


static void
ngx_http_hatch_wake_prepare(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx)
{
    ngx_hatch_waiter_t  *waiter;

    waiter = &ctx->hold->waiter;

    ngx_hatch_wake_forget(waiter);

    ngx_memzero(waiter, sizeof(ngx_hatch_waiter_t));
    waiter->handler = ngx_http_hatch_wake_handler;
    waiter->data = ctx;
    waiter->log = r->connection->log;
}


static ngx_int_t
ngx_http_hatch_wake_wait(ngx_http_request_t *r)
{
    /* a client that leaves is noticed; a subrequest's is the main one's */

    if (r == r->main) {
        r->read_event_handler = ngx_http_test_reading;

        if (ngx_handle_read_event(r->connection->read, 0) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_DONE;
}


static ngx_int_t
ngx_http_hatch_wake_timed_out(ngx_http_request_t *r)
{
    return ngx_http_hatch_route_refuse(r, NGX_HTTP_GATEWAY_TIME_OUT,
                                       "wake_timeout", "the VM did not "
                                       "become ready in time");
}


/* The agent has answered, or the time is over. */

static void
ngx_http_hatch_wake_handler(ngx_hatch_waiter_t *waiter)
{
    ngx_connection_t      *c;
    ngx_http_request_t    *r;
    ngx_http_hatch_ctx_t  *ctx;

    ctx = waiter->data;
    ctx->answered = 1;

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
ngx_http_hatch_wake_result(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx)
{
    ctx->answered = 0;

    switch (ctx->hold->waiter.result) {

    case NGX_HATCH_WAKE_READY:
        if (ctx->hold->waiter.kind != HATCH_WAKE_KIND_NONE) {
            ctx->hold->kind = ctx->hold->waiter.kind;
        }

        ctx->served = 1;
        return NGX_DECLINED;

    case NGX_HATCH_WAKE_NO_AGENT:
        ctx->ungated = 1;
        return NGX_DECLINED;

    case NGX_HATCH_WAKE_GONE:
        return ngx_http_hatch_route_refuse(r, NGX_HTTP_NOT_FOUND,
                                           "vm_not_found",
                                           "the VM no longer exists");

    case NGX_HATCH_WAKE_REFUSED:
        return ngx_http_hatch_route_refuse(r, NGX_HTTP_BAD_GATEWAY,
                                           "guest_refused",
                                           "the VM does not accept "
                                           "connections on the route's port");

    case NGX_HATCH_WAKE_TIMEOUT:
        return ngx_http_hatch_wake_timed_out(r);

    case NGX_HATCH_WAKE_KEPT:
        ctx->hold->retry_after = (ctx->hold->waiter.retry + 999) / 1000;

        return ngx_http_hatch_route_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "wake_failed",
                                           "the VM's saved memory cannot be "
                                           "restored now, and is kept; it is "
                                           "tried again, and a stop of the VM "
                                           "gives it up");

    default:
        ctx->hold->retry_after = (ctx->hold->waiter.retry + 999) / 1000;

        return ngx_http_hatch_route_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "wake_failed",
                                           "the VM could not be woken");
    }
}


static uint64_t
ngx_http_hatch_usec(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}
