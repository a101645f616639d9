
#include "ngx_hatch_wake.h"


/* How long those who need an agent wait for one that is not there, ms. */
#define NGX_HATCH_WAKE_PATIENCE    5000

/* How long the impatient wait for a sign of life of one that is, ms. */
#define NGX_HATCH_WAKE_IMPATIENCE  500

/* How often a worker tries to connect: while somebody waits, and else. */
#define NGX_HATCH_WAKE_RETRY       50
#define NGX_HATCH_WAKE_IDLE_RETRY  1000

/* How many waiters are told in one turn of the event loop. */
#define NGX_HATCH_WAKE_BATCH       32


/* Those who wait for the same port of the same VM. */

struct ngx_hatch_wake_group_s {
    ngx_queue_t              queue;         /* in its bucket */
    ngx_queue_t              unsent;
    ngx_queue_t              waiters;
    ngx_uint_t               n;
    uint64_t                 request;
    ngx_uint_t               port;
    unsigned                 to_send:1;     /* in hw->unsent */
    unsigned                 told:1;        /* the agent works on it */
    char                     vm[HATCH_ID_SIZE];
};


static void ngx_hatch_wake_connect(ngx_hatch_wake_t *hw);
static void ngx_hatch_wake_close(ngx_hatch_wake_t *hw);
static void ngx_hatch_wake_lost(ngx_hatch_wake_t *hw);
static void ngx_hatch_wake_retry_handler(ngx_event_t *ev);
static void ngx_hatch_wake_read_handler(ngx_event_t *rev);
static void ngx_hatch_wake_write_handler(ngx_event_t *wev);
static void ngx_hatch_wake_message(ngx_hatch_wake_t *hw);
static ngx_int_t ngx_hatch_wake_send(ngx_hatch_wake_t *hw);
static ngx_int_t ngx_hatch_wake_flush(ngx_hatch_wake_t *hw);
static ngx_queue_t *ngx_hatch_wake_bucket(ngx_hatch_wake_t *hw,
    const char *vm);
static ngx_hatch_wake_group_t *ngx_hatch_wake_group(ngx_hatch_wake_t *hw,
    const char *vm, ngx_uint_t port, ngx_uint_t *held);
static void ngx_hatch_wake_enqueue(ngx_hatch_wake_t *hw,
    ngx_hatch_wake_group_t *group);
static void ngx_hatch_wake_answer_one(ngx_hatch_wake_t *hw,
    ngx_hatch_waiter_t *waiter, ngx_hatch_wake_result_t result);
static void ngx_hatch_wake_answer(ngx_hatch_wake_t *hw,
    ngx_hatch_wake_group_t *group, ngx_hatch_wake_result_t result,
    ngx_uint_t kind, ngx_msec_t retry);
static void ngx_hatch_wake_let_go(ngx_hatch_herd_member_t *member);
static void ngx_hatch_wake_answer_all(ngx_hatch_wake_t *hw,
    ngx_uint_t only_impatient);
static void ngx_hatch_wake_leave(ngx_hatch_wake_t *hw,
    ngx_hatch_waiter_t *waiter);
static void ngx_hatch_wake_tell(ngx_hatch_wake_t *hw);
static void ngx_hatch_wake_tell_handler(ngx_event_t *ev);
static void ngx_hatch_wake_timer_handler(ngx_event_t *ev);
static void ngx_hatch_wake_free_group(ngx_hatch_wake_group_t *group);
static ngx_msec_t ngx_hatch_wake_left(ngx_msec_t deadline);


void
ngx_hatch_wake_init_process(ngx_hatch_wake_t *hw)
{
    ngx_uint_t  i;

    if (hw->pid == ngx_pid) {
        return;
    }

    hw->pid = ngx_pid;

    for (i = 0; i < NGX_HATCH_WAKE_BUCKETS; i++) {
        ngx_queue_init(&hw->groups[i]);
    }

    ngx_queue_init(&hw->unsent);
    ngx_queue_init(&hw->answered);
    ngx_queue_init(&hw->herds);

    hw->retry.handler = ngx_hatch_wake_retry_handler;
    hw->retry.data = hw;
    hw->retry.log = ngx_cycle->log;
    hw->retry.cancelable = 1;

    hw->tell.handler = ngx_hatch_wake_tell_handler;
    hw->tell.data = hw;
    hw->tell.log = ngx_cycle->log;

    hw->lost = ngx_current_msec;

    ngx_hatch_wake_connect(hw);
}


void
ngx_hatch_wake_cleanup(void *data)
{
    ngx_hatch_wake_t  *hw = data;

    if (hw->pid != ngx_pid) {
        return;
    }

    if (hw->retry.timer_set) {
        ngx_del_timer(&hw->retry);
    }

    if (hw->tell.posted) {
        ngx_delete_posted_event(&hw->tell);
    }

    ngx_hatch_wake_close(hw);
}


/* --- the connection --- */

static void
ngx_hatch_wake_connect(ngx_hatch_wake_t *hw)
{
    ngx_socket_t       s;
    ngx_connection_t  *c;

    s = ngx_socket(AF_UNIX, SOCK_STREAM, 0);

    if (s == (ngx_socket_t) -1) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_socket_errno,
                      ngx_socket_n " failed");
        goto retry;
    }

    /* over a unix socket, this succeeds at once or not at all */

    if (ngx_nonblocking(s) == -1
        || connect(s, (struct sockaddr *) &hw->sockaddr,
                   sizeof(struct sockaddr_un)) == -1)
    {
        if (!hw->complained) {
            ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, ngx_socket_errno,
                          "hatch: no agent at \"%V\"; VMs that sleep are not "
                          "woken", &hw->path);
            hw->complained = 1;
        }

        goto failed;
    }

    c = ngx_get_connection(s, ngx_cycle->log);
    if (c == NULL) {
        goto failed;
    }

    c->log = ngx_cycle->log;
    c->read->log = c->log;
    c->write->log = c->log;
    c->recv = ngx_recv;
    c->send = ngx_send;
    c->data = hw;
    c->log_error = NGX_ERROR_INFO;
    c->read->handler = ngx_hatch_wake_read_handler;
    c->write->handler = ngx_hatch_wake_write_handler;

    /* a worker that ends does not wait for it */
    c->idle = 1;

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_close_connection(c);
        goto retry;
    }

    if (hw->complained) {
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "hatch: the agent is back at \"%V\"", &hw->path);
        hw->complained = 0;
    }

    hw->connection = c;
    hw->in_len = 0;
    hw->out_len = 0;

    if (ngx_hatch_wake_send(hw) != NGX_OK) {
        ngx_hatch_wake_lost(hw);
    }

    return;

failed:

    if (ngx_close_socket(s) == -1) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_socket_errno,
                      ngx_close_socket_n " failed");
    }

retry:

    if (!hw->retry.timer_set) {
        ngx_add_timer(&hw->retry, hw->held ? NGX_HATCH_WAKE_RETRY
                                           : NGX_HATCH_WAKE_IDLE_RETRY);
    }
}


static void
ngx_hatch_wake_close(ngx_hatch_wake_t *hw)
{
    if (hw->connection) {
        ngx_close_connection(hw->connection);
        hw->connection = NULL;
    }
}


/* The agent ended.  Whoever needs it is asked for again at the next one. */

static void
ngx_hatch_wake_lost(ngx_hatch_wake_t *hw)
{
    ngx_uint_t               i;
    ngx_queue_t             *q;
    ngx_hatch_wake_group_t  *group;

    ngx_hatch_wake_close(hw);
    hw->lost = ngx_current_msec;

    for (i = 0; i < NGX_HATCH_WAKE_BUCKETS; i++) {
        for (q = ngx_queue_head(&hw->groups[i]);
             q != ngx_queue_sentinel(&hw->groups[i]);
             q = ngx_queue_next(q))
        {
            group = ngx_queue_data(q, ngx_hatch_wake_group_t, queue);
            group->told = 0;
            ngx_hatch_wake_enqueue(hw, group);
        }
    }

    ngx_hatch_wake_answer_all(hw, 1);

    if (!hw->retry.timer_set) {
        ngx_add_timer(&hw->retry, NGX_HATCH_WAKE_RETRY);
    }

    ngx_hatch_wake_tell(hw);
}


static void
ngx_hatch_wake_retry_handler(ngx_event_t *ev)
{
    ngx_hatch_wake_t  *hw;

    hw = ev->data;

    if (hw->connection == NULL) {
        ngx_hatch_wake_connect(hw);
    }

    if (hw->connection == NULL
        && ngx_current_msec - hw->lost >= NGX_HATCH_WAKE_PATIENCE)
    {
        ngx_hatch_wake_answer_all(hw, 0);
        ngx_hatch_wake_tell(hw);
    }
}


static void
ngx_hatch_wake_read_handler(ngx_event_t *rev)
{
    ssize_t            n;
    ngx_connection_t  *c;
    ngx_hatch_wake_t  *hw;

    c = rev->data;
    hw = c->data;

    if (c->close) {
        c->close = 0;

        if (hw->held == 0) {
            ngx_hatch_wake_close(hw);
            return;
        }
    }

    for ( ;; ) {
        n = c->recv(c, (u_char *) &hw->in + hw->in_len,
                    sizeof(hatch_wake_message_t) - hw->in_len);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == NGX_ERROR || n == 0) {
            ngx_hatch_wake_lost(hw);
            return;
        }

        hw->in_len += n;

        if (hw->in_len == sizeof(hatch_wake_message_t)) {
            hw->in_len = 0;

            if (hw->in.magic != HATCH_WAKE_MAGIC) {
                ngx_log_error(NGX_LOG_ERR, c->log, 0,
                              "hatch: \"%V\" is not an agent of this version",
                              &hw->path);
                ngx_hatch_wake_lost(hw);
                return;
            }

            ngx_hatch_wake_message(hw);
        }
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_hatch_wake_lost(hw);
        return;
    }

    ngx_hatch_wake_tell(hw);
}


static void
ngx_hatch_wake_write_handler(ngx_event_t *wev)
{
    ngx_connection_t  *c;
    ngx_hatch_wake_t  *hw;

    c = wev->data;
    hw = c->data;

    if (ngx_hatch_wake_send(hw) != NGX_OK) {
        ngx_hatch_wake_lost(hw);
    }
}


/* --- messages --- */

static void
ngx_hatch_wake_message(ngx_hatch_wake_t *hw)
{
    ngx_queue_t              *q, *bucket;
    ngx_hatch_waiter_t       *waiter;
    hatch_wake_message_t     *m;
    ngx_hatch_wake_group_t   *group;
    ngx_hatch_wake_result_t   result;

    m = &hw->in;
    bucket = &hw->groups[m->request % NGX_HATCH_WAKE_BUCKETS];

    for (q = ngx_queue_head(bucket); ; q = ngx_queue_next(q)) {

        if (q == ngx_queue_sentinel(bucket)) {
            return;             /* all who waited have left */
        }

        group = ngx_queue_data(q, ngx_hatch_wake_group_t, queue);

        if (group->request == m->request) {
            break;
        }
    }

    switch (m->type) {

    case HATCH_WAKE_WAIT:
        group->told = 1;

        for (q = ngx_queue_head(&group->waiters);
             q != ngx_queue_sentinel(&group->waiters);
             q = ngx_queue_next(q))
        {
            waiter = ngx_queue_data(q, ngx_hatch_waiter_t, queue);

            if (waiter->impatient) {
                waiter->impatient = 0;
                ngx_add_timer(&waiter->timer,
                              ngx_hatch_wake_left(waiter->deadline));
            }
        }

        return;

    case HATCH_WAKE_READY:
        result = NGX_HATCH_WAKE_READY;
        break;

    default:

        /* it is over for the agent; one who came later may wait longer */

        if (m->failure == HATCH_WAKE_NOT_READY) {
            ngx_hatch_wake_enqueue(hw, group);
            (void) ngx_hatch_wake_send(hw);
            return;
        }

        result = m->failure == HATCH_WAKE_GONE ? NGX_HATCH_WAKE_GONE
                 : m->failure == HATCH_WAKE_REFUSED ? NGX_HATCH_WAKE_REFUSED
                 : NGX_HATCH_WAKE_FAILED;
    }

    ngx_hatch_wake_answer(hw, group, result, m->kind, m->timeout);
}


/* Asks for the groups that have not been asked for. */

static ngx_int_t
ngx_hatch_wake_send(ngx_hatch_wake_t *hw)
{
    ngx_int_t                rc;
    ngx_msec_t               left, most;
    ngx_queue_t             *q;
    ngx_hatch_waiter_t      *waiter;
    ngx_hatch_wake_group_t  *group;

    if (hw->connection == NULL) {
        return NGX_OK;
    }

    for ( ;; ) {
        rc = ngx_hatch_wake_flush(hw);

        if (rc != NGX_OK) {
            return rc == NGX_AGAIN ? NGX_OK : NGX_ERROR;
        }

        if (ngx_queue_empty(&hw->unsent)) {
            return NGX_OK;
        }

        q = ngx_queue_head(&hw->unsent);
        ngx_queue_remove(q);

        group = ngx_queue_data(q, ngx_hatch_wake_group_t, unsent);
        group->to_send = 0;
        most = 1;

        for (q = ngx_queue_head(&group->waiters);
             q != ngx_queue_sentinel(&group->waiters);
             q = ngx_queue_next(q))
        {
            waiter = ngx_queue_data(q, ngx_hatch_waiter_t, queue);
            left = ngx_hatch_wake_left(waiter->deadline);
            most = ngx_max(most, left);
        }

        ngx_memzero(&hw->out, sizeof(hatch_wake_message_t));
        hw->out.magic = HATCH_WAKE_MAGIC;
        hw->out.type = HATCH_WAKE_ASK;
        hw->out.request = group->request;
        hw->out.timeout = (uint32_t) ngx_min(most, HATCH_WAKE_TIMEOUT_MAX);
        hw->out.port = (uint16_t) group->port;
        ngx_memcpy(hw->out.vm, group->vm, sizeof(group->vm));
        hw->out_len = sizeof(hatch_wake_message_t);
    }
}


static ngx_int_t
ngx_hatch_wake_flush(ngx_hatch_wake_t *hw)
{
    ssize_t            n;
    ngx_connection_t  *c;

    c = hw->connection;

    while (hw->out_len) {
        n = c->send(c, (u_char *) &hw->out + sizeof(hatch_wake_message_t)
                       - hw->out_len,
                    hw->out_len);

        if (n == NGX_AGAIN) {
            return ngx_handle_write_event(c->write, 0) == NGX_OK ? NGX_AGAIN
                                                                 : NGX_ERROR;
        }

        if (n <= 0) {
            return NGX_ERROR;
        }

        hw->out_len -= n;
    }

    return NGX_OK;
}


/* --- groups --- */

static ngx_queue_t *
ngx_hatch_wake_bucket(ngx_hatch_wake_t *hw, const char *vm)
{
    return &hw->groups[ngx_crc32_short((u_char *) vm, ngx_strlen(vm))
                       % NGX_HATCH_WAKE_BUCKETS];
}


/* The group for that port, a new one if need be; how many wait for the VM. */

static ngx_hatch_wake_group_t *
ngx_hatch_wake_group(ngx_hatch_wake_t *hw, const char *vm, ngx_uint_t port,
    ngx_uint_t *held)
{
    ngx_queue_t             *q, *bucket;
    ngx_hatch_wake_group_t  *group, *found;

    bucket = ngx_hatch_wake_bucket(hw, vm);
    found = NULL;
    *held = 0;

    for (q = ngx_queue_head(bucket);
         q != ngx_queue_sentinel(bucket);
         q = ngx_queue_next(q))
    {
        group = ngx_queue_data(q, ngx_hatch_wake_group_t, queue);

        if (ngx_strcmp(group->vm, vm) == 0) {
            *held += group->n;

            if (group->port == port) {
                found = group;
            }
        }
    }

    if (found) {
        return found;
    }

    group = ngx_calloc(sizeof(ngx_hatch_wake_group_t), ngx_cycle->log);
    if (group == NULL) {
        return NULL;
    }

    (void) ngx_cpystrn((u_char *) group->vm, (u_char *) vm, HATCH_ID_SIZE);
    group->port = port;
    group->request = ++hw->request * NGX_HATCH_WAKE_BUCKETS
                     + (bucket - hw->groups);
    ngx_queue_init(&group->waiters);
    ngx_queue_insert_tail(bucket, &group->queue);
    ngx_hatch_wake_enqueue(hw, group);

    return group;
}


static void
ngx_hatch_wake_enqueue(ngx_hatch_wake_t *hw, ngx_hatch_wake_group_t *group)
{
    if (!group->to_send) {
        group->to_send = 1;
        ngx_queue_insert_tail(&hw->unsent, &group->unsent);
    }
}


static void
ngx_hatch_wake_free_group(ngx_hatch_wake_group_t *group)
{
    if (group->to_send) {
        ngx_queue_remove(&group->unsent);
    }

    ngx_queue_remove(&group->queue);
    ngx_free(group);
}


/* --- waiters --- */

static ngx_msec_t
ngx_hatch_wake_left(ngx_msec_t deadline)
{
    ngx_msec_int_t  left;

    left = (ngx_msec_int_t) (deadline - ngx_current_msec);

    return left > 0 ? (ngx_msec_t) left : 1;
}


ngx_int_t
ngx_hatch_wake_ask(ngx_hatch_wake_t *hw, ngx_hatch_waiter_t *waiter,
    const char *vm, ngx_uint_t port, ngx_msec_t timeout, ngx_uint_t impatient)
{
    ngx_uint_t               held;
    ngx_hatch_wake_group_t  *group;

    if (hw->pid != ngx_pid) {
        ngx_hatch_wake_init_process(hw);
    }

    if (hw->connection == NULL) {
        if (impatient) {
            return NGX_DECLINED;
        }

        if (hw->held == 0) {
            /* nobody was waiting, so nobody was in a hurry to connect */
            hw->lost = ngx_current_msec;

            if (hw->retry.timer_set) {
                ngx_del_timer(&hw->retry);
            }

            ngx_add_timer(&hw->retry, 1);
        }
    }

    if (hw->held >= hw->max_held) {
        return NGX_BUSY;
    }

    group = ngx_hatch_wake_group(hw, vm, port, &held);
    if (group == NULL) {
        return NGX_ERROR;
    }

    if (held >= hw->max_held_per_vm) {
        if (group->n == 0) {
            ngx_hatch_wake_free_group(group);
        }

        return NGX_BUSY;
    }

    waiter->wake = hw;
    waiter->group = group;
    waiter->waiting = 1;
    waiter->impatient = impatient && !group->told;
    waiter->deadline = ngx_current_msec + timeout;
    waiter->timer.handler = ngx_hatch_wake_timer_handler;
    waiter->timer.data = waiter;
    waiter->timer.log = waiter->log;

    ngx_queue_insert_tail(&group->waiters, &waiter->queue);
    waiter->queued = 1;
    group->n++;
    hw->held++;

    ngx_add_timer(&waiter->timer,
                  waiter->impatient
                  ? ngx_min(timeout, NGX_HATCH_WAKE_IMPATIENCE) : timeout);

    if (ngx_hatch_wake_send(hw) != NGX_OK) {
        /* the read handler finds out, too; not from here, in a request */
        hw->connection->read->ready = 1;
        ngx_post_event(hw->connection->read, &ngx_posted_events);
    }

    return NGX_AGAIN;
}


ngx_int_t
ngx_hatch_wake_join(ngx_hatch_wake_t *hw, ngx_hatch_waiter_t *waiter,
    const char *vm, ngx_uint_t port, ngx_msec_t timeout)
{
    ngx_hatch_herd_t  *herd;

    if (hw->pid != ngx_pid || ngx_queue_empty(&hw->herds)
        || hw->held >= hw->max_held)
    {
        return NGX_OK;
    }

    herd = ngx_hatch_herd_find(&hw->herds, vm, port);

    if (herd == NULL || ngx_hatch_herd_join(herd, &waiter->herd)) {
        return NGX_OK;
    }

    waiter->wake = hw;
    waiter->waiting = 1;
    waiter->result = NGX_HATCH_WAKE_READY;
    waiter->timer.handler = ngx_hatch_wake_timer_handler;
    waiter->timer.data = waiter;
    waiter->timer.log = waiter->log;

    hw->held++;
    ngx_add_timer(&waiter->timer, timeout);

    return NGX_AGAIN;
}


/* It does not wait any more; it may be in a herd still. */

static void
ngx_hatch_wake_leave(ngx_hatch_wake_t *hw, ngx_hatch_waiter_t *waiter)
{
    ngx_hatch_wake_group_t  *group;

    group = waiter->group;

    if (waiter->queued) {
        waiter->queued = 0;
        ngx_queue_remove(&waiter->queue);
    }

    waiter->waiting = 0;
    waiter->group = NULL;
    hw->held--;

    if (waiter->timer.timer_set) {
        ngx_del_timer(&waiter->timer);
    }

    if (group && --group->n == 0) {
        ngx_hatch_wake_free_group(group);
    }

    if (hw->held == 0 && ngx_exiting) {
        ngx_hatch_wake_close(hw);
    }
}


void
ngx_hatch_wake_forget(ngx_hatch_waiter_t *waiter)
{
    if (waiter->waiting) {
        ngx_hatch_wake_leave(waiter->wake, waiter);
    }

    ngx_hatch_herd_leave(&waiter->herd);
}


static void
ngx_hatch_wake_timer_handler(ngx_event_t *ev)
{
    ngx_hatch_wake_t    *hw;
    ngx_hatch_waiter_t  *waiter;

    waiter = ev->data;
    hw = waiter->wake;

    waiter->result = waiter->impatient ? NGX_HATCH_WAKE_NO_AGENT
                                       : NGX_HATCH_WAKE_TIMEOUT;
    ngx_hatch_wake_leave(hw, waiter);
    ngx_hatch_herd_leave(&waiter->herd);
    waiter->handler(waiter);
}


/* A waiter has its answer; it is told in its turn. */

static void
ngx_hatch_wake_answer_one(ngx_hatch_wake_t *hw, ngx_hatch_waiter_t *waiter,
    ngx_hatch_wake_result_t result)
{
    ngx_queue_remove(&waiter->queue);
    ngx_queue_insert_tail(&hw->answered, &waiter->queue);

    waiter->group->n--;
    waiter->group = NULL;
    waiter->result = result;

    if (waiter->timer.timer_set) {
        ngx_del_timer(&waiter->timer);
    }
}


/* All of a group have. */

static void
ngx_hatch_wake_answer(ngx_hatch_wake_t *hw, ngx_hatch_wake_group_t *group,
    ngx_hatch_wake_result_t result, ngx_uint_t kind, ngx_msec_t retry)
{
    ngx_hatch_herd_t    *herd;
    ngx_hatch_waiter_t  *waiter;

    herd = NULL;

    if (result == NGX_HATCH_WAKE_READY && kind != HATCH_WAKE_KIND_NONE) {
        herd = ngx_hatch_herd_find(&hw->herds, group->vm, group->port);

        if (herd == NULL) {
            herd = ngx_hatch_herd_create(&hw->herds, group->vm, group->port,
                                         ngx_hatch_wake_let_go);
        }
    }

    while (!ngx_queue_empty(&group->waiters)) {
        waiter = ngx_queue_data(ngx_queue_head(&group->waiters),
                                ngx_hatch_waiter_t, queue);
        waiter->kind = kind;
        waiter->retry = retry;

        if (herd == NULL || ngx_hatch_herd_join(herd, &waiter->herd)) {
            ngx_hatch_wake_answer_one(hw, waiter, result);
            continue;
        }

        /* its deadline goes on until its turn has come */

        ngx_queue_remove(&waiter->queue);
        waiter->queued = 0;
        waiter->group = NULL;
        waiter->result = result;
        waiter->impatient = 0;
    }

    ngx_hatch_wake_free_group(group);
}


static void
ngx_hatch_wake_let_go(ngx_hatch_herd_member_t *member)
{
    ngx_hatch_waiter_t  *waiter;

    waiter = (ngx_hatch_waiter_t *)
             ((u_char *) member - offsetof(ngx_hatch_waiter_t, herd));

    ngx_hatch_wake_leave(waiter->wake, waiter);
    waiter->handler(waiter);
}


/* There is no agent: for all, or for those who do not need one. */

static void
ngx_hatch_wake_answer_all(ngx_hatch_wake_t *hw, ngx_uint_t only_impatient)
{
    ngx_uint_t               i;
    ngx_queue_t             *q, *next, *w, *sentinel;
    ngx_hatch_waiter_t      *waiter;
    ngx_hatch_wake_group_t  *group;

    for (i = 0; i < NGX_HATCH_WAKE_BUCKETS; i++) {
        for (q = ngx_queue_head(&hw->groups[i]);
             q != ngx_queue_sentinel(&hw->groups[i]);
             q = next)
        {
            next = ngx_queue_next(q);
            group = ngx_queue_data(q, ngx_hatch_wake_group_t, queue);
            sentinel = ngx_queue_sentinel(&group->waiters);

            for (w = ngx_queue_head(&group->waiters); w != sentinel; ) {
                waiter = ngx_queue_data(w, ngx_hatch_waiter_t, queue);
                w = ngx_queue_next(w);

                if (!only_impatient || waiter->impatient) {
                    ngx_hatch_wake_answer_one(hw, waiter,
                                              NGX_HATCH_WAKE_NO_AGENT);
                }
            }

            if (group->n == 0) {
                ngx_hatch_wake_free_group(group);
            }
        }
    }
}


/*
 * A thousand requests that begin at once would hold up all others: some now,
 * the rest after the events that are due.
 */

static void
ngx_hatch_wake_tell(ngx_hatch_wake_t *hw)
{
    ngx_uint_t           n;
    ngx_queue_t         *q;
    ngx_hatch_waiter_t  *waiter;

    for (n = 0; n < NGX_HATCH_WAKE_BATCH; n++) {

        if (ngx_queue_empty(&hw->answered)) {
            return;
        }

        q = ngx_queue_head(&hw->answered);
        waiter = ngx_queue_data(q, ngx_hatch_waiter_t, queue);

        ngx_hatch_wake_leave(hw, waiter);
        waiter->handler(waiter);
    }

    ngx_post_event(&hw->tell, &ngx_posted_next_events);
}


static void
ngx_hatch_wake_tell_handler(ngx_event_t *ev)
{
    ngx_hatch_wake_tell(ev->data);
}
