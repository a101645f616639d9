#define _GNU_SOURCE

#include "clock.h"
#include "virt.h"
#include "virt_cleanup.h"
#include "core/log.h"
#include "core/work.h"

#include "hatch_clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>


/*
 * The request that woke it comes first: setting the clock takes processor time
 * in the guest, too.  A guest that was restored has its channel connected a
 * moment later, on a busy host some seconds; so each pause is twice the one
 * before, 12.7 s in all.
 */
#define CLOCK_DELAY  50             /* ms */
#define CLOCK_TRIES  8

/* A guest that took longer has got a time that was no longer right, ms. */
#define CLOCK_LATE   200


typedef enum {
    CLOCK_SET,
    CLOCK_AGAIN,
    CLOCK_NEVER                     /* it sleeps again, or is gone */
} clock_result_t;


static clock_result_t
clock_step(virDomainPtr domain, const char *id)
{
    uint64_t     now = hatch_clock_wall_ms(), then;
    hatch_err_t  err;

    if (virDomainSetTime(domain, (long long) (now / 1000),
                         (unsigned) (now % 1000) * 1000000, 0)
        == 0)
    {
        then = hatch_clock_wall_ms();
        log_event(LOG_DEBUG, "%s: its clock is set, %lld ms", id,
                  (long long) (then - now));

        return then - now <= CLOCK_LATE ? CLOCK_SET : CLOCK_AGAIN;
    }

    (void) virt_error(&err, "its clock is not set");
    log_event(LOG_DEBUG, "%s: %s", id, err.text);

    return virt_last_class() == VIRT_NO_AGENT ? CLOCK_AGAIN : CLOCK_NEVER;
}


/* A lease for each try: nothing is held while it waits. */
static clock_result_t
clock_try(const char *id)
{
    hatch_err_t                  err;
    virt_lease_t                 lease = { NULL, 0 };
    clock_result_t               result = CLOCK_NEVER;
    cleanup_domain virDomainPtr  domain = NULL;

    if (virt_lease(&lease, &err) != 0) {
        return CLOCK_AGAIN;
    }

    domain = virDomainLookupByName(lease.conn, id);

    if (domain != NULL) {
        result = clock_step(domain, id);
    }

    virt_release(&lease);

    return result;
}


static void *
clock_run(void *data)
{
    int              i;
    char            *id = data;
    struct timespec  pause = { 0, 0 };

    hatch_clock_add(&pause, CLOCK_DELAY);

    for (i = 0; i < CLOCK_TRIES; i++) {
        (void) nanosleep(&pause, NULL);

        if (clock_try(id) != CLOCK_AGAIN) {
            break;
        }

        hatch_clock_add(&pause, (uint64_t) CLOCK_DELAY << i);
    }

    free(id);

    return NULL;
}


void
clock_set(const char *id)
{
    char  *copy = strdup(id);

    if (copy != NULL && work_detach(clock_run, copy) != 0) {
        free(copy);
    }
}
