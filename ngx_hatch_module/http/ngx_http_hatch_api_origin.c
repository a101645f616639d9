
/*
 * A web page of another origin must not change anything, and must not see
 * anything either.
 *
 * A browser lets any page send a POST, and what looks at no header of it
 * cannot tell the operator from a page that the operator looks at.  But it
 * says in Origin whose page that is.  Programs send none.
 *
 * A page can have the name of its own host lead to this server ("DNS
 * rebinding"); then its origin is the request's own.  But the name in Host is
 * still the page's, and none of this server's.
 */


#include "ngx_http_hatch_api.h"
#include "ngx_http_hatch_conf.h"
#include "ngx_http_hatch_response.h"


/* A longer one is not repeated in the answer. */
#define NGX_HTTP_HATCH_ORIGIN_MAX  256


typedef struct {
    ngx_uint_t   https;
    ngx_str_t    host;
    ngx_int_t    port;
} ngx_http_hatch_origin_t;


static ngx_uint_t ngx_http_hatch_api_own_origin(ngx_http_request_t *r,
    ngx_str_t *value);
static void ngx_http_hatch_api_authority(ngx_http_request_t *r,
    ngx_str_t *text);
static ngx_uint_t ngx_http_hatch_api_same_origin(ngx_http_hatch_origin_t *one,
    ngx_http_hatch_origin_t *two);
static ngx_int_t ngx_http_hatch_api_parse_origin(ngx_str_t *value,
    ngx_http_hatch_origin_t *origin);
static ngx_int_t ngx_http_hatch_api_parse_host(ngx_str_t *text,
    ngx_http_hatch_origin_t *origin);
static ngx_uint_t ngx_http_hatch_api_own_host(ngx_http_request_t *r,
    ngx_str_t *host);
static ngx_uint_t ngx_http_hatch_api_is_address(ngx_str_t *host);
static ngx_uint_t ngx_http_hatch_api_server_name(ngx_http_server_name_t *sn,
    ngx_str_t *host);
static ngx_int_t ngx_http_hatch_api_refuse_origin(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_uint_t ngx_http_hatch_api_from_browser(ngx_http_request_t *r);
static ngx_uint_t ngx_http_hatch_api_has_body(ngx_http_request_t *r);
static ngx_uint_t ngx_http_hatch_api_is_json(ngx_str_t *type);


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


/* Is it where the request itself was sent to, or one of the named ones? */

static ngx_uint_t
ngx_http_hatch_api_own_origin(ngx_http_request_t *r, ngx_str_t *value)
{
    ngx_str_t                 text;
    ngx_uint_t                i;
    ngx_array_t              *origins;
    ngx_http_hatch_origin_t   origin, own, *named;

    if (ngx_http_hatch_api_parse_origin(value, &origin) != NGX_OK) {
        return 0;
    }

    own.https = 0;

#if (NGX_HTTP_SSL)
    own.https = r->connection->ssl != NULL;
#endif

    ngx_http_hatch_api_authority(r, &text);

    if (ngx_http_hatch_api_parse_host(&text, &own) == NGX_OK
        && ngx_http_hatch_api_same_origin(&origin, &own))
    {
        return 1;
    }

    origins = ngx_http_hatch_loc_conf(r)->origins;

    if (origins == NULL) {
        return 0;
    }

    named = origins->elts;

    for (i = 0; i < origins->nelts; i++) {
        if (ngx_http_hatch_api_same_origin(&origin, &named[i])) {
            return 1;
        }
    }

    return 0;
}


/* Host, or HTTP/3's :authority; of HTTP/2's nginx makes the field Host. */

static void
ngx_http_hatch_api_authority(ngx_http_request_t *r, ngx_str_t *text)
{
    ngx_str_null(text);

    if (r->headers_in.host != NULL) {
        *text = r->headers_in.host->value;

    } else if (r->http_version > NGX_HTTP_VERSION_20
               && r->main->host_start != NULL)
    {
        text->data = r->main->host_start;
        text->len = r->main->host_end - r->main->host_start;
    }
}


static ngx_uint_t
ngx_http_hatch_api_same_origin(ngx_http_hatch_origin_t *one,
    ngx_http_hatch_origin_t *two)
{
    return one->https == two->https
           && one->port == two->port
           && one->host.len == two->host.len
           && ngx_strncasecmp(one->host.data, two->host.data, one->host.len)
              == 0;
}


/* http:// or https://, and an authority. */

static ngx_int_t
ngx_http_hatch_api_parse_origin(ngx_str_t *value,
    ngx_http_hatch_origin_t *origin)
{
    size_t     skip;
    ngx_str_t  text;

    if (value->len > 7
        && ngx_strncasecmp(value->data, (u_char *) "http://", 7) == 0)
    {
        origin->https = 0;
        skip = 7;

    } else if (value->len > 8
               && ngx_strncasecmp(value->data, (u_char *) "https://", 8) == 0)
    {
        origin->https = 1;
        skip = 8;

    } else {
        return NGX_DECLINED;
    }

    text.data = value->data + skip;
    text.len = value->len - skip;

    return ngx_http_hatch_api_parse_host(&text, origin);
}


/*
 * host[:port], and nothing else: no user, no path, no empty port; the scheme
 * is known.
 */

static ngx_int_t
ngx_http_hatch_api_parse_host(ngx_str_t *text, ngx_http_hatch_origin_t *origin)
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

    origin->host.data = text->data;
    origin->host.len = p - text->data;
    origin->port = origin->https ? 443 : 80;

    if (p == last) {
        return NGX_OK;
    }

    if (*p++ != ':' || p == last || *p == '0') {
        return NGX_DECLINED;
    }

    origin->port = ngx_atoi(p, last - p);

    return origin->port > 0 && origin->port <= 65535
           ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_hatch_api_refuse_origin(ngx_http_request_t *r, ngx_str_t *value)
{
    size_t  i;

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


/*
 * A page may send text/plain to any server, and ask for application/json only
 * its own, which has to allow it first.  So what a browser sends must say that
 * it is JSON, should it ever come by a way on which its origin looks right.
 * Programs have neither of the two fields and say what they like.
 */

ngx_int_t
ngx_http_hatch_api_check_type(ngx_http_request_t *r)
{
    ngx_str_t  *type;

    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_OPTIONS)
        || !ngx_http_hatch_api_from_browser(r)
        || !ngx_http_hatch_api_has_body(r))
    {
        return NGX_DECLINED;
    }

    type = r->headers_in.content_type ? &r->headers_in.content_type->value
                                      : NULL;

    if (type != NULL && ngx_http_hatch_api_is_json(type)) {
        return NGX_DECLINED;
    }

    return ngx_http_hatch_send_error(r, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                                     "unsupported_media_type",
                                     "the header Content-Type must be "
                                     "application/json in a request with "
                                     "Origin or Sec-Fetch-Site", 1);
}


static ngx_uint_t
ngx_http_hatch_api_from_browser(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if ((h[i].key.len == sizeof("origin") - 1
                 && ngx_strncmp(h[i].lowcase_key, "origin",
                                sizeof("origin") - 1)
                    == 0)
                || (h[i].key.len == sizeof("sec-fetch-site") - 1
                    && ngx_strncmp(h[i].lowcase_key, "sec-fetch-site",
                                   sizeof("sec-fetch-site") - 1)
                       == 0))
            {
                return 1;
            }
        }
    }

    return 0;
}


/* Of a body that is here the bytes count, of another what is announced. */

static ngx_uint_t
ngx_http_hatch_api_has_body(ngx_http_request_t *r)
{
    ngx_chain_t  *cl;

    if (r->request_body == NULL) {
        return r->headers_in.content_length_n > 0 || r->headers_in.chunked;
    }

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        if (ngx_buf_size(cl->buf) > 0) {
            return 1;
        }
    }

    return 0;
}


/* The type itself; what it has behind a semicolon is its own affair. */

static ngx_uint_t
ngx_http_hatch_api_is_json(ngx_str_t *type)
{
    u_char  *p, *last;

    if (type->len < sizeof("application/json") - 1
        || ngx_strncasecmp(type->data, (u_char *) "application/json",
                           sizeof("application/json") - 1)
           != 0)
    {
        return 0;
    }

    p = type->data + sizeof("application/json") - 1;
    last = type->data + type->len;

    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    return p == last || *p == ';';
}


ngx_int_t
ngx_http_hatch_api_check_host(ngx_http_request_t *r)
{
    ngx_str_t                  *host;
    ngx_uint_t                  i;
    ngx_array_t                *origins;
    ngx_http_hatch_origin_t    *named;
    ngx_http_hatch_loc_conf_t  *hlcf;

    hlcf = ngx_http_hatch_loc_conf(r);
    host = &r->headers_in.server;

    /* a page does not know a key; a browser always sends Host */

    if (hlcf->keys != NULL || host->len == 0
        || ngx_http_hatch_api_own_host(r, host))
    {
        return NGX_DECLINED;
    }

    origins = hlcf->origins;
    named = origins ? origins->elts : NULL;

    for (i = 0; origins && i < origins->nelts; i++) {
        if (named[i].host.len == host->len
            && ngx_strncasecmp(named[i].host.data, host->data, host->len) == 0)
        {
            return NGX_DECLINED;
        }
    }

    return ngx_http_hatch_send_error_f(r, NGX_HTTP_FORBIDDEN, "host_forbidden",
                                       "the header Host names \"%V\", it must "
                                       "name an IP address, localhost, a "
                                       "server_name, or a host of "
                                       "hatch_api_origins", host);
}


/* An address, localhost, or a name of the server block. */

static ngx_uint_t
ngx_http_hatch_api_own_host(ngx_http_request_t *r, ngx_str_t *host)
{
    ngx_uint_t               i;
    ngx_array_t             *names;
    ngx_http_server_name_t  *sn;

    if ((host->len == sizeof("localhost") - 1
         && ngx_strncmp(host->data, "localhost", host->len) == 0)
        || ngx_http_hatch_api_is_address(host))
    {
        return 1;
    }

    names = ngx_http_hatch_loc_conf(r)->names;
    sn = names->elts;

    for (i = 0; i < names->nelts; i++) {
        if (ngx_http_hatch_api_server_name(&sn[i], host)) {
            return 1;
        }
    }

    return 0;
}


/* 127.0.0.1 or [::1] */

static ngx_uint_t
ngx_http_hatch_api_is_address(ngx_str_t *host)
{
#if (NGX_HAVE_INET6)
    u_char  address[16];

    if (host->len > 2 && host->data[0] == '[') {
        return host->data[host->len - 1] == ']'
               && ngx_inet6_addr(host->data + 1, host->len - 2, address)
                  == NGX_OK;
    }
#endif

    return ngx_inet_addr(host->data, host->len) != INADDR_NONE;
}


/* name, *.name, .name, name.*, ~regex: as in nginx's "server_name". */

static ngx_uint_t
ngx_http_hatch_api_server_name(ngx_http_server_name_t *sn, ngx_str_t *host)
{
    size_t      len;
    ngx_str_t   name;

#if (NGX_PCRE)
    if (sn->regex != NULL) {
        return ngx_regex_exec(sn->regex->regex, host, NULL, 0) >= 0;
    }
#endif

    name = sn->name;

    if (name.len > 1 && name.data[0] == '.') {
        if (host->len == name.len - 1
            && ngx_strncmp(host->data, name.data + 1, host->len) == 0)
        {
            return 1;
        }

    } else if (name.len > 2 && name.data[0] == '*') {
        name.data++;
        name.len--;

    } else if (name.len > 2 && name.data[name.len - 1] == '*') {
        return host->len >= name.len
               && ngx_strncmp(host->data, name.data, name.len - 1) == 0;

    } else {
        return host->len == name.len
               && ngx_strncmp(host->data, name.data, name.len) == 0;
    }

    len = name.len;

    return host->len > len
           && ngx_strncmp(host->data + host->len - len, name.data, len) == 0;
}


char *
ngx_http_hatch_api_origins(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hatch_loc_conf_t *hlcf = conf;

    ngx_str_t                *value;
    ngx_uint_t                i;
    ngx_http_hatch_origin_t  *origin;

    if (hlcf->origins != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        hlcf->origins = NULL;
        return NGX_CONF_OK;
    }

    hlcf->origins = ngx_array_create(cf->pool, cf->args->nelts - 1,
                                     sizeof(ngx_http_hatch_origin_t));
    if (hlcf->origins == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {

        origin = ngx_array_push(hlcf->origins);
        if (origin == NULL) {
            return NGX_CONF_ERROR;
        }

        if (ngx_http_hatch_api_parse_origin(&value[i], origin) != NGX_OK) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid origin \"%V\" of "
                               "\"hatch_api_origins\", it must be "
                               "\"http://\" or \"https://\", a host and a "
                               "port unless it is the scheme's own",
                               &value[i]);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}
