#define _GNU_SOURCE

#include "clock.h"
#include "virt.h"
#include "virt_cleanup.h"
#include "core/log.h"
#include "core/work.h"

#include "hatch_clock.h"
#include "hatch_id.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>


/*
 * The request that woke it comes first: setting the clock takes processor time
 * in the guest, too.  Where the guest's agent is there and does not answer, on
 * a busy host, it is tried again: each pause is twice the one before, ms.
 */
#define CLOCK_DELAY    50
#define CLOCK_TRIES    8

/* A guest that took longer has got a time that was no longer right, ms. */
#define CLOCK_LATE     200

/* libvirt waits for the answer of an agent that is there, and not else. */
#define CLOCK_WAITED   1000

/* So long a clock is due; guests without an agent never have it set, ms. */
#define CLOCK_DUE      600000

#define CLOCK_BUCKETS  256


/* A VM whose clock is due, since its agent is not there. */
typedef struct clock_due_s {
    struct clock_due_s  *next;
    uint64_t             until;
    char                 id[HATCH_ID_SIZE];
} clock_due_t;


static struct {
    pthread_mutex_t  lock;
    clock_due_t     *buckets[CLOCK_BUCKETS];
} clocks = { .lock = PTHREAD_MUTEX_INITIALIZER };


typedef enum {
    CLOCK_SET,
    CLOCK_AGAIN,
    CLOCK_ABSENT,                   /* there is no agent at the moment */
    CLOCK_NEVER                     /* it sleeps again, or is gone */
} clock_result_t;


/* --- who is waited for --- */

/*
 * The link to a VM in its bucket, or to the NULL at its end; frees what is
 * there and due no more.  Locked.
 */
static clock_due_t **
clock_find(const char *id)
{
    uint64_t      now = hatch_clock_ms();
    uint32_t      hash = 0;
    const char   *p;
    clock_due_t  **link, *due;

    for (p = id; *p != '\0'; p++) {
        hash = hash * 31 + (unsigned char) *p;
    }

    link = &clocks.buckets[hash % CLOCK_BUCKETS];

    while ((due = *link) != NULL && strcmp(due->id, id) != 0) {
        if (due->until < now) {
            *link = due->next;
            free(due);

        } else {
            link = &due->next;
        }
    }

    return link;
}


/* Notes that it is due, or that it is not; returns whether it was. */
static int
clock_note(const char *id, int is_due)
{
    int           was;
    clock_due_t  **link, *due;

    pthread_mutex_lock(&clocks.lock);

    link = clock_find(id);
    due = *link;
    was = due != NULL && due->until >= hatch_clock_ms();

    if (due == NULL && is_due) {
        due = calloc(1, sizeof(*due));

        if (due != NULL) {
            (void) strncpy(due->id, id, sizeof(due->id) - 1);
            *link = due;
        }
    }

    if (due != NULL && is_due) {
        due->until = hatch_clock_ms() + CLOCK_DUE;

    } else if (due != NULL) {
        *link = due->next;
        free(due);
    }

    pthread_mutex_unlock(&clocks.lock);

    return was;
}


/* --- setting it --- */

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
    then = hatch_clock_wall_ms();
    log_event(LOG_DEBUG, "%s: %s", id, err.text);

    return virt_last_class() != VIRT_NO_AGENT ? CLOCK_NEVER
           : then - now >= CLOCK_WAITED ? CLOCK_AGAIN : CLOCK_ABSENT;
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
    clock_result_t   result;
    struct timespec  pause = { 0, 0 };

    hatch_clock_add(&pause, CLOCK_DELAY);

    for (i = 0; i < CLOCK_TRIES; i++) {
        (void) nanosleep(&pause, NULL);

        /* before it is tried: the agent may come in between */
        (void) clock_note(id, 1);
        result = clock_try(id);

        if (result != CLOCK_AGAIN) {
            break;
        }

        hatch_clock_add(&pause, (uint64_t) CLOCK_DELAY << i);
    }

    if (result == CLOCK_SET || result == CLOCK_NEVER) {
        (void) clock_note(id, 0);
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


void
clock_connected(const char *name)
{
    if (name != NULL && clock_note(name, 0)) {
        clock_set(name);
    }
}
