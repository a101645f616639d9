#define _GNU_SOURCE

#include "watchdog.h"
#include "fault.h"
#include "log.h"
#include "notify.h"
#include "work.h"

#include "hatch_clock.h"

#include <stdint.h>
#include <stdio.h>
#include <time.h>


/* Since when each loop works, ms of the monotonic clock; 0: it waits. */
static _Atomic uint64_t  watchdog_since[WATCHDOG_LOOPS];

static const char *const  watchdog_names[] = { "heartbeat", "wake", "idle" };


static uint64_t
watchdog_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000;
}


void
watchdog_works(watchdog_loop_t loop)
{
    watchdog_since[loop] = watchdog_now();

    /* for a test of a loop that hangs: HATCH_FAULT=watchdog.NAME:hang */
    (void) fault("watchdog", watchdog_names[loop], NULL);
}


void
watchdog_waits(watchdog_loop_t loop)
{
    watchdog_since[loop] = 0;
}


/* The name of a loop that hangs, or NULL. */
static const char *
watchdog_look(unsigned most)
{
    unsigned  loop;
    uint64_t  since, now = watchdog_now();

    for (loop = 0; loop < WATCHDOG_LOOPS; loop++) {
        since = watchdog_since[loop];

        if (since != 0 && now > since && now - since > most) {
            return watchdog_names[loop];
        }
    }

    return NULL;
}


static void *
watchdog_run(void *data)
{
    unsigned         half = notify_watchdog() / 2;
    const char      *hangs, *told = NULL;
    struct timespec  step = { half / 1000, half % 1000 * 1000000L };

    (void) data;

    for ( ;; ) {
        hangs = watchdog_look(half);

        if (hangs == NULL) {
            notify_send("WATCHDOG=1");

        } else if (hangs != told) {
            log_event(LOG_ERROR, "the %s loop has not ended a round for more "
                      "than %u ms; the watchdog is not told that all is well",
                      hangs, half);
        }

        told = hangs;
        (void) nanosleep(&step, NULL);
    }

    return NULL;
}


int
watchdog_start(hatch_err_t *err)
{
    int  rc = notify_watchdog() != 0 ? work_detach(watchdog_run, NULL) : 0;

    return rc == 0 ? 0 : hatch_err_errno(err, rc, "cannot start a thread");
}
