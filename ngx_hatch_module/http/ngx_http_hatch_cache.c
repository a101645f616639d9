
/*
 * Caches: a page of one VM is never served under the name of another.
 *
 * The key that nginx makes by itself ("$scheme$proxy_host$request_uri") is the
 * same for all VMs.  So the text of each key is looked at, whatever it was
 * made of.  It belongs to the request's VM if it has the request's host, or
 * the id of its VM or route, as a whole element: no name character stands
 * directly before or behind it, and it does not stand in the request's URI.
 * And it must have no other host under a base domain and no id of another VM
 * or route, wherever in it: so no text belongs to two VMs, even if a client
 * has found a way to put their names into it.  With a key that does not belong
 * to it, a request neither gets a stored answer nor is its own stored.
 *
 * nginx asks the predicates of "proxy_cache_bypass" after it has made the key
 * and before it looks it up.  So each location with a cache and an upstream
 * with "hatch" gets one more of them.
 */


#include "ngx_http_hatch_module.h"


#if (NGX_HTTP_CACHE)


/* The longest host is a label, a dot, and a base domain. */

#define NGX_HTTP_HATCH_CACHE_NAME  (HATCH_LABEL_MAX + 1 + 253)


/* A module with a cache, and where its upstream configuration is. */

typedef struct {
    ngx_uint_t                index;        /* its ctx_index */
    size_t                    offset;
} ngx_http_hatch_cache_module_t;


typedef struct {
    ngx_array_t               modules;  /* ngx_http_hatch_cache_module_t */
    ngx_array_t               domains;      /* ngx_str_t, base domains */
    ngx_http_complex_value_t  predicate;
    unsigned                  logged:1;     /* by this worker */
} ngx_http_hatch_cache_t;


/* Whose a name in a key is. */

typedef enum {
    ngx_http_hatch_cache_nobodys = 0,
    ngx_http_hatch_cache_own,
    ngx_http_hatch_cache_others
} ngx_http_hatch_cache_whose_e;


static ngx_http_hatch_cache_t *ngx_http_hatch_cache_create(ngx_conf_t *cf);
static ngx_int_t ngx_http_hatch_cache_predicate(ngx_conf_t *cf,
    ngx_array_t **predicates, ngx_http_complex_value_t *predicate);
static ngx_int_t ngx_http_hatch_cache_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_uint_t ngx_http_hatch_cache_is_ours(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_cache_key(ngx_http_request_t *r,
    ngx_str_t *text);
static ngx_uint_t ngx_http_hatch_cache_scan(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx, ngx_http_hatch_cache_t *cache);
static ngx_uint_t ngx_http_hatch_cache_within(ngx_str_t *text, ngx_str_t *uri,
    ngx_str_t *name);
static ngx_http_hatch_cache_whose_e ngx_http_hatch_cache_whose(
    ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx,
    ngx_http_hatch_cache_t *cache, ngx_str_t *name);
static ngx_uint_t ngx_http_hatch_cache_is(ngx_str_t *name, const void *text,
    size_t len);


static ngx_str_t  ngx_http_hatch_cache_text =
    ngx_string("$hatch_cache_unsafe");


ngx_int_t
ngx_http_hatch_cache_merge(ngx_conf_t *cf, ngx_http_hatch_loc_conf_t *conf)
{
    u_char                         *p;
    ngx_str_t                      *domain;
    ngx_uint_t                      i;
    ngx_http_conf_ctx_t            *ctx;
    ngx_http_hatch_cache_t         *cache;
    ngx_http_upstream_conf_t       *ucf;
    ngx_http_hatch_main_conf_t     *hmcf;
    ngx_http_hatch_cache_module_t  *module;

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hatch_module);

    if (!(hmcf->use & NGX_HTTP_HATCH_USE_ROUTE)) {
        return NGX_OK;
    }

    if (hmcf->cache == NULL) {
        hmcf->cache = ngx_http_hatch_cache_create(cf);
        if (hmcf->cache == NULL) {
            return NGX_ERROR;
        }
    }

    cache = hmcf->cache;
    domain = cache->domains.elts;

    for (i = 0; i < cache->domains.nelts; i++) {
        if (domain[i].len == conf->base_domain.len
            && ngx_memcmp(domain[i].data, conf->base_domain.data,
                          conf->base_domain.len)
               == 0)
        {
            break;
        }
    }

    if (i == cache->domains.nelts && conf->base_domain.len != 0) {
        domain = ngx_array_push(&cache->domains);
        if (domain == NULL) {
            return NGX_ERROR;
        }

        *domain = conf->base_domain;
    }

    ctx = cf->ctx;
    module = cache->modules.elts;

    for (i = 0; i < cache->modules.nelts; i++) {

        p = ctx->loc_conf[module[i].index];
        ucf = (ngx_http_upstream_conf_t *) (p + module[i].offset);

        /* with a variable, its upstream is not known before the request */

        if (ucf->cache == 0
            || (ucf->upstream != NULL
                && !ngx_http_hatch_is_upstream(ucf->upstream)))
        {
            continue;
        }

        if (ngx_http_hatch_cache_predicate(cf, &ucf->cache_bypass,
                                           &cache->predicate)
            != NGX_OK
            || ngx_http_hatch_cache_predicate(cf, &ucf->no_cache,
                                              &cache->predicate)
               != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_http_hatch_cache_t *
ngx_http_hatch_cache_create(ngx_conf_t *cf)
{
    ngx_str_t                          name;
    ngx_uint_t                         i, index;
    ngx_command_t                     *cmd;
    ngx_http_variable_t               *var;
    ngx_http_hatch_cache_t            *cache;
    ngx_http_hatch_cache_module_t     *module;
    ngx_http_compile_complex_value_t   ccv;

    static const char *const  directives[] = {
        "proxy_cache_bypass", "fastcgi_cache_bypass", "scgi_cache_bypass",
        "uwsgi_cache_bypass"
    };

    cache = ngx_pcalloc(cf->pool, sizeof(ngx_http_hatch_cache_t));
    if (cache == NULL
        || ngx_array_init(&cache->modules, cf->pool, 4,
                          sizeof(ngx_http_hatch_cache_module_t))
           != NGX_OK
        || ngx_array_init(&cache->domains, cf->pool, 1, sizeof(ngx_str_t))
           != NGX_OK)
    {
        return NULL;
    }

    for (i = 0; i < sizeof(directives) / sizeof(directives[0]); i++) {

        cmd = ngx_http_hatch_find_command(cf, directives[i], &index);
        if (cmd == NULL) {
            continue;
        }

        module = ngx_array_push(&cache->modules);
        if (module == NULL) {
            return NULL;
        }

        module->index = index;
        module->offset = cmd->offset
                         - offsetof(ngx_http_upstream_conf_t, cache_bypass);
    }

    name.len = ngx_http_hatch_cache_text.len - 1;
    name.data = ngx_http_hatch_cache_text.data + 1;

    var = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
    if (var == NULL) {
        return NULL;
    }

    var->get_handler = ngx_http_hatch_cache_variable;

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));
    ccv.cf = cf;
    ccv.value = &ngx_http_hatch_cache_text;
    ccv.complex_value = &cache->predicate;

    return ngx_http_compile_complex_value(&ccv) == NGX_OK ? cache : NULL;
}


/* Adds one; the array may be that of other locations, too. */

static ngx_int_t
ngx_http_hatch_cache_predicate(ngx_conf_t *cf, ngx_array_t **predicates,
    ngx_http_complex_value_t *predicate)
{
    ngx_uint_t                 n;
    ngx_array_t               *array;
    ngx_http_complex_value_t  *cv;

    n = *predicates != NULL ? (*predicates)->nelts : 0;

    array = ngx_array_create(cf->pool, n + 1,
                             sizeof(ngx_http_complex_value_t));
    if (array == NULL) {
        return NGX_ERROR;
    }

    cv = ngx_array_push_n(array, n + 1);

    cv[0] = *predicate;

    if (n != 0) {
        ngx_memcpy(&cv[1], (*predicates)->elts,
                   n * sizeof(ngx_http_complex_value_t));
    }

    *predicates = array;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hatch_cache_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->len = 0;
    v->data = (u_char *) "1";

    if (ngx_http_hatch_cache_is_ours(r)
        && !ngx_http_hatch_cache_safe(r, ngx_http_hatch_get_ctx(r)))
    {
        v->len = 1;
    }

    return NGX_OK;
}


/* Is the request on its way to an upstream with "hatch", through a cache? */

static ngx_uint_t
ngx_http_hatch_cache_is_ours(ngx_http_request_t *r)
{
    ngx_str_t                       *host;
    ngx_uint_t                       i;
    ngx_http_upstream_t             *u;
    ngx_http_upstream_srv_conf_t   **uscfp;
    ngx_http_upstream_main_conf_t   *umcf;

    u = r->upstream;

    if (u == NULL || r->cache == NULL) {
        return 0;
    }

    if (u->resolved == NULL) {
        return ngx_http_hatch_is_upstream(u->conf->upstream);
    }

    host = &u->resolved->host;
    umcf = ngx_http_get_module_main_conf(r, ngx_http_upstream_module);
    uscfp = umcf->upstreams.elts;

    for (i = 0; i < umcf->upstreams.nelts; i++) {
        if (uscfp[i]->host.len == host->len
            && ngx_strncasecmp(uscfp[i]->host.data, host->data, host->len)
               == 0
            && ngx_http_hatch_is_upstream(uscfp[i]))
        {
            return 1;
        }
    }

    return 0;
}


ngx_uint_t
ngx_http_hatch_cache_safe(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx)
{
    ngx_http_hatch_cache_t  *cache;

    cache = ngx_http_hatch_main_conf(r)->cache;

    if (ctx == NULL || !ctx->resolved) {
        return 0;
    }

    if (ngx_http_hatch_cache_scan(r, ctx, cache)) {
        return 1;
    }

    if (!cache->logged) {
        cache->logged = 1;

        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "hatch: answers whose cache key does not name their "
                      "host alone are not cached, use "
                      "\"proxy_cache_key $scheme://$host$request_uri\"");
    }

    return 0;
}


/* nginx hashes the parts of a key as if they were one. */

static ngx_int_t
ngx_http_hatch_cache_key(ngx_http_request_t *r, ngx_str_t *text)
{
    u_char      *p;
    ngx_str_t   *key;
    ngx_uint_t   i;

    key = r->cache->keys.elts;

    if (r->cache->keys.nelts == 1) {
        *text = key[0];
        return NGX_OK;
    }

    text->len = 0;

    for (i = 0; i < r->cache->keys.nelts; i++) {
        text->len += key[i].len;
    }

    text->data = ngx_pnalloc(r->pool, text->len + 1);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    p = text->data;

    for (i = 0; i < r->cache->keys.nelts; i++) {
        p = ngx_cpymem(p, key[i].data, key[i].len);
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_hatch_cache_scan(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx,
    ngx_http_hatch_cache_t *cache)
{
    u_char      c, *p, *last;
    ngx_str_t   text, name;
    ngx_uint_t  own;

    if (ngx_http_hatch_cache_key(r, &text) != NGX_OK) {
        return 0;
    }

    own = 0;
    name.len = 0;
    last = text.data + text.len;

    for (p = text.data; p <= last; p++) {
        c = p < last ? ngx_tolower(*p) : 0;

        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.'
            || c == '_' || c == '-')
        {
            name.len++;
            continue;
        }

        name.data = p - name.len;

        switch (ngx_http_hatch_cache_whose(r, ctx, cache, &name)) {

        case ngx_http_hatch_cache_others:
            ngx_log_debug1(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                           "hatch cache key names \"%V\"", &name);
            return 0;

        case ngx_http_hatch_cache_own:
            if (!ngx_http_hatch_cache_within(&text, &r->unparsed_uri, &name)
                && !ngx_http_hatch_cache_within(&text, &r->uri, &name))
            {
                own = 1;
            }

            break;

        default:
            break;
        }

        name.len = 0;
    }

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "hatch cache key of its own: %ui", own);

    return own;
}


/* Is the name, which is in the text, in the part of it that is the URI? */

static ngx_uint_t
ngx_http_hatch_cache_within(ngx_str_t *text, ngx_str_t *uri, ngx_str_t *name)
{
    u_char  *p;

    /* searches in linear time, whatever a client has made up */

    p = memmem(text->data, text->len, uri->data, uri->len);

    return p != NULL && name->data >= p
           && name->data + name->len <= p + uri->len;
}


static ngx_http_hatch_cache_whose_e
ngx_http_hatch_cache_whose(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx,
    ngx_http_hatch_cache_t *cache, ngx_str_t *name)
{
    size_t       len;
    u_char      *dot;
    ngx_str_t   *host, *domain, tail;
    const char  *route;
    ngx_uint_t   i;

    if (name->len == 0 || name->len > NGX_HTTP_HATCH_CACHE_NAME) {
        return ngx_http_hatch_cache_nobodys;
    }

    host = &r->headers_in.server;
    route = hatch_target_id(&ctx->route);

    if (ngx_http_hatch_cache_is(name, host->data, host->len)
        || ngx_http_hatch_cache_is(name, ctx->route.vm,
                                   ngx_strlen(ctx->route.vm))
        || ngx_http_hatch_cache_is(name, route, ngx_strlen(route)))
    {
        return ngx_http_hatch_cache_own;
    }

    if (name->len == HATCH_ID_VM_SIZE - 1
        && (ngx_strncasecmp(name->data, (u_char *) HATCH_ID_VM,
                            sizeof(HATCH_ID_VM) - 1)
            == 0
            || ngx_strncasecmp(name->data, (u_char *) HATCH_ID_ROUTE,
                               sizeof(HATCH_ID_ROUTE) - 1)
               == 0))
    {
        return ngx_http_hatch_cache_others;
    }

    domain = cache->domains.elts;

    for (i = 0; i < cache->domains.nelts; i++) {
        len = domain[i].len;

        if (name->len < len + 2) {
            continue;
        }

        dot = name->data + name->len - len - 1;
        tail.data = dot + 1;
        tail.len = len;

        if (*dot == '.'
            && ngx_http_hatch_cache_is(&tail, domain[i].data, len))
        {
            return ngx_http_hatch_cache_others;
        }
    }

    return ngx_http_hatch_cache_nobodys;
}


static ngx_uint_t
ngx_http_hatch_cache_is(ngx_str_t *name, const void *text, size_t len)
{
    return name->len == len
           && ngx_strncasecmp(name->data, (u_char *) text, len) == 0;
}


#endif
