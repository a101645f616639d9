
/*
 * "hatch_route": from the Host of a request to the VM that answers it.
 */


#include "ngx_http_hatch_module.h"
#include "ngx_http_hatch_response.h"

#include "hatch_clock.h"


/*
 * A VM that changes hands between the steps of one look-up is looked up
 * again; this often in a row it cannot happen.
 */
#define NGX_HTTP_HATCH_TRIES  8


static ngx_int_t ngx_http_hatch_route_label(ngx_http_request_t *r,
    ngx_str_t *label);
static ngx_int_t ngx_http_hatch_route_unknown(ngx_http_request_t *r,
    const char *code);
static ngx_inline ngx_int_t ngx_http_hatch_route_lookup(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx, ngx_str_t *label);
static ngx_int_t ngx_http_hatch_route_vm(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx);
static ngx_inline ngx_uint_t ngx_http_hatch_route_goes_on(
    ngx_http_hatch_main_conf_t *hmcf, ngx_http_hatch_ctx_t *ctx,
    hatch_zone_peer_t *vm, hatch_state_t state);
static void ngx_http_hatch_route_address(ngx_http_hatch_ctx_t *ctx,
    hatch_zone_peer_t *vm);
static u_char *ngx_http_hatch_route_ntop(u_char *p, u_char *address,
    ngx_uint_t port);
static ngx_int_t ngx_http_hatch_route_peer(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx);
static ngx_int_t ngx_http_hatch_route_asleep(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx, hatch_state_t state);
static ngx_uint_t ngx_http_hatch_route_error_page(ngx_http_request_t *r,
    ngx_int_t status);


ngx_int_t
ngx_http_hatch_route_handler(ngx_http_request_t *r)
{
    ngx_int_t              rc;
    ngx_str_t              label;
    ngx_http_hatch_ctx_t  *ctx;

    ctx = ngx_http_hatch_route_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->ready = 0;

    /* it was held, and goes on */

    if (ctx->hold != NULL) {
        rc = ngx_http_hatch_hold_result(r, ctx);
        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    if (ngx_http_hatch_route_label(r, &label) != NGX_OK) {
        return ngx_http_hatch_route_unknown(r, "unknown_host");
    }

    rc = ngx_http_hatch_route_lookup(r, ctx, &label);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    /* few have any that must not pass */

    if (r->headers_in.upgrade != NULL || r != r->main || r->internal
        || ngx_http_hatch_loc_conf(r)->keys != NULL)
    {
        rc = ngx_http_hatch_drop_client_headers(r);
        if (rc != NGX_OK) {
            return rc;
        }
    }

    rc = ngx_http_hatch_route_vm(r, ctx);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    return ngx_http_hatch_route_peer(r, ctx);
}


/*
 * nginx has already taken port and trailing dot off the host and folded its
 * case.  What is left must be one label and the base domain; that it is one
 * need not be asked where it has a route.
 */

static ngx_int_t
ngx_http_hatch_route_label(ngx_http_request_t *r, ngx_str_t *label)
{
    ngx_str_t                  *host;
    ngx_http_hatch_loc_conf_t  *hlcf;

    hlcf = ngx_http_hatch_loc_conf(r);
    host = &r->headers_in.server;

    if (host->len < hlcf->base_domain.len + 2) {
        return NGX_DECLINED;
    }

    label->data = host->data;
    label->len = host->len - hlcf->base_domain.len - 1;

    if (host->data[label->len] != '.'
        || ngx_memcmp(host->data + label->len + 1, hlcf->base_domain.data,
                      hlcf->base_domain.len)
           != 0
        || label->len > HATCH_LABEL_MAX)
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hatch_route_unknown(ngx_http_request_t *r, const char *code)
{
    return ngx_http_hatch_route_refuse(r, NGX_HTTP_NOT_FOUND, code,
                                       "no VM has this host name", 1);
}


static ngx_inline ngx_int_t
ngx_http_hatch_route_lookup(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx,
    ngx_str_t *label)
{
    ngx_int_t                    rc;
    hatch_err_t                  err;
    ngx_http_hatch_main_conf_t  *hmcf;

    hmcf = ngx_http_hatch_main_conf(r);

    rc = ngx_hatch_store_lookup(&hmcf->store, label, &ctx->route, &err);

    if (rc != 0
        && ngx_strlchr(label->data, label->data + label->len, '.') != NULL)
    {
        return ngx_http_hatch_route_unknown(r, "unknown_host");
    }

    if (rc == HATCH_ERR_NOT_FOUND) {
        return ngx_http_hatch_route_unknown(r, "route_not_found");
    }

    if (rc != 0) {

        /* a store that cannot be opened was logged when that was tried */

        if (hmcf->store.opened != NULL) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "hatch: %s",
                          err.text);
        }

        return ngx_http_hatch_route_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "store_unavailable",
                                           "the routes cannot be read", 1);
    }

    ctx->resolved = 1;

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "hatch route: \"%V\" is %s:%ui", label, ctx->route.vm,
                   (ngx_uint_t) ctx->route.target_port);

    return NGX_DECLINED;
}


/*
 * Stamps the VM's activity first and reads its state after, both seq_cst:
 * either we see that the agent is putting it to sleep, or the agent sees the
 * stamp and does not (docs/architecture.md, "Falling asleep").
 */

static ngx_int_t
ngx_http_hatch_route_vm(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx)
{
    ngx_int_t                    rc;
    ngx_uint_t                   tries, allowed;
    hatch_zone_t                *zone;
    hatch_state_t                state;
    hatch_zone_peer_t            vm;
    ngx_http_hatch_main_conf_t  *hmcf;

    hmcf = ngx_http_hatch_main_conf(r);

    zone = ngx_hatch_zone_get(&hmcf->zone);
    if (zone == NULL) {
        return ngx_http_hatch_route_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "zone_unavailable",
                                           "the state of the VM is not known",
                                           1);
    }

    allowed = 1;

    if (ngx_http_hatch_loc_conf(r)->wake != NULL
        && ngx_http_hatch_wake_allowed(r, &allowed) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    for (tries = 0; tries < NGX_HTTP_HATCH_TRIES; tries++) {

        rc = hatch_zone_peer(zone, ctx->route.vm, &vm);

        if (rc == HATCH_ERR_NOT_FOUND) {
            return ngx_http_hatch_route_refuse(r, NGX_HTTP_NOT_FOUND,
                                               "vm_not_found",
                                               "the VM no longer exists", 1);
        }

        if (rc != 0) {
            continue;
        }

        /* one that may not wake it must not stamp it while it sleeps */

        state = hatch_zone_state(zone, vm.slot);

        if (allowed && (ctx->route.auto_wake
                        || state == HATCH_STATE_RUNNING))
        {
            ctx->may_wake = 1;
        }

        if (ctx->may_wake || state == HATCH_STATE_RUNNING) {
            ngx_hatch_busy_begin(&hmcf->busy, &ctx->busy, &vm, !allowed);

            state = hatch_zone_state(zone, vm.slot);
        }

        /* after the state: a guest that runs has its incarnation */

        if (!hatch_zone_peer_same(zone, &vm)) {
            continue;
        }

        ngx_http_hatch_route_address(ctx, &vm);

        if (!ctx->counted) {
            ctx->counted = 1;
            hatch_activity_count(&hmcf->zone.activity, ngx_worker,
                                 vm.slot, vm.generation);
        }

        if (!ctx->may_wake) {
            return state == HATCH_STATE_RUNNING
                   ? NGX_DECLINED : ngx_http_hatch_route_asleep(r, ctx, state);
        }

        return ngx_http_hatch_route_goes_on(hmcf, ctx, &vm, state)
               ? NGX_DECLINED : ngx_http_hatch_hold(r, ctx, &vm, state);
    }

    return ngx_http_hatch_route_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                       "zone_unavailable",
                                       "the state of the VM is not known", 1);
}


/*
 * Nearly every request: its VM runs, its port is known to be served, and
 * nobody waits for either.  All others ask ngx_http_hatch_hold().
 */

static ngx_inline ngx_uint_t
ngx_http_hatch_route_goes_on(ngx_http_hatch_main_conf_t *hmcf,
    ngx_http_hatch_ctx_t *ctx, hatch_zone_peer_t *vm, hatch_state_t state)
{
    return state == HATCH_STATE_RUNNING && ctx->hold == NULL
           && vm->family != 0 && vm->incarnation != 0
           && hmcf->agent.pid == ngx_pid
           && ngx_queue_empty(&hmcf->agent.herds)
           && ngx_http_hatch_is_served(ctx);
}


/* The VM is not up, and this request may not change that. */

static ngx_int_t
ngx_http_hatch_route_asleep(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx,
    hatch_state_t state)
{
    ngx_str_t                   body;
    ngx_uint_t                  status;
    const char                 *name;
    ngx_http_hatch_loc_conf_t  *hlcf;

    hlcf = ngx_http_hatch_loc_conf(r);
    status = hlcf->asleep_status;
    name = hatch_state_name(state);

    ngx_hatch_busy_end(&ngx_http_hatch_main_conf(r)->busy, &ctx->busy);

    if (ngx_http_hatch_route_error_page(r, status)) {
        return status;
    }

    body.len = sizeof("{\"error\":\"the VM is \",\"code\":\"vm_not_running\","
                      "\"state\":\"\"}") - 1
               + 2 * ngx_strlen(name);

    body.data = ngx_pnalloc(r->pool, body.len);
    if (body.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body.len = (status < NGX_HTTP_BAD_REQUEST
                ? ngx_sprintf(body.data, "{\"state\":\"%s\"}", name)
                : ngx_sprintf(body.data, "{\"error\":\"the VM is %s\","
                              "\"code\":\"vm_not_running\",\"state\":\"%s\"}",
                              name, name))
               - body.data;

    return ngx_http_hatch_finalize(r, ngx_http_hatch_send_json(r, status,
                                                               &body));
}


/* Where the guest is, AF_UNSPEC if it has no address. */

static void
ngx_http_hatch_route_address(ngx_http_hatch_ctx_t *ctx, hatch_zone_peer_t *vm)
{
    struct sockaddr_in   *sin;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6  *sin6;
#endif

    ctx->guest = NGX_HTTP_HATCH_GUEST(vm);

    if (vm->family == 4) {
        sin = &ctx->address.sockaddr_in;
        ngx_memzero(sin, sizeof(struct sockaddr_in));
        sin->sin_family = AF_INET;
        sin->sin_port = htons(ctx->route.target_port);
        ngx_memcpy(&sin->sin_addr, vm->address, 4);
        return;
    }

    ngx_memzero(&ctx->address, sizeof(ngx_http_hatch_address_t));

#if (NGX_HAVE_INET6)
    if (vm->family == 6) {
        sin6 = &ctx->address.sockaddr_in6;
        sin6->sin6_family = AF_INET6;
        sin6->sin6_port = htons(ctx->route.target_port);
        ngx_memcpy(&sin6->sin6_addr, vm->address, 16);
    }
#endif
}


static ngx_int_t
ngx_http_hatch_route_peer(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx)
{
    ngx_str_t           *name;
    struct sockaddr     *sockaddr;
    struct sockaddr_in  *sin;

    name = &ctx->peer_name;
    sockaddr = &ctx->address.sockaddr;

    switch (sockaddr->sa_family) {

    case AF_INET:
        sin = &ctx->address.sockaddr_in;
        name->data = ctx->name;
        name->len = ngx_http_hatch_route_ntop(ctx->name,
                                              (u_char *) &sin->sin_addr,
                                              ctx->route.target_port)
                    - ctx->name;
        break;

#if (NGX_HAVE_INET6)
    case AF_INET6:
        name->data = ngx_pnalloc(r->pool, NGX_SOCKADDR_STRLEN);
        if (name->data == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        name->len = ngx_sock_ntop(sockaddr, ngx_http_hatch_socklen(ctx),
                                  name->data, NGX_SOCKADDR_STRLEN, 1);
        break;
#endif

    default:
        return ngx_http_hatch_route_refuse(r, NGX_HTTP_BAD_GATEWAY,
                                           "vm_no_address",
                                           "the VM has no network address",
                                           1);
    }

    ctx->ready = 1;

    return NGX_DECLINED;
}


/*
 * "address:port" of IPv4, for each request: ngx_snprintf() takes long.  The
 * texts of 0 to 255 are made once, that of the port when it changes.
 */

static u_char *
ngx_http_hatch_route_ntop(u_char *p, u_char *address, ngx_uint_t port)
{
    u_char      *text;
    ngx_uint_t   i;

    static u_char      texts[256][4];       /* three digits, and how many */
    static u_char      last[8];             /* of the port asked for last */
    static size_t      last_len;
    static ngx_uint_t  last_port;

    if (texts[0][3] == 0) {
        for (i = 0; i < 256; i++) {
            texts[i][3] = ngx_sprintf(texts[i], "%ui", i) - texts[i];
        }
    }

    if (port != last_port) {
        last_port = port;
        last_len = ngx_sprintf(last, "%ui", port) - last;
    }

#pragma GCC unroll 4
    for (i = 0; i < 4; i++) {
        text = texts[address[i]];
        ngx_memcpy(p, text, 4);
        p += text[3];
        *p++ = '.';
    }

    p[-1] = ':';
    ngx_memcpy(p, last, sizeof(last));

    return p + last_len;
}


ngx_int_t
ngx_http_hatch_route_refuse(ngx_http_request_t *r, ngx_int_t status,
    const char *code, const char *text, ngx_uint_t retry)
{
    ngx_http_hatch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_hatch_module);

    ngx_hatch_busy_end(&ngx_http_hatch_main_conf(r)->busy, &ctx->busy);

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "hatch route: %i %s", status, code);

    if (ngx_http_hatch_route_error_page(r, status)) {
        return status;
    }

    return ngx_http_hatch_finalize(r, ngx_http_hatch_send_error(r, status,
                                                                code, text,
                                                                retry));
}


static ngx_uint_t
ngx_http_hatch_route_error_page(ngx_http_request_t *r, ngx_int_t status)
{
    ngx_uint_t                 i;
    ngx_http_err_page_t       *err_page;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    /* as nginx's ngx_http_special_response_handler() decides it */

    if (clcf->error_pages == NULL || r->uri_changes == 0
        || (r->error_page && !clcf->recursive_error_pages))
    {
        return 0;
    }

    err_page = clcf->error_pages->elts;

    for (i = 0; i < clcf->error_pages->nelts; i++) {
        if (err_page[i].status == status) {
            return 1;
        }
    }

    return 0;
}
