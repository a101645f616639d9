
/* Answers of the module's own: JSON bodies and errors. */


#ifndef _NGX_HTTP_HATCH_RESPONSE_H_INCLUDED_
#define _NGX_HTTP_HATCH_RESPONSE_H_INCLUDED_


#include "ngx_http_hatch_accept.h"


/*
 * Sends body as application/json with Cache-Control: no-store and returns
 * what a content handler returns.  The request's body must have been read or
 * discarded.
 */
ngx_int_t ngx_http_hatch_send_json(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *body);

/* The same in one of the formats of figures. */
ngx_int_t ngx_http_hatch_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_http_hatch_format_t format, ngx_str_t *body);

/* The same with a text that may change before the client has read it. */
ngx_int_t ngx_http_hatch_send_copy(ngx_http_request_t *r, ngx_uint_t status,
    ngx_http_hatch_format_t format, ngx_str_t *body);

/* What all answers have: the status, the type, and Cache-Control. */
ngx_int_t ngx_http_hatch_set_headers(ngx_http_request_t *r, ngx_uint_t status,
    ngx_http_hatch_format_t format);

/*
 * Sends {"error":text,"code":code}; the text is escaped here.  A 503 and a
 * 504 get Retry-After with that many seconds.
 */
ngx_int_t ngx_http_hatch_send_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, const char *text, ngx_uint_t retry);

/* The same with a printf-like text (ngx_snprintf). */
ngx_int_t ngx_http_hatch_send_error_f(ngx_http_request_t *r,
    ngx_uint_t status, const char *code, const char *format, ...);

/* 405 with Allow. */
ngx_int_t ngx_http_hatch_send_not_allowed(ngx_http_request_t *r,
    const char *allow);

/*
 * Drops the request's body and refuses all but GET and HEAD.  NGX_DECLINED:
 * go on; all else is for the handler to return.
 */
ngx_int_t ngx_http_hatch_read_only(ngx_http_request_t *r);

/* Makes the body of send_error(). */
ngx_int_t ngx_http_hatch_error_body(ngx_pool_t *pool, ngx_str_t *body,
    const char *code, u_char *text, size_t len);

/* Adds a header: a literal, and a value that lives as long as the request. */
#define ngx_http_hatch_add_header(r, key, value, len)                         \
    ngx_http_hatch_push_header(r, key "", sizeof(key) - 1, value, len)

/* The answer depends on Accept. */
#define ngx_http_hatch_vary(r)                                                \
    ngx_http_hatch_add_header(r, "Vary", (u_char *) "Accept",                 \
                              sizeof("Accept") - 1)

ngx_int_t ngx_http_hatch_push_header(ngx_http_request_t *r, const char *key,
    size_t key_len, u_char *value, size_t len);


#endif /* _NGX_HTTP_HATCH_RESPONSE_H_INCLUDED_ */
