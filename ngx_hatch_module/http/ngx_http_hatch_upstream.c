
/*
 * upstream { hatch; }: the peer is the VM that hatch_route found.
 *
 * The peer belongs to the request; nothing of it is in nginx's lists of
 * servers.  Idle connections are kept in a pool of our own: the list of
 * nginx's "keepalive" is searched from its head, which takes the longer the
 * more VMs are awake, and it knows connections by their address alone.  That
 * module puts itself around these functions where its directive is behind
 * "hatch", and since nginx 1.29.7 without it, too; it is taken off again.
 */


#include "ngx_http_hatch_conf.h"


/* Guests' timeouts are counted up to this, s. */

#define NGX_HTTP_HATCH_TIMEOUT_MAX  86400


/*
 * How a request reaches its VM, or one of nginx's clones of it ("slice",
 * background updates of a cache), which share its ctx.  Kept small, as that.
 */

typedef struct {
    ngx_http_request_t      *request;
    ngx_http_hatch_ctx_t    *ctx;           /* of the clone's original */
    uint32_t                 name;          /* TLS: of names, a hash */
    unsigned                 seen:1;        /* the VM, in this very turn */
    unsigned                 last:1;        /* the VM is not needed after it */
} ngx_http_hatch_peer_t;


/* The pool of the request's upstream block. */

#define ngx_http_hatch_peer_pool(r)                                           \
    (&((ngx_http_hatch_srv_conf_t *)                                          \
       ngx_http_conf_upstream_srv_conf((r)->upstream->upstream,               \
                                       ngx_http_hatch_module))->pool)


static ngx_int_t ngx_http_hatch_upstream_parameter(ngx_conf_t *cf,
    ngx_hatch_pool_t *pool, ngx_str_t *value);
static ngx_int_t ngx_http_hatch_init_upstream(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *us);
static ngx_int_t ngx_http_hatch_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
#if (NGX_HTTP_SSL)
static ngx_int_t ngx_http_hatch_peer_name(ngx_http_hatch_peer_t *peer);
#endif
static void ngx_http_hatch_peer_key(ngx_http_hatch_peer_t *peer,
    ngx_hatch_pool_key_t *key);
static ngx_int_t ngx_http_hatch_get_peer(ngx_peer_connection_t *pc,
    void *data);
static ngx_uint_t ngx_http_hatch_same_vm(ngx_http_hatch_peer_t *peer);
static void ngx_http_hatch_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state);
static ngx_int_t ngx_http_hatch_guest_timeout(ngx_http_upstream_t *u,
    ngx_msec_t *timeout);

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

    /* set by ngx_pcalloc(): the rest of hscf = 0 */

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

    hscf->hatch = 1;
    hscf->slice = ngx_http_hatch_find_command(cf, "slice",
                                              &hscf->slice_index);

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
    ngx_uint_t                  index;
    ngx_http_hatch_srv_conf_t  *hscf;

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

    /*
     * Whoever has put himself around us was told to, before nginx 1.29.7.
     * Since then "keepalive" does so by itself; what its configuration begins
     * with is the number of the directive, and is unset until a later step.
     */

    hscf = ngx_http_conf_upstream_srv_conf(us, ngx_http_hatch_module);
    hscf->keepalive = 1;

    if (nginx_version >= 1029007) {
        hscf->keepalive = ngx_http_hatch_find_command(cf, "keepalive", &index)
                          && *(ngx_uint_t *) us->srv_conf[index]
                             != NGX_CONF_UNSET_UINT;
    }

    return NGX_OK;
}


void
ngx_http_hatch_unwrap(ngx_conf_t *cf)
{
    ngx_uint_t                       i;
    ngx_http_hatch_srv_conf_t       *hscf;
    ngx_http_upstream_srv_conf_t   **uscfp;
    ngx_http_upstream_main_conf_t   *umcf;

    umcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_upstream_module);
    uscfp = umcf->upstreams.elts;

    for (i = 0; i < umcf->upstreams.nelts; i++) {

        if (!ngx_http_hatch_is_upstream(uscfp[i])
            || uscfp[i]->peer.init == ngx_http_hatch_init_peer)
        {
            continue;
        }

        uscfp[i]->peer.init = ngx_http_hatch_init_peer;

        hscf = ngx_http_conf_upstream_srv_conf(uscfp[i],
                                               ngx_http_hatch_module);

        if (hscf->keepalive) {
            ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                          "\"keepalive\" is ignored in upstream \"%V\" in "
                          "%s:%ui, \"hatch\" has a parameter of that name",
                          &uscfp[i]->host, uscfp[i]->file_name,
                          uscfp[i]->line);
        }
    }
}


ngx_uint_t
ngx_http_hatch_is_upstream(ngx_http_upstream_srv_conf_t *uscf)
{
    ngx_http_hatch_srv_conf_t  *hscf;

    /* those that "proxy_pass http://127.0.0.1" makes have no configuration */

    if (uscf->srv_conf == NULL) {
        return 0;
    }

    hscf = ngx_http_conf_upstream_srv_conf(uscf, ngx_http_hatch_module);

    return hscf->hatch;
}


ngx_command_t *
ngx_http_hatch_find_command(ngx_conf_t *cf, const char *name,
    ngx_uint_t *ctx_index)
{
    ngx_uint_t      i;
    ngx_command_t  *cmd;
    ngx_module_t  **modules;

    modules = cf->cycle->modules;

    for (i = 0; modules[i] != NULL; i++) {

        if (modules[i]->type != NGX_HTTP_MODULE
            || modules[i]->commands == NULL)
        {
            continue;
        }

        for (cmd = modules[i]->commands; cmd->name.len != 0; cmd++) {
            if (ngx_strcmp(cmd->name.data, name) == 0) {
                *ctx_index = modules[i]->ctx_index;
                return cmd;
            }
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_hatch_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    u_char                     *size;
    ngx_http_upstream_t        *u;
    ngx_http_hatch_ctx_t       *ctx;
    ngx_http_hatch_peer_t      *peer;
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

    peer = ngx_palloc(r->pool, sizeof(ngx_http_hatch_peer_t));
    if (peer == NULL) {
        return NGX_ERROR;
    }

    peer->request = r;
    peer->ctx = ctx;
    peer->name = 0;

    /*
     * hatch_route has just looked, unless nginx has waited for a body since,
     * or for another request that fills its cache.
     */

    peer->seen = ctx->request == r
                 && r->http_version < NGX_HTTP_VERSION_20
                 && (r->request_body == NULL || r->request_body->bufs == NULL)
#if (NGX_HTTP_CACHE)
                 && r->cache == NULL
#endif
                 ;

    /* what a clone asks for, or "slice", goes on until the request ends */

    peer->last = ctx->request == r;

    if (hscf->slice != NULL) {
        size = (u_char *) r->loc_conf[hscf->slice_index] + hscf->slice->offset;

        if (*(size_t *) size != 0) {
            peer->last = 0;
        }
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

static void
ngx_http_hatch_peer_key(ngx_http_hatch_peer_t *peer, ngx_hatch_pool_key_t *key)
{
    ngx_http_upstream_t   *u;
    ngx_http_hatch_ctx_t  *ctx;

    u = peer->request->upstream;
    ctx = peer->ctx;

    key->guest = ctx->guest;
    key->address[0] = 0;
    key->address[1] = 0;
    key->protocol = (uintptr_t) u->create_request;
    key->name = peer->name;
    key->port = ctx->route.target_port;
    key->family = ctx->address.sockaddr.sa_family;

    if (key->family == AF_INET) {
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
    ngx_hatch_pool_key_t   key;
    ngx_http_hatch_ctx_t  *ctx;

    r = peer->request;
    ctx = peer->ctx;

    pc->cached = 0;
    pc->connection = NULL;

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

    ngx_http_hatch_peer_key(peer, &key);

    c = ngx_hatch_pool_get(ngx_http_hatch_peer_pool(r), &key, fresh, pc->log);

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
    ngx_hatch_pool_key_t   key;
    ngx_http_hatch_ctx_t  *ctx;

    ctx = peer->ctx;
    ngx_http_hatch_peer_key(peer, &key);
    zone = ngx_hatch_zone_get(&ngx_http_hatch_main_conf(peer->request)->zone);

    return zone != NULL
           && hatch_zone_peer(zone, ctx->route.vm, &vm) == 0
           && vm.generation == ctx->busy.generation
           && NGX_HTTP_HATCH_GUEST(&vm) == ctx->guest
           && ngx_memcmp(vm.address, key.address,
                         vm.family == 4 ? 4 : 16)
              == 0;
}


static void
ngx_http_hatch_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    ngx_http_hatch_peer_t *peer = data;

    ngx_msec_t             timeout;
    ngx_http_request_t    *r;
    ngx_http_upstream_t   *u;
    ngx_hatch_pool_key_t   key;
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
        && ngx_http_hatch_guest_timeout(u, &timeout) == NGX_OK)
    {
        ngx_http_hatch_peer_key(peer, &key);

        if (ngx_hatch_pool_put(ngx_http_hatch_peer_pool(r), pc->connection,
                               &key, timeout)
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
        ngx_hatch_wake_forget(&ctx->hold->waiter);
    }

    /* nginx counts a stale kept connection as a try of its own */

    if (pc->tries) {
        pc->tries--;
    }
}


/*
 * How long the guest keeps the connection, by "Keep-Alive: timeout=5" of its
 * answer, ms; 0: it does not say.  NGX_DECLINED: no time at all.
 */

static ngx_int_t
ngx_http_hatch_guest_timeout(ngx_http_upstream_t *u, ngx_msec_t *timeout)
{
    u_char           *p, *last;
    ngx_uint_t        i, n;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    *timeout = 0;

    part = &u->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return NGX_OK;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len == sizeof("Keep-Alive") - 1
            && ngx_strncasecmp(h[i].key.data, (u_char *) "Keep-Alive",
                               sizeof("Keep-Alive") - 1)
               == 0)
        {
            break;
        }
    }

    last = h[i].value.data + h[i].value.len;
    p = ngx_strlcasestrn(h[i].value.data, last, (u_char *) "timeout=",
                         sizeof("timeout=") - 2);

    if (p == NULL) {
        return NGX_OK;
    }

    p += sizeof("timeout=") - 1;

    if (p == last || *p < '0' || *p > '9') {
        return NGX_OK;
    }

    for (n = 0; p < last && *p >= '0' && *p <= '9'; p++) {
        n = ngx_min(n * 10 + *p - '0', NGX_HTTP_HATCH_TIMEOUT_MAX);
    }

    *timeout = (ngx_msec_t) n * 1000;

    return n ? NGX_OK : NGX_DECLINED;
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
