
/*
 * The arguments of an endpoint.  One that it does not take is a mistake of the
 * caller's, who would wonder why it does nothing.
 */


#include "ngx_http_hatch_api.h"
#include "ngx_http_hatch_response.h"


/* Of a client's text, an answer shows no more than this. */
#define NGX_HTTP_HATCH_SHOWN  40


static ngx_int_t ngx_http_hatch_api_arg(ngx_http_request_t *r,
    ngx_http_hatch_api_arg_t *args, ngx_str_t *name, ngx_str_t *value);
static ngx_int_t ngx_http_hatch_api_unescape(ngx_http_request_t *r,
    ngx_str_t *text, u_char *p, u_char *last);
static ngx_int_t ngx_http_hatch_api_bad_arg(ngx_http_request_t *r,
    ngx_str_t *name, const char *text);


ngx_int_t
ngx_http_hatch_api_args(ngx_http_request_t *r, ngx_http_hatch_api_arg_t *args)
{
    u_char     *p, *end, *last, *equals;
    ngx_int_t   rc;
    ngx_str_t   name, value;

    last = r->args.data + r->args.len;

    for (p = r->args.data; p < last; p = end + 1) {

        end = ngx_strlchr(p, last, '&');
        end = end ? end : last;

        if (p == end) {
            continue;
        }

        equals = ngx_strlchr(p, end, '=');
        equals = equals ? equals : end;

        rc = ngx_http_hatch_api_unescape(r, &name, p, equals);

        if (rc == NGX_DECLINED) {
            rc = ngx_http_hatch_api_unescape(r, &value,
                                             ngx_min(equals + 1, end), end);
        }

        if (rc == NGX_DECLINED) {
            rc = ngx_http_hatch_api_arg(r, args, &name, &value);
        }

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_hatch_api_arg(ngx_http_request_t *r, ngx_http_hatch_api_arg_t *args,
    ngx_str_t *name, ngx_str_t *value)
{
    for ( /* void */ ; args != NULL && args->name.len != 0; args++) {

        if (args->name.len != name->len
            || ngx_memcmp(args->name.data, name->data, name->len) != 0)
        {
            continue;
        }

        if (args->value.data != NULL) {
            return ngx_http_hatch_api_bad_arg(r, name, "is given twice");
        }

        args->value = *value;

        return NGX_DECLINED;
    }

    return ngx_http_hatch_api_bad_arg(r, name,
                                      "is not known to this endpoint");
}


/* NGX_DECLINED and a text that is not NULL, or the answer. */

static ngx_int_t
ngx_http_hatch_api_unescape(ngx_http_request_t *r, ngx_str_t *text, u_char *p,
    u_char *last)
{
    u_char     *dst;
    ngx_int_t   c;
    ngx_str_t   raw;

    raw.data = p;
    raw.len = last - p;

    dst = ngx_pnalloc(r->pool, raw.len + 1);
    if (dst == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    text->data = dst;

    for ( /* void */ ; p < last; p++) {

        if (*p == '+') {
            *dst++ = ' ';
            continue;
        }

        if (*p != '%') {
            *dst++ = *p;
            continue;
        }

        c = last - p > 2 ? ngx_hextoi(p + 1, 2) : NGX_ERROR;

        if (c == NGX_ERROR || c == 0) {
            return ngx_http_hatch_api_bad_arg(r, &raw,
                                              "has an invalid escape");
        }

        *dst++ = (u_char) c;
        p += 2;
    }

    text->len = dst - text->data;

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_hatch_api_bad_arg(ngx_http_request_t *r, ngx_str_t *name,
    const char *text)
{
    return ngx_http_hatch_send_error_f(r, NGX_HTTP_BAD_REQUEST,
                                       "invalid_argument",
                                       "the argument \"%*s\" %s",
                                       ngx_min(name->len,
                                               NGX_HTTP_HATCH_SHOWN),
                                       name->data, text);
}
