
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


/* Ports that are known to be served, by this worker.  Direct-mapped. */

#define NGX_HTTP_HATCH_SERVED  4096

typedef struct {
    uint32_t                 slot;
    uint32_t                 port;
    uint64_t                 generation;
    uint64_t                 incarnation;   /* 0: the entry is free */
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


static ngx_http_hatch_served_t  ngx_http_hatch_table[NGX_HTTP_HATCH_SERVED];


static ngx_http_hatch_served_t *
ngx_http_hatch_served(ngx_http_hatch_ctx_t *ctx)
{
    return &ngx_http_hatch_table[(ctx->slot * 31 + ctx->route.target_port)
                                 % NGX_HTTP_HATCH_SERVED];
}


static ngx_uint_t
ngx_http_hatch_is_served(ngx_http_hatch_ctx_t *ctx)
{
    ngx_http_hatch_served_t  *s;

    s = ngx_http_hatch_served(ctx);

    return s->slot == ctx->slot && s->port == ctx->route.target_port
           && s->generation == ctx->vm.generation
           && s->incarnation == ctx->vm.incarnation && s->incarnation;
}


static void
ngx_http_hatch_set_served(ngx_http_hatch_ctx_t *ctx)
{
    ngx_http_hatch_served_t  *s;

    s = ngx_http_hatch_served(ctx);

    s->slot = ctx->slot;
    s->port = ctx->route.target_port;
    s->generation = ctx->vm.generation;
    s->incarnation = ctx->vm.incarnation;
}


ngx_int_t
ngx_http_hatch_wake_allowed(ngx_http_request_t *r, ngx_uint_t *allowed)
{
    ngx_str_t                   value;
    ngx_http_hatch_loc_conf_t  *hlcf;

    hlcf = ngx_http_hatch_loc_conf(r);
    *allowed = 1;

    if (hlcf->wake == NULL) {
        return NGX_OK;
    }

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
    hatch_state_t state)
{
    ngx_uint_t  runs;

    runs = state == HATCH_STATE_RUNNING;

    /* what the agent said is of the guest that it is now, or asked again */

    if (ctx->served && runs) {
        ngx_http_hatch_set_served(ctx);
    }

    ctx->served = 0;

    /* one without an address is nginx's to refuse */

    if (runs && (ctx->ungated || ctx->vm.family == 0
                 || ctx->vm.incarnation == 0))
    {
        return NGX_DECLINED;
    }

    /* nearly every request: nothing to wait for, nobody to ask */

    if (runs && ctx->held == 0 && ngx_http_hatch_is_served(ctx)
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
    ngx_http_hatch_main_conf_t  *hmcf;

    hmcf = ngx_http_hatch_main_conf(r);

    if (ctx->held == 0) {
        ctx->held = ngx_http_hatch_usec();
        ctx->deadline = ngx_current_msec
                        + ngx_http_hatch_loc_conf(r)->wake_timeout;
        hatch_activity_count_held(&hmcf->zone.activity, ngx_worker);
    }

    left = ctx->deadline - ngx_current_msec;

    if ((ngx_msec_int_t) left <= 0) {
        return ngx_http_hatch_wake_timed_out(r);
    }

    if (runs && ngx_http_hatch_is_served(ctx)) {

        if (ctx->waiter.herd.herd == NULL && !ctx->let_go) {
            ctx->let_go = 1;
            ngx_http_hatch_wake_prepare(r, ctx);
            rc = ngx_hatch_wake_join(&hmcf->wake, &ctx->waiter, ctx->route.vm,
                                     ctx->route.target_port, left);

        } else {
            rc = NGX_OK;
        }

        if (rc == NGX_OK) {
            ctx->wake_time = ngx_http_hatch_usec() - ctx->held;
            return NGX_DECLINED;
        }

    } else {
        ngx_http_hatch_wake_prepare(r, ctx);
        rc = ngx_hatch_wake_ask(&hmcf->wake, &ctx->waiter, ctx->route.vm,
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
    ngx_hatch_wake_forget(&ctx->waiter);

    ngx_memzero(&ctx->waiter, sizeof(ngx_hatch_waiter_t));
    ctx->waiter.handler = ngx_http_hatch_wake_handler;
    ctx->waiter.data = ctx;
    ctx->waiter.log = r->connection->log;
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
    if (!ctx->answered) {
        return NGX_DECLINED;
    }

    ctx->answered = 0;

    switch (ctx->waiter.result) {

    case NGX_HATCH_WAKE_READY:
        if (ctx->waiter.kind != HATCH_WAKE_KIND_NONE) {
            ctx->wake_kind = ctx->waiter.kind;
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

    default:
        ctx->retry_after = (ctx->waiter.retry + 999) / 1000;

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
