
#ifndef _NGX_HTTP_HATCH_MODULE_H_INCLUDED_
#define _NGX_HTTP_HATCH_MODULE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_hatch_agent.h"
#include "ngx_hatch_busy.h"
#include "ngx_hatch_pool.h"
#include "ngx_hatch_store.h"
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
    ngx_hatch_agent_t        agent;         /* hatch_agent */
    ngx_hatch_busy_t         busy;
    void                    *cache;         /* of ngx_http_hatch_cache.c */
    ngx_array_t              domains;       /* base domains, ngx_str_t */
    ngx_uint_t               use;           /* NGX_HTTP_HATCH_USE_* */
    ngx_array_t              locations;     /* configuration: void **loc_conf */
    unsigned                 not_stored:1;  /* this worker has said so */
} ngx_http_hatch_main_conf_t;


/* Of an upstream block with "hatch". */

typedef struct {
    ngx_hatch_pool_t         pool;
    unsigned                 hatch:1;       /* there is that directive */
    unsigned                 keepalive:1;   /* and nginx's own, which wraps */
} ngx_http_hatch_srv_conf_t;


/* Of a function: not a part of its caller, which nearly never calls it. */

#define ngx_hatch_seldom  __attribute__((noinline))


/* A guest's header fields that would act on nginx; X-Accel-Buffering may. */

#define NGX_HTTP_HATCH_IGNORED  (NGX_HTTP_UPSTREAM_IGN_XA_REDIRECT            \
                                 |NGX_HTTP_UPSTREAM_IGN_XA_EXPIRES            \
                                 |NGX_HTTP_UPSTREAM_IGN_XA_LIMIT_RATE         \
                                 |NGX_HTTP_UPSTREAM_IGN_XA_CHARSET)


/* What a location is to the phase handler. */

typedef enum {
    NGX_HTTP_HATCH_NOTHING = 0,     /* none of its business */
    NGX_HTTP_HATCH_API,             /* it answers the route endpoints */
    NGX_HTTP_HATCH_ROUTE            /* it finds the VM */
} ngx_http_hatch_role_e;


typedef struct {
    ngx_flag_t               api;           /* hatch_api, also inherited */
    ngx_str_t                base_domain;   /* hatch_route; off: "" */
    ngx_http_hatch_role_e    role;
    ngx_http_complex_value_t  *wake;        /* hatch_wake; NULL: on */
    ngx_msec_t               wake_timeout;
    ngx_uint_t               asleep_status; /* 503 or 200 */
    ngx_msec_t               max_age;       /* hatch_readyz */
    ngx_flag_t               summary;       /* hatch_metrics */
    ngx_array_t             *keys;          /* hatch_api_keys; NULL: off */
    ngx_array_t             *origins;       /* hatch_api_origins; NULL: off */
    ngx_array_t             *names;         /* API: ngx_http_server_name_t */
    ngx_http_handler_pt      handler;       /* of the content, if ours */

    /* what the directives of other modules say here */
    unsigned                 ignore_abort:1;    /* proxy_ignore_client_abort */
    unsigned                 sliced:1;          /* slice */
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
    ngx_hatch_waiter_t       waiter;        /* its state is that of the hold */
    ngx_msec_t               deadline;
    uint64_t                 asked;         /* incarnation then; 0: it slept */
    uint64_t                 since;         /* us */
    ngx_uint_t               again;         /* how often it has asked */
    ngx_uint_t               kind;          /* hatch_wake_kind_t */
    ngx_uint_t               time;          /* us */
    ngx_uint_t               counted;       /* among the held requests */
} ngx_http_hatch_hold_t;


typedef struct ngx_http_hatch_ctx_s  ngx_http_hatch_ctx_t;


/*
 * How a request reaches its VM, or one of nginx's clones of it ("slice",
 * background updates of a cache), which share its ctx.
 */

typedef struct {
    ngx_http_request_t      *request;
    ngx_http_hatch_ctx_t    *ctx;           /* of the clone's original */
    ngx_hatch_pool_key_t     key;           /* of the connection */
    uint32_t                 name;          /* TLS: of names, a hash */
    unsigned                 seen:1;        /* the VM, in this very turn */
    unsigned                 last:1;        /* the VM is not needed after it */
} ngx_http_hatch_peer_t;


/*
 * What hatch_route found out about a request; nothing else is in the slot of
 * ngx_http_hatch_module in r->ctx.  Kept small: with what nginx itself needs
 * for a proxied request, it has to fit into two blocks of request_pool_size.
 */

struct ngx_http_hatch_ctx_s {
    hatch_target_t           route;         /* if resolved */
    uint64_t                 guest;         /* another one, another guest */
    ngx_http_hatch_address_t  address;      /* if ready */
    u_char                   name[NGX_HTTP_HATCH_NAME];
    ngx_str_t                peer_name;     /* "address:port", for logs */
    ngx_http_hatch_peer_t    peer;          /* its own, not of its clones */
    ngx_hatch_busy_node_t    busy;          /* while it uses the VM */

    /* of all before this only busy.active is set at first */

    ngx_http_request_t      *request;
    ngx_http_hatch_hold_t   *hold;          /* NULL: it was not held */

    unsigned                 resolved:1;    /* route is filled in */
    unsigned                 ready:1;       /* address is, too */
    unsigned                 counted:1;     /* among the VM's requests */
    unsigned                 may_wake:1;    /* and keep the VM awake */
};


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


/* 1 for a content handler of ours. */
ngx_uint_t ngx_http_hatch_own_handler(ngx_http_handler_pt handler);

/*
 * --- ngx_http_hatch_ctx.c ---
 *
 * The context of hatch_route for this request: its own, also after an
 * internal redirect, or a new one in its first state.  NULL: no memory.
 */
ngx_http_hatch_ctx_t *ngx_http_hatch_route_ctx(ngx_http_request_t *r);

/*
 * To read: the request's own context, or for a clone that of its original;
 * NULL if hatch_route did not run for it.  Any phase, also in a getter.
 */
ngx_http_hatch_ctx_t *ngx_http_hatch_get_ctx(ngx_http_request_t *r);

/*
 * --- ngx_http_hatch_hold.c ---
 *
 * Holds the request until its VM can be used.  NGX_DECLINED: it need not
 * wait; NGX_AGAIN: it is held, and the phases run again later; otherwise what
 * the handler returns.
 */
ngx_int_t ngx_http_hatch_hold(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx, hatch_zone_peer_t *vm, hatch_state_t state);

/*
 * What came of it, for a request that was held and goes on: NGX_DECLINED to
 * look at the VM again.
 */
ngx_int_t ngx_http_hatch_hold_result(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx);

/* May this request wake a VM, says "hatch_wake", which is there? */
ngx_int_t ngx_http_hatch_wake_allowed(ngx_http_request_t *r,
    ngx_uint_t *allowed);

/*
 * --- ngx_http_hatch_served.c ---
 *
 * Is it known that this guest accepts connections on this port?  And: it is.
 */
ngx_uint_t ngx_http_hatch_is_served(ngx_http_hatch_ctx_t *ctx);
void ngx_http_hatch_set_served(ngx_http_hatch_ctx_t *ctx);

/*
 * --- ngx_http_hatch_route.c ---
 *
 * Answers a routed request with JSON; its status is returned instead if there
 * is an error_page for it.  retry: Retry-After of a 503 or 504, s.
 */
ngx_int_t ngx_http_hatch_route_refuse(ngx_http_request_t *r,
    ngx_int_t status, const char *code, const char *text, ngx_uint_t retry);

/* PRECONTENT phase, where there is a "hatch_api" or a "hatch_route". */
ngx_int_t ngx_http_hatch_api_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_hatch_route_handler(ngx_http_request_t *r);

/* Content: "hatch_healthz", "hatch_readyz" and "hatch_metrics". */
ngx_int_t ngx_http_hatch_healthz_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_hatch_readyz_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_hatch_metrics_handler(ngx_http_request_t *r);

/*
 * --- ngx_http_hatch_headers.c ---
 *
 * Header fields that end here.  Of the client's: the API key that opened the
 * location, "h2c" of Upgrade.  NGX_OK, or what the handler returns.
 */
ngx_int_t ngx_http_hatch_drop_client_headers(ngx_http_request_t *r);

/* One field less in headers_in. */
ngx_int_t ngx_http_hatch_remove_header(ngx_http_request_t *r,
    ngx_list_part_t *part, ngx_uint_t i);

/* Of the guest's, where the client's protocol has no connection headers. */
void ngx_http_hatch_drop_guest_headers(ngx_http_request_t *r);

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

/*
 * --- ngx_http_hatch_names.c ---
 *
 * Notes a location's base domain; when it is merged.
 */
ngx_int_t ngx_http_hatch_names_merge(ngx_http_hatch_main_conf_t *hmcf,
    ngx_http_hatch_loc_conf_t *conf);

/*
 * Does this text belong to the request's VM alone?  What it has of the VM must
 * be in its first `root` bytes.
 */
ngx_uint_t ngx_http_hatch_names_alone(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx, ngx_str_t *text, size_t root);

/* The same of the path at which "proxy_store" would store the answer. */
ngx_uint_t ngx_http_hatch_names_store(ngx_http_request_t *r,
    ngx_http_hatch_ctx_t *ctx);

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


#endif /* _NGX_HTTP_HATCH_MODULE_H_INCLUDED_ */
