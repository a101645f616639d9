#define _GNU_SOURCE

#include "wake.h"
#include "wake_private.h"
#include "core/log.h"
#include "core/work.h"
#include "table/table_stats.h"
#include "vm/vm_sleep.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>


/* Threads, and connections to libvirt; also of wakes that hang. */
#define WAKE_THREADS      64

/*
 * Wakes take turns: half as many at once as there are processors, so that
 * those that are awake keep theirs.  A turn ends when the guest has had time
 * for its first answer, and for one that hangs after WAKE_TURN, ms.
 */
#define WAKE_TURN         1000
#define WAKE_TURN_ANSWER  25

/* After a failure, ms: doubled each time. */
#define WAKE_BACKOFF_MIN  1000
#define WAKE_BACKOFF_MAX  30000

/*
 * libvirt restarts, and VMs are recovered, within seconds; so long a wake
 * tries again, ms.
 */
#define WAKE_OUTAGE       10000
#define WAKE_OUTAGE_STEP  100

#define WAKE_BUCKETS      1024


struct wake_vm_s {
    wake_vm_t          *next;           /* in the bucket */
    wake_vm_t          *queued;         /* for a thread, or for collecting */
    char                id[HATCH_ID_SIZE];
    uint64_t            since;          /* wake_now() when it was asked for */
    uint64_t            not_before;     /* after a failure */
    unsigned            failures;       /* in a row */
    int                 failure;        /* the last one's code */
    unsigned            turn;           /* in wakes.turns */
    uint64_t            began;          /* its turn, wake_now() */
    int                 pending;        /* from begin until it is reported */
    int                 reported;

    /*
     * Under wakes.lock: written by the thread that wakes it.  No bits: who
     * wrote one of those above would write these, too.
     */
    int                 awake;
    int                 done;
    int                 listed;         /* in wakes.news */
    hatch_wake_kind_t   kind;
    uint64_t            duration;
    int                 rc;
};


typedef struct wake_ask_s {
    struct wake_ask_s  *next;
    char                id[HATCH_ID_SIZE];
} wake_ask_t;


static struct {
    const config_t   *config;
    int               notify;
    wake_vm_done_t    done;
    wake_vm_t        *buckets[WAKE_BUCKETS];
    wake_vm_t        *waiting, **last;  /* for one of WAKE_THREADS */
    unsigned          threads;
    uint64_t          turns[WAKE_THREADS];  /* each until then; 0: free */
    unsigned          most_turns;

    pthread_mutex_t   lock;
    wake_vm_t        *news;             /* to be collected */
    wake_ask_t       *asked;            /* by wake_request() */
} wakes = { .lock = PTHREAD_MUTEX_INITIALIZER, .notify = -1 };


void
wake_vm_init(const config_t *config, int notify, wake_vm_done_t done)
{
    wakes.config = config;
    wakes.done = done;
    wakes.last = &wakes.waiting;
    wakes.most_turns = (unsigned) sysconf(_SC_NPROCESSORS_ONLN) / 2;

    if (wakes.most_turns == 0) {
        wakes.most_turns = 1;

    } else if (wakes.most_turns > WAKE_THREADS) {
        wakes.most_turns = WAKE_THREADS;
    }

    pthread_mutex_lock(&wakes.lock);
    wakes.notify = notify;
    pthread_mutex_unlock(&wakes.lock);
}


/* --- the thread of one wake --- */

/* Locked. */
static void
wake_vm_news(wake_vm_t *vm)
{
    if (!vm->listed) {
        vm->listed = 1;
        vm->queued = wakes.news;
        wakes.news = vm;
    }

    (void) eventfd_write(wakes.notify, 1);
}


static void
wake_vm_awake(void *arg, hatch_wake_kind_t kind)
{
    wake_vm_t  *vm = arg;

    if (kind != HATCH_WAKE_KIND_NONE) {
        table_count_wake(vm->id, kind, vm->since);
    }

    pthread_mutex_lock(&wakes.lock);
    vm->awake = 1;
    vm->kind = kind;
    vm->duration = wake_now() - vm->since;
    wake_vm_news(vm);
    pthread_mutex_unlock(&wakes.lock);
}


static void *
wake_vm_thread(void *data)
{
    int                    rc;
    wake_vm_t             *vm = data;
    hatch_err_t            err;
    const struct timespec  pause = { 0, WAKE_OUTAGE_STEP * 1000000 };

    do {
        rc = vm_wake(wakes.config, vm->id, wake_vm_awake, vm, &err);
    } while ((rc == HATCH_ERR_UNAVAILABLE || rc == HATCH_ERR_BUSY)
             && !vm->awake && wake_now() - vm->since < WAKE_OUTAGE
             && nanosleep(&pause, NULL) == 0);

    if (rc != 0) {
        log_event(LOG_WARN, "%s: cannot be woken: %s", vm->id, err.text);

        if (rc != HATCH_ERR_NOT_FOUND) {
            table_count_failure(vm->id, HATCH_WAKE_NOT_WOKEN);
        }
    }

    pthread_mutex_lock(&wakes.lock);

    if (rc == 0 && vm->kind != HATCH_WAKE_KIND_NONE) {
        log_event(LOG_INFO, "%s: woken, %s, %llu ms", vm->id,
                  hatch_wake_kind_name(vm->kind),
                  (unsigned long long) vm->duration);
    }

    vm->done = 1;
    vm->rc = rc;
    wake_vm_news(vm);
    pthread_mutex_unlock(&wakes.lock);

    return NULL;
}


/* --- in the wake thread --- */

static wake_vm_t **
wake_vm_find(const char *id)
{
    uint32_t     hash = 2166136261u;
    wake_vm_t  **vm;
    const char  *p;

    for (p = id; *p != '\0'; p++) {
        hash = (hash ^ (unsigned char) *p) * 16777619u;
    }

    for (vm = &wakes.buckets[hash % WAKE_BUCKETS];
         *vm != NULL && strcmp((*vm)->id, id) != 0; vm = &(*vm)->next)
    {
        /* void */
    }

    return vm;
}


/* Takes a free turn: 0, or -1 if there is none. */
static int
wake_vm_take_turn(wake_vm_t *vm, uint64_t now)
{
    unsigned  i;

    for (i = 0; i < wakes.most_turns; i++) {
        if (wakes.turns[i] <= now) {
            wakes.turns[i] = now + WAKE_TURN;
            vm->turn = i;
            vm->began = now;
            return 0;
        }
    }

    return -1;
}


uint64_t
wake_vm_next(void)
{
    unsigned  i;
    uint64_t  next = UINT64_MAX;

    for (i = 0; i < wakes.most_turns && wakes.waiting != NULL; i++) {
        next = wakes.turns[i] < next ? wakes.turns[i] : next;
    }

    return next;
}


void
wake_vm_run(uint64_t now)
{
    wake_vm_t  *vm;

    while ((vm = wakes.waiting) != NULL && wakes.threads < WAKE_THREADS
           && wake_vm_take_turn(vm, now) == 0)
    {
        wakes.waiting = vm->queued;

        if (wakes.waiting == NULL) {
            wakes.last = &wakes.waiting;
        }

        vm->queued = NULL;

        if (work_detach(wake_vm_thread, vm) == 0) {
            wakes.threads++;
            continue;
        }

        pthread_mutex_lock(&wakes.lock);
        wakes.threads++;                /* collecting takes it back */
        vm->done = 1;
        vm->rc = HATCH_ERR_SYSTEM;
        wake_vm_news(vm);
        pthread_mutex_unlock(&wakes.lock);
    }
}


uint64_t
wake_vm_retry(const wake_vm_t *vm, uint64_t now)
{
    return vm->not_before > now ? vm->not_before - now : 0;
}


hatch_wake_failure_t
wake_vm_failure(const wake_vm_t *vm)
{
    return vm->failure == HATCH_ERR_KEPT ? HATCH_WAKE_KEPT
                                         : HATCH_WAKE_NOT_WOKEN;
}


static wake_vm_t *
wake_vm_get(const char *id)
{
    wake_vm_t  **link = wake_vm_find(id);

    if (*link == NULL) {
        *link = calloc(1, sizeof(**link));

        if (*link != NULL) {
            (void) strncpy((*link)->id, id, sizeof((*link)->id) - 1);
        }
    }

    return *link;
}


wake_vm_t *
wake_vm_begin(const char *id, uint64_t now, uint64_t *retry,
    hatch_wake_failure_t *failure)
{
    wake_vm_t  *vm = wake_vm_get(id);

    *retry = WAKE_BACKOFF_MIN;
    *failure = HATCH_WAKE_NOT_WOKEN;

    if (vm == NULL) {
        return NULL;
    }

    /*
     * Also one that is awake already while its thread ends: if it fell asleep
     * faster than that, it is looked at again once the thread is done.
     */
    if (vm->pending) {
        return vm;
    }

    *retry = wake_vm_retry(vm, now);

    if (*retry != 0) {
        *failure = wake_vm_failure(vm);
        return NULL;
    }

    vm->since = now;
    vm->pending = 1;
    vm->reported = 0;
    vm->awake = 0;
    vm->done = 0;
    vm->kind = HATCH_WAKE_KIND_NONE;
    vm->queued = NULL;
    *wakes.last = vm;
    wakes.last = &vm->queued;

    wake_vm_run(now);

    return vm;
}


static void
wake_vm_free(const char *id)
{
    wake_vm_t  **link = wake_vm_find(id), *vm = *link;

    if (vm != NULL && !vm->pending && vm->failures == 0) {
        *link = vm->next;
        free(vm);
    }
}


static void
wake_vm_fail(wake_vm_t *vm, uint64_t now)
{
    uint64_t  backoff = WAKE_BACKOFF_MAX;

    if (now > vm->not_before + WAKE_BACKOFF_MAX) {
        vm->failures = 0;               /* that was another trouble */
    }

    if (vm->failures < 5) {
        backoff = WAKE_BACKOFF_MIN << vm->failures;
    }

    vm->failures++;
    vm->not_before = now + backoff;
}


void
wake_vm_failed(const char *id, uint64_t now)
{
    wake_vm_t  *vm = wake_vm_get(id);

    if (vm != NULL && wake_vm_retry(vm, now) == 0) {
        vm->failure = 0;
        wake_vm_fail(vm, now);
    }
}


/* What one VM's thread had said when it was taken off the list. */
static void
wake_vm_report(wake_vm_t *vm, const wake_vm_t *said, uint64_t now)
{
    int  rc = said->awake ? 0 : said->rc;

    /* unless it was so late that another one has the turn */
    if (!vm->reported && now < vm->began + WAKE_TURN) {
        wakes.turns[vm->turn] = now + WAKE_TURN_ANSWER;
    }

    if (said->done) {
        vm->pending = 0;
        wakes.threads--;

        if (rc == 0 || rc == HATCH_ERR_NOT_FOUND) {
            vm->failures = 0;
            vm->not_before = 0;

        } else {
            vm->failure = rc;
            wake_vm_fail(vm, now);
        }
    }

    if (!vm->reported) {
        vm->reported = 1;
        wakes.done(vm, rc, said->kind, said->duration);

    } else if (said->done) {
        /* those who asked meanwhile: look again */
        wakes.done(vm, 0, HATCH_WAKE_KIND_NONE, 0);
    }
}


void
wake_vm_collect(uint64_t now)
{
    wake_vm_t  *vm, said;

    for ( ;; ) {
        pthread_mutex_lock(&wakes.lock);

        vm = wakes.news;

        if (vm != NULL) {
            wakes.news = vm->queued;
            vm->listed = 0;
            said = *vm;
        }

        pthread_mutex_unlock(&wakes.lock);

        if (vm == NULL) {
            break;
        }

        wake_vm_report(vm, &said, now);
        wake_vm_free(said.id);
    }

    wake_vm_run(now);
}


/* --- others --- */

void
wake_request(const char *id)
{
    wake_ask_t  *ask = calloc(1, sizeof(*ask));

    if (ask == NULL) {
        return;
    }

    (void) strncpy(ask->id, id, sizeof(ask->id) - 1);

    pthread_mutex_lock(&wakes.lock);
    ask->next = wakes.asked;
    wakes.asked = ask;
    (void) eventfd_write(wakes.notify, 1);
    pthread_mutex_unlock(&wakes.lock);
}


void
wake_vm_take_requests(uint64_t now)
{
    uint64_t              retry;
    wake_ask_t           *ask, *next;
    hatch_wake_failure_t  failure;

    pthread_mutex_lock(&wakes.lock);
    next = wakes.asked;
    wakes.asked = NULL;
    pthread_mutex_unlock(&wakes.lock);

    while ((ask = next) != NULL) {
        next = ask->next;
        (void) wake_vm_begin(ask->id, now, &retry, &failure);
        free(ask);
    }
}
