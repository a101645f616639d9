
/*
 * Shapes nginx's own error pages into JSON where a program reads them:
 *
 *   hatch_api      every error (413 of a large body, 403 of "deny", 502 of
 *                  an agent that is not there)
 *   hatch_route    502 and 504 of a guest that does not answer
 *   hatch_api_keys 401
 *
 * An error_page of the configuration is left alone.
 */


#include "ngx_http_hatch_module.h"
#include "ngx_http_hatch_response.h"


static ngx_int_t ngx_http_hatch_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_int_t ngx_http_hatch_server_timing(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_shape(ngx_http_request_t *r, ngx_str_t *body);
static void ngx_http_hatch_shape_api(ngx_http_request_t *r, const char **code,
    const char **text);
static ngx_uint_t ngx_http_hatch_shape_route(ngx_http_request_t *r,
    const char **code, const char **text);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


void
ngx_http_hatch_filter_init(void)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_hatch_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_hatch_body_filter;
}


static ngx_int_t
ngx_http_hatch_header_filter(ngx_http_request_t *r)
{
    ngx_int_t              rc;
    ngx_str_t              body;
    ngx_http_hatch_ctx_t  *ctx;

    /* nearly all: not ours, our own answers, and requests that did not wait */

    ctx = ngx_http_get_module_ctx(r, ngx_http_hatch_module);

    if (r->err_status == 0 && !r->internal && !r->filter_finalize
        && (ctx == NULL || ctx->hold == NULL))
    {
        return ngx_http_next_header_filter(r);
    }

    if (r == r->main && ngx_http_hatch_server_timing(r) != NGX_OK) {
        return NGX_ERROR;
    }

    /* err_status: it is nginx's page, not an answer of ours or of a guest */

    if (r->err_status < NGX_HTTP_BAD_REQUEST || r->error_page
        || r != r->main)
    {
        return ngx_http_next_header_filter(r);
    }

    rc = ngx_http_hatch_shape(r, &body);

    if (rc == NGX_DECLINED) {
        return ngx_http_next_header_filter(r);
    }

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    /* server_timing() may have found one that an internal redirect lost */

    ctx = ngx_http_get_module_ctx(r, ngx_http_hatch_module);

    if (ctx == NULL) {
        ctx = ngx_http_hatch_create_ctx(r);
        if (ctx == NULL) {
            return NGX_ERROR;
        }
    }

    ctx->body = body;

    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.content_length_n = body.len;

    if (ngx_http_hatch_add_header(r, "Cache-Control", (u_char *) "no-store",
                                  sizeof("no-store") - 1)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if ((r->err_status == NGX_HTTP_SERVICE_UNAVAILABLE
         || r->err_status == NGX_HTTP_GATEWAY_TIME_OUT)
        && ngx_http_hatch_add_header(r, "Retry-After", (u_char *) "1", 1)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_next_header_filter(r);
}


/* On an answer that waited for its VM: how it was woken, how long it took. */

static ngx_int_t
ngx_http_hatch_server_timing(ngx_http_request_t *r)
{
    u_char                *p;
    size_t                 len;
    ngx_http_hatch_ctx_t  *ctx;

    ctx = ngx_http_hatch_get_ctx(r);

    if (ctx == NULL || ctx->hold == NULL
        || ctx->hold->kind == HATCH_WAKE_KIND_NONE)
    {
        return NGX_OK;
    }

    len = sizeof("hatch-wake;desc=\"restore\";dur=.0") - 1 + NGX_INT_T_LEN;

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    len = ngx_sprintf(p, "hatch-wake;desc=\"%s\";dur=%ui.%ui",
                      hatch_wake_kind_name(ctx->hold->kind),
                      ctx->hold->time / 1000, ctx->hold->time / 100 % 10)
          - p;

    return ngx_http_hatch_add_header(r, "Server-Timing", p, len);
}


static ngx_int_t
ngx_http_hatch_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_buf_t             *b;
    ngx_chain_t            out, *cl;
    ngx_http_hatch_ctx_t  *ctx;

    ctx = r->err_status ? ngx_http_get_module_ctx(r, ngx_http_hatch_module)
                        : NULL;

    if (ctx == NULL || ctx->body.len == 0 || in == NULL) {
        return ngx_http_next_body_filter(r, in);
    }

    /* the page itself is dropped */

    for (cl = in; cl; cl = cl->next) {
        cl->buf->pos = cl->buf->last;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = ctx->body.data;
    b->last = ctx->body.data + ctx->body.len;
    b->memory = 1;
    b->last_buf = 1;
    b->last_in_chain = 1;

    ngx_str_null(&ctx->body);

    out.buf = b;
    out.next = NULL;

    return ngx_http_next_body_filter(r, &out);
}


/* The body that replaces the page; NGX_DECLINED to leave the page. */

static ngx_int_t
ngx_http_hatch_shape(ngx_http_request_t *r, ngx_str_t *body)
{
    const char                 *code, *text;
    ngx_http_hatch_loc_conf_t  *hlcf;

    hlcf = ngx_http_hatch_loc_conf(r);

    if (hlcf->api
        || (hlcf->keys != NULL && r->err_status == NGX_HTTP_UNAUTHORIZED))
    {
        ngx_http_hatch_shape_api(r, &code, &text);

    } else if (hlcf->base_domain.len == 0
               || !ngx_http_hatch_shape_route(r, &code, &text))
    {
        return NGX_DECLINED;
    }

    return ngx_http_hatch_error_body(r->pool, body, code, (u_char *) text,
                                     ngx_strlen(text));
}


static void
ngx_http_hatch_shape_api(ngx_http_request_t *r, const char **code,
    const char **text)
{
    ngx_uint_t  i;

    static const struct {
        ngx_uint_t   status;
        const char  *code;
        const char  *text;
    } errors[] = {
        { NGX_HTTP_BAD_REQUEST, "bad_request", "the request is malformed" },
        { NGX_HTTP_UNAUTHORIZED, "unauthorized", "a valid API key is missing" },
        { NGX_HTTP_FORBIDDEN, "forbidden", "the API is closed to you" },
        { NGX_HTTP_NOT_FOUND, "not_found", "no such endpoint" },
        { NGX_HTTP_NOT_ALLOWED, "method_not_allowed", "method not allowed" },
        { NGX_HTTP_REQUEST_TIME_OUT, "request_timeout",
          "the request came too slowly" },
        { NGX_HTTP_REQUEST_ENTITY_TOO_LARGE, "payload_too_large",
          "the body is too large" },
        { NGX_HTTP_TOO_MANY_REQUESTS, "too_many_requests",
          "too many requests" },
        { NGX_HTTP_BAD_GATEWAY, "agent_unavailable",
          "the agent does not answer" },
        { NGX_HTTP_SERVICE_UNAVAILABLE, "unavailable", "try again later" },
        { NGX_HTTP_GATEWAY_TIME_OUT, "agent_timeout",
          "the agent did not answer in time" }
    };

    for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        if (r->err_status == errors[i].status) {
            *code = errors[i].code;
            *text = errors[i].text;
            return;
        }
    }

    if (r->err_status >= NGX_HTTP_INTERNAL_SERVER_ERROR) {
        *code = "internal_error";
        *text = "nginx failed; its error log says why";

    } else {
        *code = "bad_request";
        *text = "the request cannot be served";
    }
}


static ngx_uint_t
ngx_http_hatch_shape_route(ngx_http_request_t *r, const char **code,
    const char **text)
{
    ngx_http_upstream_t  *u;

    u = r->upstream;

    if (u == NULL || u->state == NULL) {
        return 0;
    }

    if (r->err_status == NGX_HTTP_GATEWAY_TIME_OUT) {
        *code = "guest_timeout";
        *text = "the VM did not answer in time";
        return 1;
    }

    if (r->err_status != NGX_HTTP_BAD_GATEWAY) {
        return 0;
    }

    if (u->state->connect_time == (ngx_msec_t) -1) {
        *code = "guest_refused";
        *text = "the VM does not accept connections on the route's port";

    } else {
        *code = "guest_failed";
        *text = "the VM closed the connection without an answer";
    }

    return 1;
}
