
/*
 * Work that has no timer of its own: a task in a thread, answers that are told
 * in later turns of the event loop, the next chunk of a long answer.  A worker
 * that exits waits for timers alone, so it would end in the middle of these.
 */


#ifndef _NGX_HATCH_WORK_H_INCLUDED_
#define _NGX_HATCH_WORK_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


/* Zeroed at first.  The memory is the caller's, until the work has ended. */

typedef struct {
    ngx_event_t    timer;
    const char    *what;
} ngx_hatch_work_t;


/*
 * Keeps the worker until ngx_hatch_work_end(), but at most a minute from now,
 * which is logged with `what`.  Nothing but a longer time if it has begun.
 */
void ngx_hatch_work_begin(ngx_hatch_work_t *work, const char *what);

/* The worker may exit.  Nothing if it has not begun. */
void ngx_hatch_work_end(ngx_hatch_work_t *work);


#endif /* _NGX_HATCH_WORK_H_INCLUDED_ */
