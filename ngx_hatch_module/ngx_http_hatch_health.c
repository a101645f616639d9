
/*
 * /healthz: answers from the zone and the route store alone.  No lock, no
 * other process, no work per VM; see docs/architecture.md.
 */


#include "ngx_http_hatch_module.h"
#include "ngx_http_hatch_response.h"


#define NGX_HTTP_HATCH_HEALTHZ                                                \
    "{\"status\":\"ok\",\"vm_count\":%uD,\"route_count\":%uL}"


static ngx_int_t ngx_http_hatch_count_routes(ngx_http_hatch_main_conf_t *hmcf,
    uint64_t *count, hatch_err_t *err);


ngx_int_t
ngx_http_hatch_healthz_handler(ngx_http_request_t *r)
{
    uint64_t                     routes;
    ngx_int_t                    rc;
    ngx_str_t                    body;
    hatch_err_t                  err;
    hatch_zone_t                *zone;
    ngx_http_hatch_main_conf_t  *hmcf;

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_hatch_send_not_allowed(r, "GET, HEAD");
    }

    hmcf = ngx_http_hatch_main_conf(r);

    zone = ngx_hatch_zone_get(&hmcf->zone);
    if (zone == NULL) {
        return ngx_http_hatch_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                         "zone_unavailable",
                                         hmcf->zone.reason.text, 1);
    }

    if (ngx_http_hatch_count_routes(hmcf, &routes, &err) != NGX_OK) {
        return ngx_http_hatch_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                         "store_unavailable", err.text, 1);
    }

    body.data = ngx_pnalloc(r->pool, sizeof(NGX_HTTP_HATCH_HEALTHZ)
                                     + NGX_INT32_LEN + NGX_INT64_LEN);
    if (body.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body.len = ngx_sprintf(body.data, NGX_HTTP_HATCH_HEALTHZ,
                           hatch_zone_vm_count(zone), routes)
               - body.data;

    return ngx_http_hatch_send_json(r, NGX_HTTP_OK, &body);
}


static ngx_int_t
ngx_http_hatch_count_routes(ngx_http_hatch_main_conf_t *hmcf, uint64_t *count,
    hatch_err_t *err)
{
    hatch_store_t  *store;

    store = ngx_hatch_store_get(&hmcf->store);
    if (store == NULL) {
        *err = hmcf->store.reason;
        return NGX_ERROR;
    }

    return hatch_store_count(store, count, err) == 0 ? NGX_OK : NGX_ERROR;
}
