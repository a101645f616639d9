
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


static ngx_int_t ngx_http_hatch_upstream_parameter(ngx_conf_t *cf,
    ngx_hatch_pool_t *pool, ngx_str_t *value);
static ngx_int_t ngx_http_hatch_init_upstream(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *us);


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
