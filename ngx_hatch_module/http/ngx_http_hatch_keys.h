
/* API keys: "hatch_api_keys". */


#ifndef _NGX_HTTP_HATCH_KEYS_H_INCLUDED_
#define _NGX_HTTP_HATCH_KEYS_H_INCLUDED_


#include "ngx_http_hatch_module.h"


/* ACCESS phase: 401 for a request without a key of the location's file. */
ngx_int_t ngx_http_hatch_keys_handler(ngx_http_request_t *r);

/* The name of the key that the request carries, or NULL. */
ngx_str_t *ngx_http_hatch_keys_name(ngx_http_request_t *r);

/*
 * The header fields are taken away that have a key of the location's file, or
 * of a location that the request was let into before; the request and its
 * subrequests are still known by it.  The list of headers_in is changed.
 */
ngx_int_t ngx_http_hatch_keys_drop(ngx_http_request_t *r);

/* Configuration time: the directive. */
char *ngx_http_hatch_api_keys(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


#endif /* _NGX_HTTP_HATCH_KEYS_H_INCLUDED_ */
