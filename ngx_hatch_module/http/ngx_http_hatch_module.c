
/*
 * The module's wiring: directives, hooks, and which handler runs where.
 */


#include "ngx_http_hatch_module.h"
#include "ngx_http_hatch_conf.h"
#include "ngx_http_hatch_keys.h"
#include "ngx_http_hatch_response.h"


static ngx_int_t ngx_http_hatch_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_hatch_postconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_hatch_api_phase(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_route_phase(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_add_handler(ngx_conf_t *cf,
    ngx_http_phases phase, ngx_http_handler_pt handler, ngx_uint_t last);
static char *ngx_hatch_init_conf(ngx_cycle_t *cycle, void *conf);
static ngx_int_t ngx_http_hatch_add_cleanup(ngx_cycle_t *cycle,
    ngx_pool_cleanup_pt handler, void *data);
static ngx_int_t ngx_http_hatch_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_hatch_init_process(ngx_cycle_t *cycle);


static ngx_conf_post_t  ngx_http_hatch_timeout_post = {
    ngx_http_hatch_check_timeout
};


static ngx_conf_enum_t  ngx_http_hatch_asleep_statuses[] = {
    { ngx_string("503"), NGX_HTTP_SERVICE_UNAVAILABLE },
    { ngx_string("200"), NGX_HTTP_OK },
    { ngx_null_string, 0 }
};


static ngx_command_t  ngx_http_hatch_commands[] = {

    /*
     * hatch_zone PATH [vms=NUMBER];
     *
     * The agent's zone.  Default /run/hatch/zone; vms (1..1048576, default
     * 16384) is the most VM slots that the agent's zone may have.  The module
     * makes PATH.activity beside it.
     */
    { ngx_string("hatch_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_hatch_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    /*
     * hatch_route_store DIR [size=SIZE];
     *
     * The directory of the routes.  Default /var/lib/hatch/routes; size (at
     * least 1m, default 1g) is the most that it may grow to.
     */
    { ngx_string("hatch_route_store"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_hatch_route_store,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    /*
     * hatch_healthz;
     *
     * Liveness and counts, for probes: JSON, or the same as Prometheus text
     * or OpenMetrics for callers that prefer it.  GET and HEAD.  Never asks
     * for an API key.
     */
    { ngx_string("hatch_healthz"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_hatch_healthz,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    /*
     * hatch_readyz [max_age=TIME];
     *
     * 200 if an agent that is connected to libvirt gave a sign of life within
     * max_age (1s to 1h, default 10s), else 503; says what is wrong.  GET and
     * HEAD.  Never asks for an API key.
     */
    { ngx_string("hatch_readyz"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_hatch_readyz,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    /*
     * hatch_metrics [summary];
     *
     * All metrics, as Prometheus text or OpenMetrics; with "summary" none of
     * single VMs.  GET and HEAD.
     */
    { ngx_string("hatch_metrics"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_hatch_metrics,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    /*
     * hatch_api_keys FILE|off;
     *
     * Requests need "Authorization: Bearer KEY" or "X-API-Key: KEY"; FILE has
     * a line for each key, a name and the key's SHA-256.  Default off.  Runs
     * in the access phase.
     */
    { ngx_string("hatch_api_keys"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_hatch_api_keys,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    /*
     * hatch_api;
     *
     * Not with hatch_route in one location; of nested ones the innermost
     * counts.  Answers the route endpoints, /routes, /routes/{id} and
     * /vms/{id}/routes; all other paths go on to the location's content
     * handler (proxy_pass to the agent), or are 404 if it has none.  What is
     * not GET, HEAD or OPTIONS and has an Origin other than the request's own
     * is 403, whatever the path.  Runs after the access phase.
     */
    { ngx_string("hatch_api"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_hatch_api,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    /*
     * hatch_api_origins ORIGIN...|off;
     *
     * Default off.  Further origins ("https://api.example.com") whose pages
     * may use hatch_api, and whose hosts may stand in Host.  That of a request
     * without an API key has to be an IP address, localhost, a server_name or
     * one of these, else it is 403.
     */
    { ngx_string("hatch_api_origins"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_hatch_api_origins,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    /*
     * hatch_route BASE_DOMAIN|off;
     *
     * Finds the VM of the label in front of the base domain in Host.  Needs
     * proxy_pass (or its like) to an upstream with "hatch".  From a block
     * around it a location has it only if it passes requests on: static files
     * stay what they are.  Runs after the access phase and after try_files.
     */
    { ngx_string("hatch_route"),
      NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_hatch_route,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    /*
     * hatch_agent unix:PATH [max_held=NUMBER] [max_held_per_vm=NUMBER];
     *
     * The agent's wake socket.  Default unix:/run/hatch/wake.sock.  A worker
     * holds at most max_held requests (1..1000000, default 8192) for VMs that
     * are being woken, and max_held_per_vm (default 2048) for one; more are
     * 503.
     */
    { ngx_string("hatch_agent"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE123,
      ngx_http_hatch_agent,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    /*
     * hatch_wake on|off|$variable;
     *
     * May a request wake a VM and keep it awake?  Default on.  A variable's
     * value is off if it is empty, "0" or "off".
     */
    { ngx_string("hatch_wake"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_hatch_wake,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hatch_loc_conf_t, wake),
      NULL },

    /*
     * hatch_wake_timeout TIME;
     *
     * How long a request is held for its VM.  1ms to 1h, default 60s.
     */
    { ngx_string("hatch_wake_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hatch_loc_conf_t, wake_timeout),
      &ngx_http_hatch_timeout_post },

    /*
     * hatch_asleep_status 503|200;
     *
     * The status of the answer to a request that may not wake a VM which is
     * not running.  Default 503.
     */
    { ngx_string("hatch_asleep_status"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hatch_loc_conf_t, asleep_status),
      &ngx_http_hatch_asleep_statuses },

    /*
     * upstream NAME {
     *     hatch [keepalive=NUMBER] [keepalive_per_vm=NUMBER]
     *           [keepalive_requests=NUMBER] [keepalive_time=TIME]
     *           [keepalive_timeout=TIME];
     * }
     *
     * The peer is the VM that hatch_route found.  Takes the place of "server"
     * lines.  A worker keeps at most keepalive idle connections (0..1000000,
     * default 1024), and keepalive_per_vm (default 64) to one port of a VM,
     * each for keepalive_timeout (default 60s); and uses each for at most
     * keepalive_requests (default 1000) and keepalive_time (default 1h).
     */
    { ngx_string("hatch"),
      NGX_HTTP_UPS_CONF|NGX_CONF_ANY,
      ngx_http_hatch_upstream,
      NGX_HTTP_SRV_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_hatch_module_ctx = {
    ngx_http_hatch_preconfiguration,       /* preconfiguration */
    ngx_http_hatch_postconfiguration,      /* postconfiguration */

    ngx_http_hatch_create_main_conf,       /* create main configuration */
    ngx_http_hatch_init_main_conf,         /* init main configuration */

    ngx_http_hatch_create_srv_conf,        /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_hatch_create_loc_conf,        /* create location configuration */
    ngx_http_hatch_merge_loc_conf          /* merge location configuration */
};


ngx_module_t  ngx_http_hatch_module = {
    NGX_MODULE_V1,
    &ngx_http_hatch_module_ctx,            /* module context */
    ngx_http_hatch_commands,               /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_http_hatch_init_module,            /* init module */
    ngx_http_hatch_init_process,           /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


/*
 * A core module of the same file, for one hook: its init_conf runs when all
 * of the configuration is known, also a "user" that stands behind the http
 * block, and may still refuse it.
 */

static ngx_core_module_t  ngx_hatch_module_ctx = {
    ngx_string("hatch"),
    NULL,
    ngx_hatch_init_conf
};


ngx_module_t  ngx_hatch_module = {
    NGX_MODULE_V1,
    &ngx_hatch_module_ctx,                 /* module context */
    NULL,                                  /* module directives */
    NGX_CORE_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_int_t
ngx_http_hatch_preconfiguration(ngx_conf_t *cf)
{
    return ngx_http_hatch_add_variables(cf);
}


static ngx_int_t
ngx_http_hatch_postconfiguration(ngx_conf_t *cf)
{
    ngx_http_hatch_main_conf_t  *hmcf;

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hatch_module);

    if (hmcf->use & (NGX_HTTP_HATCH_USE_WRITES|NGX_HTTP_HATCH_USE_ROUTE)) {
        hmcf->store.thread_pool = ngx_thread_pool_add(cf, NULL);
        if (hmcf->store.thread_pool == NULL) {
            return NGX_ERROR;
        }
    }

    if ((hmcf->use & NGX_HTTP_HATCH_USE_KEYS)
        && ngx_http_hatch_add_handler(cf, NGX_HTTP_ACCESS_PHASE,
                                      ngx_http_hatch_keys_handler, 0)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if ((hmcf->use & NGX_HTTP_HATCH_USE_API)
        && ngx_http_hatch_add_handler(cf, NGX_HTTP_PRECONTENT_PHASE,
                                      ngx_http_hatch_api_phase, 0)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if ((hmcf->use & NGX_HTTP_HATCH_USE_ROUTE)
        && ngx_http_hatch_add_handler(cf, NGX_HTTP_PRECONTENT_PHASE,
                                      ngx_http_hatch_route_phase, 1)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_hatch_unwrap(cf);
    ngx_http_hatch_foreign(cf, &hmcf->locations);

    return NGX_OK;
}


/* PRECONTENT, before all others: nothing is done for a web page of others. */

static ngx_int_t
ngx_http_hatch_api_phase(ngx_http_request_t *r)
{
    return ngx_http_hatch_loc_conf(r)->role == NGX_HTTP_HATCH_API
           ? ngx_http_hatch_finalize(r, ngx_http_hatch_api_handler(r))
           : NGX_DECLINED;
}


/* PRECONTENT, after all others: what try_files leads elsewhere wakes no VM. */

static ngx_int_t
ngx_http_hatch_route_phase(ngx_http_request_t *r)
{
    return ngx_http_hatch_loc_conf(r)->role == NGX_HTTP_HATCH_ROUTE
           ? ngx_http_hatch_route_handler(r) : NGX_DECLINED;
}


/* nginx calls the handlers of a phase from the last one to the first. */

static ngx_int_t
ngx_http_hatch_add_handler(ngx_conf_t *cf, ngx_http_phases phase,
    ngx_http_handler_pt handler, ngx_uint_t last)
{
    ngx_array_t                *handlers;
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    handlers = &cmcf->phases[phase].handlers;

    h = ngx_array_push(handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    if (last) {
        h = handlers->elts;
        ngx_memmove(h + 1, h, (handlers->nelts - 1) * sizeof(*h));
    }

    *h = handler;

    return NGX_OK;
}


static char *
ngx_hatch_init_conf(ngx_cycle_t *cycle, void *conf)
{
    ngx_http_hatch_main_conf_t  *hmcf;

    hmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_hatch_module);

    if (hmcf == NULL) {
        return NGX_CONF_OK;
    }

    if ((hmcf->use & NGX_HTTP_HATCH_USE_ZONE)
        && ngx_hatch_zone_check(cycle, &hmcf->zone) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if ((hmcf->use & NGX_HTTP_HATCH_USE_STORE)
        && ngx_hatch_store_check(cycle, &hmcf->store) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_hatch_add_cleanup(ngx_cycle_t *cycle, ngx_pool_cleanup_pt handler,
    void *data)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(cycle->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = handler;
    cln->data = data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hatch_init_module(ngx_cycle_t *cycle)
{
    ngx_http_hatch_main_conf_t  *hmcf;

    hmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_hatch_module);

    /* "nginx -t" must not touch what a running nginx uses */

    if (hmcf == NULL || ngx_test_config) {
        return NGX_OK;
    }

    if (hmcf->use) {
        ngx_log_error(NGX_LOG_NOTICE, cycle->log, 0,
                      "hatch: version " HATCH_VERSION);
    }

    if (ngx_http_hatch_add_cleanup(cycle, ngx_hatch_agent_cleanup, &hmcf->agent)
        != NGX_OK
        || ngx_http_hatch_add_cleanup(cycle, ngx_hatch_busy_cleanup,
                                      &hmcf->busy)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (hmcf->use & NGX_HTTP_HATCH_USE_ZONE) {
        ngx_hatch_zone_init_module(cycle, &hmcf->zone);
    }

    if (hmcf->use & NGX_HTTP_HATCH_USE_STORE) {
        return ngx_hatch_store_init_module(cycle, &hmcf->store);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hatch_init_process(ngx_cycle_t *cycle)
{
    ngx_http_hatch_main_conf_t  *hmcf;

    hmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_hatch_module);

    if (hmcf == NULL
        || (ngx_process != NGX_PROCESS_WORKER
            && ngx_process != NGX_PROCESS_SINGLE))
    {
        return NGX_OK;
    }

    if (hmcf->use & NGX_HTTP_HATCH_USE_ZONE) {
        ngx_hatch_zone_init_process(&hmcf->zone);
    }

    if (hmcf->use & NGX_HTTP_HATCH_USE_STORE) {
        (void) ngx_hatch_store_get(&hmcf->store);
    }

    if (hmcf->use & NGX_HTTP_HATCH_USE_ROUTE) {
        ngx_hatch_agent_init_process(&hmcf->agent);
        ngx_hatch_store_index(&hmcf->store);
    }

    return NGX_OK;
}
