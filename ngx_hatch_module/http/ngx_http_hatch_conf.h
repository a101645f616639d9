
/* Creating, merging and setting the configuration. */


#ifndef _NGX_HTTP_HATCH_CONF_H_INCLUDED_
#define _NGX_HTTP_HATCH_CONF_H_INCLUDED_


#include "ngx_http_hatch_module.h"


/* Requests that one worker holds, in all and for one VM. */

#define NGX_HTTP_HATCH_MAX_HELD         8192
#define NGX_HTTP_HATCH_MAX_HELD_PER_VM  2048

/* Of "hatch": idle connections of a worker, and to one VM's port. */

#define NGX_HTTP_HATCH_KEEPALIVE         1024
#define NGX_HTTP_HATCH_KEEPALIVE_PER_VM  64

/* Of hatch_readyz, ms; the agent's heart beats twice a second. */

#define NGX_HTTP_HATCH_MAX_AGE          10000
#define NGX_HTTP_HATCH_MAX_AGE_MIN      1000
#define NGX_HTTP_HATCH_MAX_AGE_MAX      3600000


void *ngx_http_hatch_create_main_conf(ngx_conf_t *cf);
char *ngx_http_hatch_init_main_conf(ngx_conf_t *cf, void *conf);
void *ngx_http_hatch_create_loc_conf(ngx_conf_t *cf);
char *ngx_http_hatch_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child);

/*
 * Postconfiguration: what other modules' directives say in these locations
 * (elements void **, arrays of location configurations), and what they must not
 * say where requests go to guests.
 */
void ngx_http_hatch_foreign(ngx_conf_t *cf, ngx_array_t *locations);

char *ngx_http_hatch_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hatch_route_store(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_hatch_healthz(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hatch_readyz(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hatch_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hatch_api(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hatch_api_origins(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_hatch_route(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hatch_agent(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hatch_wake(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hatch_check_timeout(ngx_conf_t *cf, void *post, void *data);


#endif /* _NGX_HTTP_HATCH_CONF_H_INCLUDED_ */
