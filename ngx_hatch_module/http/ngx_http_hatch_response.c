
#include "ngx_http_hatch_response.h"


#define NGX_HTTP_HATCH_TEXT_LEN  512


static ngx_int_t ngx_http_hatch_send_buf(ngx_http_request_t *r,
    ngx_uint_t status, ngx_http_hatch_format_t format, ngx_buf_t *b);


ngx_int_t
ngx_http_hatch_send_json(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *body)
{
    return ngx_http_hatch_send(r, status, NGX_HTTP_HATCH_JSON, body);
}


ngx_int_t
ngx_http_hatch_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_http_hatch_format_t format, ngx_str_t *body)
{
    ngx_buf_t  *b;

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->pos = body->data;
    b->last = body->data + body->len;

    return ngx_http_hatch_send_buf(r, status, format, b);
}


ngx_int_t
ngx_http_hatch_send_copy(ngx_http_request_t *r, ngx_uint_t status,
    ngx_http_hatch_format_t format, ngx_str_t *body)
{
    ngx_buf_t  *b;

    /* the text behind its buffer, in one piece */

    b = ngx_palloc(r->pool, sizeof(ngx_buf_t) + body->len);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(b, sizeof(ngx_buf_t));
    b->pos = (u_char *) (b + 1);
    b->last = ngx_cpymem(b->pos, body->data, body->len);

    return ngx_http_hatch_send_buf(r, status, format, b);
}


static ngx_int_t
ngx_http_hatch_send_buf(ngx_http_request_t *r, ngx_uint_t status,
    ngx_http_hatch_format_t format, ngx_buf_t *b)
{
    ngx_int_t    rc;
    ngx_chain_t  out;

    r->headers_out.content_length_n = b->last - b->pos;

    if (ngx_http_hatch_set_headers(r, status, format) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b->memory = 1;
    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


ngx_int_t
ngx_http_hatch_set_headers(ngx_http_request_t *r, ngx_uint_t status,
    ngx_http_hatch_format_t format)
{
    r->headers_out.status = status;
    ngx_http_hatch_set_type(r, format);

    return ngx_http_hatch_add_header(r, "Cache-Control",
                                     (u_char *) "no-store",
                                     sizeof("no-store") - 1);
}


ngx_int_t
ngx_http_hatch_send_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, const char *text, ngx_uint_t retry)
{
    u_char    *p;
    ngx_str_t  body;

    if (ngx_http_hatch_error_body(r->pool, &body, code, (u_char *) text,
                                  ngx_strlen(text))
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (status == NGX_HTTP_SERVICE_UNAVAILABLE
        || status == NGX_HTTP_GATEWAY_TIME_OUT)
    {
        p = ngx_pnalloc(r->pool, NGX_INT_T_LEN);

        if (p == NULL
            || ngx_http_hatch_add_header(r, "Retry-After", p,
                                         ngx_sprintf(p, "%ui", retry) - p)
               != NGX_OK)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    return ngx_http_hatch_send_json(r, status, &body);
}


ngx_int_t
ngx_http_hatch_send_error_f(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, const char *format, ...)
{
    u_char   *last, text[NGX_HTTP_HATCH_TEXT_LEN];
    va_list   args;

    va_start(args, format);
    last = ngx_vslprintf(text, text + NGX_HTTP_HATCH_TEXT_LEN - 1, format,
                         args);
    va_end(args);

    *last = '\0';

    return ngx_http_hatch_send_error(r, status, code, (char *) text, 1);
}


ngx_int_t
ngx_http_hatch_send_not_allowed(ngx_http_request_t *r, const char *allow)
{
    if (ngx_http_hatch_add_header(r, "Allow", (u_char *) allow,
                                  ngx_strlen(allow))
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_hatch_send_error_f(r, NGX_HTTP_NOT_ALLOWED,
                                       "method_not_allowed",
                                       "method not allowed, use %s", allow);
}


ngx_int_t
ngx_http_hatch_read_only(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    return r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)
           ? NGX_DECLINED : ngx_http_hatch_send_not_allowed(r, "GET, HEAD");
}


ngx_int_t
ngx_http_hatch_error_body(ngx_pool_t *pool, ngx_str_t *body, const char *code,
    u_char *text, size_t len)
{
    u_char  *p;

    p = ngx_pnalloc(pool, sizeof("{\"error\":\"\",\"code\":\"\"}") + len
                          + (size_t) ngx_escape_json(NULL, text, len)
                          + ngx_strlen(code));
    if (p == NULL) {
        return NGX_ERROR;
    }

    body->data = p;

    p = ngx_cpymem(p, "{\"error\":\"", sizeof("{\"error\":\"") - 1);
    p = (u_char *) ngx_escape_json(p, text, len);
    p = ngx_sprintf(p, "\",\"code\":\"%s\"}", code);

    body->len = p - body->data;

    return NGX_OK;
}


ngx_int_t
ngx_http_hatch_push_header(ngx_http_request_t *r, const char *key,
    size_t key_len, u_char *value, size_t len)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
#if (nginx_version >= 1023000)
    h->next = NULL;
#endif
    h->key.len = key_len;
    h->key.data = (u_char *) key;
    h->value.len = len;
    h->value.data = value;

    return NGX_OK;
}
