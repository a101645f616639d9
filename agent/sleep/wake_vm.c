#define _GNU_SOURCE

#include "wake.h"
#include "wake_entry.h"
#include "core/log.h"
#include "core/work.h"
#include "table/table_sleep.h"
#include "table/table_stats.h"
#include "vm/vm_sleep.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>


/*
 * Threads, and connections to libvirt.  One that takes longer than WAKE_HANGS,
 * ms, hangs, and its thread does not count; but no more than WAKE_HUNG do.
 */
#define WAKE_THREADS      64
#define WAKE_HANGS        10000
#define WAKE_HUNG         256

/*
 * Wakes take turns: half as many at once as there are processors, so that
 * those that are awake keep theirs.  A turn ends when the guest has had time
 * for its first answer, and for one that hangs after WAKE_TURN, ms.  The more
 * wakes have outstayed theirs, the shorter is the next one: dozens that hang
 * must not keep all others waiting for a second each.
 */
#define WAKE_TURN         1000
#define WAKE_TURN_ANSWER  25

/*
 * libvirt restarts, and VMs are recovered, within seconds; so long a wake
 * tries again, ms.
 */
#define WAKE_OUTAGE       10000
#define WAKE_OUTAGE_STEP  100
#define WAKE_FREED        2

/*
 * One that waits for an operation on its VM has no thread and no turn.  It is
 * told when that has ended (table_set_freed()), and looks by itself so often,
 * ms.
 */
#define WAKE_PARKED       1000


typedef struct wake_ask_s {
    struct wake_ask_s  *next;
    unsigned            freed:1;        /* it may be tried, if it is parked */
    char                id[HATCH_ID_SIZE];
} wake_ask_t;


static struct {
    const config_t   *config;
    int               notify;
    wake_vm_done_t    done;
    wake_vm_t        *waiting, **last;  /* for one of WAKE_THREADS */
    wake_vm_t        *running;          /* has one */
    wake_vm_t        *parked;           /* needs none */
    uint64_t          turns[WAKE_THREADS];  /* each until then; 0: free */
    unsigned          most_turns;

    pthread_mutex_t   lock;
    wake_vm_t        *news;             /* to be collected */
    wake_ask_t       *asked;            /* by wake_request() */
} wakes = { .lock = PTHREAD_MUTEX_INITIALIZER, .notify = -1 };


static void wake_vm_freed(const char *id);


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

    table_set_freed(wake_vm_freed);
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


/* Is it worth another try, later? */
static int
wake_vm_may_wait(const wake_vm_t *vm, int rc)
{
    return rc == 1
           || ((rc == HATCH_ERR_UNAVAILABLE || rc == HATCH_ERR_BUSY)
               && !vm->awake && wake_now() - vm->since < WAKE_OUTAGE);
}


static void *
wake_vm_thread(void *data)
{
    int           rc, waits;
    wake_vm_t    *vm = data;
    hatch_err_t   err;

    rc = vm_wake(wakes.config, vm->id, wake_vm_awake, vm, &err);
    waits = wake_vm_may_wait(vm, rc);

    if (rc != 0 && !waits) {
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
    vm->waits = waits;
    vm->rc = rc;
    wake_vm_news(vm);
    pthread_mutex_unlock(&wakes.lock);

    return NULL;
}


/* --- in the wake thread --- */

/* How long the next turn may be, ms. */
static uint64_t
wake_vm_turn(uint64_t now)
{
    uint64_t          late = 0, turn;
    const wake_vm_t  *vm;

    for (vm = wakes.running; vm != NULL; vm = vm->next_running) {
        late += !vm->reported && now >= vm->until;
    }

    turn = WAKE_TURN / (1 + late);

    return turn > WAKE_TURN_ANSWER ? turn : WAKE_TURN_ANSWER;
}


/* Takes a free turn: 0, or -1 if there is none. */
static int
wake_vm_take_turn(wake_vm_t *vm, uint64_t now)
{
    unsigned  i;

    for (i = 0; i < wakes.most_turns; i++) {
        if (wakes.turns[i] <= now) {
            vm->turn = i;
            vm->began = now;
            vm->until = now + wake_vm_turn(now);
            wakes.turns[i] = vm->until;
            return 0;
        }
    }

    return -1;
}


/*
 * Is there a thread?  If not, *next is when one of those that have one may
 * hang.
 */
static int
wake_vm_has_thread(uint64_t now, uint64_t *next)
{
    unsigned          n = 0, hung = 0;
    const wake_vm_t  *vm;

    *next = UINT64_MAX;

    for (vm = wakes.running; vm != NULL; vm = vm->next_running) {
        if (now >= vm->began + WAKE_HANGS && hung < WAKE_HUNG) {
            hung++;
            continue;
        }

        n++;

        if (now < vm->began + WAKE_HANGS && vm->began + WAKE_HANGS < *next) {
            *next = vm->began + WAKE_HANGS;
        }
    }

    return n < WAKE_THREADS;
}


uint64_t
wake_vm_next(uint64_t now)
{
    unsigned          i;
    uint64_t          next = UINT64_MAX, turn = UINT64_MAX;
    const wake_vm_t  *vm;

    for (vm = wakes.parked; vm != NULL; vm = vm->queued) {
        next = vm->again < next ? vm->again : next;
    }

    if (wakes.waiting == NULL) {
        return next;
    }

    if (wake_vm_has_thread(now, &turn)) {
        for (i = 0; i < wakes.most_turns; i++) {
            turn = wakes.turns[i] < turn ? wakes.turns[i] : turn;
        }
    }

    return turn < next ? turn : next;
}


static void
wake_vm_queue(wake_vm_t *vm)
{
    vm->queued = NULL;
    *wakes.last = vm;
    wakes.last = &vm->queued;
}


static void
wake_vm_park(wake_vm_t *vm, uint64_t again)
{
    vm->parked = 1;
    vm->again = again;
    vm->queued = wakes.parked;
    wakes.parked = vm;
}


/* Those whose VM has been set free, or that look by themselves. */
static void
wake_vm_unpark(uint64_t now)
{
    wake_vm_t  **link = &wakes.parked, *vm;

    while ((vm = *link) != NULL) {
        if (vm->again > now) {
            link = &vm->queued;

        } else if (table_is_taken(vm->id)) {
            vm->again = now + WAKE_PARKED;
            link = &vm->queued;

        } else {
            *link = vm->queued;
            vm->parked = 0;
            wake_vm_queue(vm);
        }
    }
}


static wake_vm_t *
wake_vm_pop(void)
{
    wake_vm_t  *vm = wakes.waiting;

    wakes.waiting = vm->queued;

    if (wakes.waiting == NULL) {
        wakes.last = &wakes.waiting;
    }

    vm->queued = NULL;

    return vm;
}


static void
wake_vm_start(wake_vm_t *vm)
{
    vm->awake = 0;
    vm->done = 0;
    vm->waits = 0;
    vm->next_running = wakes.running;
    wakes.running = vm;

    if (work_detach(wake_vm_thread, vm) != 0) {
        pthread_mutex_lock(&wakes.lock);
        vm->done = 1;
        vm->rc = HATCH_ERR_SYSTEM;
        wake_vm_news(vm);
        pthread_mutex_unlock(&wakes.lock);
    }
}


void
wake_vm_run(uint64_t now)
{
    uint64_t  next;

    wake_vm_unpark(now);

    while (wakes.waiting != NULL) {
        if (table_is_taken(wakes.waiting->id)) {
            wake_vm_park(wake_vm_pop(), now + WAKE_PARKED);

        } else if (wake_vm_has_thread(now, &next)
                   && wake_vm_take_turn(wakes.waiting, now) == 0)
        {
            wake_vm_start(wake_vm_pop());

        } else {
            break;
        }
    }
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

    wake_vm_relapse(vm, now);
    *retry = wake_vm_retry(vm, now);

    if (*retry != 0) {
        *failure = wake_vm_failure(vm);
        return NULL;
    }

    vm->since = now;
    vm->pending = 1;
    vm->reported = 0;
    vm->kind = HATCH_WAKE_KIND_NONE;
    table_want(vm->id);
    wake_vm_queue(vm);
    wake_vm_run(now);

    return vm;
}


static void
wake_vm_stopped(wake_vm_t *vm)
{
    wake_vm_t  **link;

    for (link = &wakes.running; *link != vm; link = &(*link)->next_running) {
        /* void */
    }

    *link = vm->next_running;
}


/* Its thread has ended, for good or for bad. */
static void
wake_vm_ended(wake_vm_t *vm, int rc, uint64_t now)
{
    vm->pending = 0;
    table_unwant(vm->id);

    if (rc != 0 && rc != HATCH_ERR_NOT_FOUND) {
        vm->failure = rc;
        wake_vm_fail(vm, now);

    } else if (vm->stalled && rc == 0) {
        vm->relapse = now + WAKE_RELAPSE;       /* it has to prove itself */

    } else {
        vm->failures = 0;
        vm->not_before = 0;
    }
}


/* What one VM's thread had said when it was taken off the list. */
static void
wake_vm_report(wake_vm_t *vm, const wake_vm_t *said, uint64_t now)
{
    int  rc = said->awake ? 0 : said->rc;

    /* unless it was so late that another one has the turn */
    if (!vm->reported && now < vm->until) {
        wakes.turns[vm->turn] = said->waits ? now : now + WAKE_TURN_ANSWER;
    }

    if (said->done) {
        wake_vm_stopped(vm);
    }

    if (said->waits) {
        /* what it waits for may have ended before it was parked */
        wake_vm_park(vm, now + (said->rc != 1 ? WAKE_OUTAGE_STEP
                                : table_is_taken(vm->id) ? WAKE_PARKED
                                                         : WAKE_FREED));
        return;
    }

    if (said->done) {
        wake_vm_ended(vm, rc, now);
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
    }

    wake_vm_sweep(now);
    wake_vm_run(now);
}


/* --- others --- */

static void
wake_vm_tell(const char *id, int freed)
{
    wake_ask_t  *ask = calloc(1, sizeof(*ask));

    if (ask == NULL) {
        return;
    }

    (void) strncpy(ask->id, id, sizeof(ask->id) - 1);
    ask->freed = freed & 1;

    pthread_mutex_lock(&wakes.lock);
    ask->next = wakes.asked;
    wakes.asked = ask;
    (void) eventfd_write(wakes.notify, 1);
    pthread_mutex_unlock(&wakes.lock);
}


void
wake_request(const char *id)
{
    wake_vm_tell(id, 0);
}


static void
wake_vm_freed(const char *id)
{
    wake_vm_tell(id, 1);
}


void
wake_vm_take_requests(uint64_t now)
{
    uint64_t              retry;
    wake_vm_t            *vm;
    wake_ask_t           *ask, *next;
    hatch_wake_failure_t  failure;

    pthread_mutex_lock(&wakes.lock);
    next = wakes.asked;
    wakes.asked = NULL;
    pthread_mutex_unlock(&wakes.lock);

    while ((ask = next) != NULL) {
        next = ask->next;
        vm = wake_vm_find(ask->id);

        if (!ask->freed) {
            (void) wake_vm_begin(ask->id, now, &retry, &failure);

        } else if (vm != NULL && vm->parked) {
            vm->again = now;
        }

        free(ask);
    }
}
