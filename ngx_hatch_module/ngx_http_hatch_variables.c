
/*
 * $hatch_vm_id      the VM that a request was for, or empty
 * $hatch_route_id   its route
 * $hatch_wake       how the VM was woken for it: resume, restore, boot, empty
 * $hatch_wake_time  how long that took, in seconds with milliseconds, or empty
 */


#include "ngx_http_hatch_module.h"


static ngx_int_t ngx_http_hatch_id_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_hatch_wake_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);


static ngx_http_variable_t  ngx_http_hatch_vars[] = {

    { ngx_string("hatch_vm_id"), NULL, ngx_http_hatch_id_variable,
      offsetof(ngx_http_hatch_ctx_t, route.vm), NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hatch_route_id"), NULL, ngx_http_hatch_id_variable,
      offsetof(ngx_http_hatch_ctx_t, route.id), NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hatch_wake"), NULL, ngx_http_hatch_wake_variable,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hatch_wake_time"), NULL, ngx_http_hatch_wake_variable,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

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

    v->data = (u_char *) ctx + data;
    v->len = ngx_strlen(v->data);

    return NGX_OK;
}


/* Nothing is woken yet: hatch_route refuses a VM that is not running. */

static ngx_int_t
ngx_http_hatch_wake_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;
    v->len = 0;
    v->data = (u_char *) "";

    return NGX_OK;
}
