
/*
 * $hatch_vm_id      the VM that a request was for, or empty
 * $hatch_route_id   its route
 * $hatch_wake       how the VM was woken for it: resume, restore, boot, empty
 * $hatch_wake_time  how long it was held for that, in seconds with
 *                   milliseconds, or empty
 * $hatch_api_key    the name of the request's API key, or empty
 */


#include "ngx_http_hatch_keys.h"


#define NGX_HTTP_HATCH_VM_ID      0
#define NGX_HTTP_HATCH_ROUTE_ID   1

#define NGX_HTTP_HATCH_WAKE       0
#define NGX_HTTP_HATCH_WAKE_TIME  1


static ngx_int_t ngx_http_hatch_id_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_hatch_wake_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_hatch_key_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);


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


static ngx_int_t
ngx_http_hatch_id_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    ngx_http_hatch_ctx_t  *ctx;

    ctx = ngx_http_hatch_get_ctx(r);

    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    if (ctx == NULL || !ctx->resolved) {
        v->len = 0;
        v->data = (u_char *) "";
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

    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    if (ctx == NULL || ctx->hold == NULL
        || ctx->hold->kind == HATCH_WAKE_KIND_NONE)
    {
        v->len = 0;
        v->data = (u_char *) "";
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

    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;
    v->len = name ? name->len : 0;
    v->data = name ? name->data : (u_char *) "";

    return NGX_OK;
}
