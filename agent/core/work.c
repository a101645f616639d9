#define _GNU_SOURCE

#include "work.h"
#include "cond.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>


/* A step before the operation has named its first one. */
#define WORK_FIRST_STEP  60

#define WORK_STACK       (512 * 1024)


typedef struct {
    void         (*run)(void *arg);
    void         (*release)(void *arg);
    void          *arg;
    pthread_cond_t changed;
    time_t         deadline;        /* CLOCK_MONOTONIC */
    const char    *what;
    int64_t        seconds;
    unsigned       done:1;
    unsigned       left:1;          /* nobody waits any more */
} work_t;


/* Guards all works: what is done under it takes no time. */
static pthread_mutex_t   work_lock = PTHREAD_MUTEX_INITIALIZER;

static __thread work_t  *work_self;

/* A turn of work_start_begin(), until work_start_end(). */
typedef struct work_turn_s {
    struct work_turn_s  *next;
    time_t               deadline;      /* from then on it hangs */
} work_turn_t;

static work_turn_t           *work_turns;
static __thread work_turn_t   work_turn;
static pthread_cond_t         work_started;
static pthread_once_t         work_once = PTHREAD_ONCE_INIT;


static time_t
work_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec;
}


static void
work_free(work_t *work)
{
    (void) pthread_cond_destroy(&work->changed);
    free(work);
}


static void *
work_thread(void *data)
{
    int      left;
    work_t  *work = data;

    work_self = work;
    work->run(work->arg);

    pthread_mutex_lock(&work_lock);
    left = work->left;
    work->done = 1;
    pthread_cond_signal(&work->changed);
    pthread_mutex_unlock(&work_lock);

    if (left) {
        work->release(work->arg);
        work_free(work);
    }

    return NULL;
}


static work_t *
work_new(void (*run)(void *), void (*release)(void *), void *arg)
{
    work_t  *work;

    work = calloc(1, sizeof(*work));
    if (work == NULL) {
        return NULL;
    }

    work->run = run;
    work->release = release;
    work->arg = arg;
    work->what = "beginning";
    work->seconds = WORK_FIRST_STEP;
    work->deadline = work_now() + WORK_FIRST_STEP;
    cond_init(&work->changed);

    return work;
}


int
work_detach(void *(*run)(void *arg), void *arg)
{
    int             rc;
    pthread_t       thread;
    pthread_attr_t  attr;

    (void) pthread_attr_init(&attr);
    (void) pthread_attr_setstacksize(&attr, WORK_STACK);
    (void) pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);

    rc = pthread_create(&thread, &attr, run, arg);
    (void) pthread_attr_destroy(&attr);

    return rc;
}


int
work_run(void (*run)(void *arg), void (*release)(void *arg), void *arg,
    hatch_err_t *err)
{
    int              rc;
    work_t          *work = work_new(run, release, arg);
    struct timespec  ts = { 0, 0 };

    rc = work != NULL ? work_detach(work_thread, work) : ENOMEM;

    if (rc != 0) {
        if (work != NULL) {
            work_free(work);
        }

        release(arg);
        return hatch_err_errno(err, rc, "cannot start a thread");
    }

    pthread_mutex_lock(&work_lock);

    while (!work->done && work_now() <= work->deadline) {
        ts.tv_sec = work->deadline + 1;
        (void) pthread_cond_timedwait(&work->changed, &work_lock, &ts);
    }

    if (!work->done) {
        work->left = 1;
        rc = hatch_err_set(err, HATCH_ERR_TIMEOUT, "libvirt has not answered "
                           "within %lld s of %s; the operation goes on",
                           (long long) work->seconds, work->what);
    }

    pthread_mutex_unlock(&work_lock);

    if (rc == 0) {
        work_free(work);
    }

    return rc;
}


void
work_step(const char *what, int64_t seconds)
{
    if (work_self == NULL) {
        return;
    }

    pthread_mutex_lock(&work_lock);
    work_self->what = what;
    work_self->seconds = seconds;
    work_self->deadline = work_now() + (time_t) seconds;
    pthread_cond_signal(&work_self->changed);
    pthread_mutex_unlock(&work_lock);
}


static void
work_init(void)
{
    cond_init(&work_started);
}


/*
 * Locked.  Is there a turn?  If not, `next` is when one of those that have one
 * may hang.
 */
static int
work_has_turn(int64_t most, time_t *next)
{
    time_t              now = work_now();
    int64_t             n = 0, hung = 0;
    const work_turn_t  *turn;

    *next = now + WORK_FIRST_STEP;

    for (turn = work_turns; turn != NULL; turn = turn->next) {
        if (turn->deadline <= now && hung < WORK_HUNG) {
            hung++;
            continue;
        }

        n++;

        if (turn->deadline > now && turn->deadline < *next) {
            *next = turn->deadline;
        }
    }

    return n < most;
}


void
work_start_begin(const config_t *config, int64_t seconds)
{
    struct timespec  ts = { 0, 0 };

    work_step("waiting for other VMs to start", seconds);
    (void) pthread_once(&work_once, work_init);

    pthread_mutex_lock(&work_lock);

    while (!work_has_turn(config->max_starts, &ts.tv_sec)) {
        (void) pthread_cond_timedwait(&work_started, &work_lock, &ts);
    }

    work_turn.deadline = work_now() + (time_t) seconds;
    work_turn.next = work_turns;
    work_turns = &work_turn;
    pthread_mutex_unlock(&work_lock);
}


void
work_start_end(void)
{
    work_turn_t  **turn;

    pthread_mutex_lock(&work_lock);

    for (turn = &work_turns; *turn != &work_turn; turn = &(*turn)->next) {
        /* void */
    }

    *turn = work_turn.next;
    pthread_cond_signal(&work_started);
    pthread_mutex_unlock(&work_lock);
}


void
work_reload(void)
{
    (void) pthread_once(&work_once, work_init);

    pthread_mutex_lock(&work_lock);
    pthread_cond_broadcast(&work_started);
    pthread_mutex_unlock(&work_lock);
}
