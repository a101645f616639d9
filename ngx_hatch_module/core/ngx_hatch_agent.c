
/*
 * The connection to the agent, and the messages on it.
 */


#include "ngx_hatch_agent_private.h"


/* How long those who need an agent wait for one that is not there, ms. */
#define NGX_HATCH_AGENT_PATIENCE  5000

/* How often a worker tries to connect: while somebody waits, and else. */
#define NGX_HATCH_AGENT_RETRY       50
#define NGX_HATCH_AGENT_IDLE_RETRY  1000

/*
 * After so many connections in a row that ended without an answer it is told.
 * The pause before the next one is twice as long each time, so often.
 */
#define NGX_HATCH_AGENT_REFUSALS    2
#define NGX_HATCH_AGENT_DOUBLED     4


static void ngx_hatch_agent_lost(ngx_hatch_agent_t *agent);
static void ngx_hatch_agent_refused(ngx_hatch_agent_t *agent);
static void ngx_hatch_agent_retry(ngx_hatch_agent_t *agent,
    ngx_uint_t hurry);
static void ngx_hatch_agent_retry_handler(ngx_event_t *ev);
static void ngx_hatch_agent_read_handler(ngx_event_t *rev);
static void ngx_hatch_agent_write_handler(ngx_event_t *wev);
static void ngx_hatch_agent_message(ngx_hatch_agent_t *agent);
static ngx_int_t ngx_hatch_agent_flush(ngx_hatch_agent_t *agent);


void
ngx_hatch_agent_init_process(ngx_hatch_agent_t *agent)
{
    ngx_uint_t  i;

    if (agent->pid == ngx_pid) {
        return;
    }

    agent->pid = ngx_pid;

    for (i = 0; i < NGX_HATCH_AGENT_BUCKETS; i++) {
        ngx_queue_init(&agent->groups[i]);
    }

    ngx_queue_init(&agent->unsent);
    ngx_queue_init(&agent->answered);
    ngx_queue_init(&agent->herds);

    agent->retry.handler = ngx_hatch_agent_retry_handler;
    agent->retry.data = agent;
    agent->retry.log = ngx_cycle->log;
    agent->retry.cancelable = 1;

    agent->tell.handler = ngx_hatch_waiter_tell_handler;
    agent->tell.data = agent;
    agent->tell.log = ngx_cycle->log;

    agent->lost = ngx_current_msec;

    ngx_hatch_agent_connect(agent);
}


void
ngx_hatch_agent_cleanup(void *data)
{
    ngx_hatch_agent_t  *agent = data;

    if (agent->pid != ngx_pid) {
        return;
    }

    if (agent->retry.timer_set) {
        ngx_del_timer(&agent->retry);
    }

    if (agent->tell.posted) {
        ngx_delete_posted_event(&agent->tell);
    }

    ngx_hatch_work_end(&agent->telling);

    ngx_hatch_agent_close(agent);
}


/* --- the connection --- */

void
ngx_hatch_agent_connect(ngx_hatch_agent_t *agent)
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
        || connect(s, (struct sockaddr *) &agent->sockaddr,
                   sizeof(struct sockaddr_un)) == -1)
    {
        if (!agent->complained) {
            ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, ngx_socket_errno,
                          "hatch: no agent at \"%V\"; VMs that sleep are not "
                          "woken", &agent->path);
            agent->complained = 1;
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
    c->data = agent;
    c->log_error = NGX_ERROR_INFO;
    c->read->handler = ngx_hatch_agent_read_handler;
    c->write->handler = ngx_hatch_agent_write_handler;

    /* a worker that ends does not wait for it */
    c->idle = 1;

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_close_connection(c);
        goto retry;
    }

    if (agent->complained) {
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "hatch: the agent is back at \"%V\"", &agent->path);
        agent->complained = 0;
    }

    agent->connection = c;
    agent->in_len = 0;
    agent->out_len = 0;
    agent->asked = 0;
    agent->heard = 0;

    ngx_hatch_agent_try_send(agent);

    return;

failed:

    if (ngx_close_socket(s) == -1) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_socket_errno,
                      ngx_close_socket_n " failed");
    }

retry:

    ngx_hatch_agent_retry(agent, agent->held);
}


static void
ngx_hatch_agent_retry(ngx_hatch_agent_t *agent, ngx_uint_t hurry)
{
    ngx_msec_t  pause;

    if (agent->retry.timer_set) {
        return;
    }

    pause = NGX_HATCH_AGENT_IDLE_RETRY;

    if (hurry) {
        pause = NGX_HATCH_AGENT_RETRY;

        if (agent->refused > 1) {
            pause <<= ngx_min(agent->refused - 1, NGX_HATCH_AGENT_DOUBLED);
        }
    }

    ngx_add_timer(&agent->retry, pause);
}


void
ngx_hatch_agent_close(ngx_hatch_agent_t *agent)
{
    if (agent->connection) {
        ngx_close_connection(agent->connection);
        agent->connection = NULL;
    }
}


/* The agent ended.  Whoever needs it is asked for again at the next one. */

static void
ngx_hatch_agent_lost(ngx_hatch_agent_t *agent)
{
    ngx_uint_t          i;
    ngx_queue_t        *q;
    ngx_hatch_group_t  *group;

    ngx_hatch_agent_close(agent);
    ngx_hatch_agent_refused(agent);

    if (agent->refused <= 1) {
        agent->lost = ngx_current_msec;
    }

    for (i = 0; i < NGX_HATCH_AGENT_BUCKETS; i++) {
        for (q = ngx_queue_head(&agent->groups[i]);
             q != ngx_queue_sentinel(&agent->groups[i]);
             q = ngx_queue_next(q))
        {
            group = ngx_queue_data(q, ngx_hatch_group_t, queue);
            group->told = 0;
            ngx_hatch_group_enqueue(agent, group);
        }
    }

    ngx_hatch_waiter_answer_all(agent, 1);

    ngx_hatch_agent_retry(agent, 1);
    ngx_hatch_waiter_tell(agent);
}


/*
 * One that is restarted ends a connection once in a while.  One that ends each
 * of them at the first question counts as one that is not there.
 */

static void
ngx_hatch_agent_refused(ngx_hatch_agent_t *agent)
{
    if (!agent->asked || agent->heard) {
        agent->refused = 0;
        return;
    }

    if (++agent->refused == NGX_HATCH_AGENT_REFUSALS && !agent->accused) {
        agent->accused = 1;
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "hatch: who listens at \"%V\" answers no question; VMs "
                      "that sleep are not woken", &agent->path);
    }
}


static void
ngx_hatch_agent_retry_handler(ngx_event_t *ev)
{
    ngx_uint_t          over;
    ngx_hatch_agent_t  *agent;

    agent = ev->data;

    /* a worker that exits would leave it open, unless somebody is held */

    if (ngx_exiting && agent->held == 0) {
        return;
    }

    over = ngx_current_msec - agent->lost >= NGX_HATCH_AGENT_PATIENCE;

    /* a connection to one who answers nothing helps nobody who waits */

    if (agent->connection == NULL
        && !(over && agent->held
             && agent->refused >= NGX_HATCH_AGENT_REFUSALS))
    {
        ngx_hatch_agent_connect(agent);
    }

    if (agent->connection == NULL && over) {
        ngx_hatch_waiter_answer_all(agent, 0);
        ngx_hatch_waiter_tell(agent);
    }

    if (agent->connection == NULL) {
        ngx_hatch_agent_retry(agent, agent->held);
    }
}


static void
ngx_hatch_agent_read_handler(ngx_event_t *rev)
{
    ssize_t             n;
    ngx_connection_t   *c;
    ngx_hatch_agent_t  *agent;

    c = rev->data;
    agent = c->data;

    if (c->close) {
        c->close = 0;

        if (agent->held == 0) {
            ngx_hatch_agent_close(agent);
            return;
        }
    }

    for ( ;; ) {
        n = c->recv(c, (u_char *) &agent->in + agent->in_len,
                    sizeof(hatch_wake_message_t) - agent->in_len);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == NGX_ERROR || n == 0) {
            ngx_hatch_agent_lost(agent);
            return;
        }

        agent->in_len += n;

        if (agent->in_len == sizeof(hatch_wake_message_t)) {
            agent->in_len = 0;

            if (agent->in.magic != HATCH_WAKE_MAGIC) {

                if (!agent->accused) {
                    agent->accused = 1;
                    ngx_log_error(NGX_LOG_ERR, c->log, 0,
                                  "hatch: \"%V\" is not an agent of this "
                                  "version", &agent->path);
                }

                ngx_hatch_agent_lost(agent);
                return;
            }

            if (agent->accused) {
                agent->accused = 0;
                ngx_log_error(NGX_LOG_NOTICE, c->log, 0,
                              "hatch: the agent at \"%V\" answers",
                              &agent->path);
            }

            agent->heard = 1;
            ngx_hatch_agent_message(agent);
        }
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_hatch_agent_lost(agent);
        return;
    }

    ngx_hatch_waiter_tell(agent);
}


static void
ngx_hatch_agent_write_handler(ngx_event_t *wev)
{
    ngx_connection_t   *c;
    ngx_hatch_agent_t  *agent;

    c = wev->data;
    agent = c->data;

    if (ngx_hatch_agent_send(agent) != NGX_OK) {
        ngx_hatch_agent_lost(agent);
    }
}


/* --- messages --- */

static void
ngx_hatch_agent_message(ngx_hatch_agent_t *agent)
{
    ngx_queue_t              *q, *bucket;
    ngx_hatch_group_t        *group;
    hatch_wake_message_t     *m;
    ngx_hatch_wake_result_e   result;

    m = &agent->in;
    bucket = &agent->groups[m->request % NGX_HATCH_AGENT_BUCKETS];

    for (q = ngx_queue_head(bucket); ; q = ngx_queue_next(q)) {

        if (q == ngx_queue_sentinel(bucket)) {
            return;             /* all who waited have left */
        }

        group = ngx_queue_data(q, ngx_hatch_group_t, queue);

        if (group->request == m->request) {
            break;
        }
    }

    ngx_log_debug3(NGX_LOG_DEBUG_EVENT, ngx_cycle->log, 0,
                   "hatch agent: %ui for %s:%ui", (ngx_uint_t) m->type,
                   group->vm, group->port);

    switch (m->type) {

    case HATCH_WAKE_WAIT:
        ngx_hatch_group_told(group);
        return;

    case HATCH_WAKE_READY:
        result = NGX_HATCH_WAKE_READY;
        break;

    default:

        /* it is over for the agent; one who came later may wait longer */

        if (m->failure == HATCH_WAKE_NOT_READY) {
            ngx_hatch_group_ask_again(agent, group);
            (void) ngx_hatch_agent_send(agent);
            return;
        }

        result = m->failure == HATCH_WAKE_GONE ? NGX_HATCH_WAKE_GONE
                 : m->failure == HATCH_WAKE_REFUSED ? NGX_HATCH_WAKE_REFUSED
                 : m->failure == HATCH_WAKE_KEPT ? NGX_HATCH_WAKE_KEPT
                 : m->failure == HATCH_WAKE_FULL ? NGX_HATCH_WAKE_FULL
                 : NGX_HATCH_WAKE_FAILED;
    }

    ngx_hatch_group_answer(agent, group, result, m);
}


/* Asks for the groups that have not been asked for. */

ngx_int_t
ngx_hatch_agent_send(ngx_hatch_agent_t *agent)
{
    ngx_int_t            rc;
    ngx_msec_t           left, most;
    ngx_queue_t         *q;
    ngx_hatch_group_t   *group;
    ngx_hatch_waiter_t  *waiter;

    if (agent->connection == NULL) {
        return NGX_OK;
    }

    for ( ;; ) {
        rc = ngx_hatch_agent_flush(agent);

        if (rc != NGX_OK) {
            return rc == NGX_AGAIN ? NGX_OK : NGX_ERROR;
        }

        if (ngx_queue_empty(&agent->unsent)) {
            return NGX_OK;
        }

        q = ngx_queue_head(&agent->unsent);
        ngx_queue_remove(q);

        group = ngx_queue_data(q, ngx_hatch_group_t, unsent);
        group->to_send = 0;
        most = 1;

        for (q = ngx_queue_head(&group->waiters);
             q != ngx_queue_sentinel(&group->waiters);
             q = ngx_queue_next(q))
        {
            waiter = ngx_queue_data(q, ngx_hatch_waiter_t, queue);
            left = ngx_hatch_waiter_left(waiter->deadline);
            most = ngx_max(most, left);
        }

        ngx_memzero(&agent->out, sizeof(hatch_wake_message_t));
        agent->out.magic = HATCH_WAKE_MAGIC;
        agent->out.type = HATCH_WAKE_ASK;
        agent->out.request = group->request;
        agent->out.timeout = (uint32_t) ngx_min(most, HATCH_WAKE_TIMEOUT_MAX);
        agent->out.port = (uint16_t) group->port;
        ngx_memcpy(agent->out.vm, group->vm, sizeof(group->vm));
        agent->out_len = sizeof(hatch_wake_message_t);
        agent->asked = 1;
    }
}


void
ngx_hatch_agent_try_send(ngx_hatch_agent_t *agent)
{
    ngx_event_t  *rev;

    if (ngx_hatch_agent_send(agent) == NGX_OK) {
        return;
    }

    /* the read handler finds out, too */

    rev = agent->connection->read;
    rev->ready = 1;

    ngx_post_event(rev, &ngx_posted_events);
}


static ngx_int_t
ngx_hatch_agent_flush(ngx_hatch_agent_t *agent)
{
    ssize_t            n;
    ngx_connection_t  *c;

    c = agent->connection;

    while (agent->out_len) {
        n = c->send(c, (u_char *) &agent->out + sizeof(hatch_wake_message_t)
                       - agent->out_len,
                    agent->out_len);

        if (n == NGX_AGAIN) {
            return ngx_handle_write_event(c->write, 0) == NGX_OK ? NGX_AGAIN
                                                                 : NGX_ERROR;
        }

        if (n <= 0) {
            return NGX_ERROR;
        }

        agent->out_len -= n;
    }

    return NGX_OK;
}
