
/* Answers of the module's own: JSON bodies and errors. */


#ifndef _NGX_HTTP_HATCH_RESPONSE_H_INCLUDED_
#define _NGX_HTTP_HATCH_RESPONSE_H_INCLUDED_


#include "ngx_http_hatch_accept.h"


/*
 * All answers of the module go through ngx_http_hatch_send(), or begin with
 * ngx_http_hatch_set_headers(): it drops what is left of the request's body
 * (and lets nobody send it who waits for "100 Continue"), keeps conditional
 * headers from changing the answer, and sets the type and Cache-Control:
 * no-store.  A 503 and a 504 get Retry-After: 1 unless the caller has another.
 * OPTIONS of a health endpoint gets 204 where GET has 200.
 *
 * They return what a content handler returns.  Other handlers give that to
 * ngx_http_hatch_finalize().
 */
ngx_int_t ngx_http_hatch_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_http_hatch_format_t format, ngx_str_t *body);

/* The same as application/json. */
ngx_int_t ngx_http_hatch_send_json(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *body);

/* The same with a text that may change before the client has read it. */
ngx_int_t ngx_http_hatch_send_copy(ngx_http_request_t *r, ngx_uint_t status,
    ngx_http_hatch_format_t format, ngx_str_t *body);

/*
 * The beginning of an answer whose body comes later: NGX_OK, or what the
 * handler returns.
 */
ngx_int_t ngx_http_hatch_set_headers(ngx_http_request_t *r, ngx_uint_t status,
    ngx_http_hatch_format_t format);

/*
 * Sends {"error":text,"code":code}; the text is made UTF-8 and escaped here.
 * A 503 and a 504 get Retry-After with that many seconds.
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
 * For handlers of a phase, of a body and of events: ends the request with rc,
 * unless that says that the answer comes later.  NGX_DECLINED stays, all else
 * becomes NGX_DONE.
 */
ngx_int_t ngx_http_hatch_finalize(ngx_http_request_t *r, ngx_int_t rc);

/*
 * Refuses all but GET, HEAD and OPTIONS.  NGX_DECLINED: go on; all else is
 * for the handler to return.
 */
ngx_int_t ngx_http_hatch_read_only(ngx_http_request_t *r);

/*
 * Text as what stands between the quotes of a JSON string: what is no UTF-8
 * becomes U+FFFD.  At most NGX_HTTP_HATCH_ESCAPED times as long.
 */
#define NGX_HTTP_HATCH_ESCAPED  6

u_char *ngx_http_hatch_escape(u_char *p, u_char *text, size_t len);

/*
 * The length of the UTF-8 character at p, 0 if it is none (RFC 3629); len is
 * not 0.  nginx's own ngx_utf8_decode() is not strict.
 */
size_t ngx_http_hatch_utf8(u_char *p, size_t len);

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
