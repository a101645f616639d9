
/*
 * The connection to the agent, and the messages on it.
 */


#include "ngx_hatch_agent_private.h"


/* How long those who need an agent wait for one that is not there, ms. */
#define NGX_HATCH_WAKE_PATIENCE  5000

/* How often a worker tries to connect: while somebody waits, and else. */
#define NGX_HATCH_WAKE_RETRY       50
#define NGX_HATCH_WAKE_IDLE_RETRY  1000


static void ngx_hatch_wake_connect(ngx_hatch_wake_t *hw);
static void ngx_hatch_wake_lost(ngx_hatch_wake_t *hw);
static void ngx_hatch_wake_retry_handler(ngx_event_t *ev);
static void ngx_hatch_wake_read_handler(ngx_event_t *rev);
static void ngx_hatch_wake_write_handler(ngx_event_t *wev);
static void ngx_hatch_wake_message(ngx_hatch_wake_t *hw);
static ngx_int_t ngx_hatch_wake_flush(ngx_hatch_wake_t *hw);


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


void
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
                 : m->failure == HATCH_WAKE_KEPT ? NGX_HATCH_WAKE_KEPT
                 : NGX_HATCH_WAKE_FAILED;
    }

    ngx_hatch_wake_answer(hw, group, result, m->kind, m->timeout);
}


/* Asks for the groups that have not been asked for. */

ngx_int_t
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
