
#include "ngx_hatch_pool.h"

#include "hatch_hash.h"


/* An address, filled up with zeroes: compared and hashed in words. */

#define NGX_HATCH_POOL_WORDS  4

#if (NGX_HAVE_INET6)
typedef char  ngx_hatch_pool_fits[sizeof(struct sockaddr_in6)
                                  <= NGX_HATCH_POOL_WORDS * sizeof(uint64_t)
                                  ? 1 : -1];
#endif

typedef struct {
    uint64_t                 word[NGX_HATCH_POOL_WORDS];
} ngx_hatch_pool_key_t;


/*
 * Those of one address are a stack, the one used last on top; the tops of a
 * bucket are a list.  All are made at once and never freed, so that keeping a
 * connection needs no memory.
 */

struct ngx_hatch_pool_idle_s {
    ngx_queue_t              queue;         /* of the pool */
    ngx_hatch_pool_t        *pool;
    ngx_connection_t        *connection;
    ngx_msec_t               until;
    ngx_hatch_pool_idle_t   *above;         /* NULL: it is the top one */
    ngx_hatch_pool_idle_t   *below;
    ngx_hatch_pool_idle_t   *next;          /* top: in its bucket; or free */
    ngx_uint_t               n;             /* top: how many there are */
    ngx_hatch_pool_key_t     key;
};


static ngx_int_t ngx_hatch_pool_init(ngx_hatch_pool_t *pool);
static ngx_int_t ngx_hatch_pool_key(ngx_hatch_pool_key_t *key,
    struct sockaddr *sockaddr, socklen_t socklen);
static ngx_hatch_pool_idle_t **ngx_hatch_pool_find(ngx_hatch_pool_t *pool,
    ngx_hatch_pool_key_t *key);
static void ngx_hatch_pool_push(ngx_hatch_pool_t *pool,
    ngx_hatch_pool_idle_t **link, ngx_hatch_pool_key_t *key,
    ngx_connection_t *c);
static void ngx_hatch_pool_take(ngx_hatch_pool_idle_t *idle,
    ngx_hatch_pool_idle_t **link);
static void ngx_hatch_pool_close(ngx_hatch_pool_idle_t *idle);
static void ngx_hatch_pool_read_handler(ngx_event_t *ev);
static void ngx_hatch_pool_write_handler(ngx_event_t *ev);
static void ngx_hatch_pool_timer(ngx_event_t *ev);
static void ngx_hatch_pool_cleanup(void *data);


ngx_connection_t *
ngx_hatch_pool_get(ngx_hatch_pool_t *pool, struct sockaddr *sockaddr,
    socklen_t socklen, ngx_log_t *log)
{
    ngx_connection_t        *c;
    ngx_hatch_pool_key_t     key;
    ngx_hatch_pool_idle_t  **link;

    if (pool->pid != ngx_pid
        || ngx_hatch_pool_key(&key, sockaddr, socklen) != NGX_OK)
    {
        return NULL;
    }

    link = ngx_hatch_pool_find(pool, &key);
    if (*link == NULL) {
        return NULL;
    }

    c = (*link)->connection;
    ngx_hatch_pool_take(*link, link);

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
    ngx_queue_t             *q;
    ngx_hatch_pool_key_t     key;
    ngx_hatch_pool_idle_t  **link;

    if (pool->max == 0 || c->requests >= pool->requests
        || ngx_current_msec - c->start_time > pool->time
        || c->read->eof || c->read->error || c->read->timedout
        || c->write->error || c->write->timedout
        || ngx_terminate || ngx_exiting
        || (pool->pid != ngx_pid && ngx_hatch_pool_init(pool) != NGX_OK)
        || ngx_hatch_pool_key(&key, sockaddr, socklen) != NGX_OK
        || (!c->read->active && ngx_handle_read_event(c->read, 0) != NGX_OK))
    {
        return NGX_DECLINED;
    }

    link = ngx_hatch_pool_find(pool, &key);

    if (*link != NULL && (*link)->n >= pool->max_per_host) {
        return NGX_DECLINED;
    }

    if (pool->free == NULL) {
        q = ngx_queue_last(&pool->idle);
        ngx_hatch_pool_close(ngx_queue_data(q, ngx_hatch_pool_idle_t, queue));

        /* it may have been the link */

        link = ngx_hatch_pool_find(pool, &key);
    }

    ngx_hatch_pool_push(pool, link, &key, c);

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    /* one timer for all: they come and go in the order of their times */

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


static ngx_int_t
ngx_hatch_pool_init(ngx_hatch_pool_t *pool)
{
    ngx_uint_t              i, max, buckets;
    ngx_pool_cleanup_t     *cln;
    ngx_hatch_pool_idle_t  *idle;

    max = ngx_max(ngx_min(pool->max, ngx_cycle->connection_n / 2), 1);

    for (buckets = 64; buckets < max; buckets *= 2) {
        /* void */
    }

    cln = ngx_pool_cleanup_add(ngx_cycle->pool, 0);
    idle = ngx_palloc(ngx_cycle->pool, max * sizeof(ngx_hatch_pool_idle_t));
    pool->hash = ngx_pcalloc(ngx_cycle->pool,
                             buckets * sizeof(ngx_hatch_pool_idle_t *));

    if (cln == NULL || idle == NULL || pool->hash == NULL) {
        pool->max = 0;
        return NGX_ERROR;
    }

    cln->handler = ngx_hatch_pool_cleanup;
    cln->data = pool;

    pool->mask = buckets - 1;
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


/* Family, port, address and incarnation. */

static ngx_int_t
ngx_hatch_pool_key(ngx_hatch_pool_key_t *key, struct sockaddr *sockaddr,
    socklen_t socklen)
{
    if (socklen == sizeof(struct sockaddr_in)) {
        ngx_memcpy(key->word, sockaddr, sizeof(struct sockaddr_in));
        key->word[2] = 0;
        key->word[3] = 0;
        return NGX_OK;
    }

    if (socklen > sizeof(key->word)) {
        return NGX_DECLINED;
    }

    ngx_memzero(key->word, sizeof(key->word));
    ngx_memcpy(key->word, sockaddr, socklen);

    return NGX_OK;
}


/* The link to the top one of an address, or to the NULL where it would be. */

static ngx_hatch_pool_idle_t **
ngx_hatch_pool_find(ngx_hatch_pool_t *pool, ngx_hatch_pool_key_t *key)
{
    uint64_t                 hash, *word;
    ngx_hatch_pool_idle_t  **link;

    hash = hatch_hash_word(hatch_hash_word(0, key->word[0]), key->word[1]);

    if (key->word[2] | key->word[3]) {
        hash = hatch_hash_word(hash, key->word[2]);
        hash = hatch_hash_word(hash, key->word[3]);
    }

    link = &pool->hash[hatch_hash_end(hash) & pool->mask];

    for ( /* void */ ; *link != NULL; link = &(*link)->next) {
        word = (*link)->key.word;

        if (word[0] == key->word[0] && word[1] == key->word[1]
            && word[2] == key->word[2] && word[3] == key->word[3])
        {
            break;
        }
    }

    return link;
}


/* Onto the others of its address, of which link points to the top one. */

static void
ngx_hatch_pool_push(ngx_hatch_pool_t *pool, ngx_hatch_pool_idle_t **link,
    ngx_hatch_pool_key_t *key, ngx_connection_t *c)
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
    idle->until = ngx_current_msec + pool->timeout;
    ngx_queue_insert_head(&pool->idle, &idle->queue);

    c->data = idle;
}


/* Out of the pool; link points to the top one of its address. */

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
    idle->next = pool->free;
    pool->free = idle;
}


static void
ngx_hatch_pool_close(ngx_hatch_pool_idle_t *idle)
{
    ngx_connection_t  *c;

    c = idle->connection;
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
