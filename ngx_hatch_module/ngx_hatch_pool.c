
#include "ngx_hatch_pool.h"


/*
 * A host is an address with at least one idle connection.  There are as many
 * of both as connections may be idle, made at once and never freed, so that
 * keeping one needs no memory.
 */

struct ngx_hatch_pool_host_s {
    ngx_hatch_pool_host_t   *next;          /* in the bucket, or free */
    ngx_queue_t              idle;          /* the one used last first */
    ngx_uint_t               n;
    uint32_t                 hash;
    socklen_t                socklen;
    ngx_sockaddr_t           sockaddr;
};


struct ngx_hatch_pool_idle_s {
    ngx_queue_t              queue;         /* of the pool; or free */
    ngx_queue_t              of_host;
    ngx_hatch_pool_t        *pool;
    ngx_hatch_pool_host_t   *host;
    ngx_connection_t        *connection;
    ngx_msec_t               until;
};


static ngx_int_t ngx_hatch_pool_init(ngx_hatch_pool_t *pool);
static uint32_t ngx_hatch_pool_hash(struct sockaddr *sockaddr,
    socklen_t socklen);
static ngx_hatch_pool_host_t **ngx_hatch_pool_find(ngx_hatch_pool_t *pool,
    struct sockaddr *sockaddr, socklen_t socklen, uint32_t hash);
static void ngx_hatch_pool_take(ngx_hatch_pool_idle_t *idle);
static void ngx_hatch_pool_close(ngx_hatch_pool_idle_t *idle);
static void ngx_hatch_pool_read_handler(ngx_event_t *ev);
static void ngx_hatch_pool_write_handler(ngx_event_t *ev);
static void ngx_hatch_pool_timer(ngx_event_t *ev);
static void ngx_hatch_pool_cleanup(void *data);


ngx_connection_t *
ngx_hatch_pool_get(ngx_hatch_pool_t *pool, struct sockaddr *sockaddr,
    socklen_t socklen, ngx_log_t *log)
{
    ngx_queue_t            *q;
    ngx_connection_t       *c;
    ngx_hatch_pool_host_t  *host;
    ngx_hatch_pool_idle_t  *idle;

    if (pool->pid != ngx_pid) {
        return NULL;
    }

    host = *ngx_hatch_pool_find(pool, sockaddr, socklen,
                                ngx_hatch_pool_hash(sockaddr, socklen));
    if (host == NULL) {
        return NULL;
    }

    q = ngx_queue_head(&host->idle);
    idle = ngx_queue_data(q, ngx_hatch_pool_idle_t, of_host);
    c = idle->connection;

    ngx_hatch_pool_take(idle);

    c->idle = 0;
    c->sent = 0;
    c->data = NULL;
    c->log = log;
    c->read->log = log;
    c->write->log = log;
    c->pool->log = log;

    return c;
}


ngx_int_t
ngx_hatch_pool_put(ngx_hatch_pool_t *pool, ngx_connection_t *c,
    struct sockaddr *sockaddr, socklen_t socklen)
{
    uint32_t                 hash;
    ngx_queue_t             *q;
    ngx_hatch_pool_host_t  **link, *host;
    ngx_hatch_pool_idle_t   *idle;

    if (pool->max == 0 || c->requests >= pool->requests
        || ngx_current_msec - c->start_time > pool->time
        || c->read->eof || c->read->error || c->read->timedout
        || c->write->error || c->write->timedout
        || ngx_terminate || ngx_exiting
        || (pool->pid != ngx_pid && ngx_hatch_pool_init(pool) != NGX_OK)
        || ngx_handle_read_event(c->read, 0) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    hash = ngx_hatch_pool_hash(sockaddr, socklen);
    link = ngx_hatch_pool_find(pool, sockaddr, socklen, hash);
    host = *link;

    /* the one that waits longest makes room: of this host, or of all */

    if ((host != NULL && host->n >= pool->max_per_host)
        || ngx_queue_empty(&pool->free))
    {
        if (host != NULL && host->n >= pool->max_per_host) {
            q = ngx_queue_last(&host->idle);
            idle = ngx_queue_data(q, ngx_hatch_pool_idle_t, of_host);

        } else {
            q = ngx_queue_last(&pool->idle);
            idle = ngx_queue_data(q, ngx_hatch_pool_idle_t, queue);
        }

        ngx_hatch_pool_close(idle);

        /* that may have been the last one of this host */

        link = ngx_hatch_pool_find(pool, sockaddr, socklen, hash);
        host = *link;
    }

    if (host == NULL) {
        host = pool->free_hosts;
        pool->free_hosts = host->next;

        host->next = NULL;
        host->n = 0;
        host->hash = hash;
        host->socklen = socklen;
        ngx_memcpy(&host->sockaddr, sockaddr, socklen);
        ngx_queue_init(&host->idle);
        *link = host;
    }

    q = ngx_queue_head(&pool->free);
    ngx_queue_remove(q);
    idle = ngx_queue_data(q, ngx_hatch_pool_idle_t, queue);

    idle->host = host;
    idle->connection = c;
    idle->until = ngx_current_msec + pool->timeout;
    host->n++;
    ngx_queue_insert_head(&host->idle, &idle->of_host);
    ngx_queue_insert_head(&pool->idle, &idle->queue);

    /* one timer for all: they come and go in the order of their times */

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    if (!pool->timer.timer_set) {
        ngx_add_timer(&pool->timer, pool->timeout);
    }

    c->data = idle;
    c->idle = 1;
    c->read->delayed = 0;
    c->read->handler = ngx_hatch_pool_read_handler;
    c->write->handler = ngx_hatch_pool_write_handler;
    c->log = ngx_cycle->log;
    c->read->log = ngx_cycle->log;
    c->write->log = ngx_cycle->log;
    c->pool->log = ngx_cycle->log;

    /* it may have been closed, or something was sent that nobody asked for */

    if (c->read->ready) {
        ngx_hatch_pool_read_handler(c->read);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_hatch_pool_init(ngx_hatch_pool_t *pool)
{
    ngx_uint_t              i, max;
    ngx_pool_cleanup_t     *cln;
    ngx_hatch_pool_host_t  *hosts;
    ngx_hatch_pool_idle_t  *idle;

    max = ngx_max(ngx_min(pool->max, ngx_cycle->connection_n / 2), 1);
    pool->buckets = 64;

    while (pool->buckets < max) {
        pool->buckets *= 2;
    }

    cln = ngx_pool_cleanup_add(ngx_cycle->pool, 0);
    hosts = ngx_palloc(ngx_cycle->pool, max * sizeof(ngx_hatch_pool_host_t));
    idle = ngx_palloc(ngx_cycle->pool, max * sizeof(ngx_hatch_pool_idle_t));
    pool->hash = ngx_pcalloc(ngx_cycle->pool,
                             pool->buckets * sizeof(ngx_hatch_pool_host_t *));

    if (cln == NULL || hosts == NULL || idle == NULL || pool->hash == NULL) {
        pool->max = 0;
        return NGX_ERROR;
    }

    cln->handler = ngx_hatch_pool_cleanup;
    cln->data = pool;

    ngx_queue_init(&pool->free);
    ngx_queue_init(&pool->idle);
    pool->free_hosts = NULL;

    for (i = 0; i < max; i++) {
        hosts[i].next = pool->free_hosts;
        pool->free_hosts = &hosts[i];

        idle[i].pool = pool;
        ngx_queue_insert_head(&pool->free, &idle[i].queue);
    }

    ngx_memzero(&pool->timer, sizeof(ngx_event_t));
    pool->timer.handler = ngx_hatch_pool_timer;
    pool->timer.data = pool;
    pool->timer.log = ngx_cycle->log;
    pool->timer.cancelable = 1;
    pool->pid = ngx_pid;

    return NGX_OK;
}


/* Port, address and incarnation, in words. */

static uint32_t
ngx_hatch_pool_hash(struct sockaddr *sockaddr, socklen_t socklen)
{
    size_t    i;
    uint64_t  word, hash;

    hash = 0;

    for (i = 0; i + sizeof(word) <= socklen; i += sizeof(word)) {
        ngx_memcpy(&word, (u_char *) sockaddr + i, sizeof(word));
        hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
        hash ^= hash >> 32;
    }

    return (uint32_t) hash;
}


/* The link to the host, or to the NULL where it would be. */

static ngx_hatch_pool_host_t **
ngx_hatch_pool_find(ngx_hatch_pool_t *pool, struct sockaddr *sockaddr,
    socklen_t socklen, uint32_t hash)
{
    ngx_hatch_pool_host_t  **link;

    link = &pool->hash[hash & (pool->buckets - 1)];

    while (*link != NULL
           && ((*link)->hash != hash || (*link)->socklen != socklen
               || ngx_memcmp(&(*link)->sockaddr, sockaddr, socklen) != 0))
    {
        link = &(*link)->next;
    }

    return link;
}


/* Out of the pool; the connection is the caller's. */

static void
ngx_hatch_pool_take(ngx_hatch_pool_idle_t *idle)
{
    ngx_hatch_pool_t        *pool;
    ngx_hatch_pool_host_t   *host, **link;

    pool = idle->pool;
    host = idle->host;

    ngx_queue_remove(&idle->of_host);
    ngx_queue_remove(&idle->queue);
    ngx_queue_insert_head(&pool->free, &idle->queue);

    if (--host->n == 0) {
        link = ngx_hatch_pool_find(pool, &host->sockaddr.sockaddr,
                                   host->socklen, host->hash);
        *link = host->next;
        host->next = pool->free_hosts;
        pool->free_hosts = host;
    }
}


static void
ngx_hatch_pool_close(ngx_hatch_pool_idle_t *idle)
{
    ngx_connection_t  *c;

    c = idle->connection;
    ngx_hatch_pool_take(idle);

#if (NGX_SSL)

    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
        c->ssl->no_send_shutdown = 1;

        if (ngx_ssl_shutdown(c) == NGX_AGAIN) {
            c->ssl->handler = NULL;
        }
    }

#endif

    ngx_destroy_pool(c->pool);
    ngx_close_connection(c);
}


/* The guest has closed it, or sends what was not asked for; or we stop. */

static void
ngx_hatch_pool_read_handler(ngx_event_t *ev)
{
    int                n;
    char               buf[1];
    ngx_connection_t  *c;

    c = ev->data;

    if (!c->close && !ev->timedout) {
        n = recv(c->fd, buf, 1, MSG_PEEK);

        if (n == -1 && ngx_socket_errno == NGX_EAGAIN) {
            ev->ready = 0;

            if (ngx_handle_read_event(c->read, 0) == NGX_OK) {
                return;
            }
        }
    }

    ngx_hatch_pool_close(c->data);
}


static void
ngx_hatch_pool_write_handler(ngx_event_t *ev)
{
    ngx_log_debug0(NGX_LOG_DEBUG_EVENT, ev->log, 0, "hatch pool write");
}


static void
ngx_hatch_pool_timer(ngx_event_t *ev)
{
    ngx_queue_t            *q;
    ngx_msec_int_t          left;
    ngx_hatch_pool_t       *pool;
    ngx_hatch_pool_idle_t  *idle;

    pool = ev->data;

    while (!ngx_queue_empty(&pool->idle)) {

        q = ngx_queue_last(&pool->idle);
        idle = ngx_queue_data(q, ngx_hatch_pool_idle_t, queue);
        left = (ngx_msec_int_t) (idle->until - ngx_current_msec);

        if (left > 0 && !ngx_exiting) {
            ngx_add_timer(ev, (ngx_msec_t) left);
            return;
        }

        ngx_hatch_pool_close(idle);
    }
}


/* The cycle ends: only in a single process that reloads. */

static void
ngx_hatch_pool_cleanup(void *data)
{
    ngx_hatch_pool_t *pool = data;

    ngx_queue_t  *q;

    while (!ngx_queue_empty(&pool->idle)) {
        q = ngx_queue_last(&pool->idle);
        ngx_hatch_pool_close(ngx_queue_data(q, ngx_hatch_pool_idle_t, queue));
    }

    if (pool->timer.timer_set) {
        ngx_del_timer(&pool->timer);
    }
}
