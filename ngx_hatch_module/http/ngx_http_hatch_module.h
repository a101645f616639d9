
#ifndef _NGX_HTTP_HATCH_MODULE_H_INCLUDED_
#define _NGX_HTTP_HATCH_MODULE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_hatch_busy.h"
#include "ngx_hatch_pool.h"
#include "ngx_hatch_store.h"
#include "ngx_hatch_agent.h"
#include "ngx_hatch_zone.h"


/* What a directive needs of the main configuration. */

#define NGX_HTTP_HATCH_USE_ZONE    0x01
#define NGX_HTTP_HATCH_USE_STORE   0x02
#define NGX_HTTP_HATCH_USE_WRITES  0x04
#define NGX_HTTP_HATCH_USE_API     0x08
#define NGX_HTTP_HATCH_USE_ROUTE   0x10
#define NGX_HTTP_HATCH_USE_KEYS    0x20


typedef struct {
    ngx_hatch_zone_t         zone;
    ngx_hatch_store_t        store;
    ngx_hatch_wake_t         wake;          /* hatch_agent */
    ngx_hatch_busy_t         busy;
    void                    *cache;         /* of ngx_http_hatch_cache.c */
    ngx_uint_t               use;           /* NGX_HTTP_HATCH_USE_* */
} ngx_http_hatch_main_conf_t;


/* Of an upstream block with "hatch". */

typedef struct {
    ngx_hatch_pool_t         pool;
    ngx_command_t           *slice;         /* NULL: there is no such module */
    ngx_uint_t               slice_index;
    unsigned                 hatch:1;       /* there is that directive */
    unsigned                 keepalive:1;   /* and nginx's own, which wraps */
} ngx_http_hatch_srv_conf_t;


typedef struct {
    ngx_flag_t               api;           /* hatch_api */
    ngx_str_t                base_domain;   /* hatch_route, lower case */
    ngx_uint_t               route;         /* and it is for this location */
    ngx_http_complex_value_t  *wake;        /* hatch_wake; NULL: on */
    ngx_msec_t               wake_timeout;
    ngx_uint_t               asleep_status; /* 503 or 200 */
    ngx_msec_t               max_age;       /* hatch_readyz */
    ngx_flag_t               summary;       /* hatch_metrics */
    ngx_array_t             *keys;          /* hatch_api_keys; NULL: off */
} ngx_http_hatch_loc_conf_t;


/* Smaller than ngx_sockaddr_t, which has room for a path. */

typedef union {
    struct sockaddr          sockaddr;
    struct sockaddr_in       sockaddr_in;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6      sockaddr_in6;
#endif
} ngx_http_hatch_address_t;


/* "255.255.255.255:65535" */

#define NGX_HTTP_HATCH_NAME  24


/* Of a request that had to wait for its VM. */

typedef struct {
    ngx_hatch_waiter_t       waiter;
    ngx_msec_t               deadline;
    uint64_t                 since;         /* us */
    ngx_uint_t               kind;          /* hatch_wake_kind_t */
    ngx_uint_t               time;          /* us */
    ngx_uint_t               retry_after;   /* s; 0: the usual */
} ngx_http_hatch_hold_t;


/*
 * What hatch_route found out about a request.  Kept small: with what nginx
 * itself needs for a proxied request, it has to fit into two blocks of
 * request_pool_size.
 */

typedef struct {
    hatch_target_t           route;         /* if resolved */
    uint64_t                 guest;         /* another one, another guest */
    ngx_http_hatch_address_t  address;      /* if ready */
    u_char                   name[NGX_HTTP_HATCH_NAME];

    /* all before this is not zeroed */

    ngx_str_t                peer_name;     /* "address:port", for logs */
    ngx_http_request_t      *request;
    ngx_hatch_busy_node_t    busy;          /* while it uses the VM */
    ngx_http_hatch_hold_t   *hold;          /* NULL: it was not held */

    void                    *metrics;       /* of "hatch_metrics" */

    /* the shaped answer that takes the place of nginx's error page */
    ngx_str_t                body;

    unsigned                 resolved:1;    /* route is filled in */
    unsigned                 ready:1;       /* sockaddr is, too */
    unsigned                 counted:1;     /* in the VM's requests */
    unsigned                 entitled:1;    /* it may wake the VM */
    unsigned                 ungated:1;     /* nobody to ask if it is ready */
    unsigned                 answered:1;    /* hold has a result */
    unsigned                 served:1;      /* the agent says it is ready */
    unsigned                 let_go:1;      /* it was in the VM's herd */
} ngx_http_hatch_ctx_t;


extern ngx_module_t  ngx_http_hatch_module;


#define ngx_http_hatch_main_conf(r)                                           \
    ((ngx_http_hatch_main_conf_t *)                                           \
     ngx_http_get_module_main_conf(r, ngx_http_hatch_module))

#define ngx_http_hatch_loc_conf(r)                                            \
    ((ngx_http_hatch_loc_conf_t *)                                            \
     ngx_http_get_module_loc_conf(r, ngx_http_hatch_module))


/* Of a hatch_zone_peer_t: another one, another guest. */
#define NGX_HTTP_HATCH_GUEST(vm)                                              \
    ((vm)->incarnation ^ (vm)->generation << 44)

#define ngx_http_hatch_socklen(ctx)                                           \
    ((ctx)->address.sockaddr.sa_family == AF_INET                             \
     ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6))


/* Makes the request's context; survives internal redirects. */
ngx_http_hatch_ctx_t *ngx_http_hatch_create_ctx(ngx_http_request_t *r);

/* The request's context, or NULL if hatch_route did not run for it. */
ngx_http_hatch_ctx_t *ngx_http_hatch_get_ctx(ngx_http_request_t *r);

/*
 * Holds the request until its VM can be used.  NGX_DECLINED: it need not
 * wait; otherwise what the handler returns.
 */
ngx_int_t ngx_http_hatch_wake_hold(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx, hatch_zone_peer_t *vm, hatch_state_t state);

/* What came of it, once answered: NGX_DECLINED to look at the VM again. */
ngx_int_t ngx_http_hatch_wake_result(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx);

/* May this request wake a VM, says "hatch_wake", which is there? */
ngx_int_t ngx_http_hatch_wake_allowed(ngx_http_request_t *r,
    ngx_uint_t *allowed);

/*
 * Answers a routed request with JSON, unless there is an error_page for the
 * status.
 */
ngx_int_t ngx_http_hatch_route_refuse(ngx_http_request_t *r,
    ngx_int_t status, const char *code, const char *text);

/* PRECONTENT phase, where there is a "hatch_api" or a "hatch_route". */
ngx_int_t ngx_http_hatch_api_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_hatch_route_handler(ngx_http_request_t *r);

/* Content: "hatch_healthz", "hatch_readyz" and "hatch_metrics". */
ngx_int_t ngx_http_hatch_healthz_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_hatch_readyz_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_hatch_metrics_handler(ngx_http_request_t *r);

/* The directive "hatch" of an upstream block, and its configuration. */
void *ngx_http_hatch_create_srv_conf(ngx_conf_t *cf);
char *ngx_http_hatch_upstream(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* peer.init of such a block. */
ngx_int_t ngx_http_hatch_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);

/* Puts "hatch" back where another module has wrapped it; at the very end. */
void ngx_http_hatch_unwrap(ngx_conf_t *cf);

/* Has this block the directive "hatch"? */
ngx_uint_t ngx_http_hatch_is_upstream(ngx_http_upstream_srv_conf_t *uscf);

/*
 * The directive of another HTTP module, and that module's ctx_index; NULL if
 * nginx was built without.
 */
ngx_command_t *ngx_http_hatch_find_command(ngx_conf_t *cf, const char *name,
    ngx_uint_t *ctx_index);

#if (NGX_HTTP_CACHE)

/* Has the location's caches asked for what may pass; when it is merged. */
ngx_int_t ngx_http_hatch_cache_merge(ngx_conf_t *cf,
    ngx_http_hatch_loc_conf_t *conf);

/*
 * Does the cache key of the request, which is made, belong to its VM alone?
 * ctx may be NULL.
 */
ngx_uint_t ngx_http_hatch_cache_safe(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx);

#endif

/* Registration, from the module's pre- and postconfiguration. */
ngx_int_t ngx_http_hatch_add_variables(ngx_conf_t *cf);
void ngx_http_hatch_filter_init(void);


#endif /* _NGX_HTTP_HATCH_MODULE_H_INCLUDED_ */
