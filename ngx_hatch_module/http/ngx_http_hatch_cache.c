
/*
 * Caches: a page of one VM is never served under the name of another.
 *
 * The key that nginx makes by itself ("$scheme$proxy_host$request_uri") is the
 * same for all VMs.  So the text of each key is looked at, whatever it was
 * made of (ngx_http_hatch_names.c).  With a key that does not belong to its VM
 * alone, a request neither gets a stored answer nor is its own stored.
 *
 * nginx asks the predicates of "proxy_cache_bypass" after it has made the key
 * and before it looks it up.  So each location with a cache and an upstream
 * with "hatch" gets one more of them.
 */


#include "ngx_http_hatch_module.h"


#if (NGX_HTTP_CACHE)


/* A module with a cache, and where its upstream configuration is. */

typedef struct {
    ngx_uint_t                index;        /* its ctx_index */
    size_t                    offset;
} ngx_http_hatch_cache_module_t;


typedef struct {
    ngx_array_t               modules;  /* ngx_http_hatch_cache_module_t */
    ngx_http_complex_value_t  predicate;
    unsigned                  logged:1;     /* by this worker */
} ngx_http_hatch_cache_t;


static ngx_http_hatch_cache_t *ngx_http_hatch_cache_create(ngx_conf_t *cf);
static ngx_int_t ngx_http_hatch_cache_predicate(ngx_conf_t *cf,
    ngx_array_t **predicates, ngx_http_complex_value_t *predicate);
static ngx_int_t ngx_http_hatch_cache_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_uint_t ngx_http_hatch_cache_is_ours(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_cache_key(ngx_http_request_t *r,
    ngx_str_t *text);


static ngx_str_t  ngx_http_hatch_cache_text =
    ngx_string("$hatch_cache_unsafe");


ngx_int_t
ngx_http_hatch_cache_merge(ngx_conf_t *cf, ngx_http_hatch_loc_conf_t *conf)
{
    u_char                         *p;
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
    ngx_str_t                key;
    ngx_http_hatch_cache_t  *cache;

    cache = ngx_http_hatch_main_conf(r)->cache;

    if (ctx == NULL || !ctx->resolved
        || ngx_http_hatch_cache_key(r, &key) != NGX_OK)
    {
        return 0;
    }

    if (ngx_http_hatch_names_alone(r, ctx, &key, key.len)) {
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


#endif
