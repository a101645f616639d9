#define _GNU_SOURCE

#include "idle.h"
#include "wake.h"
#include "core/cond.h"
#include "core/log.h"
#include "core/work.h"
#include "table/activity.h"
#include "table/table_sleep.h"
#include "vm/vm_sleep.h"

#include "hatch_clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>


#define IDLE_STEP_MAX    1000       /* ms */
#define IDLE_STEP_MIN    10

/* After an error, ms: a full disk does not empty itself at once. */
#define IDLE_RETRY       10000

/* How many at once.  Pausing takes milliseconds; saving takes the disk. */
#define IDLE_PAUSES      32
#define IDLE_SAVES       4


static struct {
    const config_t   *config;
    pthread_t         thread;
    pthread_mutex_t   lock;
    pthread_cond_t    wake;
    unsigned          running[2];       /* by table_todo_t: pauses, saves */
    unsigned          stop:1;
} idle = { .lock = PTHREAD_MUTEX_INITIALIZER };


static void
idle_do(const table_due_t *due)
{
    int          rc;
    hatch_err_t  err;

    rc = due->todo == TABLE_PAUSE
         ? vm_idle_pause(idle.config, due->id, &err)
         : vm_idle_save(idle.config, due->id, &err);

    if (rc == 0) {
        log_event(LOG_DEBUG, "%s: %s", due->id, due->todo == TABLE_PAUSE
                  ? "idle, paused" : "paused for long, saved");

    } else if (rc == HATCH_ERR_UNAVAILABLE || rc == HATCH_ERR_BUSY) {
        table_sleep_later(due->id, hatch_clock_ms() + IDLE_STEP_MAX);

    } else if (rc < 0) {
        log_event(LOG_WARN, "%s: it should sleep: %s", due->id, err.text);
        table_sleep_later(due->id, hatch_clock_ms() + IDLE_RETRY);
    }
}


static void *
idle_job(void *data)
{
    table_due_t  *due = data;

    idle_do(due);

    pthread_mutex_lock(&idle.lock);
    idle.running[due->todo]--;
    pthread_cond_signal(&idle.wake);
    pthread_mutex_unlock(&idle.lock);

    free(due);

    return NULL;
}


/* Returns 0 if a thread does it; -1 if there is none to spare. */
static int
idle_begin(const table_due_t *due)
{
    table_due_t  *copy;

    static const unsigned  most[] = { IDLE_PAUSES, IDLE_SAVES };

    if (idle.running[due->todo] >= most[due->todo]) {
        return -1;
    }

    copy = malloc(sizeof(*copy));
    if (copy == NULL) {
        return -1;
    }

    *copy = *due;

    if (work_detach(idle_job, copy) != 0) {
        free(copy);
        return -1;
    }

    idle.running[due->todo]++;

    return 0;
}


/* Starts what is due; returns when to look again, on the zone's clock. */
static uint64_t
idle_look(void)
{
    size_t       i, n;
    uint64_t     now, next;
    table_due_t  due[IDLE_PAUSES + IDLE_SAVES];

    activity_refresh(idle.config, wake_connected(), table_remember_requests);

    now = hatch_clock_ms();
    next = now + IDLE_STEP_MAX;
    n = table_due(now, due, sizeof(due) / sizeof(due[0]), &next);

    pthread_mutex_lock(&idle.lock);

    for (i = 0; i < n; i++) {
        if (due[i].todo == TABLE_WAKE) {
            wake_request(due[i].id);

        } else {
            (void) idle_begin(&due[i]);
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
        next = idle_look();
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
