
/*
 * The context of hatch_route: whose it is, and where it is found again.
 *
 * An internal redirect clears the contexts of a request, but not its pool; so
 * the entry for the cleanup in the pool is what the context is found by.  The
 * pool is that of the subrequests, too: each entry says of which request it
 * is.
 */


#include "ngx_http_hatch_module.h"


static ngx_http_hatch_ctx_t *ngx_http_hatch_find_ctx(ngx_http_request_t *r,
    ngx_uint_t clone);
static ngx_uint_t ngx_http_hatch_is_clone(ngx_http_request_t *r,
    ngx_http_request_t *of);
static void ngx_http_hatch_ctx_cleanup(void *data);


ngx_http_hatch_ctx_t *
ngx_http_hatch_route_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t    *cln;
    ngx_http_hatch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_hatch_module);

    /* nearly every request gets here once, and has not been redirected */

    if (ctx == NULL && r->internal) {
        ctx = ngx_http_hatch_find_ctx(r, 0);

        if (ctx != NULL) {
            ngx_http_set_ctx(r, ctx, ngx_http_hatch_module);
        }
    }

    if (ctx != NULL) {
        return ctx;
    }

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_hatch_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;

    ctx->busy.active = 0;
    ctx->request = r;
    ctx->hold = NULL;
    ctx->resolved = 0;
    ctx->ready = 0;
    ctx->counted = 0;
    ctx->may_wake = 0;

    /* also marks the entry as ours */
    cln->handler = ngx_http_hatch_ctx_cleanup;

    ngx_http_set_ctx(r, ctx, ngx_http_hatch_module);

    return ctx;
}


ngx_http_hatch_ctx_t *
ngx_http_hatch_get_ctx(ngx_http_request_t *r)
{
    ngx_http_hatch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_hatch_module);

    if (ctx != NULL || (!r->internal && !r->filter_finalize)) {
        return ctx;
    }

    return ngx_http_hatch_find_ctx(r, 1);
}


static ngx_http_hatch_ctx_t *
ngx_http_hatch_find_ctx(ngx_http_request_t *r, ngx_uint_t clone)
{
    ngx_pool_cleanup_t    *cln;
    ngx_http_hatch_ctx_t  *ctx;

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler != ngx_http_hatch_ctx_cleanup) {
            continue;
        }

        ctx = cln->data;

        if (ctx->request == r
            || (clone && ngx_http_hatch_is_clone(r, ctx->request)))
        {
            return ctx;
        }
    }

    return NULL;
}


/*
 * nginx clones a request in its middle, for the next slice or to update its
 * cache in the background: the clone begins behind the phase in which
 * hatch_route runs, and is for the same VM.
 */

static ngx_uint_t
ngx_http_hatch_is_clone(ngx_http_request_t *r, ngx_http_request_t *of)
{
    return r->parent == of
           && r->loc_conf == of->loc_conf
           && r->uri.data == of->uri.data
           && r->content_handler == of->content_handler;
}


/* The request ends, however it does. */

static void
ngx_http_hatch_ctx_cleanup(void *data)
{
    ngx_http_hatch_ctx_t *ctx = data;

    if (ctx->hold != NULL) {
        ngx_hatch_waiter_leave(&ctx->hold->waiter);
    }

    ngx_hatch_busy_end(&ngx_http_hatch_main_conf(ctx->request)->busy,
                       &ctx->busy);
}
