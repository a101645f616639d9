
/* The route endpoints: between their dispatch and their handlers. */


#ifndef _NGX_HTTP_HATCH_API_H_INCLUDED_
#define _NGX_HTTP_HATCH_API_H_INCLUDED_


#include "ngx_http_hatch_module.h"

#include "hatch_json.h"


/* A request's body, DESIGN's limit for the API, whatever nginx allows. */
#define NGX_HTTP_HATCH_BODY_MAX  (1024 * 1024)


/* What the slot of ngx_http_hatch_api_module in r->ctx holds, or NULL. */

typedef struct {
    ngx_http_request_t   *request;
    ngx_hatch_write_t     write;
    char                  id[HATCH_ID_SIZE];  /* of the path */

    unsigned              create:1;         /* POST; else PATCH */
    unsigned              reading:1;        /* the body is not all here */
    unsigned              written:1;        /* the change is decided */
} ngx_http_hatch_api_ctx_t;


extern ngx_module_t  ngx_http_hatch_api_module;


/* Makes the context of a request that changes something, or NULL. */
ngx_http_hatch_api_ctx_t *ngx_http_hatch_api_create_ctx(ngx_http_request_t *r);

/*
 * NGX_DECLINED if the request is no web page's of another origin, or changes
 * nothing; else it has been refused, with what the handler returns.
 */
ngx_int_t ngx_http_hatch_api_check_origin(ngx_http_request_t *r);

/* The same if Host is a name of this server, or the request needs a key. */
ngx_int_t ngx_http_hatch_api_check_host(ngx_http_request_t *r);

/* The same if a body that a browser sends says that it is JSON. */
ngx_int_t ngx_http_hatch_api_check_type(ngx_http_request_t *r);

/*
 * What is judged of all requests: the query against the names that there may
 * be, and If-Match.  NGX_DECLINED and the arguments in *query, which is the
 * caller's unless query is NULL; or the answer to what breaks a rule.
 */
ngx_int_t ngx_http_hatch_api_check(ngx_http_request_t *r,
    const char *const *names, json_object **query);

/* GET /routes (vm NULL) and GET /vms/{id}/routes */
ngx_int_t ngx_http_hatch_api_list(ngx_http_request_t *r, const char *vm);

/* GET and DELETE /routes/{id} */
ngx_int_t ngx_http_hatch_api_get(ngx_http_request_t *r, const char *id);
ngx_int_t ngx_http_hatch_api_delete(ngx_http_request_t *r, const char *id);

/* POST /vms/{id}/routes and PATCH /routes/{id}, before the body is there */
ngx_int_t ngx_http_hatch_api_begin_create(ngx_http_request_t *r,
    const char *vm);
ngx_int_t ngx_http_hatch_api_begin_update(ngx_http_request_t *r,
    const char *id);

/* Reads the body, and goes on with one of the next two. */
ngx_int_t ngx_http_hatch_api_read_body(ngx_http_request_t *r, const char *id,
    ngx_uint_t create);

ngx_int_t ngx_http_hatch_api_create(ngx_http_request_t *r,
    ngx_http_hatch_api_ctx_t *ctx, json_object *body);
ngx_int_t ngx_http_hatch_api_update(ngx_http_request_t *r,
    ngx_http_hatch_api_ctx_t *ctx, json_object *body);

/* --- what reading and changing share --- */

/* NGX_DECLINED if it exists, or the answer that it does not. */
ngx_int_t ngx_http_hatch_api_find_vm(ngx_http_request_t *r, const char *vm);
ngx_int_t ngx_http_hatch_api_find_route(ngx_http_request_t *r, const char *id,
    hatch_route_t *route);

/* The answer to a hatch_err_code_t of the store. */
ngx_int_t ngx_http_hatch_api_store_error(ngx_http_request_t *r, int code,
    const char *text);

ngx_int_t ngx_http_hatch_api_send_route(ngx_http_request_t *r,
    ngx_uint_t status, hatch_route_t *route);


#endif /* _NGX_HTTP_HATCH_API_H_INCLUDED_ */
