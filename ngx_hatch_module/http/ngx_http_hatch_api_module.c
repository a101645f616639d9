
/*
 * "hatch_api": which endpoint a request asks for, and its body.
 */


#include "ngx_http_hatch_api.h"
#include "ngx_http_hatch_response.h"

#include "hatch_uri.h"


static ngx_int_t ngx_http_hatch_api_wait_body(ngx_http_request_t *r);
static void ngx_http_hatch_api_body_waited(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_api_dispatch(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_api_routes(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_api_vm_routes(ngx_http_request_t *r,
    ngx_str_t *id);
static ngx_int_t ngx_http_hatch_api_one_route(ngx_http_request_t *r,
    ngx_str_t *id);
static ngx_int_t ngx_http_hatch_api_too_large(ngx_http_request_t *r);
static void ngx_http_hatch_api_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_api_body(ngx_http_request_t *r,
    ngx_str_t *body);
static ngx_int_t ngx_http_hatch_api_run(ngx_http_request_t *r,
    ngx_http_hatch_api_ctx_t *ctx);


/* A module of its own, for a slot of its own in r->ctx. */

static ngx_http_module_t  ngx_http_hatch_api_module_ctx = {
    NULL,                                  /* preconfiguration */
    NULL,                                  /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_hatch_api_module = {
    NGX_MODULE_V1,
    &ngx_http_hatch_api_module_ctx,        /* module context */
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


ngx_int_t
ngx_http_hatch_api_handler(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    if (r->http_version >= NGX_HTTP_VERSION_20 && r == r->main
        && r->request_body == NULL && !r->discard_body
        && r->headers_in.content_length_n != 0
        && !(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_OPTIONS)))
    {
        return ngx_http_hatch_api_wait_body(r);
    }

    rc = ngx_http_hatch_api_check_origin(r);

    if (rc == NGX_DECLINED) {
        rc = ngx_http_hatch_api_check_host(r);
    }

    if (rc == NGX_DECLINED) {
        rc = ngx_http_hatch_api_check_type(r);
    }

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (r == r->main) {
        return ngx_http_hatch_api_dispatch(r);
    }

    /* there are no routes for a subrequest, and no file in their place */

    return r->content_handler != NULL ? NGX_DECLINED : NGX_HTTP_NOT_FOUND;
}


/*
 * An answer before the body is there ends its stream with RST_STREAM, and
 * curl loses the answer.  So the body comes first where it has a stream of its
 * own, and the phases run again.
 */

static ngx_int_t
ngx_http_hatch_api_wait_body(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_http_hatch_api_ctx_t  *ctx;

    ctx = ngx_http_hatch_api_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->reading = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_hatch_api_body_waited);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    ngx_http_finalize_request(r, NGX_DONE);

    return NGX_DONE;
}


static void
ngx_http_hatch_api_body_waited(ngx_http_request_t *r)
{
    ngx_http_hatch_api_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_hatch_api_module);

    /* an error_page has been sent instead, see below */

    if (ctx == NULL || !ctx->reading) {
        return;
    }

    ctx->reading = 0;

    r->write_event_handler = ngx_http_core_run_phases;

    ngx_http_core_run_phases(r);
}


static ngx_int_t
ngx_http_hatch_api_dispatch(ngx_http_request_t *r)
{
    u_char     *p, *last;
    ngx_str_t   id;

    p = r->uri.data;
    last = p + r->uri.len;

    if (r->uri.len == 7 && ngx_memcmp(p, "/routes", 7) == 0) {
        return ngx_http_hatch_api_routes(r);
    }

    if (r->uri.len > 8 && ngx_memcmp(p, "/routes/", 8) == 0) {
        id.data = p + 8;
        id.len = last - id.data;

        if (ngx_strlchr(id.data, last, '/') == NULL) {
            return ngx_http_hatch_api_one_route(r, &id);
        }

    } else if (r->uri.len > 12 && ngx_memcmp(p, "/vms/", 5) == 0
               && ngx_memcmp(last - 7, "/routes", 7) == 0)
    {
        id.data = p + 5;
        id.len = last - 7 - id.data;

        if (ngx_strlchr(id.data, last - 7, '/') == NULL) {
            return ngx_http_hatch_api_vm_routes(r, &id);
        }
    }

    /* no path of the agent's begins like this one, which only it knows */

    if (r->content_handler != NULL
        && !(r->uri.len > 7 && ngx_memcmp(p, "/routes/", 8) == 0))
    {
        return NGX_DECLINED;
    }

    return ngx_http_hatch_send_error(r, NGX_HTTP_NOT_FOUND, "not_found",
                                     "no such endpoint", 1);
}


static ngx_int_t
ngx_http_hatch_api_routes(ngx_http_request_t *r)
{
    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
        return ngx_http_hatch_api_list(r, NULL);
    }

    return ngx_http_hatch_send_not_allowed(r, "GET, HEAD");
}


static ngx_int_t
ngx_http_hatch_api_vm_routes(ngx_http_request_t *r, ngx_str_t *id)
{
    char  vm[HATCH_ID_SIZE];

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_POST))) {
        return ngx_http_hatch_send_not_allowed(r, "GET, HEAD, POST");
    }

    if (!hatch_id_valid(HATCH_ID_VM, (char *) id->data, id->len)) {
        return ngx_http_hatch_send_error_f(r, NGX_HTTP_NOT_FOUND,
                                           "vm_not_found", "no VM \"%V\"", id);
    }

    (void) ngx_cpystrn((u_char *) vm, id->data, id->len + 1);

    if (r->method == NGX_HTTP_POST) {
        return ngx_http_hatch_api_begin_create(r, vm);
    }

    return ngx_http_hatch_api_list(r, vm);
}


static ngx_int_t
ngx_http_hatch_api_one_route(ngx_http_request_t *r, ngx_str_t *id)
{
    char  route[HATCH_ID_SIZE];

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_PATCH
                       |NGX_HTTP_DELETE)))
    {
        return ngx_http_hatch_send_not_allowed(r, "GET, HEAD, PATCH, DELETE");
    }

    if (!hatch_id_valid(HATCH_ID_ROUTE, (char *) id->data, id->len)) {
        return ngx_http_hatch_send_error_f(r, NGX_HTTP_NOT_FOUND,
                                           "route_not_found",
                                           "no route \"%V\"", id);
    }

    (void) ngx_cpystrn((u_char *) route, id->data, id->len + 1);

    switch (r->method) {

    case NGX_HTTP_DELETE:
        return ngx_http_hatch_api_delete(r, route);

    case NGX_HTTP_PATCH:
        return ngx_http_hatch_api_begin_update(r, route);

    default: /* GET, HEAD */
        return ngx_http_hatch_api_get(r, route);
    }
}


ngx_http_hatch_api_ctx_t *
ngx_http_hatch_api_create_ctx(ngx_http_request_t *r)
{
    ngx_http_hatch_api_ctx_t  *ctx;

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_hatch_api_ctx_t));
    if (ctx == NULL) {
        return NULL;
    }

    ctx->request = r;

    ngx_http_set_ctx(r, ctx, ngx_http_hatch_api_module);

    return ctx;
}


ngx_int_t
ngx_http_hatch_api_read_body(ngx_http_request_t *r, const char *id,
    ngx_uint_t create)
{
    ngx_int_t                  rc;
    ngx_http_hatch_api_ctx_t  *ctx;

    if (r->headers_in.content_length_n > NGX_HTTP_HATCH_BODY_MAX) {
        return ngx_http_hatch_api_too_large(r);
    }

    ctx = ngx_http_hatch_api_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->create = create;
    ctx->reading = 1;
    (void) ngx_cpystrn((u_char *) ctx->id, (u_char *) id, HATCH_ID_SIZE);

    rc = ngx_http_read_client_request_body(r, ngx_http_hatch_api_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    /* gives back the reference that reading took */
    ngx_http_finalize_request(r, NGX_DONE);

    return NGX_DONE;
}


/*
 * The query by the rule that the agent has, too (hatch_uri.h), and If-Match:
 * no answer has an entity tag, so none matches.  nginx itself would find that
 * out when the change was made and the answer to it is sent.
 */

ngx_int_t
ngx_http_hatch_api_check(ngx_http_request_t *r, const char *const *names,
    json_object **query)
{
    ngx_str_t    *tag;
    hatch_err_t   err;
    json_object  *object;

    if (hatch_uri_query((char *) r->args.data, r->args.len, names, &object,
                        &err)
        != 0)
    {
        return ngx_http_hatch_send_error(r, NGX_HTTP_BAD_REQUEST,
                                         "invalid_argument", err.text, 1);
    }

    tag = r->headers_in.if_match ? &r->headers_in.if_match->value : NULL;

    if (tag != NULL && !(tag->len == 1 && tag->data[0] == '*')) {
        json_object_put(object);
        return ngx_http_hatch_send_error(r, NGX_HTTP_PRECONDITION_FAILED,
                                         "precondition_failed", "If-Match "
                                         "must be *, nothing here has an "
                                         "entity tag", 1);
    }

    if (query != NULL) {
        *query = object;

    } else {
        json_object_put(object);
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_hatch_api_too_large(ngx_http_request_t *r)
{
    return ngx_http_hatch_send_error_f(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                       "payload_too_large",
                                       "the body is larger than %d bytes",
                                       NGX_HTTP_HATCH_BODY_MAX);
}


static void
ngx_http_hatch_api_body_handler(ngx_http_request_t *r)
{
    ngx_http_hatch_api_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_hatch_api_module);

    /*
     * nginx goes on reading, and calls this again, where it has answered an
     * error of the body with a slow error_page
     */

    if (ctx == NULL || !ctx->reading) {
        return;
    }

    ctx->reading = 0;

    /* a write event must not run the phases again while a write is decided */
    r->write_event_handler = ngx_http_request_empty_handler;

    (void) ngx_http_hatch_finalize(r, ngx_http_hatch_api_run(r, ctx));
}


static ngx_int_t
ngx_http_hatch_api_run(ngx_http_request_t *r, ngx_http_hatch_api_ctx_t *ctx)
{
    ngx_int_t     rc;
    ngx_str_t     body;
    hatch_err_t   err;
    json_object  *object;

    rc = ngx_http_hatch_api_body(r, &body);

    if (rc == NGX_DECLINED) {
        return ngx_http_hatch_api_too_large(r);
    }

    if (rc == NGX_ABORT) {
        return NGX_HTTP_BAD_REQUEST;
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (hatch_json_parse((char *) body.data, body.len, &object, &err) != 0) {
        return ngx_http_hatch_send_error(r, NGX_HTTP_BAD_REQUEST,
                                         "invalid_json", err.text, 1);
    }

    rc = ctx->create ? ngx_http_hatch_api_create(r, ctx, object)
                     : ngx_http_hatch_api_update(r, ctx, object);

    json_object_put(object);

    return rc;
}


/*
 * The whole body in one piece.  It may be in several buffers, and above
 * client_body_buffer_size in a file that nginx has just written.
 */

static ngx_int_t
ngx_http_hatch_api_body(ngx_http_request_t *r, ngx_str_t *body)
{
    off_t         len;
    u_char       *p;
    size_t        size;
    ssize_t       n;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    len = 0;
    ngx_str_null(body);

    if (r->request_body == NULL) {
        return NGX_OK;
    }

    /* an error_page for an error of the body leads here again */

    if (r->request_body->rest > 0) {
        return NGX_ABORT;
    }

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        len += ngx_buf_size(cl->buf);
    }

    if (len > NGX_HTTP_HATCH_BODY_MAX) {
        return NGX_DECLINED;
    }

    p = ngx_pnalloc(r->pool, (size_t) len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    body->data = p;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        b = cl->buf;
        size = (size_t) ngx_buf_size(b);

        if (ngx_buf_in_memory(b)) {
            p = ngx_cpymem(p, b->pos, size);
            continue;
        }

        if (size == 0) {
            continue;
        }

        n = ngx_read_file(b->file, p, size, b->file_pos);

        if (n != (ssize_t) size) {
            return NGX_ERROR;
        }

        p += n;
    }

    body->len = p - body->data;

    return NGX_OK;
}
