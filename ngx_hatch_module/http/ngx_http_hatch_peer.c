
/*
 * The peer of a request to an upstream with "hatch": the VM that hatch_route
 * found.
 */


#include "ngx_http_hatch_module.h"


/* Guests' timeouts are counted up to this, s. */

#define NGX_HTTP_HATCH_TIMEOUT_MAX  86400


/* The pool of the request's upstream block. */

#define ngx_http_hatch_peer_pool(r)                                           \
    (&((ngx_http_hatch_srv_conf_t *)                                          \
       ngx_http_conf_upstream_srv_conf((r)->upstream->upstream,               \
                                       ngx_http_hatch_module))->pool)


#if (NGX_HTTP_SSL)
static ngx_int_t ngx_http_hatch_peer_name(ngx_http_hatch_peer_t *peer);
#endif
static ngx_inline void ngx_http_hatch_peer_key(ngx_http_hatch_peer_t *peer);
static ngx_int_t ngx_http_hatch_get_peer(ngx_peer_connection_t *pc,
    void *data);
static ngx_uint_t ngx_http_hatch_same_vm(ngx_http_hatch_peer_t *peer);
static void ngx_http_hatch_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state);
static ngx_inline ngx_msec_int_t ngx_http_hatch_guest_timeout(
    ngx_http_upstream_t *u);
static ngx_msec_int_t ngx_http_hatch_parse_timeout(ngx_str_t *value);

#if (NGX_HTTP_SSL)
static ngx_int_t ngx_http_hatch_set_session(ngx_peer_connection_t *pc,
    void *data);
static void ngx_http_hatch_save_session(ngx_peer_connection_t *pc, void *data);
#endif


ngx_int_t
ngx_http_hatch_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_http_upstream_t    *u;
    ngx_http_hatch_ctx_t   *ctx;
    ngx_http_hatch_peer_t  *peer;

    u = r->upstream;
    ctx = ngx_http_hatch_get_ctx(r);

    if (ctx == NULL || !ctx->ready
        || (u->conf->ignore_headers & NGX_HTTP_HATCH_IGNORED)
           != NGX_HTTP_HATCH_IGNORED)
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "upstream \"%V\" with \"hatch\" is used by a location "
                      "without \"hatch_route\"", &us->host);
        return NGX_ERROR;
    }

    /* what a clone asks for, or "slice", goes on until the request ends */

    if (ctx->request == r) {

        /* the one before, of a request that was redirected, has ended */

        peer = &ctx->peer;
        peer->last = !ngx_http_hatch_loc_conf(r)->sliced;

    } else {
        peer = ngx_palloc(r->pool, sizeof(ngx_http_hatch_peer_t));
        if (peer == NULL) {
            return NGX_ERROR;
        }

        peer->last = 0;
    }

    peer->request = r;
    peer->ctx = ctx;
    peer->name = 0;

    /*
     * hatch_route has just looked, unless an "error_page" led here since, or
     * nginx has waited for a body, or for another request that fills its cache.
     */

    peer->seen = 0;

    if (ngx_http_get_module_ctx(r, ngx_http_hatch_module) == ctx
        && r->http_version < NGX_HTTP_VERSION_20
#if (NGX_HTTP_CACHE)
        && r->cache == NULL
#endif
        && (r->request_body == NULL || r->request_body->bufs == NULL))
    {
        peer->seen = 1;
    }

#if (NGX_HTTP_SSL)
    if (u->ssl && ngx_http_hatch_peer_name(peer) != NGX_OK) {
        return NGX_ERROR;
    }
#endif

#if (NGX_HTTP_CACHE)
    if (r->cache != NULL && !ngx_http_hatch_cache_safe(r, ctx)) {
        u->cacheable = 0;
    }
#endif

    if (u->store && !ngx_http_hatch_names_store(r, ctx)) {
        u->store = 0;
    }

    u->peer.data = peer;
    u->peer.get = ngx_http_hatch_get_peer;
    u->peer.free = ngx_http_hatch_free_peer;
    u->peer.tries = 1;

#if (NGX_HTTP_SSL)
    u->peer.set_session = ngx_http_hatch_set_session;
    u->peer.save_session = ngx_http_hatch_save_session;
#endif

    return NGX_OK;
}


#if (NGX_HTTP_SSL)

/*
 * Two names of one VM may have two certificates, and so may two clients of one
 * location.
 */

static ngx_int_t
ngx_http_hatch_peer_name(ngx_http_hatch_peer_t *peer)
{
    uint32_t                   crc;
    ngx_str_t                  text;
    ngx_http_upstream_conf_t  *conf;

    conf = peer->request->upstream->conf;

    ngx_crc32_init(crc);

    if (conf->ssl_name != NULL && (conf->ssl_server_name || conf->ssl_verify)) {

        if (ngx_http_complex_value(peer->request, conf->ssl_name, &text)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        ngx_crc32_update(&crc, text.data, text.len);
    }

    if (conf->ssl_certificate != NULL
        && conf->ssl_certificate->lengths != NULL)
    {
        if (ngx_http_complex_value(peer->request, conf->ssl_certificate, &text)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        ngx_crc32_update(&crc, (u_char *) "", 1);
        ngx_crc32_update(&crc, text.data, text.len);
    }

    ngx_crc32_final(crc);
    peer->name = crc;

    return NGX_OK;
}

#endif


/*
 * Whose connections can take each other's place.  What is spoken is told by
 * the function that makes the request (HTTP, gRPC, FastCGI ...), or, with TLS,
 * by the location, since that decides on certificates.
 */

static ngx_inline void
ngx_http_hatch_peer_key(ngx_http_hatch_peer_t *peer)
{
    ngx_http_upstream_t   *u;
    ngx_http_hatch_ctx_t  *ctx;
    ngx_hatch_pool_key_t  *key;

    u = peer->request->upstream;
    ctx = peer->ctx;
    key = &peer->key;

    key->guest = ctx->guest;
    key->address[0] = 0;
    key->address[1] = 0;
    key->protocol = (uintptr_t) u->create_request;
    key->name = ngx_hatch_pool_name(peer->name, ctx->route.target_port,
                                    ctx->address.sockaddr.sa_family);

    if (ctx->address.sockaddr.sa_family == AF_INET) {
        ngx_memcpy(key->address, &ctx->address.sockaddr_in.sin_addr, 4);
#if (NGX_HAVE_INET6)
    } else {
        ngx_memcpy(key->address, &ctx->address.sockaddr_in6.sin6_addr, 16);
#endif
    }

#if (NGX_HTTP_SSL)
    if (u->ssl) {
        key->protocol = (uintptr_t) u->conf;
    }
#endif
}


static ngx_int_t
ngx_http_hatch_get_peer(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_hatch_peer_t *peer = data;

    ngx_uint_t             fresh;
    ngx_connection_t      *c;
    ngx_http_request_t    *r;
    ngx_http_hatch_ctx_t  *ctx;

    r = peer->request;
    ctx = peer->ctx;

    pc->cached = 0;
    pc->connection = NULL;

    ngx_http_hatch_peer_key(peer);

    /*
     * Since hatch_route has looked a body may have been read, another try may
     * have failed, half a file may have been sent.
     */

    if (!peer->seen && !ngx_http_hatch_same_vm(peer)) {
        ngx_log_error(NGX_LOG_ERR, pc->log, 0,
                      "hatch: the guest of %s that the request began with is "
                      "gone", ctx->route.vm);

        pc->tries = 0;

        return NGX_DECLINED;
    }

    peer->seen = 0;

    /* also of another try, after the first has ended */

    if (!ctx->busy.active) {
        ngx_hatch_busy_again(&ngx_http_hatch_main_conf(r)->busy, &ctx->busy);
    }

    pc->sockaddr = &ctx->address.sockaddr;
    pc->socklen = ngx_http_hatch_socklen(ctx);
    pc->name = &ctx->peer_name;

    /* nginx sends these only once, even if the guest has closed meanwhile */

    fresh = r->method & (NGX_HTTP_POST|NGX_HTTP_LOCK|NGX_HTTP_PATCH);

    c = ngx_hatch_pool_get(ngx_http_hatch_peer_pool(r), &peer->key, fresh,
                           pc->log);

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, pc->log, 0,
                   "hatch get peer %s at %V, kept: %p", ctx->route.vm,
                   pc->name, c);

    if (c == NULL) {
        return NGX_OK;
    }

    pc->cached = 1;
    pc->connection = c;

    return NGX_DONE;
}


/* Is that guest still there, at that address? */

static ngx_uint_t
ngx_http_hatch_same_vm(ngx_http_hatch_peer_t *peer)
{
    hatch_zone_t          *zone;
    hatch_zone_peer_t      vm;
    ngx_http_hatch_ctx_t  *ctx;

    ctx = peer->ctx;
    zone = ngx_hatch_zone_get(&ngx_http_hatch_main_conf(peer->request)->zone);

    return zone != NULL
           && hatch_zone_peer(zone, ctx->route.vm, &vm) == 0
           && vm.generation == ctx->busy.generation
           && NGX_HTTP_HATCH_GUEST(&vm) == ctx->guest
           && ngx_memcmp(vm.address, peer->key.address,
                         vm.family == 4 ? 4 : 16)
              == 0;
}


static void
ngx_http_hatch_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    ngx_http_hatch_peer_t *peer = data;

    ngx_msec_int_t         timeout;
    ngx_http_request_t    *r;
    ngx_http_upstream_t   *u;
    ngx_http_hatch_ctx_t  *ctx;

    r = peer->request;
    u = r->upstream;
    ctx = peer->ctx;

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, pc->log, 0,
                   "hatch free peer %s, state %ui, keepalive %ui",
                   ctx->route.vm, state, (ngx_uint_t) u->keepalive);

    /* one that has answered, and to which nothing is owed */

    if (pc->connection != NULL && !(state & NGX_PEER_FAILED) && u->keepalive
        && u->request_body_sent
        && (timeout = ngx_http_hatch_guest_timeout(u)) >= 0)
    {
        if (ngx_hatch_pool_put(ngx_http_hatch_peer_pool(r), pc->connection,
                               &peer->key, timeout)
            == NGX_OK)
        {
            pc->connection = NULL;
        }
    }

    /* what nginx still has to send needs no VM; else it ends with ctx */

    if (peer->last) {
        ngx_hatch_busy_end(&ngx_http_hatch_main_conf(r)->busy, &ctx->busy);
    }

    if (ctx->hold != NULL) {
        ngx_hatch_waiter_leave(&ctx->hold->waiter);
    }

    /* nginx counts a stale kept connection as a try of its own */

    if (pc->tries) {
        pc->tries--;
    }
}


/*
 * How long the guest keeps the connection, by "Keep-Alive: timeout=5" of its
 * answer, ms; 0: it does not say.  -1: no time at all.
 */

static ngx_inline ngx_msec_int_t
ngx_http_hatch_guest_timeout(ngx_http_upstream_t *u)
{
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *last;

    for (part = &u->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (last = h + part->nelts; h < last; h++) {

            if (h->key.len == sizeof("Keep-Alive") - 1
                && ngx_strncasecmp(h->key.data, (u_char *) "Keep-Alive",
                                   sizeof("Keep-Alive") - 1)
                   == 0)
            {
                return ngx_http_hatch_parse_timeout(&h->value);
            }
        }
    }

    return 0;
}


static ngx_msec_int_t
ngx_http_hatch_parse_timeout(ngx_str_t *value)
{
    u_char      *p, *last;
    ngx_uint_t   n;

    last = value->data + value->len;
    p = ngx_strlcasestrn(value->data, last, (u_char *) "timeout=",
                         sizeof("timeout=") - 2);

    if (p == NULL) {
        return 0;
    }

    p += sizeof("timeout=") - 1;

    if (p == last || *p < '0' || *p > '9') {
        return 0;
    }

    for (n = 0; p < last && *p >= '0' && *p <= '9'; p++) {
        n = ngx_min(n * 10 + *p - '0', NGX_HTTP_HATCH_TIMEOUT_MAX);
    }

    return n ? (ngx_msec_int_t) n * 1000 : -1;
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
