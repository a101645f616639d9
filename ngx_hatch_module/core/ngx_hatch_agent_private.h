
/* What ngx_hatch_agent.c, _group.c and _waiter.c share; nobody else. */


#ifndef _NGX_HATCH_AGENT_PRIVATE_H_INCLUDED_
#define _NGX_HATCH_AGENT_PRIVATE_H_INCLUDED_


#include "ngx_hatch_agent.h"
#include "ngx_hatch_herd.h"


/* Those who wait for the same port of the same VM. */

struct ngx_hatch_group_s {
    ngx_queue_t              queue;         /* in its bucket */
    ngx_queue_t              unsent;
    ngx_queue_t              waiters;
    ngx_uint_t               n;
    uint64_t                 request;
    ngx_uint_t               port;
    ngx_uint_t               again;         /* it was asked for in vain */
    ngx_hatch_agent_t       *agent;
    ngx_event_t              pause;         /* until it is asked for again */
    unsigned                 to_send:1;     /* in agent->unsent */
    unsigned                 told:1;        /* the agent works on it */
    char                     vm[HATCH_ID_SIZE];
};


/* --- ngx_hatch_agent.c --- */

/* Connects, or tries it again later. */
void ngx_hatch_agent_connect(ngx_hatch_agent_t *agent);

/* Closes the connection, if there is one. */
void ngx_hatch_agent_close(ngx_hatch_agent_t *agent);

/* Asks for the groups that have not been asked for. */
ngx_int_t ngx_hatch_agent_send(ngx_hatch_agent_t *agent);

/*
 * The same for whoever may be in a request.  If the connection turns out to be
 * lost, those who wait are told by its read handler, not from here.
 */
void ngx_hatch_agent_try_send(ngx_hatch_agent_t *agent);

/* --- ngx_hatch_group.c --- */

/* Where the groups of a VM are. */
ngx_queue_t *ngx_hatch_group_bucket(ngx_hatch_agent_t *agent, const char *vm);

/*
 * The group for that port, a new one if need be; NULL: no memory.  It is asked
 * for now, or, for one who has asked `again` times, after a pause.
 */
ngx_hatch_group_t *ngx_hatch_group_get(ngx_hatch_agent_t *agent,
    const char *vm, ngx_uint_t port, ngx_uint_t again);

/* That pause, ms. */
ngx_msec_t ngx_hatch_group_pause(ngx_uint_t again);

/* No more, unless somebody waits. */
void ngx_hatch_group_free_empty(ngx_hatch_group_t *group);

/* The group is to be asked for (again). */
void ngx_hatch_group_enqueue(ngx_hatch_agent_t *agent,
    ngx_hatch_group_t *group);

/* The same after an answer of no use: the more of these, the later. */
void ngx_hatch_group_ask_again(ngx_hatch_agent_t *agent,
    ngx_hatch_group_t *group);

/* The agent works on it: nobody in it is impatient any more. */
void ngx_hatch_group_told(ngx_hatch_group_t *group);

/* All of the group have this answer; the group is no more. */
void ngx_hatch_group_answer(ngx_hatch_agent_t *agent,
    ngx_hatch_group_t *group, ngx_hatch_wake_result_e result,
    hatch_wake_message_t *m);

/* --- ngx_hatch_waiter.c --- */

/* There is an agent, and it works on the VM: its own time counts now. */
void ngx_hatch_waiter_be_patient(ngx_hatch_waiter_t *waiter);

/* There is no agent: for all, or for those who do not need one. */
void ngx_hatch_waiter_answer_all(ngx_hatch_agent_t *agent,
    ngx_uint_t only_impatient);

/* Tells some of those who have their answer, the rest in later turns. */
void ngx_hatch_waiter_tell(ngx_hatch_agent_t *agent);

/* The event of the later turns. */
void ngx_hatch_waiter_tell_handler(ngx_event_t *ev);


#endif /* _NGX_HATCH_AGENT_PRIVATE_H_INCLUDED_ */
