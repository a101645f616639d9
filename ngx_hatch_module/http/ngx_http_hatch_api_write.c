
/*
 * The route endpoints that change something, and the rules of a subdomain.
 */


#include "ngx_http_hatch_api.h"
#include "ngx_http_hatch_response.h"


static ngx_int_t ngx_http_hatch_api_check_label(const char *label,
    hatch_err_t *err);
static ngx_int_t ngx_http_hatch_api_write(ngx_http_request_t *r,
    ngx_http_hatch_api_ctx_t *ctx);
static void ngx_http_hatch_api_written(ngx_hatch_write_t *write);
static void ngx_http_hatch_api_resume(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_api_answer(ngx_http_request_t *r,
    ngx_http_hatch_api_ctx_t *ctx);


static const hatch_json_field_t  ngx_http_hatch_create_fields[] = {
    { "target_port", HATCH_JSON_INTEGER, 1, 1, 65535 },
    { "subdomain", HATCH_JSON_STRING, 0, 1, HATCH_LABEL_MAX },
    { "auto_wake", HATCH_JSON_BOOLEAN, 0, 0, 0 },
    { NULL, HATCH_JSON_BOOLEAN, 0, 0, 0 }
};


static const hatch_json_field_t  ngx_http_hatch_update_fields[] = {
    { "target_port", HATCH_JSON_INTEGER, 0, 1, 65535 },
    { "auto_wake", HATCH_JSON_BOOLEAN, 0, 0, 0 },
    { NULL, HATCH_JSON_BOOLEAN, 0, 0, 0 }
};


/* Names that must not look like a customer's VM. */

static const char *const  ngx_http_hatch_reserved[] = {
    "admin", "api", "app", "assets", "auth", "billing", "cdn", "console",
    "dashboard", "db", "docs", "ftp", "grafana", "hatch", "help", "internal",
    "login", "mail", "media", "minio", "ns1", "ns2", "oauth", "panel",
    "postgres", "prometheus", "redis", "smtp", "ssh", "static", "status",
    "support", "traefik", "www", NULL
};


ngx_int_t
ngx_http_hatch_api_delete(ngx_http_request_t *r, const char *id)
{
    ngx_int_t                  rc;
    ngx_http_hatch_api_ctx_t  *ctx;

    rc = ngx_http_hatch_api_check(r, NULL, NULL);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    ctx = ngx_http_hatch_api_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->write.op = NGX_HATCH_WRITE_DELETE;
    (void) ngx_cpystrn((u_char *) ctx->write.route.id, (u_char *) id,
                       HATCH_ID_SIZE);

    return ngx_http_hatch_api_write(r, ctx);
}


/* What is refused anyway is refused before the body is asked for. */

ngx_int_t
ngx_http_hatch_api_begin_create(ngx_http_request_t *r, const char *vm)
{
    ngx_int_t  rc;

    rc = ngx_http_hatch_api_check(r, NULL, NULL);

    if (rc == NGX_DECLINED) {
        rc = ngx_http_hatch_api_find_vm(r, vm);
    }

    return rc == NGX_DECLINED ? ngx_http_hatch_api_read_body(r, vm, 1) : rc;
}


ngx_int_t
ngx_http_hatch_api_begin_update(ngx_http_request_t *r, const char *id)
{
    ngx_int_t      rc;
    hatch_route_t  route;

    rc = ngx_http_hatch_api_check(r, NULL, NULL);

    if (rc == NGX_DECLINED) {
        rc = ngx_http_hatch_api_find_route(r, id, &route);
    }

    return rc == NGX_DECLINED ? ngx_http_hatch_api_read_body(r, id, 0) : rc;
}


ngx_int_t
ngx_http_hatch_api_create(ngx_http_request_t *r,
    ngx_http_hatch_api_ctx_t *ctx, json_object *body)
{
    ngx_int_t     rc;
    const char   *label;
    hatch_err_t   err;

    rc = ngx_http_hatch_api_find_vm(r, ctx->id);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (hatch_json_check(body, ngx_http_hatch_create_fields, &err) != 0) {
        return ngx_http_hatch_send_error(r, NGX_HTTP_BAD_REQUEST,
                                         "invalid_field", err.text, 1);
    }

    label = hatch_json_string(body, "subdomain", NULL);

    if (label != NULL
        && ngx_http_hatch_api_check_label(label, &err) != NGX_OK)
    {
        return ngx_http_hatch_send_error(r, NGX_HTTP_BAD_REQUEST,
                                         "invalid_field", err.text, 1);
    }

    ctx->write.op = NGX_HATCH_WRITE_CREATE;
    ctx->write.choose = (label == NULL);
    ctx->write.route.target_port =
                               hatch_json_integer(body, "target_port", 0);
    ctx->write.route.auto_wake = hatch_json_boolean(body, "auto_wake", 1);

    (void) ngx_cpystrn((u_char *) ctx->write.route.vm, (u_char *) ctx->id,
                       HATCH_ID_SIZE);

    if (label != NULL) {
        (void) ngx_cpystrn((u_char *) ctx->write.route.subdomain,
                           (u_char *) label, HATCH_LABEL_SIZE);
    }

    return ngx_http_hatch_api_write(r, ctx);
}


/* ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$, and not one of ours. */

static ngx_int_t
ngx_http_hatch_api_check_label(const char *label, hatch_err_t *err)
{
    size_t             i, len;
    const char *const *name;

    len = ngx_strlen(label);

    for (i = 0; i < len; i++) {

        if ((label[i] >= 'a' && label[i] <= 'z')
            || (label[i] >= '0' && label[i] <= '9')
            || (label[i] == '-' && i > 0 && i < len - 1))
        {
            continue;
        }

        (void) hatch_err_set(err, HATCH_ERR_INVALID, "\"subdomain\" must be "
                             "a-z, 0-9 and inner \"-\", not \"%s\"", label);
        return NGX_ERROR;
    }

    for (name = ngx_http_hatch_reserved; *name != NULL; name++) {

        if (ngx_strcmp(*name, label) == 0) {
            (void) hatch_err_set(err, HATCH_ERR_INVALID,
                                 "\"subdomain\" \"%s\" is reserved", label);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_hatch_api_update(ngx_http_request_t *r,
    ngx_http_hatch_api_ctx_t *ctx, json_object *body)
{
    hatch_err_t  err;

    if (hatch_json_check(body, ngx_http_hatch_update_fields, &err) != 0) {
        return ngx_http_hatch_send_error(r, NGX_HTTP_BAD_REQUEST,
                                         "invalid_field", err.text, 1);
    }

    ctx->write.op = NGX_HATCH_WRITE_UPDATE;
    ctx->write.port = hatch_json_integer(body, "target_port", 0);
    ctx->write.auto_wake = hatch_json_boolean(body, "auto_wake", -1);

    (void) ngx_cpystrn((u_char *) ctx->write.route.id, (u_char *) ctx->id,
                       HATCH_ID_SIZE);

    return ngx_http_hatch_api_write(r, ctx);
}


/* Hands the change to the store; the request waits without a thread. */

static ngx_int_t
ngx_http_hatch_api_write(ngx_http_request_t *r, ngx_http_hatch_api_ctx_t *ctx)
{
    ctx->write.done = ngx_http_hatch_api_written;
    ctx->write.data = ctx;

    if (ngx_hatch_store_write(&ngx_http_hatch_main_conf(r)->store,
                              &ctx->write)
        != NGX_OK)
    {
        return ngx_http_hatch_api_store_error(r, HATCH_ERR_UNAVAILABLE,
                                              "the route store is not open");
    }

    /* a client that leaves does not free the request under the write */

    r->main->blocked++;
    r->aio = 1;
    r->write_event_handler = ngx_http_hatch_api_resume;

    return NGX_DONE;
}


static void
ngx_http_hatch_api_written(ngx_hatch_write_t *write)
{
    ngx_connection_t          *c;
    ngx_http_request_t        *r;
    ngx_http_hatch_api_ctx_t  *ctx;

    ctx = write->data;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    ctx->written = 1;
    r->main->blocked--;
    r->aio = 0;

    /* nginx's own finalizer stands here if the client has left */
    r->write_event_handler(r);

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_hatch_api_resume(ngx_http_request_t *r)
{
    ngx_http_hatch_api_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_hatch_api_module);

    if (ctx == NULL || !ctx->written) {
        return;
    }

    r->write_event_handler = ngx_http_request_empty_handler;

    (void) ngx_http_hatch_finalize(r, ngx_http_hatch_api_answer(r, ctx));
}


static ngx_int_t
ngx_http_hatch_api_answer(ngx_http_request_t *r, ngx_http_hatch_api_ctx_t *ctx)
{
    u_char      *p;
    ngx_str_t    body;

    if (ctx->write.rc == HATCH_ERR_NOT_FOUND
        && ctx->write.op == NGX_HATCH_WRITE_CREATE)
    {
        /* deleted since the request came in */
        return ngx_http_hatch_send_error(r, NGX_HTTP_NOT_FOUND,
                                         "vm_not_found", "no such VM", 1);
    }

    if (ctx->write.rc != 0) {
        return ngx_http_hatch_api_store_error(r, ctx->write.rc,
                                              ctx->write.err.text);
    }

    switch (ctx->write.op) {

    case NGX_HATCH_WRITE_DELETE:
        ngx_str_set(&body, "{\"status\":\"deleted\"}");
        return ngx_http_hatch_send_json(r, NGX_HTTP_OK, &body);

    case NGX_HATCH_WRITE_CREATE:
        p = ngx_pnalloc(r->pool, sizeof("/routes/") + HATCH_ID_SIZE);
        if (p == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        body.data = p;
        body.len = ngx_sprintf(p, "/routes/%s", ctx->write.route.id) - p;

        if (ngx_http_hatch_add_header(r, "Location", body.data, body.len)
            != NGX_OK)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        return ngx_http_hatch_api_send_route(r, NGX_HTTP_CREATED,
                                             &ctx->write.route);

    default:
        return ngx_http_hatch_api_send_route(r, NGX_HTTP_OK,
                                             &ctx->write.route);
    }
}
