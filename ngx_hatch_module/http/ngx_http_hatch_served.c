
/*
 * Ports that are known to be served, by this worker: sets of four, a cache
 * line each, twice as many places as there are VMs.  Who is not in it asks the
 * agent once more, so it may be too small, but it should not be.
 */


#include "ngx_http_hatch_module.h"


#define NGX_HTTP_HATCH_SERVED_SET  4

typedef struct {
    uint64_t                 guest;         /* 0: the place is free */
    uint32_t                 slot;
    uint32_t                 port;
} ngx_http_hatch_served_t;


static ngx_inline ngx_http_hatch_served_t *ngx_http_hatch_served(
    ngx_http_hatch_ctx_t *ctx);
static ngx_int_t ngx_http_hatch_served_init(ngx_http_hatch_ctx_t *ctx);
static void ngx_http_hatch_served_cleanup(void *data);


static ngx_http_hatch_served_t  *ngx_http_hatch_served_sets;
static ngx_uint_t                ngx_http_hatch_served_mask;


/* The set of the VM and port; NULL: there is no memory for any. */

static ngx_inline ngx_http_hatch_served_t *
ngx_http_hatch_served(ngx_http_hatch_ctx_t *ctx)
{
    uint32_t  hash;

    if (ngx_http_hatch_served_sets == NULL
        && ngx_http_hatch_served_init(ctx) != NGX_OK)
    {
        return NULL;
    }

    hash = (ctx->busy.slot * 31 + ctx->route.target_port) * 0x9e3779b1u;

    return &ngx_http_hatch_served_sets[(hash >> 12
                                        & ngx_http_hatch_served_mask)
                                       * NGX_HTTP_HATCH_SERVED_SET];
}


static ngx_int_t
ngx_http_hatch_served_init(ngx_http_hatch_ctx_t *ctx)
{
    ngx_uint_t           n, vms;
    ngx_pool_cleanup_t  *cln;

    vms = ngx_http_hatch_main_conf(ctx->request)->zone.vms;

    for (n = 64; n < vms * 2 / NGX_HTTP_HATCH_SERVED_SET; n *= 2) {
        /* void */
    }

    cln = ngx_pool_cleanup_add(ngx_cycle->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    /* as much of it is used as VMs are */

    ngx_http_hatch_served_sets = ngx_calloc(n * NGX_HTTP_HATCH_SERVED_SET
                                            * sizeof(ngx_http_hatch_served_t),
                                            ngx_cycle->log);
    if (ngx_http_hatch_served_sets == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_hatch_served_cleanup;
    ngx_http_hatch_served_mask = n - 1;

    return NGX_OK;
}


/* The cycle ends, and with it this module, before the process does. */

static void
ngx_http_hatch_served_cleanup(void *data)
{
    ngx_free(ngx_http_hatch_served_sets);
    ngx_http_hatch_served_sets = NULL;
}


ngx_uint_t
ngx_http_hatch_is_served(ngx_http_hatch_ctx_t *ctx)
{
    ngx_uint_t                i;
    ngx_http_hatch_served_t  *s;

    s = ngx_http_hatch_served(ctx);

    if (s == NULL) {
        return 0;
    }

    for (i = 0; i < NGX_HTTP_HATCH_SERVED_SET && s[i].guest != 0; i++) {
        if (s[i].guest == ctx->guest && s[i].slot == ctx->busy.slot
            && s[i].port == ctx->route.target_port)
        {
            return 1;
        }
    }

    return 0;
}


void
ngx_http_hatch_set_served(ngx_http_hatch_ctx_t *ctx)
{
    ngx_uint_t                i, place;
    ngx_http_hatch_served_t  *s;

    static ngx_uint_t  turn;

    s = ngx_http_hatch_served(ctx);
    if (s == NULL) {
        return;
    }

    /* its own place, of a guest that was there before; a free one; any */

    place = turn++ % NGX_HTTP_HATCH_SERVED_SET;

    for (i = 0; i < NGX_HTTP_HATCH_SERVED_SET; i++) {
        if (s[i].guest == 0
            || (s[i].slot == ctx->busy.slot
                && s[i].port == ctx->route.target_port))
        {
            place = i;
            break;
        }
    }

    s[place].slot = ctx->busy.slot;
    s[place].port = ctx->route.target_port;
    s[place].guest = ctx->guest;
}
