
/*
 * upstream { hatch; }: the peer is the VM that hatch_route found.
 *
 * The peer belongs to the request; nothing of it is in nginx's lists of
 * servers.  Idle connections are kept in a pool of our own: the list of
 * nginx's "keepalive" is searched from its head, which takes the longer the
 * more VMs are awake.  With that directive behind "hatch", it wraps these
 * functions, and its list is filled first.
 */


#include "ngx_http_hatch_conf.h"


static ngx_int_t ngx_http_hatch_upstream_parameter(ngx_conf_t *cf,
    ngx_hatch_pool_t *pool, ngx_str_t *value);
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


void *
ngx_http_hatch_create_srv_conf(ngx_conf_t *cf)
{
    ngx_http_hatch_srv_conf_t  *hscf;

    hscf = ngx_pcalloc(cf->pool, sizeof(ngx_http_hatch_srv_conf_t));
    if (hscf == NULL) {
        return NULL;
    }

    /* set by ngx_pcalloc(): the rest of hscf->pool = 0 */

    hscf->pool.max = NGX_CONF_UNSET_UINT;
    hscf->pool.max_per_host = NGX_CONF_UNSET_UINT;
    hscf->pool.requests = NGX_CONF_UNSET_UINT;
    hscf->pool.time = NGX_CONF_UNSET_MSEC;
    hscf->pool.timeout = NGX_CONF_UNSET_MSEC;
    hscf->pool.pid = NGX_INVALID_PID;

    return hscf;
}


char *
ngx_http_hatch_upstream(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hatch_srv_conf_t *hscf = conf;

    ngx_str_t                     *value;
    ngx_uint_t                     i;
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

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        if (ngx_http_hatch_upstream_parameter(cf, &hscf->pool, &value[i])
            != NGX_OK)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" of \"hatch\", it "
                               "must be, once each, \"keepalive=\" 0 to "
                               "1000000, \"keepalive_per_vm=\" or "
                               "\"keepalive_requests=\" 1 to 1000000, "
                               "\"keepalive_time=\" or \"keepalive_timeout=\""
                               " 1ms to 1d", &value[i]);
            return NGX_CONF_ERROR;
        }
    }

    ngx_conf_init_uint_value(hscf->pool.max, NGX_HTTP_HATCH_KEEPALIVE);
    ngx_conf_init_uint_value(hscf->pool.max_per_host,
                             NGX_HTTP_HATCH_KEEPALIVE_PER_VM);
    ngx_conf_init_uint_value(hscf->pool.requests, 1000);
    ngx_conf_init_msec_value(hscf->pool.time, 3600000);
    ngx_conf_init_msec_value(hscf->pool.timeout, 60000);

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
ngx_http_hatch_upstream_parameter(ngx_conf_t *cf, ngx_hatch_pool_t *pool,
    ngx_str_t *value)
{
    size_t       len;
    ngx_int_t    n;
    ngx_str_t    s;
    ngx_uint_t   i;

    const struct {
        const char  *name;
        ngx_uint_t  *number;
        ngx_msec_t  *time;
        ngx_int_t    min;
        ngx_int_t    max;
    } parameters[] = {
        { "keepalive=", &pool->max, NULL, 0, 1000000 },
        { "keepalive_per_vm=", &pool->max_per_host, NULL, 1, 1000000 },
        { "keepalive_requests=", &pool->requests, NULL, 1, 1000000 },
        { "keepalive_time=", NULL, &pool->time, 1, 86400000 },
        { "keepalive_timeout=", NULL, &pool->timeout, 1, 86400000 }
    };

    for (i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++) {

        len = ngx_strlen(parameters[i].name);

        if (ngx_strncmp(value->data, parameters[i].name, len) != 0) {
            continue;
        }

        s.len = value->len - len;
        s.data = value->data + len;

        n = parameters[i].number ? ngx_atoi(s.data, s.len)
                                 : ngx_parse_time(&s, 0);

        if (n == NGX_ERROR || n < parameters[i].min || n > parameters[i].max) {
            return NGX_ERROR;
        }

        if (parameters[i].number) {
            if (*parameters[i].number != NGX_CONF_UNSET_UINT) {
                return NGX_ERROR;
            }

            *parameters[i].number = n;
            return NGX_OK;
        }

        if (*parameters[i].time != NGX_CONF_UNSET_MSEC) {
            return NGX_ERROR;
        }

        *parameters[i].time = n;
        return NGX_OK;
    }

    return NGX_ERROR;
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
    ngx_http_upstream_t        *u;
    ngx_http_hatch_ctx_t       *ctx;
    ngx_http_hatch_srv_conf_t  *hscf;

    ctx = ngx_http_hatch_get_ctx(r);

    if (ctx == NULL || !ctx->ready) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "upstream \"%V\" with \"hatch\" is used by a location "
                      "without \"hatch_route\"", &us->host);
        return NGX_ERROR;
    }

    u = r->upstream;
    hscf = ngx_http_conf_upstream_srv_conf(us, ngx_http_hatch_module);

    ctx->upstream = u;
    ctx->pool = &hscf->pool;

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

    ngx_connection_t  *c;

    /* also of another try, after the first has ended */

    if (!ctx->busy.active) {
        ngx_hatch_busy_again(&ngx_http_hatch_main_conf(ctx->request)->busy,
                             &ctx->busy);
    }

    pc->sockaddr = &ctx->address.sockaddr;
    pc->socklen = ngx_http_hatch_socklen(ctx);
    pc->name = &ctx->peer_name;

    c = ngx_hatch_pool_get(ctx->pool, pc->sockaddr, pc->socklen, pc->log);

    pc->cached = c != NULL;
    pc->connection = c;

    return c != NULL ? NGX_DONE : NGX_OK;
}


static void
ngx_http_hatch_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    ngx_http_hatch_ctx_t *ctx = data;

    ngx_http_upstream_t  *u;

    u = ctx->upstream;

    /* one that has answered, and to which nothing is owed */

    if (pc->connection != NULL && !(state & NGX_PEER_FAILED) && u->keepalive
        && u->request_body_sent
        && ngx_hatch_pool_put(ctx->pool, pc->connection, pc->sockaddr,
                              pc->socklen)
           == NGX_OK)
    {
        pc->connection = NULL;
    }

    /* what nginx still has to send needs no VM */

    ngx_hatch_busy_end(&ngx_http_hatch_main_conf(ctx->request)->busy,
                       &ctx->busy);

    if (ctx->hold != NULL) {
        ngx_hatch_waiter_leave(&ctx->hold->waiter);
    }

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
