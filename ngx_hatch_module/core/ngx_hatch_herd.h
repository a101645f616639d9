
/*
 * A herd: the requests for a VM that has just woken, those that were held and
 * those that come in the first second.  All at once they would overrun its
 * listen queue, so they begin a few at a time: as fast as it answers, and
 * faster if it turns out to take long over each while it takes more.
 */


#ifndef _NGX_HATCH_HERD_H_INCLUDED_
#define _NGX_HATCH_HERD_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


/* So many are let go at once, in each worker. */
#define NGX_HATCH_HERD_WINDOW  4


typedef struct ngx_hatch_herd_s         ngx_hatch_herd_t;
typedef struct ngx_hatch_herd_member_s  ngx_hatch_herd_member_t;

typedef void (*ngx_hatch_herd_pt)(ngx_hatch_herd_member_t *member);


/* Who is in a herd.  The memory is the caller's. */

struct ngx_hatch_herd_member_s {
    ngx_queue_t              queue;
    ngx_hatch_herd_t        *herd;      /* NULL: in none (any more) */
    ngx_msec_t               since;     /* it was let go */
    unsigned                 gone:1;    /* it was, and counts */
};


/*
 * Makes one, in a queue of herds that it leaves when it ends.  let_go is called
 * for each member that had to wait, when its turn has come; never from here.
 * NULL: no memory.
 */
ngx_hatch_herd_t *ngx_hatch_herd_create(ngx_queue_t *herds, const char *vm,
    ngx_uint_t port, ngx_hatch_herd_pt let_go);

/* The herd of that VM and port, or NULL. */
ngx_hatch_herd_t *ngx_hatch_herd_find(ngx_queue_t *herds, const char *vm,
    ngx_uint_t port);

/* Adds one that may have to wait: 1 if it may begin at once. */
ngx_uint_t ngx_hatch_herd_join(ngx_hatch_herd_t *herd,
    ngx_hatch_herd_member_t *member);

/* Adds one that waits for its turn in any case. */
void ngx_hatch_herd_add(ngx_hatch_herd_t *herd,
    ngx_hatch_herd_member_t *member);

/*
 * The member has been answered, or does not want to begin any more.  Nothing
 * if it is in no herd.
 */
void ngx_hatch_herd_leave(ngx_hatch_herd_member_t *member);


#endif /* _NGX_HATCH_HERD_H_INCLUDED_ */
