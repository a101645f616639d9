
/*
 * The Accept header (RFC 9110, 12.5.1), for the three formats that figures
 * are served in.
 */


#ifndef _NGX_HTTP_HATCH_ACCEPT_H_INCLUDED_
#define _NGX_HTTP_HATCH_ACCEPT_H_INCLUDED_


#include "ngx_http_hatch_module.h"


typedef enum {
    NGX_HTTP_HATCH_JSON = 0,
    NGX_HTTP_HATCH_TEXT,            /* Prometheus text 0.0.4 */
    NGX_HTTP_HATCH_OPENMETRICS,     /* OpenMetrics 1.0.0 */
    NGX_HTTP_HATCH_FORMATS
} ngx_http_hatch_format_t;


/*
 * The format that the caller prefers to `otherwise` (JSON or TEXT), by the
 * q-values of the most specific ranges; or else `otherwise`: without Accept,
 * with a malformed one, or if nothing is acceptable.  JSON is only given if
 * it is `otherwise`.
 */
ngx_http_hatch_format_t ngx_http_hatch_accept(ngx_http_request_t *r,
    ngx_http_hatch_format_t otherwise);

/* The value of Content-Type, and how much of it is the type alone. */
void ngx_http_hatch_set_type(ngx_http_request_t *r,
    ngx_http_hatch_format_t format);


#endif /* _NGX_HTTP_HATCH_ACCEPT_H_INCLUDED_ */
