#define _GNU_SOURCE

#include "idle.h"
#include "wake.h"
#include "core/cond.h"
#include "core/log.h"
#include "core/watchdog.h"
#include "core/work.h"
#include "table/activity.h"
#include "table/table_sleep.h"
#include "virt/host.h"
#include "vm/vm_sleep.h"

#include "hatch_clock.h"
#include "hatch_hash.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>


#define IDLE_STEP_MAX    1000       /* ms */
#define IDLE_STEP_MIN    10

/* With no room for saved memory, ms; looking costs no more than that. */
#define IDLE_RETRY       10000

/*
 * How many at once.  Pausing takes milliseconds; saving takes the disk.  One
 * that takes longer than its deadline hangs, and its place is another's; so
 * many of each kind may.
 */
#define IDLE_PAUSES      32
#define IDLE_PARKS       4
#define IDLE_SAVES       4
#define IDLE_WAKES       64
#define IDLE_HUNG        32


/* What is under way in a thread of its own. */
typedef struct idle_job_s {
    struct idle_job_s  *next;
    table_due_t         due;
    uint64_t            deadline;       /* the zone's clock */
    unsigned            hangs:1;        /* and it was said so */
} idle_job_t;


static struct {
    const config_t   *config;
    pthread_t         thread;
    pthread_mutex_t   lock;
    pthread_cond_t    wake;
    idle_job_t       *jobs;
    unsigned          stop:1;
} idle = { .lock = PTHREAD_MUTEX_INITIALIZER };


static uint32_t
idle_hash(const char *text)
{
    uint64_t  hash = 0;

    while (*text != '\0') {
        hash = hatch_hash_word(hash, (unsigned char) *text++);
    }

    return hatch_hash_end(hash);
}


static void
idle_failed(const table_due_t *due, uint64_t room, const hatch_err_t *err)
{
    if (table_sleep_failed(due->id, hatch_clock_ms(), idle_hash(err->text),
                           room))
    {
        log_event(LOG_WARN, "%s: it should sleep: %s", due->id, err->text);
    }
}


/* What is said of one that slept. */
static const char *const  idle_done[] = {
    [TABLE_PAUSE] = "idle, paused",
    [TABLE_PARK] = "paused for a while, parked",
    [TABLE_SAVE] = "paused for long, saved"
};


static void
idle_do(const table_due_t *due)
{
    int          rc;
    uint64_t     room = due->no_room;
    hatch_err_t  err;

    rc = due->todo == TABLE_PAUSE
         ? vm_idle_pause(idle.config, due->id, &err)
         : due->todo == TABLE_PARK
         ? vm_idle_park(idle.config, due->id, &room, &err)
         : vm_idle_save(idle.config, due->id, &room, &err);

    if (rc == 0) {
        log_event(LOG_INFO, "%s: %s", due->id, idle_done[due->todo]);

    } else if (rc == HATCH_ERR_UNAVAILABLE || rc == HATCH_ERR_BUSY) {
        table_sleep_later(due->id, hatch_clock_ms() + IDLE_STEP_MAX);

    } else if (rc == 2) {
        table_sleep_later(due->id, hatch_clock_ms() + IDLE_RETRY);

    } else if (rc < 0) {
        idle_failed(due, room, &err);
    }
}


static void *
idle_thread(void *data)
{
    idle_job_t  *job = data, **link;

    idle_do(&job->due);

    pthread_mutex_lock(&idle.lock);

    for (link = &idle.jobs; *link != job; link = &(*link)->next) {
        /* void */
    }

    *link = job->next;
    pthread_cond_signal(&idle.wake);
    pthread_mutex_unlock(&idle.lock);

    free(job);

    return NULL;
}


/* Locked.  Without a thread to spare it stays due. */
static void
idle_begin(const table_due_t *due)
{
    int64_t      seconds;
    idle_job_t  *job = calloc(1, sizeof(*job));

    if (job == NULL) {
        return;
    }

    seconds = due->todo == TABLE_PAUSE ? host_call_timeout(idle.config)
                                       : host_save_timeout(idle.config);
    job->due = *due;
    job->deadline = hatch_clock_ms() + (uint64_t) seconds * 1000;

    if (work_detach(idle_thread, job) != 0) {
        free(job);
        return;
    }

    job->next = idle.jobs;
    idle.jobs = job;
}


/* How many more of each kind may begin. */
static void
idle_room(unsigned room[TABLE_TODOS])
{
    uint64_t     now = hatch_clock_ms();
    unsigned     hung[TABLE_TODOS] = { 0, 0, 0, 0 };
    idle_job_t  *job;

    room[TABLE_PAUSE] = IDLE_PAUSES;
    room[TABLE_PARK] = IDLE_PARKS;
    room[TABLE_SAVE] = IDLE_SAVES;
    room[TABLE_WAKE] = IDLE_WAKES;

    pthread_mutex_lock(&idle.lock);

    for (job = idle.jobs; job != NULL; job = job->next) {
        if (now >= job->deadline && hung[job->due.todo] < IDLE_HUNG) {
            hung[job->due.todo]++;

            if (!job->hangs) {
                job->hangs = 1;
                log_event(LOG_WARN, "%s: it should sleep: libvirt has not "
                          "%s it in time, and goes on", job->due.id,
                          job->due.todo == TABLE_PAUSE ? "paused" : "saved");
            }

        } else if (room[job->due.todo] != 0) {
            room[job->due.todo]--;
        }
    }

    pthread_mutex_unlock(&idle.lock);
}


/* Starts what is due; returns when to look again, on the zone's clock. */
static uint64_t
idle_look(void)
{
    size_t       i, n;
    unsigned     room[TABLE_TODOS];
    uint64_t     now, next;
    table_due_t  due[IDLE_PAUSES + IDLE_PARKS + IDLE_SAVES + IDLE_WAKES];

    activity_refresh(idle.config, wake_connected(), table_remember_requests);

    idle_room(room);
    now = hatch_clock_ms();
    next = now + IDLE_STEP_MAX;
    n = table_due(now, room, due, &next);

    pthread_mutex_lock(&idle.lock);

    for (i = 0; i < n; i++) {
        if (due[i].todo == TABLE_WAKE) {
            wake_request(due[i].id);

        } else {
            idle_begin(&due[i]);
        }
    }

    pthread_mutex_unlock(&idle.lock);

    return next;
}


static void *
idle_run(void *data)
{
    uint64_t         now, next;
    struct timespec  ts;

    (void) data;

    for ( ;; ) {
        watchdog_works(WATCHDOG_IDLE);
        next = idle_look();
        watchdog_waits(WATCHDOG_IDLE);
        now = hatch_clock_ms();
        next = next < now + IDLE_STEP_MIN ? IDLE_STEP_MIN : next - now;

        ts = cond_deadline(next);

        pthread_mutex_lock(&idle.lock);

        if (!idle.stop) {
            (void) pthread_cond_timedwait(&idle.wake, &idle.lock, &ts);
        }

        if (idle.stop) {
            pthread_mutex_unlock(&idle.lock);
            return NULL;
        }

        pthread_mutex_unlock(&idle.lock);
    }
}


int
idle_start(const config_t *config, hatch_err_t *err)
{
    int  rc;

    idle.config = config;
    cond_init(&idle.wake);

    rc = pthread_create(&idle.thread, NULL, idle_run, NULL);

    return rc == 0 ? 0 : hatch_err_errno(err, rc, "cannot start a thread");
}


void
idle_stop(void)
{
    pthread_mutex_lock(&idle.lock);
    idle.stop = 1;
    pthread_cond_signal(&idle.wake);
    pthread_mutex_unlock(&idle.lock);

    (void) pthread_join(idle.thread, NULL);
}
