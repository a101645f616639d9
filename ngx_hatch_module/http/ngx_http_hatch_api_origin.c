
/*
 * A web page of another origin must not change anything.
 *
 * A browser lets any page send a POST, and what looks at no header of it
 * cannot tell the operator from a page that the operator looks at.  But it
 * says in Origin whose page that is.  Programs send none.
 */


#include "ngx_http_hatch_api.h"
#include "ngx_http_hatch_response.h"


/* A longer one is not repeated in the answer. */
#define NGX_HTTP_HATCH_ORIGIN_MAX  256


typedef struct {
    ngx_str_t    host;
    ngx_int_t    port;
} ngx_http_hatch_authority_t;


static ngx_uint_t ngx_http_hatch_api_own_origin(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_int_t ngx_http_hatch_api_authority(ngx_str_t *text, ngx_int_t port,
    ngx_http_hatch_authority_t *authority);
static ngx_int_t ngx_http_hatch_api_refuse_origin(ngx_http_request_t *r,
    ngx_str_t *value);


ngx_int_t
ngx_http_hatch_api_check_origin(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_OPTIONS)) {
        return NGX_DECLINED;
    }

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len == sizeof("origin") - 1
                && ngx_strncmp(h[i].lowcase_key, "origin",
                               sizeof("origin") - 1)
                   == 0
                && !ngx_http_hatch_api_own_origin(r, &h[i].value))
            {
                return ngx_http_hatch_api_refuse_origin(r, &h[i].value);
            }
        }
    }

    return NGX_DECLINED;
}


/* Is it the scheme, host and port that the request itself was sent to? */

static ngx_uint_t
ngx_http_hatch_api_own_origin(ngx_http_request_t *r, ngx_str_t *value)
{
    ngx_int_t                   port;
    ngx_str_t                   scheme, text;
    ngx_http_hatch_authority_t  origin, own;

    ngx_str_set(&scheme, "http://");
    port = 80;

#if (NGX_HTTP_SSL)
    if (r->connection->ssl) {
        ngx_str_set(&scheme, "https://");
        port = 443;
    }
#endif

    if (r->headers_in.host == NULL || value->len < scheme.len
        || ngx_strncasecmp(value->data, scheme.data, scheme.len) != 0)
    {
        return 0;
    }

    text.data = value->data + scheme.len;
    text.len = value->len - scheme.len;

    return ngx_http_hatch_api_authority(&text, port, &origin) == NGX_OK
           && ngx_http_hatch_api_authority(&r->headers_in.host->value, port,
                                           &own)
              == NGX_OK
           && origin.port == own.port
           && origin.host.len == own.host.len
           && ngx_strncasecmp(origin.host.data, own.host.data, own.host.len)
              == 0;
}


/* host[:port], and nothing else: no user, no path, no empty port. */

static ngx_int_t
ngx_http_hatch_api_authority(ngx_str_t *text, ngx_int_t port,
    ngx_http_hatch_authority_t *authority)
{
    u_char  *p, *last, c;

    p = text->data;
    last = p + text->len;

    if (p < last && *p == '[') {

        for (p++; p < last; p++) {
            c = *p | 0x20;

            if (!(c >= 'a' && c <= 'f') && !(*p >= '0' && *p <= ':')
                && *p != '.')
            {
                break;
            }
        }

        if (p == last || *p++ != ']') {
            return NGX_DECLINED;
        }

    } else {

        for ( /* void */ ; p < last; p++) {
            c = *p | 0x20;

            if (!(c >= 'a' && c <= 'z') && !(*p >= '0' && *p <= '9')
                && *p != '-' && *p != '.' && *p != '_')
            {
                break;
            }
        }

        if (p == text->data) {
            return NGX_DECLINED;
        }
    }

    authority->host.data = text->data;
    authority->host.len = p - text->data;
    authority->port = port;

    if (p == last) {
        return NGX_OK;
    }

    if (*p++ != ':' || p == last || *p == '0') {
        return NGX_DECLINED;
    }

    authority->port = ngx_atoi(p, last - p);

    return authority->port > 0 && authority->port <= 65535
           ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_hatch_api_refuse_origin(ngx_http_request_t *r, ngx_str_t *value)
{
    size_t     i;
    ngx_int_t  rc;

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    for (i = 0; i < value->len; i++) {
        if (value->data[i] < ' ' || value->data[i] > '~') {
            break;
        }
    }

    if (i < value->len || i > NGX_HTTP_HATCH_ORIGIN_MAX) {
        return ngx_http_hatch_send_error(r, NGX_HTTP_FORBIDDEN,
                                         "origin_forbidden",
                                         "the header Origin must be the "
                                         "request's own scheme, host and port",
                                         1);
    }

    return ngx_http_hatch_send_error_f(r, NGX_HTTP_FORBIDDEN,
                                       "origin_forbidden",
                                       "the header Origin is \"%V\", it must "
                                       "be the request's own scheme, host and "
                                       "port", value);
}
