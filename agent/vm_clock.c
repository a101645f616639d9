/*
 * The guest's clock.  It stands while the guest does, and neither RTC nor
 * kvmclock make the guest's kernel step afterwards; somebody inside has to.
 * libvirt asks the QEMU guest agent there, over a channel of the domain.
 */

#define _GNU_SOURCE

#include "vm_private.h"
#include "cleanup.h"
#include "log.h"
#include "work.h"

#include "hatch_clock.h"

#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>


/*
 * The request that woke it comes first: setting the clock takes processor time
 * in the guest, too, ms.
 */
#define CLOCK_DELAY  50

/* A guest that was restored has its channel connected a moment later. */
#define CLOCK_TRIES  20
#define CLOCK_PAUSE  50             /* ms between them */


static int
clock_step(virDomainPtr domain)
{
    uint64_t  now = hatch_clock_wall_ms();

    return virDomainSetTime(domain, (long long) (now / 1000),
                            (unsigned) (now % 1000) * 1000000, 0);
}


typedef struct {
    char  id[HATCH_ID_SIZE];
    int   tries;
} clock_job_t;


static void
clock_set(const char *id, int tries)
{
    int                          i;
    virErrorPtr                  last;
    hatch_err_t                  err;
    virt_lease_t                 lease = { NULL, 0 };
    const struct timespec        pause = { 0, CLOCK_PAUSE * 1000000 };
    const struct timespec        delay = { 0, CLOCK_DELAY * 1000000 };
    cleanup_domain virDomainPtr  domain = NULL;

    (void) nanosleep(&delay, NULL);

    if (virt_lease(&lease, &err) != 0) {
        return;
    }

    domain = virDomainLookupByName(lease.conn, id);

    for (i = 0; domain != NULL && i < tries; i++) {
        if (clock_step(domain) == 0) {
            log_event(LOG_DEBUG, "%s: its clock is set", id);
            break;
        }

        (void) virt_error(&err, "its clock is not set");
        last = virGetLastError();

        if (last == NULL || last->code != VIR_ERR_AGENT_UNRESPONSIVE) {
            log_event(LOG_DEBUG, "%s: %s", id, err.text);
            break;
        }

        (void) nanosleep(&pause, NULL);
    }

    virt_release(&lease);
}


static void *
clock_run(void *data)
{
    clock_job_t  *job = data;

    clock_set(job->id, job->tries);
    free(job);

    return NULL;
}


void
vm_set_clock(const char *id, int restored)
{
    clock_job_t  *job = calloc(1, sizeof(*job));

    if (job == NULL) {
        return;
    }

    (void) strncpy(job->id, id, sizeof(job->id) - 1);
    job->tries = restored ? CLOCK_TRIES : 1;

    if (work_detach(clock_run, job) != 0) {
        free(job);
    }
}
