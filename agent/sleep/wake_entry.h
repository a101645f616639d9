/* What is known of a VM that is being woken, or could not be. */

#ifndef HATCH_AGENT_WAKE_ENTRY_H_INCLUDED
#define HATCH_AGENT_WAKE_ENTRY_H_INCLUDED

#include "wake_private.h"


/* After a failure, ms: doubled each time. */
#define WAKE_BACKOFF_MIN  1000
#define WAKE_BACKOFF_MAX  30000

/*
 * A VM that stood because its disk could not be written, and does so again
 * within that time, ms, was not woken.
 */
#define WAKE_RELAPSE      10000


struct wake_vm_s {
    wake_vm_t          *next;           /* in the bucket */
    wake_vm_t          *queued;         /* for a thread, or for collecting,
                                           or parked */
    wake_vm_t          *next_running;   /* has a thread */
    char                id[HATCH_ID_SIZE];
    uint64_t            since;          /* wake_now() when it was asked for */
    uint64_t            not_before;     /* after a failure */
    unsigned            failures;       /* in a row */
    int                 failure;        /* the last one's code */
    unsigned            turn;           /* in wakes.turns */
    uint64_t            began;          /* its turn, wake_now() */
    uint64_t            until;          /* it ends then at the latest */
    uint64_t            again;          /* when to look, of one that is
                                           parked */
    uint64_t            relapse;        /* WAKE_RELAPSE ends then, or 0 */
    int                 stalled;        /* when it was asked for */
    int                 parked;
    int                 pending;        /* from begin until it is reported */
    int                 reported;

    /*
     * Under wakes.lock: written by the thread that wakes it.  No bits: who
     * wrote one of those above would write these, too.
     */
    int                 awake;
    int                 done;
    int                 waits;          /* done in vain, to be tried again */
    int                 listed;         /* in wakes.news */
    hatch_wake_kind_t   kind;
    uint64_t            duration;
    int                 rc;
};


/* The entry of a VM, or NULL; wake_vm_get() makes one (NULL: no memory). */
wake_vm_t *wake_vm_find(const char *id);
wake_vm_t *wake_vm_get(const char *id);

/* Counts a failure: until when not to try again. */
void wake_vm_fail(wake_vm_t *vm, uint64_t now);

/* Before it is woken: one that was let run and stands again has failed. */
void wake_vm_relapse(wake_vm_t *vm, uint64_t now);

/*
 * Frees entries of which nothing has to be remembered: once a second at most.
 * A failure is forgotten with its VM, or when it would be of no effect.  Not
 * while anybody has one.
 */
void wake_vm_sweep(uint64_t now);

#endif /* HATCH_AGENT_WAKE_ENTRY_H_INCLUDED */
