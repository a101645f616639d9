
/*
 * Asking the agent to wake VMs: one connection per worker, one ASK per VM and
 * port however many wait for it.  Knows cycles and events, no requests.
 */


#ifndef _NGX_HATCH_WAKE_H_INCLUDED_
#define _NGX_HATCH_WAKE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_hatch_herd.h"

#include "hatch_wake.h"


#define NGX_HATCH_WAKE_BUCKETS  256     /* fit a byte, see request below */


typedef struct ngx_hatch_wake_s        ngx_hatch_wake_t;
typedef struct ngx_hatch_waiter_s      ngx_hatch_waiter_t;
typedef struct ngx_hatch_wake_group_s  ngx_hatch_wake_group_t;

typedef void (*ngx_hatch_waiter_pt)(ngx_hatch_waiter_t *waiter);


typedef enum {
    NGX_HATCH_WAKE_READY = 0,       /* the guest accepts connections */
    NGX_HATCH_WAKE_FAILED,          /* it could not be woken; retry */
    NGX_HATCH_WAKE_KEPT,            /* the same, for its saved memory */
    NGX_HATCH_WAKE_GONE,            /* the agent does not know the VM */
    NGX_HATCH_WAKE_REFUSED,         /* the guest is up, nothing listens */
    NGX_HATCH_WAKE_TIMEOUT,         /* the waiter's time is over */
    NGX_HATCH_WAKE_NO_AGENT         /* nobody to ask */
} ngx_hatch_wake_result_t;


/* Who waits.  The memory is the caller's, zeroed, until handler or forget. */

struct ngx_hatch_waiter_s {
    ngx_hatch_waiter_pt        handler;
    void                      *data;
    ngx_log_t                 *log;

    /* the answer */
    ngx_hatch_wake_result_t    result;
    ngx_uint_t                 kind;        /* hatch_wake_kind_t */
    ngx_msec_t                 retry;       /* FAILED: asking is in vain */

    /* ngx_hatch_wake.c only */
    ngx_queue_t                queue;
    ngx_hatch_wake_t          *wake;
    ngx_hatch_herd_member_t    herd;
    ngx_hatch_wake_group_t    *group;       /* NULL: it has its answer */
    ngx_event_t                timer;
    ngx_msec_t                 deadline;
    unsigned                   waiting:1;
    unsigned                   queued:1;        /* in a group, or answered */
    unsigned                   impatient:1;
};


struct ngx_hatch_wake_s {
    struct sockaddr_un         sockaddr;
    ngx_str_t                  path;        /* NUL-terminated */
    ngx_uint_t                 max_held;    /* waiters, in this worker */
    ngx_uint_t                 max_held_per_vm;

    ngx_connection_t          *connection;  /* NULL: not connected */
    ngx_queue_t                groups[NGX_HATCH_WAKE_BUCKETS];
    ngx_queue_t                unsent;      /* groups to be asked for */
    ngx_queue_t                answered;    /* waiters to be told */
    ngx_queue_t                herds;
    ngx_uint_t                 held;
    uint64_t                   request;     /* the last number given */

    hatch_wake_message_t       in, out;
    size_t                     in_len, out_len;

    ngx_event_t                retry;       /* connects again */
    ngx_event_t                tell;        /* the next of answered */
    ngx_msec_t                 lost;        /* since then not connected */
    ngx_pid_t                  pid;
    unsigned                   complained:1;
};


/* Worker: connects, if the agent is there yet. */
void ngx_hatch_wake_init_process(ngx_hatch_wake_t *hw);

/* The cycle ends, in the process that used it. */
void ngx_hatch_wake_cleanup(void *data);

/*
 * Asks for a VM whose guest shall accept connections on port, and holds the
 * waiter for at most `timeout` ms; then its handler is called, once.  An
 * impatient waiter believes that the VM runs: it does not wait for an agent
 * that is not there or hangs (NO_AGENT).
 *
 * NGX_AGAIN: it is held.  NGX_BUSY: too many are.  NGX_DECLINED: NO_AGENT
 * at once.  NGX_ERROR: no memory.
 */
ngx_int_t ngx_hatch_wake_ask(ngx_hatch_wake_t *hw, ngx_hatch_waiter_t *waiter,
    const char *vm, ngx_uint_t port, ngx_msec_t timeout, ngx_uint_t impatient);

/*
 * For a VM that runs: the waiter joins its herd, if it has one.  NGX_OK: it
 * need not wait.  NGX_AGAIN: it is held, and its handler called in its turn.
 */
ngx_int_t ngx_hatch_wake_join(ngx_hatch_wake_t *hw,
    ngx_hatch_waiter_t *waiter, const char *vm, ngx_uint_t port,
    ngx_msec_t timeout);

/*
 * What the waiter waited for is over: its request has been answered, or it
 * goes before that; the wake goes on.
 */
void ngx_hatch_wake_forget(ngx_hatch_waiter_t *waiter);


#endif /* _NGX_HATCH_WAKE_H_INCLUDED_ */
