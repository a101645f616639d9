
/*
 * Who is held for a VM, and what becomes of it.  Knows events, no requests.
 *
 *   NEW ---> ASKED ---> ANSWERED ---> TOLD
 *    |         |                       ^
 *    |         +------------>----------+   its time was over first
 *    |         v                       |
 *    +------> HERD ------->------------+   the same
 *    |         v
 *    +------> RUNNING ---> TOLD            the VM takes long over it
 *
 * From each state ngx_hatch_waiter_leave() leads back to NEW, and from TOLD
 * and RUNNING the waiter may ask again.  ASKED, ANSWERED and HERD are held.
 */


#ifndef _NGX_HATCH_WAITER_H_INCLUDED_
#define _NGX_HATCH_WAITER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


typedef struct ngx_hatch_agent_s   ngx_hatch_agent_t;
typedef struct ngx_hatch_group_s   ngx_hatch_group_t;
typedef struct ngx_hatch_herd_s    ngx_hatch_herd_t;
typedef struct ngx_hatch_waiter_s  ngx_hatch_waiter_t;

typedef void (*ngx_hatch_waiter_pt)(ngx_hatch_waiter_t *waiter);


typedef enum {
    NGX_HATCH_WAITER_NEW = 0,       /* it does not wait */
    NGX_HATCH_WAITER_ASKED,         /* in a group: the agent is asked */
    NGX_HATCH_WAITER_ANSWERED,      /* it has a result, and is told soon */
    NGX_HATCH_WAITER_HERD,          /* the VM is up, others begin first */
    NGX_HATCH_WAITER_TOLD,          /* its handler was called */
    NGX_HATCH_WAITER_RUNNING        /* the same, and it counts in the herd */
} ngx_hatch_waiter_state_e;


typedef enum {
    NGX_HATCH_WAKE_READY = 0,       /* the guest accepts connections */
    NGX_HATCH_WAKE_FAILED,          /* it could not be woken; retry */
    NGX_HATCH_WAKE_KEPT,            /* the same, for its saved memory */
    NGX_HATCH_WAKE_FULL,            /* the same, for its disk */
    NGX_HATCH_WAKE_GONE,            /* the agent does not know the VM */
    NGX_HATCH_WAKE_REFUSED,         /* the guest is up, nothing listens */
    NGX_HATCH_WAKE_TIMEOUT,         /* the waiter's time is over */
    NGX_HATCH_WAKE_NO_AGENT         /* nobody to ask */
} ngx_hatch_wake_result_e;


/* The memory is the caller's, zeroed at first, until it has left. */

struct ngx_hatch_waiter_s {
    ngx_hatch_waiter_pt        handler;     /* called once, when told */
    void                      *data;
    ngx_log_t                 *log;

    ngx_hatch_waiter_state_e   state;       /* to read */

    /* the answer, when told */
    ngx_hatch_wake_result_e    result;
    ngx_uint_t                 kind;        /* hatch_wake_kind_t */
    ngx_msec_t                 retry;       /* FAILED: asking is in vain */
    uint64_t                   incarnation; /* READY: of this guest, or 0 */

    /* of ngx_hatch_waiter.c and ngx_hatch_herd.c */
    ngx_queue_t                queue;       /* of group, answered or herd */
    ngx_hatch_agent_t         *agent;
    ngx_hatch_group_t         *group;       /* ASKED */
    ngx_hatch_herd_t          *herd;        /* HERD, RUNNING */
    ngx_event_t                timer;       /* ASKED, HERD */
    ngx_msec_t                 deadline;
    ngx_msec_t                 since;       /* RUNNING */
    ngx_uint_t                 impatient;   /* ASKED: it can do without */
};


/*
 * Asks for a VM whose guest shall accept connections on port, and holds the
 * waiter for at most `timeout` ms.  An impatient waiter believes that the VM
 * runs: it does not wait for an agent that is not there or hangs (NO_AGENT).
 * One that has asked before, and could not use the answer, says how often: the
 * agent is asked ever more seldom then.
 *
 * NGX_AGAIN: it is held.  NGX_BUSY: too many are.  NGX_DECLINED: NO_AGENT at
 * once.  NGX_ERROR: no memory.
 */
ngx_int_t ngx_hatch_waiter_ask(ngx_hatch_agent_t *agent,
    ngx_hatch_waiter_t *waiter, const char *vm, ngx_uint_t port,
    ngx_msec_t timeout, ngx_uint_t impatient, ngx_uint_t again);

/*
 * For a VM that runs and serves the port: the waiter joins the herd, which it
 * has (ngx_hatch_herd_find()); waiter->incarnation is set by the caller.
 * NGX_OK: it need not wait.  NGX_AGAIN: it is held, and told READY in its
 * turn.  NGX_BUSY: too many are held.
 */
ngx_int_t ngx_hatch_waiter_join(ngx_hatch_agent_t *agent,
    ngx_hatch_waiter_t *waiter, ngx_hatch_herd_t *herd, ngx_msec_t timeout);

/*
 * The one way out: its request goes away, has been answered, or begins anew.
 * The wake goes on.  Nothing for one that is NEW.
 */
void ngx_hatch_waiter_leave(ngx_hatch_waiter_t *waiter);


/* --- for ngx_hatch_agent.c and ngx_hatch_herd.c --- */

/*
 * All transitions.  Takes the waiter out of where it is; the caller puts it
 * into the queue of the new state, if that has one.
 */
void ngx_hatch_waiter_set(ngx_hatch_waiter_t *waiter,
    ngx_hatch_waiter_state_e state);

/* ms until then, at least 1. */
ngx_msec_t ngx_hatch_waiter_left(ngx_msec_t deadline);


#endif /* _NGX_HATCH_WAITER_H_INCLUDED_ */
