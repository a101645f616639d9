
/*
 * Asking the agent to wake VMs: one connection per worker, one ASK per VM and
 * port however many wait for it.  Knows cycles and events, no requests.
 */


#ifndef _NGX_HATCH_AGENT_H_INCLUDED_
#define _NGX_HATCH_AGENT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_hatch_waiter.h"
#include "ngx_hatch_work.h"

#include "hatch_wake.h"


#define NGX_HATCH_AGENT_BUCKETS  256    /* fit a byte, see request below */


struct ngx_hatch_agent_s {
    struct sockaddr_un         sockaddr;
    ngx_str_t                  path;        /* NUL-terminated */
    ngx_uint_t                 max_held;    /* waiters, in this worker */
    ngx_uint_t                 max_held_per_vm;

    ngx_connection_t          *connection;  /* NULL: not connected */
    ngx_queue_t                groups[NGX_HATCH_AGENT_BUCKETS];
    ngx_queue_t                unsent;      /* groups to be asked for */
    ngx_queue_t                answered;    /* waiters to be told */
    ngx_queue_t                herds;
    ngx_uint_t                 held;
    uint64_t                   request;     /* the last number given */

    hatch_wake_message_t       in, out;
    size_t                     in_len, out_len;

    ngx_event_t                retry;       /* connects again */
    ngx_event_t                tell;        /* the next of answered */
    ngx_hatch_work_t           telling;
    ngx_msec_t                 lost;        /* since then nobody answers */
    ngx_uint_t                 refused;     /* connections, one by one, that
                                             * ended without an answer */
    ngx_pid_t                  pid;
    unsigned                   asked:1;     /* on this connection */
    unsigned                   heard:1;     /* and there was an answer */
    unsigned                   complained:1;    /* nobody listens */
    unsigned                   accused:1;   /* who listens is no agent */
};


/* Worker: connects, if the agent is there yet. */
void ngx_hatch_agent_init_process(ngx_hatch_agent_t *agent);

/* The cycle ends, in the process that used it. */
void ngx_hatch_agent_cleanup(void *data);


#endif /* _NGX_HATCH_AGENT_H_INCLUDED_ */
