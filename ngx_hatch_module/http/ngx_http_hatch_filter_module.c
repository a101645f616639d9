
/*
 * What is done to answers of others:
 *
 * nginx's own error pages become JSON where a program reads them:
 *
 *   hatch_api      every error (413 of a large body, 403 of "deny", 502 of
 *                  an agent that is not there)
 *   hatch_route    502 and 504 of a guest that does not answer well, 413
 *   hatch_api_keys 401
 *
 * A page that an error_page of the configuration leads to is left alone.
 *
 * An answer that waited for its VM gets Server-Timing.  A guest's answer loses
 * the header fields of its connection where the client's has none.
 */


#include "ngx_http_hatch_module.h"
#include "ngx_http_hatch_response.h"


/* What the slot of ngx_http_hatch_filter_module in r->ctx holds, or NULL. */

typedef struct {
    ngx_str_t    body;      /* takes the place of nginx's page */
} ngx_http_hatch_filter_ctx_t;


static ngx_int_t ngx_http_hatch_filter_init(ngx_conf_t *cf);
static ngx_int_t ngx_http_hatch_header_filter(ngx_http_request_t *r);
static ngx_hatch_seldom ngx_int_t ngx_http_hatch_change_header(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_hatch_seldom ngx_int_t ngx_http_hatch_change_body(
    ngx_http_request_t *r, ngx_chain_t *in);
static ngx_uint_t ngx_http_hatch_unfinished(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_refuse_answer(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_server_timing(ngx_http_request_t *r);
static ngx_uint_t ngx_http_hatch_own_page(ngx_http_request_t *r);
static ngx_uint_t ngx_http_hatch_returned(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_shape_header(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_shape(ngx_http_request_t *r, ngx_str_t *body);
static void ngx_http_hatch_shape_api(ngx_http_request_t *r, const char **code,
    const char **text);
static ngx_uint_t ngx_http_hatch_shape_route(ngx_http_request_t *r,
    const char **code, const char **text);
static const char *ngx_http_hatch_shape_failed(ngx_http_upstream_t *u);


static ngx_http_module_t  ngx_http_hatch_filter_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_http_hatch_filter_init,            /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_hatch_filter_module = {
    NGX_MODULE_V1,
    &ngx_http_hatch_filter_module_ctx,     /* module context */
    NULL,                                  /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


static ngx_int_t
ngx_http_hatch_filter_init(ngx_conf_t *cf)
{
    ngx_http_hatch_main_conf_t  *hmcf;

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hatch_module);

    if (!(hmcf->use & (NGX_HTTP_HATCH_USE_ROUTE|NGX_HTTP_HATCH_USE_API
                       |NGX_HTTP_HATCH_USE_KEYS)))
    {
        return NGX_OK;
    }

    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_hatch_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_hatch_body_filter;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hatch_header_filter(ngx_http_request_t *r)
{
    ngx_http_hatch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_hatch_module);

    /* nearly all: not ours, our own answers, and requests that did not wait */

    if (r->err_status == 0 && !r->internal && !r->filter_finalize
        && (ctx == NULL
            || (ctx->hold == NULL && r->http_version < NGX_HTTP_VERSION_20
                && r->headers_out.status >= NGX_HTTP_OK)))
    {
        return ngx_http_next_header_filter(r);
    }

    return ngx_http_hatch_change_header(r);
}


static ngx_int_t
ngx_http_hatch_change_header(ngx_http_request_t *r)
{
    /*
     * nginx refuses some requests while it reads their header ("TRACE" with a
     * body), before they have a handler.  If the client resets the connection
     * just then, nginx 1.22 to 1.30 calls it, and the worker dies with all
     * that it holds.
     */

    if (r->write_event_handler == NULL) {
        r->write_event_handler = ngx_http_request_empty_handler;
    }

    if (r->headers_out.status < NGX_HTTP_OK && ngx_http_hatch_unfinished(r)) {
        return ngx_http_hatch_refuse_answer(r);
    }

    if (r == r->main && ngx_http_hatch_server_timing(r) != NGX_OK) {
        return NGX_ERROR;
    }

    if (r->upstream != NULL && r->main->http_version >= NGX_HTTP_VERSION_20
        && ngx_http_hatch_get_ctx(r) != NULL)
    {
        ngx_http_hatch_drop_guest_headers(r);
    }

    if (r->err_status >= NGX_HTTP_BAD_REQUEST && r == r->main
        && ngx_http_hatch_own_page(r)
        && ngx_http_hatch_shape_header(r) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_next_header_filter(r);
}


/*
 * Is it a guest's answer without a status line, which nginx takes for HTTP/0.9,
 * or with a status that ends no request?  nginx would send what follows as it
 * comes, without a length, on a connection that it uses again: to a proxy in
 * front of it, the rest could be the answer to somebody else's next request.
 */

static ngx_uint_t
ngx_http_hatch_unfinished(ngx_http_request_t *r)
{
    ngx_http_upstream_t  *u;

    u = r->upstream;

    return u != NULL && u->upstream != NULL && !u->upgrade
           && ngx_http_hatch_is_upstream(u->upstream);
}


static ngx_int_t
ngx_http_hatch_refuse_answer(ngx_http_request_t *r)
{
    u_char               *p;
    ngx_http_upstream_t  *u;

    u = r->upstream;

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "hatch: the guest's answer has no status, or %ui, which "
                  "ends no request", r->headers_out.status);

    /* the version is the client's own again */

    p = r->http_protocol.data;

    if (r->http_version == NGX_HTTP_VERSION_9
        && r->http_protocol.len >= sizeof("HTTP/1.1") - 1)
    {
        r->http_version = (p[5] - '0') * 1000 + (p[7] - '0');
    }

    /* as after a header that nginx itself cannot read */

    u->keepalive = 0;
    u->buffer.pos = u->buffer.start;
    u->state->header_time = (ngx_msec_t) -1;

    ngx_http_clean_header(r);

    return NGX_HTTP_BAD_GATEWAY;
}


/*
 * Is it nginx's own page for an error, and not what an error_page led to?
 * That goes through an internal redirect; but so may have gone the request
 * before there was an error.
 */

static ngx_uint_t
ngx_http_hatch_own_page(ngx_http_request_t *r)
{
    ngx_str_t                 *type;
    ngx_http_upstream_t       *u;
    ngx_http_core_loc_conf_t  *clcf;

    if (!r->internal) {
        return 1;
    }

    if (ngx_http_hatch_returned(r)) {
        return 0;
    }

    u = r->upstream;

    if (u != NULL && u->state != NULL) {
        return u->state->header_time == (ngx_msec_t) -1;
    }

    /* a file has a time, others a type */

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    type = &r->headers_out.content_type;

    return r->headers_out.last_modified_time == -1
           && r->headers_out.etag == NULL
           && type->len == sizeof("text/html") - 1
           && ngx_strncmp(type->data, "text/html", type->len) == 0
           && type->data != clcf->default_type.data;
}


/*
 * Is it a text of "return"?  It is sent out of the rewrite phase, and has the
 * type that its URI has in this location; of nginx's own pages the type is a
 * string of nginx's.
 */

static ngx_uint_t
ngx_http_hatch_returned(ngx_http_request_t *r)
{
    size_t                      len;
    ngx_str_t                   type;
    ngx_uint_t                  same;
    ngx_http_phase_handler_t   *ph;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);
    ph = cmcf->phase_engine.handlers;

    if (ph[r->phase_handler].checker != ngx_http_core_rewrite_phase) {
        return 0;
    }

    type = r->headers_out.content_type;
    len = r->headers_out.content_type_len;

    r->headers_out.content_type.len = 0;

    same = ngx_http_set_content_type(r) == NGX_OK
           && r->headers_out.content_type.data == type.data;

    r->headers_out.content_type = type;
    r->headers_out.content_type_len = len;

    return same;
}


static ngx_int_t
ngx_http_hatch_shape_header(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_str_t                     body;
    ngx_http_hatch_filter_ctx_t  *ctx;

    rc = ngx_http_hatch_shape(r, &body);

    if (rc != NGX_OK) {
        return rc == NGX_DECLINED ? NGX_OK : NGX_ERROR;
    }

    ctx = ngx_palloc(r->pool, sizeof(ngx_http_hatch_filter_ctx_t));
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    ctx->body = body;
    ngx_http_set_ctx(r, ctx, ngx_http_hatch_filter_module);

    /* as for our own answers: its body may come, or the next request */

    if (r->headers_in.expect != NULL && r->request_body == NULL) {
        r->keepalive = 0;
    }

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

    if (r->err_status == NGX_HTTP_SERVICE_UNAVAILABLE
        || r->err_status == NGX_HTTP_GATEWAY_TIME_OUT)
    {
        return ngx_http_hatch_add_header(r, "Retry-After", (u_char *) "1", 1);
    }

    return NGX_OK;
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
    if (r->err_status == 0) {
        return ngx_http_next_body_filter(r, in);
    }

    return ngx_http_hatch_change_body(r, in);
}


static ngx_int_t
ngx_http_hatch_change_body(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_buf_t                    *b;
    ngx_chain_t                   out, *cl;
    ngx_http_hatch_filter_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_hatch_filter_module);

    if (ctx == NULL || in == NULL) {
        return ngx_http_next_body_filter(r, in);
    }

    ngx_http_set_ctx(r, NULL, ngx_http_hatch_filter_module);

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

    } else if (hlcf->role != NGX_HTTP_HATCH_ROUTE
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

    if (r->err_status == NGX_HTTP_REQUEST_ENTITY_TOO_LARGE) {
        *code = "payload_too_large";
        *text = "the body is too large";
        return 1;
    }

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

    if (u->peer.name == NULL) {
        *code = "guest_failed";
        *text = "the VM that the request was for is gone";

    } else if (u->state->connect_time == (ngx_msec_t) -1) {
        *code = "guest_refused";
        *text = "the VM does not accept connections on the route's port";

    } else {
        *code = "guest_failed";
        *text = ngx_http_hatch_shape_failed(u);
    }

    return 1;
}


/* What came of its answer is still in the buffer for the header. */

static const char *
ngx_http_hatch_shape_failed(ngx_http_upstream_t *u)
{
    if (u->state->bytes_received == 0 || u->buffer.start == NULL) {
        return "the VM closed the connection without an answer";
    }

    /* nginx stops where it cannot read on, and else at the end */

    if (u->buffer.pos != u->buffer.last) {
        return "the header of the VM's answer is malformed";
    }

    if (u->buffer.last == u->buffer.end) {
        return "the header of the VM's answer is too large";
    }

    return "the VM closed the connection within the header of its answer";
}
