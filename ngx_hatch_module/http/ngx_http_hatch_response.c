
#include "ngx_http_hatch_response.h"


#define NGX_HTTP_HATCH_TEXT_LEN  512


static ngx_int_t ngx_http_hatch_send_buf(ngx_http_request_t *r,
    ngx_uint_t status, ngx_http_hatch_format_t format, ngx_buf_t *b);
static ngx_int_t ngx_http_hatch_discard_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_retry_after(ngx_http_request_t *r,
    ngx_uint_t seconds);


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

    rc = ngx_http_hatch_set_headers(r, status, format);
    if (rc != NGX_OK) {
        return rc;
    }

    if (r->headers_out.status != NGX_HTTP_NO_CONTENT) {
        r->headers_out.content_length_n = b->last - b->pos;
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
    ngx_int_t  rc;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "hatch answer: %ui", status);

    rc = ngx_http_hatch_discard_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    /* nginx would weigh conditions only now, after the change was made */

    r->disable_not_modified = 1;

    if ((status == NGX_HTTP_SERVICE_UNAVAILABLE
         || status == NGX_HTTP_GATEWAY_TIME_OUT)
        && ngx_http_hatch_retry_after(r, 1) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (r->method == NGX_HTTP_OPTIONS && status == NGX_HTTP_OK
        && ngx_http_hatch_own_handler(r->content_handler))
    {
        r->headers_out.status = NGX_HTTP_NO_CONTENT;
        r->header_only = 1;

    } else {
        r->headers_out.status = status;
        ngx_http_hatch_set_type(r, format);
    }

    if (ngx_http_hatch_add_header(r, "Cache-Control", (u_char *) "no-store",
                                  sizeof("no-store") - 1)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_OK;
}


/*
 * Nobody is told to send a body that nobody reads.  Whether it comes then
 * cannot be known, so such a connection is not used again.
 */

static ngx_int_t
ngx_http_hatch_discard_body(ngx_http_request_t *r)
{
    if (r->headers_in.expect != NULL && r == r->main && !r->expect_tested
        && r->request_body == NULL)
    {
        r->expect_tested = 1;
        r->keepalive = 0;
    }

    return ngx_http_discard_request_body(r);
}


/* Unless the caller has set it. */

static ngx_int_t
ngx_http_hatch_retry_after(ngx_http_request_t *r, ngx_uint_t seconds)
{
    u_char           *p;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &r->headers_out.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].key.len == sizeof("Retry-After") - 1
                && ngx_strncmp(h[i].key.data, "Retry-After", h[i].key.len)
                   == 0)
            {
                return NGX_OK;
            }
        }
    }

    p = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_hatch_add_header(r, "Retry-After", p,
                                     ngx_sprintf(p, "%ui", seconds) - p);
}


ngx_int_t
ngx_http_hatch_finalize(ngx_http_request_t *r, ngx_int_t rc)
{
    if (rc == NGX_DECLINED || rc == NGX_DONE) {
        return rc;
    }

    ngx_http_finalize_request(r, rc);

    return NGX_DONE;
}


ngx_int_t
ngx_http_hatch_send_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, const char *text, ngx_uint_t retry)
{
    ngx_str_t  body;

    if (ngx_http_hatch_error_body(r->pool, &body, code, (u_char *) text,
                                  ngx_strlen(text))
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (retry != 1 && ngx_http_hatch_retry_after(r, retry) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
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
    static const char  allow[] = "GET, HEAD, OPTIONS";

    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
        return NGX_DECLINED;
    }

    if (!(r->method & NGX_HTTP_OPTIONS)) {
        return ngx_http_hatch_send_not_allowed(r, allow);
    }

    if (ngx_http_hatch_add_header(r, "Allow", (u_char *) allow,
                                  sizeof(allow) - 1)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_hatch_error_body(ngx_pool_t *pool, ngx_str_t *body, const char *code,
    u_char *text, size_t len)
{
    u_char  *p;

    p = ngx_pnalloc(pool, sizeof("{\"error\":\"\",\"code\":\"\"}")
                          + NGX_HTTP_HATCH_ESCAPED * len + ngx_strlen(code));
    if (p == NULL) {
        return NGX_ERROR;
    }

    body->data = p;

    p = ngx_cpymem(p, "{\"error\":\"", sizeof("{\"error\":\"") - 1);
    p = ngx_http_hatch_escape(p, text, len);
    p = ngx_sprintf(p, "\",\"code\":\"%s\"}", code);

    body->len = p - body->data;

    return NGX_OK;
}


u_char *
ngx_http_hatch_escape(u_char *p, u_char *text, size_t len)
{
    size_t  n;

    while (len) {
        n = ngx_http_hatch_utf8(text, len);

        if (n != 0) {
            p = (u_char *) ngx_escape_json(p, text, n);

        } else {
            p = ngx_cpymem(p, "\xef\xbf\xbd", 3);
            n = 1;
        }

        text += n;
        len -= n;
    }

    return p;
}


size_t
ngx_http_hatch_utf8(u_char *p, size_t len)
{
    size_t  i, n;

    if (p[0] < 0x80) {
        return 1;
    }

    n = p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3
        : p[0] < 0xf5 ? 4 : 0;

    if (n == 0 || n > len) {
        return 0;
    }

    for (i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }

    /* longer than it need be, half of a pair of surrogates, too large */

    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)
        || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
    {
        return 0;
    }

    return n;
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
