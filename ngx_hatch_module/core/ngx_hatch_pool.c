
#include "ngx_hatch_pool.h"

#include "hatch_hash.h"


/*
 * A guest that has said "timeout=5" closes the connection after five seconds
 * by its own clock, which began to run before ours.
 */
#define NGX_HATCH_POOL_MARGIN  500

/* So long a connection of a guest that says nothing counts as fresh, ms. */
#define NGX_HATCH_POOL_FRESH   1000


/*
 * Those of one key are a stack, the one used last on top; the tops of a
 * bucket are a list.  All are made at once and never freed, so that keeping a
 * connection needs no memory.  Two cache lines, the first for finding it.
 */

struct ngx_hatch_pool_idle_s {
    ngx_hatch_pool_key_t     key;
    ngx_hatch_pool_idle_t   *next;          /* top: in its bucket; or free */
    ngx_connection_t        *connection;

    ngx_queue_t              queue;         /* of the pool */
    ngx_hatch_pool_t        *pool;
    ngx_hatch_pool_idle_t   *above;         /* NULL: it is the top one */
    ngx_hatch_pool_idle_t   *below;
    ngx_msec_t               since;
    ngx_msec_t               timeout;       /* of the guest; 0: none said */
    ngx_uint_t               n;             /* top: how many there are */
};

#define NGX_HATCH_POOL_LINE  64


static ngx_uint_t ngx_hatch_pool_fresh(ngx_hatch_pool_idle_t *idle);
static const char *ngx_hatch_pool_refuse(ngx_hatch_pool_t *pool,
    ngx_connection_t *c);
static void ngx_hatch_pool_make_room(ngx_hatch_pool_t *pool);
static ngx_int_t ngx_hatch_pool_init(ngx_hatch_pool_t *pool);
static ngx_inline ngx_hatch_pool_idle_t **ngx_hatch_pool_find(
    ngx_hatch_pool_t *pool, ngx_hatch_pool_key_t *key);
static void ngx_hatch_pool_push(ngx_hatch_pool_t *pool,
    ngx_hatch_pool_idle_t **link, ngx_hatch_pool_key_t *key,
    ngx_connection_t *c, ngx_msec_t timeout);
static void ngx_hatch_pool_take(ngx_hatch_pool_idle_t *idle,
    ngx_hatch_pool_idle_t **link);
static void ngx_hatch_pool_close(ngx_hatch_pool_idle_t *idle,
    const char *why);
static void ngx_hatch_pool_read_handler(ngx_event_t *ev);
static void ngx_hatch_pool_write_handler(ngx_event_t *ev);
static void ngx_hatch_pool_timer(ngx_event_t *ev);
static void ngx_hatch_pool_cleanup(void *data);


/* All pools of this process, and how many connections they have. */

static ngx_queue_t  ngx_hatch_pools;
static ngx_uint_t   ngx_hatch_pool_n;


ngx_connection_t *
ngx_hatch_pool_get(ngx_hatch_pool_t *pool, ngx_hatch_pool_key_t *key,
    ngx_uint_t fresh, ngx_log_t *log)
{
    uint64_t                 hash;
    ngx_connection_t        *c;
    ngx_hatch_pool_idle_t  **link;

    hash = hatch_hash_word(0, key->guest);
    hash = hatch_hash_word(hash, key->address[0] ^ key->address[1]);
    hash = hatch_hash_word(hash, key->protocol ^ key->name);
    key->hash = hatch_hash_end(hash);

    if (pool->pid != ngx_pid) {
        return NULL;
    }

    link = ngx_hatch_pool_find(pool, key);

    if (*link == NULL) {
        ngx_log_debug0(NGX_LOG_DEBUG_EVENT, log, 0, "hatch pool: none");
        return NULL;
    }

    /* those below have waited longer */

    if (fresh && !ngx_hatch_pool_fresh(*link)) {
        ngx_log_debug1(NGX_LOG_DEBUG_EVENT, log, 0,
                       "hatch pool: none is fresh, the last has waited %M",
                       ngx_current_msec - (*link)->since);
        return NULL;
    }

    c = (*link)->connection;
    ngx_hatch_pool_take(*link, link);

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    c->idle = 0;
    c->sent = 0;
    c->data = NULL;
    c->log = log;
    c->read->log = log;
    c->write->log = log;
    c->pool->log = log;

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, log, 0,
                   "hatch pool: connection %d after %ui requests", c->fd,
                   c->requests);

    return c;
}


static ngx_uint_t
ngx_hatch_pool_fresh(ngx_hatch_pool_idle_t *idle)
{
    ngx_msec_t  age;

    age = ngx_current_msec - idle->since;

    if (idle->timeout == 0) {
        return age < NGX_HATCH_POOL_FRESH;
    }

    return age + NGX_HATCH_POOL_MARGIN < idle->timeout;
}


ngx_int_t
ngx_hatch_pool_put(ngx_hatch_pool_t *pool, ngx_connection_t *c,
    ngx_hatch_pool_key_t *key, ngx_msec_t timeout)
{
    const char              *why;
    ngx_hatch_pool_idle_t  **link;

    why = ngx_hatch_pool_refuse(pool, c);

    if (why != NULL) {
        ngx_log_debug2(NGX_LOG_DEBUG_EVENT, c->log, 0,
                       "hatch pool: connection %d not kept: %s", c->fd, why);
        return NGX_DECLINED;
    }

    link = ngx_hatch_pool_find(pool, key);

    if (*link != NULL && (*link)->n >= pool->max_per_host) {
        ngx_log_debug2(NGX_LOG_DEBUG_EVENT, c->log, 0,
                       "hatch pool: connection %d not kept: it has %ui",
                       c->fd, (*link)->n);
        return NGX_DECLINED;
    }

    if (pool->free == NULL || ngx_hatch_pool_n >= pool->all) {
        ngx_hatch_pool_make_room(pool);

        /* what was closed may have been the link */

        link = ngx_hatch_pool_find(pool, key);
    }

    ngx_hatch_pool_push(pool, link, key, c, timeout);

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, c->log, 0,
                   "hatch pool: connection %d kept, timeout %M", c->fd,
                   timeout);

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    /*
     * One timer for all, since they come and go in the order of their times;
     * but what a guest closes sooner has one of its own.
     */

    if (timeout != 0 && timeout < pool->timeout) {
        ngx_add_timer(c->read, timeout);
    }

    if (!pool->timer.timer_set) {
        ngx_add_timer(&pool->timer, pool->timeout);
    }

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


/* Why a connection cannot be kept; NULL: it can. */

static const char *
ngx_hatch_pool_refuse(ngx_hatch_pool_t *pool, ngx_connection_t *c)
{
    if (pool->max == 0) {
        return "none is";
    }

    if (c->requests >= pool->requests) {
        return "keepalive_requests";
    }

    if (ngx_current_msec - c->start_time > pool->time) {
        return "keepalive_time";
    }

    if (c->read->eof || c->read->error || c->read->timedout
        || c->write->error || c->write->timedout)
    {
        return "it failed";
    }

    if (ngx_terminate || ngx_exiting) {
        return "the worker ends";
    }

    if ((pool->pid != ngx_pid && ngx_hatch_pool_init(pool) != NGX_OK)
        || (!c->read->active && ngx_handle_read_event(c->read, 0) != NGX_OK))
    {
        return "out of memory or events";
    }

    return NULL;
}


/* For one more of this pool. */

static void
ngx_hatch_pool_make_room(ngx_hatch_pool_t *pool)
{
    ngx_queue_t            *q;
    ngx_hatch_pool_idle_t  *idle, *oldest;

    if (pool->free == NULL) {
        q = ngx_queue_last(&pool->idle);
        ngx_hatch_pool_close(ngx_queue_data(q, ngx_hatch_pool_idle_t, queue),
                             "the pool is full");
        return;
    }

    oldest = NULL;

    for (q = ngx_queue_head(&ngx_hatch_pools);
         q != ngx_queue_sentinel(&ngx_hatch_pools);
         q = ngx_queue_next(q))
    {
        pool = ngx_queue_data(q, ngx_hatch_pool_t, pools);

        if (ngx_queue_empty(&pool->idle)) {
            continue;
        }

        idle = ngx_queue_data(ngx_queue_last(&pool->idle),
                              ngx_hatch_pool_idle_t, queue);

        if (oldest == NULL
            || (ngx_msec_int_t) (idle->since - oldest->since) < 0)
        {
            oldest = idle;
        }
    }

    ngx_hatch_pool_close(oldest, "half of worker_connections are kept");
}


static ngx_int_t
ngx_hatch_pool_init(ngx_hatch_pool_t *pool)
{
    ngx_uint_t              i, max, buckets;
    ngx_pool_cleanup_t     *cln;
    ngx_hatch_pool_idle_t  *idle;

    if (ngx_hatch_pools.next == NULL) {
        ngx_queue_init(&ngx_hatch_pools);
    }

    pool->all = ngx_max(ngx_cycle->connection_n / 2, 1);
    max = ngx_min(pool->max, pool->all);

    for (buckets = 64; buckets < max; buckets *= 2) {
        /* void */
    }

    cln = ngx_pool_cleanup_add(ngx_cycle->pool, 0);
    idle = ngx_palloc(ngx_cycle->pool, max * sizeof(ngx_hatch_pool_idle_t)
                                       + NGX_HATCH_POOL_LINE);
    pool->hash = ngx_pcalloc(ngx_cycle->pool,
                             buckets * sizeof(ngx_hatch_pool_idle_t *));

    if (cln == NULL || idle == NULL || pool->hash == NULL) {
        pool->max = 0;
        return NGX_ERROR;
    }

    cln->handler = ngx_hatch_pool_cleanup;
    cln->data = pool;

    idle = (ngx_hatch_pool_idle_t *) ngx_align_ptr(idle, NGX_HATCH_POOL_LINE);

    pool->mask = buckets - 1;
    ngx_queue_insert_tail(&ngx_hatch_pools, &pool->pools);
    ngx_queue_init(&pool->idle);
    pool->free = NULL;

    for (i = max; i-- > 0; /* void */) {
        idle[i].pool = pool;
        idle[i].next = pool->free;
        pool->free = &idle[i];
    }

    ngx_memzero(&pool->timer, sizeof(ngx_event_t));
    pool->timer.handler = ngx_hatch_pool_timer;
    pool->timer.data = pool;
    pool->timer.log = ngx_cycle->log;
    pool->timer.cancelable = 1;
    pool->pid = ngx_pid;

    return NGX_OK;
}


/* The link to the top one of a key, or to the NULL where it would be. */

static ngx_inline ngx_hatch_pool_idle_t **
ngx_hatch_pool_find(ngx_hatch_pool_t *pool, ngx_hatch_pool_key_t *key)
{
    ngx_hatch_pool_key_t    *k;
    ngx_hatch_pool_idle_t  **link;

    link = &pool->hash[key->hash & pool->mask];

    for ( /* void */ ; *link != NULL; link = &(*link)->next) {
        k = &(*link)->key;

        if (k->guest == key->guest
            && k->address[0] == key->address[0]
            && k->address[1] == key->address[1]
            && k->protocol == key->protocol
            && k->name == key->name)
        {
            break;
        }
    }

    return link;
}


/* Onto the others of its key, of which link points to the top one. */

static void
ngx_hatch_pool_push(ngx_hatch_pool_t *pool, ngx_hatch_pool_idle_t **link,
    ngx_hatch_pool_key_t *key, ngx_connection_t *c, ngx_msec_t timeout)
{
    ngx_hatch_pool_idle_t  *idle, *top;

    idle = pool->free;
    pool->free = idle->next;

    top = *link;

    idle->above = NULL;
    idle->below = top;
    idle->next = NULL;
    idle->n = 1;

    if (top != NULL) {
        idle->next = top->next;
        idle->n = top->n + 1;
        top->above = idle;
    }

    *link = idle;

    idle->key = *key;
    idle->connection = c;
    idle->since = ngx_current_msec;
    idle->timeout = timeout;
    ngx_queue_insert_head(&pool->idle, &idle->queue);
    ngx_hatch_pool_n++;

    c->data = idle;
}


/* Out of the pool; link points to the top one of its key. */

static void
ngx_hatch_pool_take(ngx_hatch_pool_idle_t *idle, ngx_hatch_pool_idle_t **link)
{
    ngx_hatch_pool_t       *pool;
    ngx_hatch_pool_idle_t  *below;

    pool = idle->pool;
    below = idle->below;

    if (below != NULL) {
        below->above = idle->above;
    }

    if (idle->above != NULL) {
        idle->above->below = below;
        (*link)->n--;

    } else if (below != NULL) {
        below->next = idle->next;
        below->n = idle->n - 1;
        *link = below;

    } else {
        *link = idle->next;
    }

    ngx_queue_remove(&idle->queue);
    ngx_hatch_pool_n--;

    idle->next = pool->free;
    pool->free = idle;
}


static void
ngx_hatch_pool_close(ngx_hatch_pool_idle_t *idle, const char *why)
{
    ngx_connection_t  *c;

    c = idle->connection;

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, c->log, 0,
                   "hatch pool: connection %d closed: %s", c->fd, why);

    ngx_hatch_pool_take(idle, ngx_hatch_pool_find(idle->pool, &idle->key));

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

    if (c->close || ev->timedout) {
        ngx_hatch_pool_close(c->data, c->close ? "the worker ends"
                                               : "the guest's own timeout");
        return;
    }

    n = recv(c->fd, buf, 1, MSG_PEEK);

    if (n == -1 && ngx_socket_errno == NGX_EAGAIN) {
        ev->ready = 0;

        if (ngx_handle_read_event(c->read, 0) == NGX_OK) {
            return;
        }
    }

    ngx_hatch_pool_close(c->data, n > 0 ? "the guest sent something"
                                        : "the guest closed it");
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
        left = (ngx_msec_int_t) (idle->since + pool->timeout
                                 - ngx_current_msec);

        if (left > 0 && !ngx_exiting) {
            ngx_add_timer(ev, (ngx_msec_t) left);
            return;
        }

        ngx_hatch_pool_close(idle, "keepalive_timeout");
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
        ngx_hatch_pool_close(ngx_queue_data(q, ngx_hatch_pool_idle_t, queue),
                             "the cycle ends");
    }

    ngx_queue_remove(&pool->pools);

    if (pool->timer.timer_set) {
        ngx_del_timer(&pool->timer);
    }
}
