
/*
 * /healthz and /readyz: answers from the zone and the route store alone.  No
 * lock, no other process, no work per VM; see docs/architecture.md.
 */


#include "ngx_http_hatch_module.h"
#include "ngx_http_hatch_response.h"

#include "hatch_clock.h"


#define NGX_HTTP_HATCH_HEALTHZ                                                \
    "{\"status\":\"ok\",\"vm_count\":%uD,\"route_count\":%uL}"

#define NGX_HTTP_HATCH_HEALTHZ_TEXT                                           \
    "# HELP hatch_healthy 1: nginx serves and can read its data.\n"           \
    "# TYPE hatch_healthy gauge\n"                                            \
    "hatch_healthy 1\n"                                                       \
    "# HELP hatch_vms VMs that Hatch manages, in any state.\n"                \
    "# TYPE hatch_vms gauge\n"                                                \
    "hatch_vms %uD\n"                                                         \
    "# HELP hatch_routes Proxy routes.\n"                                     \
    "# TYPE hatch_routes gauge\n"                                             \
    "hatch_routes %uL\n"

#define NGX_HTTP_HATCH_READYZ                                                 \
    "{\"status\":\"%s\",\"reason\":%s%s%s,\"age_seconds\":%s,"                \
    "\"max_age_seconds\":%ui.%03ui,\"agent\":\"%s\",\"libvirt\":\"%s\"}"

#define NGX_HTTP_HATCH_REASON  320


/* What /healthz said last, in one format. */

typedef struct {
    uint32_t     vms;
    uint64_t     routes;
    ngx_str_t    text;
    u_char       data[sizeof(NGX_HTTP_HATCH_HEALTHZ_TEXT "# EOF\n")
                      + NGX_INT32_LEN + NGX_INT64_LEN];
} ngx_http_hatch_healthz_t;


/* What /readyz shows. */

typedef struct {
    const char  *status;
    const char  *agent;
    const char  *libvirt;
    ngx_uint_t   unready;
    u_char       age[NGX_INT64_LEN + 5];        /* s, or "null" */
    u_char       reason[6 * NGX_HTTP_HATCH_REASON + 1];     /* as JSON */
} ngx_http_hatch_ready_t;


static ngx_str_t *ngx_http_hatch_healthz_text(ngx_http_hatch_format_t format,
    uint32_t vms, uint64_t routes);
static void ngx_http_hatch_ready(ngx_http_request_t *r,
    ngx_http_hatch_ready_t *ready);
static void ngx_http_hatch_ready_notice(ngx_http_hatch_ready_t *ready,
    hatch_zone_t *zone);
static ngx_uint_t ngx_http_hatch_ready_agent(ngx_http_request_t *r,
    ngx_http_hatch_ready_t *ready);
static void ngx_http_hatch_ready_reason(ngx_http_hatch_ready_t *ready,
    const char *status, const char *format, ...);


ngx_int_t
ngx_http_hatch_healthz_handler(ngx_http_request_t *r)
{
    uint64_t                     routes;
    ngx_int_t                    rc;
    hatch_err_t                  err;
    ngx_str_t                   *text;
    hatch_zone_t                *zone;
    ngx_http_hatch_format_t      format;
    ngx_http_hatch_main_conf_t  *hmcf;

    rc = ngx_http_hatch_read_only(r);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (ngx_http_hatch_vary(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    hmcf = ngx_http_hatch_main_conf(r);

    zone = ngx_hatch_zone_get(&hmcf->zone);
    if (zone == NULL) {
        return ngx_http_hatch_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                         "zone_unavailable",
                                         hmcf->zone.reason.text, 1);
    }

    if (ngx_hatch_store_count(&hmcf->store, &routes, &err) != NGX_OK) {
        return ngx_http_hatch_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                         "store_unavailable", err.text, 1);
    }

    format = ngx_http_hatch_accept(r, NGX_HTTP_HATCH_JSON);
    text = ngx_http_hatch_healthz_text(format, hatch_zone_vm_count(zone),
                                       routes);

    return ngx_http_hatch_send_copy(r, NGX_HTTP_OK, format, text);
}


/* As long as the counts stay, so does the text. */

static ngx_str_t *
ngx_http_hatch_healthz_text(ngx_http_hatch_format_t format, uint32_t vms,
    uint64_t routes)
{
    u_char                    *p;
    ngx_http_hatch_healthz_t  *h;

    static ngx_http_hatch_healthz_t  texts[NGX_HTTP_HATCH_FORMATS];

    h = &texts[format];

    if (h->text.len != 0 && h->vms == vms && h->routes == routes) {
        return &h->text;
    }

    p = ngx_sprintf(h->data, format == NGX_HTTP_HATCH_JSON
                             ? NGX_HTTP_HATCH_HEALTHZ
                             : NGX_HTTP_HATCH_HEALTHZ_TEXT, vms, routes);

    if (format == NGX_HTTP_HATCH_OPENMETRICS) {
        p = ngx_cpymem(p, "# EOF\n", sizeof("# EOF\n") - 1);
    }

    h->vms = vms;
    h->routes = routes;
    h->text.data = h->data;
    h->text.len = p - h->data;

    return &h->text;
}


ngx_int_t
ngx_http_hatch_readyz_handler(ngx_http_request_t *r)
{
    ngx_int_t                rc;
    ngx_str_t                body;
    ngx_uint_t               max_age, reason;
    ngx_http_hatch_ready_t  *ready;

    rc = ngx_http_hatch_read_only(r);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    ready = ngx_palloc(r->pool, sizeof(ngx_http_hatch_ready_t));
    if (ready == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_hatch_ready(r, ready);

    body.data = ngx_pnalloc(r->pool, sizeof(NGX_HTTP_HATCH_READYZ)
                                     + sizeof(ngx_http_hatch_ready_t)
                                     + 3 * sizeof("disconnected")
                                     + 2 * NGX_INT_T_LEN);
    if (body.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    max_age = ngx_http_hatch_loc_conf(r)->max_age;
    reason = ready->reason[0] != '\0';

    body.len = ngx_sprintf(body.data, NGX_HTTP_HATCH_READYZ, ready->status,
                           reason ? "\"" : "null", ready->reason,
                           reason ? "\"" : "", ready->age, max_age / 1000,
                           max_age % 1000, ready->agent, ready->libvirt)
               - body.data;

    return ngx_http_hatch_send_json(r, ready->unready
                                       ? NGX_HTTP_SERVICE_UNAVAILABLE
                                       : NGX_HTTP_OK, &body);
}


static void
ngx_http_hatch_ready(ngx_http_request_t *r, ngx_http_hatch_ready_t *ready)
{
    uint64_t                     routes;
    hatch_err_t                  err;
    ngx_uint_t                   up;
    hatch_zone_t                *zone;
    ngx_http_hatch_main_conf_t  *hmcf;

    hmcf = ngx_http_hatch_main_conf(r);

    zone = ngx_hatch_zone_get(&hmcf->zone);
    up = ngx_http_hatch_ready_agent(r, ready);

    ready->status = "ready";
    ready->unready = 1;
    ready->reason[0] = '\0';

    if (zone == NULL) {
        ngx_http_hatch_ready_reason(ready, "starting", "%s",
                                    hmcf->zone.reason.text);

    } else if (!up) {
        ngx_http_hatch_ready_reason(ready, "stale", "the agent gave its last "
                                    "sign of life %s s ago, more than "
                                    "max_age", ready->age);

    } else if (hatch_zone_libvirt(zone) != HATCH_LIBVIRT_CONNECTED) {
        ngx_http_hatch_ready_reason(ready, "disconnected", "the agent is not "
                                    "connected to libvirt");

    } else if (ngx_hatch_store_count(&hmcf->store, &routes, &err) != NGX_OK) {
        ngx_http_hatch_ready_reason(ready, "starting", "%s", err.text);

    } else {
        ngx_http_hatch_ready_notice(ready, zone);
    }
}


/* It is ready, and there may be something to say of the host all the same. */

static void
ngx_http_hatch_ready_notice(ngx_http_hatch_ready_t *ready, hatch_zone_t *zone)
{
    char            text[HATCH_NOTICE_TEXT];
    uint32_t        ms;
    hatch_notice_t  notice;

    ready->unready = 0;

    notice = hatch_zone_notice(zone, &ms);

    if (notice != HATCH_NOTICE_NONE) {
        hatch_notice_text(notice, ms, text);
        ngx_http_hatch_ready_reason(ready, "ready", "%s", text);
    }
}


/* What the agent last said, also before it has published.  1: it is alive. */

static ngx_uint_t
ngx_http_hatch_ready_agent(ngx_http_request_t *r,
    ngx_http_hatch_ready_t *ready)
{
    uint64_t                     age;
    hatch_zone_t                *zone;
    ngx_http_hatch_main_conf_t  *hmcf;

    static const char *const  libvirt[] = {
        "unknown", "connected", "disconnected"
    };

    ready->agent = "unknown";
    ready->libvirt = "unknown";
    ngx_memcpy(ready->age, "null", sizeof("null"));

    hmcf = ngx_http_hatch_main_conf(r);
    zone = hmcf->zone.map ? &hmcf->zone.map->zone : NULL;

    if (zone == NULL || !hatch_zone_intact(zone)
        || hatch_zone_heartbeat(zone) == 0)
    {
        return 0;
    }

    age = ngx_hatch_zone_age(hatch_zone_heartbeat(zone));
    *ngx_sprintf(ready->age, "%uL.%03uL", age / 1000, age % 1000) = '\0';

    if (age > ngx_http_hatch_loc_conf(r)->max_age) {
        ready->agent = "down";
        return 0;
    }

    /* only one that lives knows */

    ready->agent = "up";
    ready->libvirt = libvirt[hatch_zone_libvirt(zone)];

    return 1;
}


static void
ngx_http_hatch_ready_reason(ngx_http_hatch_ready_t *ready, const char *status,
    const char *format, ...)
{
    u_char   *last, text[NGX_HTTP_HATCH_REASON];
    va_list   args;

    ready->status = status;

    va_start(args, format);
    last = ngx_vslprintf(text, text + NGX_HTTP_HATCH_REASON, format, args);
    va_end(args);

    *ngx_http_hatch_escape(ready->reason, text, last - text) = '\0';
}
