
#include "ngx_http_hatch_conf.h"


static ngx_int_t ngx_http_hatch_set_path(ngx_conf_t *cf, ngx_str_t *path,
    ngx_str_t *value);
static void ngx_http_hatch_use(ngx_conf_t *cf, ngx_uint_t use);
static off_t ngx_http_hatch_parameter(ngx_str_t *value, const char *name,
    off_t min, off_t max);


void *
ngx_http_hatch_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_hatch_main_conf_t  *hmcf;

    hmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_hatch_main_conf_t));
    if (hmcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     hmcf->zone.path, hmcf->zone.vms and the rest of it = 0
     *     hmcf->store.dir, hmcf->store.size and the rest of it = 0
     *     hmcf->agent.path and the rest of it, but what is below, = 0
     *     hmcf->busy.timer and the rest of it = 0
     *     hmcf->cache = NULL
     *     hmcf->not_stored = 0
     *     hmcf->use = 0
     */

    hmcf->zone.pid = NGX_INVALID_PID;
    hmcf->store.zone = &hmcf->zone;
    hmcf->busy.zone = &hmcf->zone;
    hmcf->busy.pid = NGX_INVALID_PID;
    hmcf->agent.pid = NGX_INVALID_PID;
    hmcf->agent.max_held = NGX_CONF_UNSET_UINT;
    hmcf->agent.max_held_per_vm = NGX_CONF_UNSET_UINT;

    if (ngx_array_init(&hmcf->locations, cf->temp_pool, 16, sizeof(void **))
        != NGX_OK
        || ngx_array_init(&hmcf->domains, cf->pool, 1, sizeof(ngx_str_t))
           != NGX_OK)
    {
        return NULL;
    }

    return hmcf;
}


char *
ngx_http_hatch_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_hatch_main_conf_t *hmcf = conf;

    u_char            *p;
    ngx_hatch_zone_t  *hz;

    hz = &hmcf->zone;

    if (hz->path.data == NULL) {
        ngx_str_set(&hz->path, HATCH_ZONE_PATH);
    }

    if (hz->vms == 0) {
        hz->vms = HATCH_ZONE_VMS;
    }

    if (hmcf->store.dir.data == NULL) {
        ngx_str_set(&hmcf->store.dir, HATCH_STORE_PATH);
    }

    if (hmcf->store.size == 0) {
        hmcf->store.size = HATCH_STORE_SIZE;
    }

    if (hmcf->agent.path.data == NULL) {
        ngx_str_set(&hmcf->agent.path, HATCH_WAKE_PATH);
    }

    ngx_conf_init_uint_value(hmcf->agent.max_held, NGX_HTTP_HATCH_MAX_HELD);
    ngx_conf_init_uint_value(hmcf->agent.max_held_per_vm,
                             NGX_HTTP_HATCH_MAX_HELD_PER_VM);

    hmcf->agent.sockaddr.sun_family = AF_UNIX;
    (void) ngx_cpystrn((u_char *) hmcf->agent.sockaddr.sun_path,
                       hmcf->agent.path.data,
                       sizeof(hmcf->agent.sockaddr.sun_path));

    if (ngx_conf_full_name(cf->cycle, &hz->path, 0) != NGX_OK
        || ngx_conf_full_name(cf->cycle, &hmcf->store.dir, 0) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (ngx_http_hatch_set_path(cf, &hz->path, &hz->path) != NGX_OK
        || ngx_http_hatch_set_path(cf, &hmcf->store.dir, &hmcf->store.dir)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    p = ngx_pnalloc(cf->pool, hz->path.len + sizeof(HATCH_ACTIVITY_SUFFIX));
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    hz->activity_path.data = p;
    hz->activity_path.len = hz->path.len + sizeof(HATCH_ACTIVITY_SUFFIX) - 1;
    p = ngx_cpymem(p, hz->path.data, hz->path.len);
    ngx_memcpy(p, HATCH_ACTIVITY_SUFFIX, sizeof(HATCH_ACTIVITY_SUFFIX));

    return NGX_CONF_OK;
}


/* A copy with a NUL behind it. */

static ngx_int_t
ngx_http_hatch_set_path(ngx_conf_t *cf, ngx_str_t *path, ngx_str_t *value)
{
    u_char  *p;

    p = ngx_pnalloc(cf->pool, value->len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_cpystrn(p, value->data, value->len + 1);

    path->len = value->len;
    path->data = p;

    return NGX_OK;
}


static void
ngx_http_hatch_use(ngx_conf_t *cf, ngx_uint_t use)
{
    ngx_http_hatch_main_conf_t  *hmcf;

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hatch_module);

    hmcf->use |= NGX_HTTP_HATCH_USE_ZONE|NGX_HTTP_HATCH_USE_STORE|use;
}


/* The number of a "name=number" argument, or NGX_ERROR. */

static off_t
ngx_http_hatch_parameter(ngx_str_t *value, const char *name, off_t min,
    off_t max)
{
    off_t      n;
    size_t     len;
    ngx_str_t  s;

    len = ngx_strlen(name);

    if (ngx_strncmp(value->data, name, len) != 0) {
        return NGX_ERROR;
    }

    s.len = value->len - len;
    s.data = value->data + len;

    n = ngx_parse_offset(&s);

    return n < min || n > max ? NGX_ERROR : n;
}


char *
ngx_http_hatch_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hatch_main_conf_t *hmcf = conf;

    off_t       n;
    ngx_str_t  *value;

    if (hmcf->zone.path.data != NULL) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len == 0) {
        return "has an empty path";
    }

    if (cf->args->nelts == 3) {
        n = ngx_http_hatch_parameter(&value[2], "vms=", 1, HATCH_SLOTS_MAX);

        if (n == NGX_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" of \"hatch_zone\", "
                               "it must be \"vms=\" and 1 to %ui", &value[2],
                               (ngx_uint_t) HATCH_SLOTS_MAX);
            return NGX_CONF_ERROR;
        }

        hmcf->zone.vms = n;
    }

    hmcf->zone.path = value[1];
    hmcf->use |= NGX_HTTP_HATCH_USE_ZONE;

    return NGX_CONF_OK;
}


char *
ngx_http_hatch_route_store(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hatch_main_conf_t *hmcf = conf;

    off_t       n;
    ngx_str_t  *value;

    if (hmcf->store.dir.data != NULL) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len == 0) {
        return "has an empty path";
    }

    if (cf->args->nelts == 3) {
        n = ngx_http_hatch_parameter(&value[2], "size=", HATCH_STORE_SIZE_MIN,
                                     NGX_MAX_OFF_T_VALUE);

        if (n == NGX_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" of "
                               "\"hatch_route_store\", it must be \"size=\" "
                               "and at least 1m", &value[2]);
            return NGX_CONF_ERROR;
        }

        hmcf->store.size = ngx_align((size_t) n, ngx_pagesize);
    }

    hmcf->store.dir = value[1];
    hmcf->use |= NGX_HTTP_HATCH_USE_STORE;

    return NGX_CONF_OK;
}


/* Makes it the location's content handler. */

static char *
ngx_http_hatch_content(ngx_conf_t *cf, ngx_http_handler_pt handler)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler == handler) {
        return "is duplicate";
    }

    if (clcf->handler != NULL) {
        return "stands beside another handler of the location";
    }

    clcf->handler = handler;
    ngx_http_hatch_use(cf, 0);

    return NGX_CONF_OK;
}


char *
ngx_http_hatch_healthz(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_http_hatch_content(cf, ngx_http_hatch_healthz_handler);
}


char *
ngx_http_hatch_readyz(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hatch_loc_conf_t *hlcf = conf;

    ngx_int_t   age;
    ngx_str_t  *value, s;

    value = cf->args->elts;

    if (cf->args->nelts == 2) {
        age = NGX_ERROR;

        if (ngx_strncmp(value[1].data, "max_age=", 8) == 0) {
            s.len = value[1].len - 8;
            s.data = value[1].data + 8;
            age = ngx_parse_time(&s, 0);
        }

        if (age == NGX_ERROR || age < NGX_HTTP_HATCH_MAX_AGE_MIN
            || age > NGX_HTTP_HATCH_MAX_AGE_MAX)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" of "
                               "\"hatch_readyz\", it must be \"max_age=\" "
                               "and 1s to 1h", &value[1]);
            return NGX_CONF_ERROR;
        }

        hlcf->max_age = (ngx_msec_t) age;
    }

    return ngx_http_hatch_content(cf, ngx_http_hatch_readyz_handler);
}


char *
ngx_http_hatch_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hatch_loc_conf_t *hlcf = conf;

    ngx_str_t  *value;

    value = cf->args->elts;

    if (cf->args->nelts == 2) {

        if (ngx_strcmp(value[1].data, "summary") != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" of "
                               "\"hatch_metrics\", it must be \"summary\"",
                               &value[1]);
            return NGX_CONF_ERROR;
        }

        hlcf->summary = 1;
    }

    return ngx_http_hatch_content(cf, ngx_http_hatch_metrics_handler);
}


char *
ngx_http_hatch_api(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hatch_loc_conf_t *hlcf = conf;

    if (hlcf->api != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    if (hlcf->base_domain.len != 0) {
        return "cannot be in one location with \"hatch_route\"";
    }

    hlcf->api = 1;
    ngx_http_hatch_use(cf, NGX_HTTP_HATCH_USE_API|NGX_HTTP_HATCH_USE_WRITES);

    return NGX_CONF_OK;
}


char *
ngx_http_hatch_route(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hatch_loc_conf_t *hlcf = conf;

    size_t      i;
    u_char      c;
    ngx_str_t  *value, *domain;

    if (hlcf->base_domain.data != NULL) {
        return "is duplicate";
    }

    value = cf->args->elts;
    domain = &value[1];

    if (ngx_strcasecmp(domain->data, (u_char *) "off") == 0) {
        ngx_str_set(&hlcf->base_domain, "");
        return NGX_CONF_OK;
    }

    if (hlcf->api != NGX_CONF_UNSET) {
        return "cannot be in one location with \"hatch_api\"";
    }

    if (domain->len == 0 || domain->len > 253
        || domain->data[0] == '.' || domain->data[domain->len - 1] == '.'
        || ngx_strcasecmp(domain->data, (u_char *) "on") == 0)
    {
        goto invalid;
    }

    for (i = 0; i < domain->len; i++) {
        c = ngx_tolower(domain->data[i]);

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'
              || c == '.')
            || (c == '.' && domain->data[i - 1] == '.'))
        {
            goto invalid;
        }
    }

    ngx_strlow(domain->data, domain->data, domain->len);

    hlcf->base_domain = *domain;
    ngx_http_hatch_use(cf, NGX_HTTP_HATCH_USE_ROUTE);

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid base domain \"%V\" of \"hatch_route\", it "
                       "must be labels of a-z, 0-9 and \"-\" with dots "
                       "between them", domain);

    return NGX_CONF_ERROR;
}


char *
ngx_http_hatch_agent(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hatch_main_conf_t *hmcf = conf;

    off_t        n;
    ngx_str_t   *value, path;
    ngx_uint_t   i, *limit;
    const char  *name;

    if (hmcf->agent.path.data != NULL) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strncmp(value[1].data, "unix:/", 6) != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid address \"%V\" of \"hatch_agent\", it "
                           "must be \"unix:\" and an absolute path",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    path.data = value[1].data + sizeof("unix:") - 1;
    path.len = value[1].len - (sizeof("unix:") - 1);

    if (path.len >= sizeof(hmcf->agent.sockaddr.sun_path)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the path \"%V\" of \"hatch_agent\" is longer "
                           "than %uz bytes", &path,
                           sizeof(hmcf->agent.sockaddr.sun_path) - 1);
        return NGX_CONF_ERROR;
    }

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "max_held_per_vm=", 16) == 0) {
            name = "max_held_per_vm=";
            limit = &hmcf->agent.max_held_per_vm;

        } else {
            name = "max_held=";
            limit = &hmcf->agent.max_held;
        }

        n = ngx_http_hatch_parameter(&value[i], name, 1, 1000000);

        if (n == NGX_ERROR || *limit != NGX_CONF_UNSET_UINT) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" of \"hatch_agent\", "
                               "it must be \"max_held=\" or "
                               "\"max_held_per_vm=\", once, and 1 to 1000000",
                               &value[i]);
            return NGX_CONF_ERROR;
        }

        *limit = (ngx_uint_t) n;
    }

    hmcf->agent.path = path;

    return NGX_CONF_OK;
}


char *
ngx_http_hatch_wake(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                       *rv;
    ngx_str_t                  *value;
    ngx_http_hatch_loc_conf_t  *hlcf = conf;

    rv = ngx_http_set_complex_value_slot(cf, cmd, conf);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    value = cf->args->elts;

    if (hlcf->wake->lengths == NULL
        && ngx_strcmp(value[1].data, "on") != 0
        && ngx_strcmp(value[1].data, "off") != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" of \"hatch_wake\", it must "
                           "be \"on\", \"off\" or have a variable", &value[1]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* nginx's own check of a range, for what is a time. */

char *
ngx_http_hatch_check_timeout(ngx_conf_t *cf, void *post, void *data)
{
    ngx_msec_t *msec = data;

    if (*msec == 0 || *msec > HATCH_WAKE_TIMEOUT_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"hatch_wake_timeout\" must be 1ms to 1h");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
