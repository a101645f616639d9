
/*
 * A herd: the requests for a VM that has just woken, those that were held and
 * those that come in the first second.  All at once they would overrun its
 * listen queue, so they begin a few at a time: as fast as it answers, and
 * faster if it turns out to take long over each while it takes more.
 */


#ifndef _NGX_HATCH_HERD_H_INCLUDED_
#define _NGX_HATCH_HERD_H_INCLUDED_


#include "ngx_hatch_waiter.h"


/* So many begin at once, in each worker. */
#define NGX_HATCH_HERD_WINDOW  4


/*
 * The herd of that VM and port, made if there is none, in a queue of herds
 * that it leaves when it ends.  NULL: no memory.
 */
ngx_hatch_herd_t *ngx_hatch_herd_get(ngx_queue_t *herds, const char *vm,
    ngx_uint_t port);

/* The same, or NULL if there is none. */
ngx_hatch_herd_t *ngx_hatch_herd_find(ngx_queue_t *herds, const char *vm,
    ngx_uint_t port);

/* How many wait for their turn, at any port of the VM. */
ngx_uint_t ngx_hatch_herd_held(ngx_queue_t *herds, const char *vm);

/* The herd's VM. */
const char *ngx_hatch_herd_vm(ngx_hatch_herd_t *herd);

/* 1 if one more may begin at once. */
ngx_uint_t ngx_hatch_herd_room(ngx_hatch_herd_t *herd);

/*
 * A waiter begins (it becomes RUNNING), or waits for its turn (HERD) and is
 * told then, never from here.
 */
void ngx_hatch_herd_run(ngx_hatch_herd_t *herd, ngx_hatch_waiter_t *waiter);
void ngx_hatch_herd_add(ngx_hatch_herd_t *herd, ngx_hatch_waiter_t *waiter);

/* ngx_hatch_waiter_set() only: it has left the state in which it counted. */
void ngx_hatch_herd_left(ngx_hatch_herd_t *herd,
    ngx_hatch_waiter_state_e state);


#endif /* _NGX_HATCH_HERD_H_INCLUDED_ */
