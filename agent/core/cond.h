/* Conditions that wait for so long, whatever is done to the wall clock. */

#ifndef HATCH_AGENT_COND_H_INCLUDED
#define HATCH_AGENT_COND_H_INCLUDED

#include "hatch_clock.h"

#include <pthread.h>


/* A condition whose timed waits are by cond_deadline(). */
static inline void
cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t  attr;

    (void) pthread_condattr_init(&attr);
    (void) pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void) pthread_cond_init(cond, &attr);
    (void) pthread_condattr_destroy(&attr);
}


/* `ms` from now. */
static inline struct timespec
cond_deadline(uint64_t ms)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);
    hatch_clock_add(&ts, ms);

    return ts;
}

#endif /* HATCH_AGENT_COND_H_INCLUDED */
