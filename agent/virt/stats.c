#define _GNU_SOURCE

#include "stats.h"
#include "stats_record.h"
#include "virt.h"
#include "core/cond.h"
#include "core/log.h"
#include "core/work.h"

#include "hatch_clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>


/*
 * VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT passes over a VM that another
 * operation has, but it is a call of our own that hangs first when a QEMU
 * does.  Then the next call, by another connection, finds that VM taken and
 * passes over it.  So a call that is overdue is left behind, and so many may
 * be at once; with one more VM that hangs, only what costs no call to any QEMU
 * is asked for.
 */
#define STATS_BEHIND  4

/* How long a call may take, ms: that, or a few times as long as the last. */
#define STATS_PATIENCE_FIRST  5000
#define STATS_PATIENCE        1000
#define STATS_PATIENCE_TIMES  4

/* After a failure, ms. */
#define STATS_RETRY  1000

/* Who wants one now waits so long, ms; and so often there is one for that. */
#define STATS_WAIT    1000
#define STATS_WANTED  250


static struct {
    const config_t   *config;
    pthread_t         thread;
    pthread_mutex_t   lock;
    pthread_cond_t    changed;
    uint64_t          begun;        /* number of the last call */
    uint64_t          ended;        /* highest number that has ended */
    uint64_t          took;         /* the last good one, ms */
    unsigned          calls;        /* that have not ended */
    int               failed;       /* the last one; each failure logs once */
    unsigned          wanted:1;     /* now: stats_refresh() */
    unsigned          late:1;       /* and it was said so */
    unsigned          stop:1;
    unsigned          reloaded:1;   /* stats_interval is another */
    unsigned          running:1;    /* the thread */
} stats = { .lock = PTHREAD_MUTEX_INITIALIZER };


/* One call in its own thread. */
typedef struct {
    uint64_t      number;
    unsigned      groups;
} stats_call_t;


/* --- the thread of one call --- */

/* Locked.  What a call that was left behind brings is old by now. */
static void
stats_apply(const stats_call_t *call, virDomainStatsRecordPtr *records,
    uint64_t began)
{
    uint64_t         now = hatch_clock_ms();
    table_sample_t   sample;

    if (call->number < stats.ended) {
        return;
    }

    stats.took = now - began;
    stats.late = 0;

    for ( ; *records != NULL; records++) {
        stats_record(*records, &sample);
        table_sample(virDomainGetName((*records)->dom), &sample, now);
    }

    table_sampled(now, stats.took);
}


static void
stats_report(int rc, const hatch_err_t *err)
{
    /* that libvirt is gone is told elsewhere */
    if (rc != 0 && rc != HATCH_ERR_UNAVAILABLE) {
        table_sample_failed();

        if (!stats.failed) {
            log_event(LOG_WARN, "no statistics: %s", err->text);
        }
    }

    stats.failed = rc != 0;
}


static void *
stats_thread(void *data)
{
    int                       rc;
    uint64_t                  began = hatch_clock_ms();
    hatch_err_t               err;
    stats_call_t             *call = data;
    virt_lease_t              lease = { NULL, 0 };
    virDomainStatsRecordPtr  *records = NULL;

    rc = virt_lease(&lease, &err);

    if (rc == 0
        && virConnectGetAllDomainStats(lease.conn, call->groups, &records,
                                  VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
           < 0)
    {
        rc = virt_error(&err, "cannot read the statistics");
    }

    pthread_mutex_lock(&stats.lock);

    if (rc == 0) {
        stats_apply(call, records, began);
    }

    stats_report(rc, &err);
    stats.ended = call->number > stats.ended ? call->number : stats.ended;
    stats.calls--;
    pthread_cond_broadcast(&stats.changed);

    pthread_mutex_unlock(&stats.lock);

    if (records != NULL) {
        virDomainStatsRecordListFree(records);
    }

    virt_release(&lease);
    free(call);

    return NULL;
}


/* --- the sampling thread --- */

/* Locked. */
static void
stats_begin(void)
{
    stats_call_t  *call;

    /* not even a plain call comes back: libvirt itself does not answer */
    if (stats.calls > STATS_BEHIND) {
        return;
    }

    call = malloc(sizeof(*call));

    if (call == NULL) {
        return;
    }

    call->number = ++stats.begun;
    call->groups = stats.calls < STATS_BEHIND ? STATS_GROUPS
                                              : STATS_GROUPS_PLAIN;
    stats.calls++;

    if (work_detach(stats_thread, call) != 0) {
        stats.calls--;
        free(call);
    }
}


/* Locked.  Waits for the last call; 0 if it is overdue. */
static int
stats_wait(const struct timespec *began)
{
    uint64_t         patience;
    struct timespec  deadline = *began;

    patience = stats.took == 0 ? STATS_PATIENCE_FIRST
               : stats.took * STATS_PATIENCE_TIMES;
    patience = patience < STATS_PATIENCE ? STATS_PATIENCE : patience;

    /* they come back late, or not at all: the more, the longer */
    hatch_clock_add(&deadline, patience << (stats.calls > 1 ? stats.calls - 1
                                                        : 0));

    while (!stats.stop && stats.ended < stats.begun) {
        if (pthread_cond_timedwait(&stats.changed, &stats.lock, &deadline)
            != 0)
        {
            return stats.ended >= stats.begun;
        }
    }

    return 1;
}


/* Locked. */
static void
stats_overdue(void)
{
    table_sample_failed();

    if (!stats.late) {
        stats.late = 1;
        log_event(LOG_WARN, "statistics: libvirt does not answer; a VM that "
                  "hangs is passed over from now on");
    }
}


/* Until libvirt is connected, it is tried more often. */
static uint64_t
stats_interval(void)
{
    int64_t  interval = stats.config->stats_interval;

    /* never, since just now */
    return interval == VM_NEVER || (stats.failed && interval > STATS_RETRY)
           ? STATS_RETRY : (uint64_t) interval;
}


/* Locked.  Until `next`, or until somebody wants one before. */
static void
stats_sleep(const struct timespec *began, const struct timespec *next)
{
    struct timespec         early = *began;
    const struct timespec  *until = next;

    hatch_clock_add(&early, STATS_WANTED);

    do {
        if (stats.wanted
            && (early.tv_sec < next->tv_sec
                || (early.tv_sec == next->tv_sec
                    && early.tv_nsec < next->tv_nsec)))
        {
            until = &early;
        }

        /* what wakes us may be a call that has ended */
    } while (!stats.stop && !stats.reloaded
             && pthread_cond_timedwait(&stats.changed, &stats.lock, until)
                == 0);

    stats.wanted = 0;
    stats.reloaded = 0;
}


static int
stats_is_off(void)
{
    return stats.config->stats_interval == VM_NEVER;
}


static void *
stats_run(void *data)
{
    int              in_time;
    struct timespec  next, began;

    (void) data;

    pthread_mutex_lock(&stats.lock);

    while (!stats.stop) {
        if (stats_is_off()) {
            (void) pthread_cond_wait(&stats.changed, &stats.lock);
            continue;
        }

        (void) clock_gettime(CLOCK_MONOTONIC, &began);
        stats_begin();
        in_time = stats_wait(&began);

        if (!in_time) {
            stats_overdue();

            if (stats.calls <= STATS_BEHIND) {
                continue;
            }
        }

        next = began;
        hatch_clock_add(&next, stats_interval());
        stats_sleep(&began, &next);
    }

    pthread_mutex_unlock(&stats.lock);

    return NULL;
}


int
stats_start(const config_t *config, hatch_err_t *err)
{
    int  rc;

    cond_init(&stats.changed);
    stats.config = config;
    rc = pthread_create(&stats.thread, NULL, stats_run, NULL);

    return rc == 0 ? 0 : hatch_err_errno(err, rc, "cannot start a thread");
}


void
stats_reload(void)
{
    pthread_mutex_lock(&stats.lock);
    stats.reloaded = 1;
    pthread_cond_broadcast(&stats.changed);
    pthread_mutex_unlock(&stats.lock);
}


void
stats_refresh(void)
{
    uint64_t         begun;
    struct timespec  deadline = cond_deadline(STATS_WAIT);

    if (stats_is_off()) {
        return;
    }

    pthread_mutex_lock(&stats.lock);

    begun = stats.begun;
    stats.wanted = 1;
    pthread_cond_broadcast(&stats.changed);

    while (stats.ended <= begun
           && pthread_cond_timedwait(&stats.changed, &stats.lock, &deadline)
              == 0)
    {
        /* void */
    }

    pthread_mutex_unlock(&stats.lock);
}


void
stats_stop(void)
{
    pthread_mutex_lock(&stats.lock);
    stats.stop = 1;
    pthread_cond_broadcast(&stats.changed);
    pthread_mutex_unlock(&stats.lock);

    (void) pthread_join(stats.thread, NULL);
}
