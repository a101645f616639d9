
/*
 * The configuration of a location: what it is to the phase handler, and what
 * it has of the blocks around it.
 */


#include "ngx_http_hatch_conf.h"


static ngx_int_t ngx_http_hatch_merge_role(ngx_conf_t *cf,
    ngx_http_hatch_loc_conf_t *prev, ngx_http_hatch_loc_conf_t *conf);
static ngx_int_t ngx_http_hatch_keep_names(ngx_conf_t *cf,
    ngx_http_hatch_loc_conf_t *conf);


void *
ngx_http_hatch_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_hatch_loc_conf_t  *hlcf;

    hlcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_hatch_loc_conf_t));
    if (hlcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     hlcf->base_domain = { 0, NULL };
     *     hlcf->role = NGX_HTTP_HATCH_NOTHING;
     *     hlcf->names = NULL;
     *     hlcf->handler = NULL;
     *     hlcf->wake = NULL;
     *     hlcf->ignore_abort = 0;
     *     hlcf->sliced = 0;
     */

    hlcf->api = NGX_CONF_UNSET;
    hlcf->wake_timeout = NGX_CONF_UNSET_MSEC;
    hlcf->asleep_status = NGX_CONF_UNSET_UINT;
    hlcf->max_age = NGX_CONF_UNSET_MSEC;
    hlcf->summary = NGX_CONF_UNSET;
    hlcf->keys = NGX_CONF_UNSET_PTR;
    hlcf->origins = NGX_CONF_UNSET_PTR;

    return hlcf;
}


char *
ngx_http_hatch_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_hatch_loc_conf_t *prev = parent;
    ngx_http_hatch_loc_conf_t *conf = child;

    if (ngx_http_hatch_merge_role(cf, prev, conf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (conf->wake == NULL) {
        conf->wake = prev->wake;
    }

    ngx_conf_merge_msec_value(conf->wake_timeout, prev->wake_timeout, 60000);
    ngx_conf_merge_uint_value(conf->asleep_status, prev->asleep_status,
                              NGX_HTTP_SERVICE_UNAVAILABLE);

    /* an "if" in the location takes these with the handler, as above */

    ngx_conf_merge_msec_value(conf->max_age, prev->max_age,
                              NGX_HTTP_HATCH_MAX_AGE);
    ngx_conf_merge_value(conf->summary, prev->summary, 0);
    ngx_conf_merge_ptr_value(conf->keys, prev->keys, NULL);
    ngx_conf_merge_ptr_value(conf->origins, prev->origins, NULL);

#if (NGX_HTTP_CACHE)
    if (ngx_http_hatch_cache_merge(cf, conf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
#endif

    return NGX_CONF_OK;
}


/*
 * What the location is to the phase handler.  The innermost directive counts,
 * hatch_api or hatch_route; one that is inherited leaves alone what has
 * another purpose: health endpoints, and for hatch_route all that does not
 * pass requests on, such as static files.
 */

static ngx_int_t
ngx_http_hatch_merge_role(ngx_conf_t *cf, ngx_http_hatch_loc_conf_t *prev,
    ngx_http_hatch_loc_conf_t *conf)
{
    void                      ***loc_conf;
    ngx_uint_t                   route;
    ngx_http_core_loc_conf_t    *clcf;
    ngx_http_hatch_main_conf_t  *hmcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* nginx asks the block of "limit_except" for a handler, not the location */

    if (ngx_http_hatch_own_handler(clcf->handler)) {
        conf->handler = clcf->handler;

    } else if (clcf->noname && clcf->handler == NULL) {
        conf->handler = prev->handler;
        clcf->handler = prev->handler;
    }

    /* of a server block, it is for the locations in it */

    route = conf->base_domain.data != NULL
            && (clcf->name.len != 0 || clcf->noname);

    if (conf->base_domain.len != 0 && conf->api == NGX_CONF_UNSET) {
        conf->api = 0;
    }

    if (conf->api == 1 && conf->base_domain.data == NULL) {
        ngx_str_set(&conf->base_domain, "");
    }

    ngx_conf_merge_value(conf->api, prev->api, 0);
    ngx_conf_merge_str_value(conf->base_domain, prev->base_domain, "");

    if (clcf->noname && clcf->handler == NULL) {

        /* "if" and "limit_except" go on with the handler around them */

        conf->role = prev->role;

    } else if (ngx_http_hatch_own_handler(clcf->handler)) {
        conf->role = NGX_HTTP_HATCH_NOTHING;

    } else if (conf->api) {
        conf->role = NGX_HTTP_HATCH_API;

    } else if (conf->base_domain.len != 0
               && (route || clcf->handler != NULL))
    {
        conf->role = NGX_HTTP_HATCH_ROUTE;
    }

    if (conf->role == NGX_HTTP_HATCH_API
        && ngx_http_hatch_keep_names(cf, conf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hatch_module);

    if (!(hmcf->use & NGX_HTTP_HATCH_USE_ROUTE)) {
        return NGX_OK;
    }

    if (ngx_http_hatch_names_merge(hmcf, conf) != NGX_OK) {
        return NGX_ERROR;
    }

    loc_conf = ngx_array_push(&hmcf->locations);
    if (loc_conf == NULL) {
        return NGX_ERROR;
    }

    *loc_conf = ((ngx_http_conf_ctx_t *) cf->ctx)->loc_conf;

    return NGX_OK;
}


/* nginx has the names of a server block in memory of the configuration only. */

static ngx_int_t
ngx_http_hatch_keep_names(ngx_conf_t *cf, ngx_http_hatch_loc_conf_t *conf)
{
    ngx_uint_t                 n;
    ngx_http_core_srv_conf_t  *cscf;

    cscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);
    n = cscf->server_names.nelts;

    conf->names = ngx_array_create(cf->pool, ngx_max(n, 1),
                                   sizeof(ngx_http_server_name_t));
    if (conf->names == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(conf->names->elts, cscf->server_names.elts,
               n * sizeof(ngx_http_server_name_t));
    conf->names->nelts = n;

    return NGX_OK;
}


ngx_uint_t
ngx_http_hatch_own_handler(ngx_http_handler_pt handler)
{
    return handler == ngx_http_hatch_healthz_handler
           || handler == ngx_http_hatch_readyz_handler
           || handler == ngx_http_hatch_metrics_handler;
}
