
#include "ngx_http_hatch_accept.h"


/* How exactly a range names a format; the most exact one counts. */

#define NGX_HTTP_HATCH_NO_RANGE   0
#define NGX_HTTP_HATCH_ANY        1     /* star/star */
#define NGX_HTTP_HATCH_ANY_OF     2     /* text/star */
#define NGX_HTTP_HATCH_TYPE       3     /* text/plain */
#define NGX_HTTP_HATCH_VERSION    4     /* text/plain;version=0.0.4 */


typedef struct {
    ngx_uint_t   q[NGX_HTTP_HATCH_FORMATS];     /* thousandths */
    ngx_uint_t   exact[NGX_HTTP_HATCH_FORMATS];
} ngx_http_hatch_accept_t;


typedef struct {
    ngx_str_t    type;
    ngx_str_t    subtype;
    ngx_str_t    version;           /* data NULL: there is none */
    ngx_uint_t   q;
} ngx_http_hatch_range_t;


static ngx_int_t ngx_http_hatch_accept_list(ngx_http_hatch_accept_t *accept,
    ngx_str_t *value);
static u_char *ngx_http_hatch_accept_range(u_char *p, u_char *last,
    ngx_http_hatch_range_t *range);
static u_char *ngx_http_hatch_accept_parameter(u_char *p, u_char *last,
    ngx_str_t *name, ngx_str_t *value);
static u_char *ngx_http_hatch_accept_token(u_char *p, u_char *last,
    ngx_str_t *token);
static u_char *ngx_http_hatch_accept_quoted(u_char *p, u_char *last,
    ngx_str_t *value);
static u_char *ngx_http_hatch_accept_space(u_char *p, u_char *last);
static ngx_int_t ngx_http_hatch_accept_q(ngx_str_t *value);
static void ngx_http_hatch_accept_match(ngx_http_hatch_accept_t *accept,
    ngx_http_hatch_range_t *range);
static ngx_uint_t ngx_http_hatch_accept_is(ngx_str_t *s, const char *text);


static const struct {
    const char  *type;
    const char  *subtype;
    const char  *version;
    ngx_str_t    header;
    size_t       type_len;              /* of header, without parameters */
} ngx_http_hatch_formats[NGX_HTTP_HATCH_FORMATS] = {

    { "application", "json", NULL, ngx_string("application/json"),
      sizeof("application/json") - 1 },

    { "text", "plain", "0.0.4",
      ngx_string("text/plain; version=0.0.4; charset=utf-8"),
      sizeof("text/plain") - 1 },

    { "application", "openmetrics-text", "1.0.0",
      ngx_string("application/openmetrics-text; version=1.0.0; "
                 "charset=utf-8"),
      sizeof("application/openmetrics-text") - 1 }
};


ngx_http_hatch_format_t
ngx_http_hatch_accept(ngx_http_request_t *r, ngx_http_hatch_format_t otherwise)
{
    ngx_uint_t                i, found;
    ngx_list_part_t          *part;
    ngx_table_elt_t          *h;
    ngx_http_hatch_accept_t   accept;
    ngx_http_hatch_format_t   best;

    found = 0;

    /* nginx keeps headers_in.accept only in some builds, and only one */

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != sizeof("accept") - 1
                || ngx_memcmp(h[i].lowcase_key, "accept", h[i].key.len) != 0)
            {
                continue;
            }

            if (!found) {
                ngx_memzero(&accept, sizeof(ngx_http_hatch_accept_t));
                found = 1;
            }

            if (ngx_http_hatch_accept_list(&accept, &h[i].value) != NGX_OK) {
                return otherwise;
            }
        }
    }

    if (!found) {
        return otherwise;
    }

    /* of two that are as welcome, plain text, unless the other was named */

    best = NGX_HTTP_HATCH_TEXT;

    if (accept.q[NGX_HTTP_HATCH_OPENMETRICS] > accept.q[best]
        || (accept.q[NGX_HTTP_HATCH_OPENMETRICS] == accept.q[best]
            && accept.exact[NGX_HTTP_HATCH_OPENMETRICS] >= NGX_HTTP_HATCH_TYPE
            && accept.q[best] != 0))
    {
        best = NGX_HTTP_HATCH_OPENMETRICS;
    }

    if (otherwise == NGX_HTTP_HATCH_JSON
        && accept.q[best] <= accept.q[otherwise])
    {
        return otherwise;
    }

    return accept.q[best] != 0 ? best : otherwise;
}


/* NGX_ERROR: it is malformed. */

static ngx_int_t
ngx_http_hatch_accept_list(ngx_http_hatch_accept_t *accept, ngx_str_t *value)
{
    u_char                  *p, *last;
    ngx_http_hatch_range_t   range;

    p = value->data;
    last = p + value->len;

    for ( ;; ) {

        /* empty elements of a list are nothing */

        p = ngx_http_hatch_accept_space(p, last);

        if (p < last && *p != ',') {
            p = ngx_http_hatch_accept_range(p, last, &range);

            if (p == NULL || (p < last && *p != ',')) {
                return NGX_ERROR;
            }

            ngx_http_hatch_accept_match(accept, &range);
        }

        if (p == last) {
            return NGX_OK;
        }

        p++;
    }
}


/* media-range [ weight ]; returns where it ends, or NULL: malformed. */

static u_char *
ngx_http_hatch_accept_range(u_char *p, u_char *last,
    ngx_http_hatch_range_t *range)
{
    u_char      *next;
    ngx_int_t    q;
    ngx_str_t    name, value;
    ngx_uint_t   weighed;

    range->q = 1000;
    ngx_str_null(&range->version);
    weighed = 0;

    p = ngx_http_hatch_accept_token(p, last, &range->type);

    if (p == NULL || p == last || *p++ != '/') {
        return NULL;
    }

    p = ngx_http_hatch_accept_token(p, last, &range->subtype);

    if (p == NULL
        || (ngx_http_hatch_accept_is(&range->type, "*")
            && !ngx_http_hatch_accept_is(&range->subtype, "*")))
    {
        return NULL;
    }

    for ( ;; ) {
        p = ngx_http_hatch_accept_space(p, last);

        if (p == last || *p != ';') {
            return p;
        }

        p = ngx_http_hatch_accept_space(p + 1, last);

        /* an empty parameter */

        if (p == last || *p == ';' || *p == ',') {
            continue;
        }

        next = ngx_http_hatch_accept_parameter(p, last, &name, &value);
        if (next == NULL) {
            return NULL;
        }

        p = next;

        if (ngx_http_hatch_accept_is(&name, "q")) {
            q = ngx_http_hatch_accept_q(&value);

            if (q == NGX_ERROR || weighed) {
                return NULL;
            }

            range->q = q;
            weighed = 1;

        } else if (ngx_http_hatch_accept_is(&name, "version")) {

            if (range->version.data != NULL) {
                return NULL;
            }

            range->version = value;
        }

        /* "charset", "escaping" and all others change nothing here */
    }
}


static u_char *
ngx_http_hatch_accept_parameter(u_char *p, u_char *last, ngx_str_t *name,
    ngx_str_t *value)
{
    p = ngx_http_hatch_accept_token(p, last, name);

    if (p == NULL || p == last || *p++ != '=' || p == last) {
        return NULL;
    }

    return *p == '"' ? ngx_http_hatch_accept_quoted(p + 1, last, value)
                     : ngx_http_hatch_accept_token(p, last, value);
}


/* 1*tchar */

static u_char *
ngx_http_hatch_accept_token(u_char *p, u_char *last, ngx_str_t *token)
{
    u_char  c;

    token->data = p;

    for ( /* void */ ; p < last; p++) {
        c = ngx_tolower(*p);

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')
              || (c != '\0' && ngx_strchr("!#$%&'*+-.^_`|~", c) != NULL)))
        {
            break;
        }
    }

    token->len = p - token->data;

    return token->len != 0 ? p : NULL;
}


/*
 * What is behind the first quote of a quoted-string.  Escapes are left as
 * they are: no value that matters here needs one.
 */

static u_char *
ngx_http_hatch_accept_quoted(u_char *p, u_char *last, ngx_str_t *value)
{
    value->data = p;

    for ( /* void */ ; p < last; p++) {

        if (*p == '"') {
            value->len = p - value->data;
            return p + 1;
        }

        if (*p == '\\' && ++p == last) {
            return NULL;
        }

        if ((*p < 0x20 && *p != '\t') || *p == 0x7f) {
            return NULL;
        }
    }

    return NULL;
}


static u_char *
ngx_http_hatch_accept_space(u_char *p, u_char *last)
{
    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    return p;
}


/* "0" or "1", up to three digits behind the point, and no more than 1. */

static ngx_int_t
ngx_http_hatch_accept_q(ngx_str_t *value)
{
    size_t      i;
    ngx_int_t   q, weight;

    if (value->len == 0 || value->len > sizeof("0.000") - 1
        || (value->data[0] != '0' && value->data[0] != '1')
        || (value->len > 1 && value->data[1] != '.'))
    {
        return NGX_ERROR;
    }

    q = (value->data[0] - '0') * 1000;
    weight = 100;

    for (i = 2; i < value->len; i++) {

        if (value->data[i] < '0' || value->data[i] > '9') {
            return NGX_ERROR;
        }

        q += (value->data[i] - '0') * weight;
        weight /= 10;
    }

    return q <= 1000 ? q : NGX_ERROR;
}


static void
ngx_http_hatch_accept_match(ngx_http_hatch_accept_t *accept,
    ngx_http_hatch_range_t *range)
{
    ngx_uint_t   i, exact;
    const char  *version;

    for (i = 0; i < NGX_HTTP_HATCH_FORMATS; i++) {

        version = ngx_http_hatch_formats[i].version;

        if (ngx_http_hatch_accept_is(&range->type, "*")) {
            exact = NGX_HTTP_HATCH_ANY;

        } else if (!ngx_http_hatch_accept_is(&range->type,
                                             ngx_http_hatch_formats[i].type))
        {
            continue;

        } else if (ngx_http_hatch_accept_is(&range->subtype, "*")) {
            exact = NGX_HTTP_HATCH_ANY_OF;

        } else if (!ngx_http_hatch_accept_is(&range->subtype,
                                           ngx_http_hatch_formats[i].subtype))
        {
            continue;

        } else if (range->version.data == NULL || version == NULL) {
            exact = NGX_HTTP_HATCH_TYPE;

        } else if (ngx_http_hatch_accept_is(&range->version, version)) {
            exact = NGX_HTTP_HATCH_VERSION;

        } else {
            continue;
        }

        if (exact > accept->exact[i]
            || (exact == accept->exact[i] && range->q > accept->q[i]))
        {
            accept->exact[i] = exact;
            accept->q[i] = range->q;
        }
    }
}


static ngx_uint_t
ngx_http_hatch_accept_is(ngx_str_t *s, const char *text)
{
    return s->len == ngx_strlen(text)
           && ngx_strncasecmp(s->data, (u_char *) text, s->len) == 0;
}


void
ngx_http_hatch_set_type(ngx_http_request_t *r, ngx_http_hatch_format_t format)
{
    r->headers_out.content_type = ngx_http_hatch_formats[format].header;
    r->headers_out.content_type_lowcase = NULL;

    /* shorter than the whole of it: no second charset is added */

    r->headers_out.content_type_len = ngx_http_hatch_formats[format].type_len;
}
