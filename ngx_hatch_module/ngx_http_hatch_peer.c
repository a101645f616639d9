
/*
 * upstream { hatch; }: the peer is the VM that hatch_route found.
 *
 * The peer belongs to the request; nothing of it is in nginx's lists of
 * servers.  "keepalive" wraps these functions and finds idle connections by
 * address.
 */


#include "ngx_http_hatch_module.h"


static ngx_int_t ngx_http_hatch_init_upstream(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *us);
static ngx_int_t ngx_http_hatch_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
static ngx_int_t ngx_http_hatch_get_peer(ngx_peer_connection_t *pc,
    void *data);
static void ngx_http_hatch_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state);

#if (NGX_HTTP_SSL)
static ngx_int_t ngx_http_hatch_set_session(ngx_peer_connection_t *pc,
    void *data);
static void ngx_http_hatch_save_session(ngx_peer_connection_t *pc, void *data);
#endif


/* Stands in the block's list of servers, which nginx wants not to be empty. */

static ngx_str_t  ngx_http_hatch_placeholder = ngx_string("hatch");


char *
ngx_http_hatch_upstream(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_upstream_server_t    *server;
    ngx_http_upstream_srv_conf_t  *uscf;

    uscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_upstream_module);

    if (uscf->peer.init_upstream == ngx_http_hatch_init_upstream) {
        return "is duplicate";
    }

    if (uscf->peer.init_upstream != NULL) {
        return "must be before \"keepalive\" and cannot be with another "
               "load balancing method";
    }

    server = ngx_array_push(uscf->servers);
    if (server == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(server, sizeof(ngx_http_upstream_server_t));
    server->name = ngx_http_hatch_placeholder;

    uscf->flags = NGX_HTTP_UPSTREAM_CREATE;
    uscf->peer.init_upstream = ngx_http_hatch_init_upstream;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_hatch_init_upstream(ngx_conf_t *cf, ngx_http_upstream_srv_conf_t *us)
{
    if (us->servers->nelts > 1) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "upstream \"%V\" has \"hatch\" and \"server\" in %s:%ui",
                      &us->host, us->file_name, us->line);
        return NGX_ERROR;
    }

#if (NGX_HTTP_UPSTREAM_ZONE)
    if (us->shm_zone != NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "upstream \"%V\" has \"hatch\" and \"zone\" in %s:%ui",
                      &us->host, us->file_name, us->line);
        return NGX_ERROR;
    }
#endif

    us->peer.init = ngx_http_hatch_init_peer;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hatch_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_http_upstream_t   *u;
    ngx_http_hatch_ctx_t  *ctx;

    ctx = ngx_http_hatch_get_ctx(r);

    if (ctx == NULL || !ctx->ready) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "upstream \"%V\" with \"hatch\" is used by a location "
                      "without \"hatch_route\"", &us->host);
        return NGX_ERROR;
    }

    u = r->upstream;

    u->peer.data = ctx;
    u->peer.get = ngx_http_hatch_get_peer;
    u->peer.free = ngx_http_hatch_free_peer;
    u->peer.tries = 1;

#if (NGX_HTTP_SSL)
    u->peer.set_session = ngx_http_hatch_set_session;
    u->peer.save_session = ngx_http_hatch_save_session;
#endif

    return NGX_OK;
}


static ngx_int_t
ngx_http_hatch_get_peer(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_hatch_ctx_t *ctx = data;

    /* also of another try, after the first has ended */

    if (!ctx->busy.active) {
        ngx_hatch_busy_begin(&ngx_http_hatch_main_conf(ctx->request)->busy,
                             &ctx->busy, ctx->slot, &ctx->vm,
                             ctx->busy.pass);
    }

    pc->sockaddr = &ctx->sockaddr.sockaddr;
    pc->socklen = ctx->socklen;
    pc->name = &ctx->peer_name;

    pc->cached = 0;
    pc->connection = NULL;

    return NGX_OK;
}


static void
ngx_http_hatch_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    ngx_http_hatch_ctx_t *ctx = data;

    /* what nginx still has to send needs no VM */

    ngx_hatch_busy_end(&ngx_http_hatch_main_conf(ctx->request)->busy,
                       &ctx->busy);
    ngx_hatch_wake_forget(&ctx->waiter);

    /* nginx counts a stale kept connection as a try of its own */

    if (pc->tries) {
        pc->tries--;
    }
}


#if (NGX_HTTP_SSL)

/* TLS sessions are per VM and are not kept. */

static ngx_int_t
ngx_http_hatch_set_session(ngx_peer_connection_t *pc, void *data)
{
    return NGX_OK;
}


static void
ngx_http_hatch_save_session(ngx_peer_connection_t *pc, void *data)
{
    return;
}

#endif
