
/*
 * $hatch_vm_id      the VM that a request was for, or empty
 * $hatch_route_id   its route
 * $hatch_wake       how the VM was woken for it: resume, restore, boot, empty
 * $hatch_wake_time  how long it was held for that, in seconds with
 *                   milliseconds, or empty
 * $hatch_api_key    the name of the request's API key, or empty
 *
 * For what a guest is told of the request (deploy/nginx/hatch_proxy.conf):
 *
 * $hatch_host       the host name that was routed, with the client's port if
 *                   it named one, or empty
 * $hatch_port       that port, or the scheme's, or empty
 * $hatch_connection "upgrade" if the client asks for another protocol, else
 *                   empty, so that the connection to the guest is kept
 *
 * A configuration may have a "map" or "set" of these three names: it then
 * takes the place of ours, as examples before them had it.
 */


#include "ngx_http_hatch_keys.h"


#define NGX_HTTP_HATCH_VM_ID      0
#define NGX_HTTP_HATCH_ROUTE_ID   1

#define NGX_HTTP_HATCH_WAKE       0
#define NGX_HTTP_HATCH_WAKE_TIME  1

/* ":65535" */

#define NGX_HTTP_HATCH_PORT_LEN   6


static void ngx_http_hatch_no_value(ngx_http_variable_value_t *v);
static ngx_int_t ngx_http_hatch_id_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_hatch_wake_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_hatch_key_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_hatch_host_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_hatch_port_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_hatch_connection_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_uint_t ngx_http_hatch_is_routed(ngx_http_request_t *r);
static ngx_uint_t ngx_http_hatch_client_port(ngx_http_request_t *r);


static ngx_http_variable_t  ngx_http_hatch_vars[] = {

    { ngx_string("hatch_vm_id"), NULL, ngx_http_hatch_id_variable,
      NGX_HTTP_HATCH_VM_ID, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hatch_route_id"), NULL, ngx_http_hatch_id_variable,
      NGX_HTTP_HATCH_ROUTE_ID, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hatch_wake"), NULL, ngx_http_hatch_wake_variable,
      NGX_HTTP_HATCH_WAKE, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hatch_wake_time"), NULL, ngx_http_hatch_wake_variable,
      NGX_HTTP_HATCH_WAKE_TIME, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hatch_api_key"), NULL, ngx_http_hatch_key_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hatch_host"), NULL, ngx_http_hatch_host_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE|NGX_HTTP_VAR_CHANGEABLE, 0 },

    { ngx_string("hatch_port"), NULL, ngx_http_hatch_port_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE|NGX_HTTP_VAR_CHANGEABLE, 0 },

    { ngx_string("hatch_connection"), NULL,
      ngx_http_hatch_connection_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE|NGX_HTTP_VAR_CHANGEABLE, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_hatch_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_hatch_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/* Empty, which each getter begins with, and not kept by nginx. */

static void
ngx_http_hatch_no_value(ngx_http_variable_value_t *v)
{
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;
    v->len = 0;
    v->data = (u_char *) "";
}


static ngx_int_t
ngx_http_hatch_id_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    ngx_http_hatch_ctx_t  *ctx;

    ctx = ngx_http_hatch_get_ctx(r);

    ngx_http_hatch_no_value(v);

    if (ctx == NULL || !ctx->resolved) {
        return NGX_OK;
    }

    v->data = (u_char *) (data == NGX_HTTP_HATCH_VM_ID
                          ? ctx->route.vm : hatch_target_id(&ctx->route));
    v->len = ngx_strlen(v->data);

    return NGX_OK;
}


static ngx_int_t
ngx_http_hatch_wake_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                *p;
    ngx_http_hatch_ctx_t  *ctx;

    ctx = ngx_http_hatch_get_ctx(r);

    ngx_http_hatch_no_value(v);

    if (ctx == NULL || ctx->hold == NULL
        || ctx->hold->kind == HATCH_WAKE_KIND_NONE)
    {
        return NGX_OK;
    }

    if (data == NGX_HTTP_HATCH_WAKE) {
        v->data = (u_char *) hatch_wake_kind_name(ctx->hold->kind);
        v->len = ngx_strlen(v->data);
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_INT_T_LEN + 4);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->data = p;
    v->len = ngx_sprintf(p, "%ui.%03ui", ctx->hold->time / 1000000,
                         ctx->hold->time / 1000 % 1000)
             - p;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hatch_key_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t  *name;

    name = ngx_http_hatch_keys_name(r);

    ngx_http_hatch_no_value(v);

    if (name != NULL) {
        v->len = name->len;
        v->data = name->data;
    }

    return NGX_OK;
}


/*
 * Of what the client sent only digits are used: the name is the one that the
 * route store knows, so nothing else gets into a header field of the guest's.
 */

static ngx_int_t
ngx_http_hatch_host_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char      *p;
    ngx_str_t   *host;
    ngx_uint_t   port;

    ngx_http_hatch_no_value(v);

    if (!ngx_http_hatch_is_routed(r)) {
        return NGX_OK;
    }

    host = &r->headers_in.server;
    port = ngx_http_hatch_client_port(r);

    if (port == 0) {
        v->len = host->len;
        v->data = host->data;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, host->len + NGX_HTTP_HATCH_PORT_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->data = p;
    v->len = ngx_sprintf(p, "%V:%ui", host, port) - p;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hatch_port_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char      *p;
    ngx_uint_t   port;

    ngx_http_hatch_no_value(v);

    if (!ngx_http_hatch_is_routed(r)) {
        return NGX_OK;
    }

    port = ngx_http_hatch_client_port(r);

    if (port == 0) {
        port = 80;

#if (NGX_HTTP_SSL)
        if (r->connection->ssl) {
            port = 443;
        }
#endif
    }

    p = ngx_pnalloc(r->pool, NGX_HTTP_HATCH_PORT_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->data = p;
    v->len = ngx_sprintf(p, "%ui", port) - p;

    return NGX_OK;
}


/* The field Upgrade means nothing before HTTP/1.1 and from HTTP/2 on. */

static ngx_int_t
ngx_http_hatch_connection_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_table_elt_t  *upgrade;

    upgrade = r->headers_in.upgrade;

    ngx_http_hatch_no_value(v);

    if (r->http_version == NGX_HTTP_VERSION_11
        && upgrade != NULL && upgrade->value.len != 0)
    {
        v->len = sizeof("upgrade") - 1;
        v->data = (u_char *) "upgrade";
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_hatch_is_routed(ngx_http_request_t *r)
{
    ngx_http_hatch_ctx_t  *ctx;

    ctx = ngx_http_hatch_get_ctx(r);

    return ctx != NULL && ctx->resolved;
}


/*
 * The port that the client named in the host that nginx went by, 1 to 65535,
 * or 0.  That host is the request line's where it has one (http://HOST/), or
 * HTTP/3's :authority, else the field Host; of HTTP/2's :authority nginx
 * makes the field.  headers_in.server is its beginning, in lower case and
 * without a trailing dot.
 */

static ngx_uint_t
ngx_http_hatch_client_port(ngx_http_request_t *r)
{
    u_char              *p, *last;
    ngx_uint_t           port;
    ngx_http_request_t  *m;

    /* nginx does not hand the request line's host on to subrequests */

    m = r->main;

    if (m->host_start != NULL) {
        p = m->host_start;
        last = m->http_version < NGX_HTTP_VERSION_20
               ? m->request_line.data + m->request_line.len : m->host_end;

    } else if (m->headers_in.host != NULL) {
        p = m->headers_in.host->value.data;
        last = p + m->headers_in.host->value.len;

    } else {
        return 0;
    }

    p += m->headers_in.server.len;

    if (p < last && *p == '.') {
        p++;
    }

    if (p >= last || *p++ != ':') {
        return 0;
    }

    for (port = 0; p < last && *p >= '0' && *p <= '9'; p++) {

        port = port * 10 + (*p - '0');

        if (port > 65535) {
            return 0;
        }
    }

    /* in a request line a path, arguments or the protocol may follow */

    if (p < last
        && (m->host_start == NULL || (*p != '/' && *p != '?' && *p != ' ')))
    {
        return 0;
    }

    return port;
}
