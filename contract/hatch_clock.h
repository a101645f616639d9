/*
 * The zone's clock: CLOCK_BOOTTIME in milliseconds.  It is the same in every
 * process of the machine, counts suspend and never jumps.
 */

#ifndef HATCH_CLOCK_H_INCLUDED
#define HATCH_CLOCK_H_INCLUDED

#include <stdint.h>
#include <time.h>


static inline uint64_t
hatch_clock_ms(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_BOOTTIME, &ts);

    return (uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000;
}


/* Wall-clock time in milliseconds, for created_at and its like. */
static inline uint64_t
hatch_clock_wall_ms(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_REALTIME, &ts);

    return (uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000;
}


/* `ms` later: for deadlines. */
static inline void
hatch_clock_add(struct timespec *ts, uint64_t ms)
{
    ts->tv_sec += (time_t) (ms / 1000);
    ts->tv_nsec += (long) (ms % 1000) * 1000000;

    if (ts->tv_nsec >= 1000000000) {
        ts->tv_sec++;
        ts->tv_nsec -= 1000000000;
    }
}

#endif /* HATCH_CLOCK_H_INCLUDED */
