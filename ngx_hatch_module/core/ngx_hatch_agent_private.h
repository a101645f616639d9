
/* What ngx_hatch_wake.c and ngx_hatch_wake_held.c share; nobody else. */


#ifndef _NGX_HATCH_WAKE_PRIVATE_H_INCLUDED_
#define _NGX_HATCH_WAKE_PRIVATE_H_INCLUDED_


#include "ngx_hatch_agent.h"


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


/* Closes the connection, if there is one. */
void ngx_hatch_wake_close(ngx_hatch_wake_t *hw);

/* Asks for the groups that have not been asked for. */
ngx_int_t ngx_hatch_wake_send(ngx_hatch_wake_t *hw);

/* The group is to be asked for (again). */
void ngx_hatch_wake_enqueue(ngx_hatch_wake_t *hw,
    ngx_hatch_wake_group_t *group);

/* All of the group have this answer; the group is no more. */
void ngx_hatch_wake_answer(ngx_hatch_wake_t *hw,
    ngx_hatch_wake_group_t *group, ngx_hatch_wake_result_t result,
    ngx_uint_t kind, ngx_msec_t retry);

/* There is no agent: for all, or for those who do not need one. */
void ngx_hatch_wake_answer_all(ngx_hatch_wake_t *hw,
    ngx_uint_t only_impatient);

/* Tells some of those who have their answer, the rest in later turns. */
void ngx_hatch_wake_tell(ngx_hatch_wake_t *hw);

/* The event of the later turns. */
void ngx_hatch_wake_tell_handler(ngx_event_t *ev);

/* ms until then, at least 1. */
ngx_msec_t ngx_hatch_wake_left(ngx_msec_t deadline);


#endif /* _NGX_HATCH_WAKE_PRIVATE_H_INCLUDED_ */
