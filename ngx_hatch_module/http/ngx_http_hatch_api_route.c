
/*
 * The route endpoints that read; what a route looks like in an answer.
 */


#include "ngx_http_hatch_api.h"
#include "ngx_http_hatch_response.h"

#include <time.h>


#define NGX_HTTP_HATCH_LIST_DEFAULT  100
#define NGX_HTTP_HATCH_LIST_MAX      1000

/* The longest JSON of a route: ids, a label, a port, two times. */
#define NGX_HTTP_HATCH_ROUTE_JSON    384


static ngx_int_t ngx_http_hatch_api_list_args(ngx_http_request_t *r,
    ngx_uint_t *limit, char *after);
static ngx_int_t ngx_http_hatch_api_link(ngx_http_request_t *r,
    ngx_uint_t limit, const char *after);
static hatch_store_t *ngx_http_hatch_api_store(ngx_http_request_t *r);
static u_char *ngx_http_hatch_api_route_json(u_char *p, hatch_route_t *route);
static u_char *ngx_http_hatch_api_time(u_char *p, uint64_t ms);


ngx_int_t
ngx_http_hatch_api_list(ngx_http_request_t *r, const char *vm)
{
    int             code, more;
    char            after[HATCH_ID_SIZE];
    u_char         *p;
    unsigned        i, n;
    ngx_int_t       rc;
    ngx_str_t       body;
    ngx_uint_t      limit;
    hatch_err_t     err;
    hatch_store_t  *store;
    hatch_route_t  *routes;

    limit = vm == NULL ? NGX_HTTP_HATCH_LIST_DEFAULT : NGX_HTTP_HATCH_LIST_MAX;

    rc = ngx_http_hatch_api_list_args(r, &limit, after);

    if (rc == NGX_DECLINED && vm != NULL) {
        rc = ngx_http_hatch_api_find_vm(r, vm);
    }

    if (rc != NGX_DECLINED) {
        return rc;
    }

    store = ngx_http_hatch_api_store(r);
    if (store == NULL) {
        return ngx_http_hatch_api_store_error(r, HATCH_ERR_UNAVAILABLE,
                                              "the route store is not open");
    }

    routes = ngx_palloc(r->pool, limit * sizeof(hatch_route_t));
    if (routes == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    code = hatch_store_list(store, vm, after[0] != '\0' ? after : NULL, routes,
                            (unsigned) limit, &n, &more, &err);
    if (code != 0) {
        return ngx_http_hatch_api_store_error(r, code, err.text);
    }

    if (more
        && ngx_http_hatch_api_link(r, limit, routes[n - 1].id) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body.data = ngx_pnalloc(r->pool, 2 + n * NGX_HTTP_HATCH_ROUTE_JSON);
    if (body.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = body.data;
    *p++ = '[';

    for (i = 0; i < n; i++) {
        if (i > 0) {
            *p++ = ',';
        }

        p = ngx_http_hatch_api_route_json(p, &routes[i]);
    }

    *p++ = ']';
    body.len = p - body.data;

    return ngx_http_hatch_send_json(r, NGX_HTTP_OK, &body);
}


/* NGX_DECLINED, or the answer to arguments that break a rule. */

static ngx_int_t
ngx_http_hatch_api_list_args(ngx_http_request_t *r, ngx_uint_t *limit,
    char *after)
{
    size_t        len;
    ngx_int_t     n, rc;
    const char   *value;
    json_object  *query;

    static const char *const  names[] = { "limit", "after", NULL };

    rc = ngx_http_hatch_api_check(r, names, &query);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    *after = '\0';
    value = hatch_json_string(query, "limit", NULL);

    if (value != NULL) {
        n = ngx_atoi((u_char *) value, ngx_strlen(value));

        if (n < 1 || n > NGX_HTTP_HATCH_LIST_MAX) {
            rc = ngx_http_hatch_send_error_f(r, NGX_HTTP_BAD_REQUEST,
                                             "invalid_argument",
                                             "\"limit\" must be 1 to %d, not "
                                             "\"%*s\"",
                                             NGX_HTTP_HATCH_LIST_MAX,
                                             ngx_min(ngx_strlen(value), 40),
                                             value);
            goto done;
        }

        *limit = n;
    }

    value = hatch_json_string(query, "after", NULL);

    if (value != NULL) {
        len = ngx_strlen(value);

        if (!hatch_id_valid(HATCH_ID_ROUTE, value, len)) {
            rc = ngx_http_hatch_send_error_f(r, NGX_HTTP_BAD_REQUEST,
                                             "invalid_argument",
                                             "\"after\" must be a route id, "
                                             "not \"%*s\"",
                                             ngx_min(len, 40), value);
            goto done;
        }

        (void) ngx_cpystrn((u_char *) after, (u_char *) value, len + 1);
    }

done:

    json_object_put(query);

    return rc;
}


/* Link: <...>; rel="next" (RFC 8288), where there is a next page. */

static ngx_int_t
ngx_http_hatch_api_link(ngx_http_request_t *r, ngx_uint_t limit,
    const char *after)
{
    u_char  *p, *last;
    size_t   len;

    len = r->uri.len + sizeof("<?limit=1000&after=>; rel=\"next\"")
          + HATCH_ID_SIZE;

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    /* the path is one of ours, so nothing in it needs escaping */
    last = ngx_snprintf(p, len, "<%V?limit=%ui&after=%s>; rel=\"next\"",
                        &r->uri, limit, after);

    return ngx_http_hatch_add_header(r, "Link", p, last - p);
}


/* NGX_DECLINED if the VM exists; else the error has been sent. */

ngx_int_t
ngx_http_hatch_api_find_vm(ngx_http_request_t *r, const char *vm)
{
    uint32_t                     slot;
    hatch_zone_t                *zone;
    hatch_zone_vm_t              data;
    ngx_http_hatch_main_conf_t  *hmcf;

    hmcf = ngx_http_hatch_main_conf(r);

    zone = ngx_hatch_zone_get(&hmcf->zone);
    if (zone == NULL) {
        return ngx_http_hatch_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                         "zone_unavailable",
                                         hmcf->zone.reason.text, 1);
    }

    if (hatch_zone_find(zone, vm, &slot, &data) != 0) {
        return ngx_http_hatch_send_error(r, NGX_HTTP_NOT_FOUND,
                                         "vm_not_found", "no such VM", 1);
    }

    return NGX_DECLINED;
}


static hatch_store_t *
ngx_http_hatch_api_store(ngx_http_request_t *r)
{
    return ngx_hatch_store_get(&ngx_http_hatch_main_conf(r)->store);
}


ngx_int_t
ngx_http_hatch_api_get(ngx_http_request_t *r, const char *id)
{
    ngx_int_t      rc;
    hatch_route_t  route;

    rc = ngx_http_hatch_api_check(r, NULL, NULL);

    if (rc == NGX_DECLINED) {
        rc = ngx_http_hatch_api_find_route(r, id, &route);
    }

    return rc == NGX_DECLINED
           ? ngx_http_hatch_api_send_route(r, NGX_HTTP_OK, &route) : rc;
}


/* NGX_DECLINED if the route exists; else the error has been sent. */

ngx_int_t
ngx_http_hatch_api_find_route(ngx_http_request_t *r, const char *id,
    hatch_route_t *route)
{
    int             code;
    hatch_err_t     err;
    hatch_store_t  *store;

    store = ngx_http_hatch_api_store(r);
    if (store == NULL) {
        return ngx_http_hatch_api_store_error(r, HATCH_ERR_UNAVAILABLE,
                                              "the route store is not open");
    }

    code = hatch_store_get(store, id, route, &err);

    return code == 0 ? NGX_DECLINED
                     : ngx_http_hatch_api_store_error(r, code, err.text);
}


ngx_int_t
ngx_http_hatch_api_store_error(ngx_http_request_t *r, int code,
    const char *text)
{
    switch (code) {

    case HATCH_ERR_NOT_FOUND:
        return ngx_http_hatch_send_error(r, NGX_HTTP_NOT_FOUND,
                                         "route_not_found", text, 1);

    case HATCH_ERR_EXISTS:
        return ngx_http_hatch_send_error(r, NGX_HTTP_CONFLICT,
                                         "subdomain_taken", text, 1);

    case HATCH_ERR_FULL:
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "hatch: %s", text);
        return ngx_http_hatch_send_error(r, NGX_HTTP_INSUFFICIENT_STORAGE,
                                         "store_full", text, 1);

    case HATCH_ERR_BUSY:
    case HATCH_ERR_UNAVAILABLE:
        return ngx_http_hatch_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                         "store_unavailable", text, 1);

    default:
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "hatch: %s", text);
        return ngx_http_hatch_send_error(r, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                         "store_failed", text, 1);
    }
}


ngx_int_t
ngx_http_hatch_api_send_route(ngx_http_request_t *r, ngx_uint_t status,
    hatch_route_t *route)
{
    ngx_str_t  body;

    body.data = ngx_pnalloc(r->pool, NGX_HTTP_HATCH_ROUTE_JSON);
    if (body.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body.len = ngx_http_hatch_api_route_json(body.data, route) - body.data;

    return ngx_http_hatch_send_json(r, status, &body);
}


/* Ids and labels have no character that JSON would escape. */

static u_char *
ngx_http_hatch_api_route_json(u_char *p, hatch_route_t *route)
{
    p = ngx_sprintf(p, "{\"id\":\"%s\",\"vm_id\":\"%s\",\"subdomain\":\"%s\","
                    "\"target_port\":%ui,\"auto_wake\":%s,\"created_at\":\"",
                    route->id, route->vm, route->subdomain,
                    (ngx_uint_t) route->target_port,
                    route->auto_wake ? "true" : "false");
    p = ngx_http_hatch_api_time(p, route->created);
    p = ngx_cpymem(p, "\",\"updated_at\":\"",
                   sizeof("\",\"updated_at\":\"") - 1);
    p = ngx_http_hatch_api_time(p, route->updated);
    *p++ = '"';
    *p++ = '}';

    return p;
}


/* ISO 8601, UTC, with milliseconds. */

static u_char *
ngx_http_hatch_api_time(u_char *p, uint64_t ms)
{
    ngx_tm_t  tm;

    ngx_gmtime((time_t) (ms / 1000), &tm);

    return ngx_sprintf(p, "%4d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                       tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                       tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec,
                       (int) (ms % 1000));
}
