
/*
 * "hatch_metrics": sends what the other two files write, a chunk at a time.
 *
 * There is one buffer.  It is filled again when all of it has gone to the
 * socket, and not before the event loop has gone round once, so a scrape of
 * many VMs holds up other requests no longer than one chunk takes.
 */


#include "ngx_http_hatch_metrics.h"
#include "ngx_http_hatch_response.h"


static ngx_http_hatch_metrics_t *ngx_http_hatch_metrics_create(
    ngx_http_request_t *r);
static void ngx_http_hatch_metrics_cleanup(void *data);
static void ngx_http_hatch_metrics_writer(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_metrics_send(ngx_http_hatch_metrics_t *m);
static ngx_int_t ngx_http_hatch_metrics_wait(ngx_http_hatch_metrics_t *m);


/* A module of its own, for a slot of its own in r->ctx. */

static ngx_http_module_t  ngx_http_hatch_metrics_module_ctx = {
    NULL,                                  /* preconfiguration */
    NULL,                                  /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_hatch_metrics_module = {
    NGX_MODULE_V1,
    &ngx_http_hatch_metrics_module_ctx,    /* module context */
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
ngx_http_hatch_metrics_handler(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_http_hatch_metrics_t  *m;

    rc = ngx_http_hatch_read_only(r);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    m = ngx_http_hatch_metrics_create(r);
    if (m == NULL || ngx_http_hatch_vary(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_clear_content_length(r);

    rc = ngx_http_hatch_set_headers(r, NGX_HTTP_OK, m->format);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    r->main->count++;
    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_hatch_metrics_writer;

    ngx_http_hatch_metrics_writer(r);

    return NGX_DONE;
}


static ngx_http_hatch_metrics_t *
ngx_http_hatch_metrics_create(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t        *cln;
    ngx_http_hatch_metrics_t  *m;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_hatch_metrics_t));
    if (cln == NULL) {
        return NULL;
    }

    m = cln->data;
    ngx_memzero(m, sizeof(ngx_http_hatch_metrics_t));
    cln->handler = ngx_http_hatch_metrics_cleanup;

    m->request = r;
    m->conf = ngx_http_hatch_main_conf(r);
    m->summary = ngx_http_hatch_loc_conf(r)->summary;
    m->format = ngx_http_hatch_accept(r, NGX_HTTP_HATCH_TEXT);
    m->map = ngx_hatch_zone_ref(&m->conf->zone);

    ngx_http_set_ctx(r, m, ngx_http_hatch_metrics_module);

    return m;
}


static void
ngx_http_hatch_metrics_cleanup(void *data)
{
    ngx_http_hatch_metrics_t *m = data;

    ngx_hatch_work_end(&m->work);

    if (m->map != NULL) {
        ngx_hatch_zone_unref(m->map);
    }
}


static void
ngx_http_hatch_metrics_writer(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_event_t               *wev;
    ngx_connection_t          *c;
    ngx_http_hatch_metrics_t  *m;

    c = r->connection;
    wev = c->write;
    m = ngx_http_get_module_ctx(r, ngx_http_hatch_metrics_module);

    ngx_hatch_work_end(&m->work);

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_INFO, c->log, NGX_ETIMEDOUT,
                      "client timed out");
        c->timedout = 1;

        ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    rc = NGX_OK;

    if (!wev->delayed && !r->aio) {
        rc = ngx_http_hatch_metrics_send(m);
    }

    if (rc == NGX_ERROR || m->done) {

        /* what is still in the filters is sent by nginx's own writer */

        r->write_event_handler = ngx_http_request_empty_handler;
        ngx_http_finalize_request(r, rc);
        return;
    }

    if (ngx_http_hatch_metrics_wait(m) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_ERROR);
    }
}


static ngx_int_t
ngx_http_hatch_metrics_send(ngx_http_hatch_metrics_t *m)
{
    ngx_int_t            rc;
    ngx_buf_t           *b;
    ngx_chain_t         *out;
    ngx_http_request_t  *r;

    r = m->request;
    out = NULL;

    if (m->busy == NULL) {

        out = ngx_chain_get_free_buf(r->pool, &m->free);
        if (out == NULL) {
            return NGX_ERROR;
        }

        b = out->buf;

        if (b->start == NULL) {
            b->start = ngx_palloc(r->pool, NGX_HTTP_HATCH_METRICS_FIRST);
            if (b->start == NULL) {
                return NGX_ERROR;
            }

            b->end = b->start + NGX_HTTP_HATCH_METRICS_FIRST;
            b->tag = (ngx_buf_tag_t) &ngx_http_hatch_metrics_module;
            b->temporary = 1;
            b->flush = 1;
        }

        b->pos = b->start;
        b->last = ngx_http_hatch_metrics_text(m, b->start, m->begun
                                     ? b->start + NGX_HTTP_HATCH_METRICS_CHUNK
                                     : b->end);
        b->last_buf = m->done && r == r->main;
        b->last_in_chain = m->done;

        if (b->last == b->pos && !m->done) {
            ngx_chain_update_chains(r->pool, &m->free, &m->busy, &out,
                                    b->tag);
            return NGX_OK;
        }

        /* empty, it only ends the answer */

        b->temporary = b->last != b->pos;
    }

    rc = ngx_http_output_filter(r, out);

    ngx_chain_update_chains(r->pool, &m->free, &m->busy, &out,
                            (ngx_buf_tag_t) &ngx_http_hatch_metrics_module);

    return rc;
}


static ngx_int_t
ngx_http_hatch_metrics_wait(ngx_http_hatch_metrics_t *m)
{
    ngx_event_t               *wev;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = m->request;
    wev = r->connection->write;
    clcf = ngx_http_get_module_loc_conf(r->main, ngx_http_core_module);

    if (m->busy == NULL && !wev->delayed && !r->aio && !r->buffered
        && !r->postponed && !(r == r->main && r->connection->buffered))
    {
        /* all of it is out: the next chunk in the next round of events */

        if (wev->timer_set) {
            ngx_del_timer(wev);
        }

        ngx_hatch_work_begin(&m->work, "an answer of hatch_metrics");
        ngx_post_event(wev, &ngx_posted_next_events);
        return NGX_OK;
    }

    if (!wev->delayed) {
        ngx_add_timer(wev, clcf->send_timeout);
    }

    return ngx_handle_write_event(wev, clcf->send_lowat);
}
