#define _GNU_SOURCE

#include "table_sleep.h"
#include "activity.h"
#include "table_private.h"

#include "hatch_activity.h"
#include "hatch_clock.h"

#include <errno.h>
#include <string.h>


/* After a failure to put a VM to sleep, ms: doubled each time. */
#define TABLE_SLEEP_RETRY      10000
#define TABLE_SLEEP_RETRY_MAX  600000


static uint64_t
table_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}


/* --- which guest it is --- */

static void
table_anew(entry_t *e, int booted)
{
    uint64_t  now = hatch_clock_ms();

    e->incarnation = now > e->incarnation ? now : e->incarnation + 1;

    if (booted) {
        e->answered = 0;
    }
}


/* It slept, or was woken: another failure begins anew. */
static void
table_slept(entry_t *e)
{
    e->retry = e->sleepless != 0 ? 0 : e->retry;
    e->sleepless = 0;
    e->cause = 0;
    e->no_room = 0;
}


/* It runs now: one that has never answered may have slept while it booted. */
static void
table_goes_on(entry_t *e)
{
    e->booting = e->answered ? 0 : hatch_clock_ms() + TABLE_BOOT_TIME;
}


/* What the agent before this one knew, from the zone. */
static void
table_adopt(entry_t *e)
{
    uint32_t         slot;
    hatch_zone_vm_t  vm;

    if (e->used == 0
        && hatch_zone_find(&table.writer.zone, e->vm.id, &slot, &vm) == 0)
    {
        e->used = vm.used;
        e->wakes = vm.wakes;
        e->wake_failures = vm.wake_failures;
        e->incarnation = vm.incarnation > e->incarnation ? vm.incarnation
                                                         : e->incarnation;
    }

    /* it may have rebooted meanwhile, but most likely it is up */
    table_anew(e, 0);
    e->answered = e->booted != 0
                  && hatch_clock_ms() >= e->booted + TABLE_BOOT_TIME;
}


void
table_note_run(entry_t *e, const vm_t *vm, hatch_state_t state)
{
    if (e->domain_id == TABLE_NOT_LOOKED) {
        table_adopt(e);

    } else if (vm->domain_id != -1 && vm->domain_id != e->domain_id) {
        table_anew(e, !vm->restored);
    }

    e->domain_id = vm->domain_id;

    /* requests in flight still stamp as seldom as the old one allowed */
    if (e->observed != HATCH_STATE_NONE
        && vm->idle_timeout != e->vm.idle_timeout)
    {
        e->retry = table_max(e->retry, hatch_clock_ms() + TABLE_STAMP_TIME);
    }

    if (state == HATCH_STATE_RUNNING && e->observed != state) {
        table_goes_on(e);
    }

    if (state != HATCH_STATE_PAUSED && state != HATCH_STATE_SNAPSHOTTED) {
        e->idled = 0;
    }

    if (state != HATCH_STATE_PAUSED && state != e->observed) {
        table_slept(e);
    }
}


void
table_started(const char *id, int domain_id, int booted)
{
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL) {
        if (e->domain_id != domain_id) {
            table_anew(e, booted);
            e->domain_id = domain_id;
        }

        /* an event may have told of it first, and not known how */
        e->answered = e->answered && !booted;
        e->idled = 0;
        table_slept(e);
        table_goes_on(e);
        table_publish_entry(e);
    }

    pthread_mutex_unlock(&table.lock);
}


void
table_rebooted(const char *id)
{
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL) {
        table_anew(e, 1);
        table_goes_on(e);
        table_publish_entry(e);
    }

    pthread_mutex_unlock(&table.lock);
}


uint64_t
table_incarnation(const char *id)
{
    entry_t   *e;
    uint64_t   incarnation = 0;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL && !e->slotless && table_state(e) != HATCH_STATE_NONE) {
        incarnation = e->incarnation;
    }

    pthread_mutex_unlock(&table.lock);

    return incarnation;
}


int
table_is_booting(const char *id)
{
    int       booting;
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);
    booting = e != NULL && hatch_clock_ms() < e->booting;

    pthread_mutex_unlock(&table.lock);

    return booting;
}


void
table_answered(const char *id)
{
    entry_t   *e;
    uint64_t   until = hatch_clock_ms() + TABLE_ANSWERED_TIME;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL) {
        e->answered = 1;
        e->booting = e->booting > until ? until : e->booting;
    }

    pthread_mutex_unlock(&table.lock);
}


void
table_use(const char *id)
{
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL) {
        e->used = hatch_clock_ms();
        table_publish_entry(e);
    }

    pthread_mutex_unlock(&table.lock);
}


/* --- how long it has been idle --- */

/*
 * When the VM was last requested, and when a request last passed.  -1: that
 * cannot be known at present.  Locked.
 */
static int
table_last_request(entry_t *e, uint64_t *last, uint64_t *pass)
{
    if (e->slotless || activity_last(e->slot, e->generation, last, pass) != 0) {
        return -1;
    }

    /* a new activity file has forgotten what the one before knew */
    e->requested = table_max(e->requested, *last);
    *last = e->requested;

    return 0;
}


/* The same for use by whatever. */
static int
table_last_use(entry_t *e, uint64_t *last, uint64_t *pass)
{
    uint64_t  since;

    if (table_last_request(e, last, pass) != 0
        || (since = hatch_zone_state_since(&table.writer, e->slot)) == 0)
    {
        return -1;
    }

    *last = table_max(*last, table_max(e->used, since));

    return 0;
}


void
table_remember_requests(void)
{
    int        i;
    entry_t   *e;
    uint64_t   last, pass;

    pthread_mutex_lock(&table.lock);

    for (i = 0; i < TABLE_BUCKETS; i++) {
        for (e = table.buckets[i]; e != NULL; e = e->next) {
            (void) table_last_request(e, &last, &pass);
        }
    }

    pthread_mutex_unlock(&table.lock);
}


/* Is it parked before it is saved? */
static int
table_parks(const entry_t *e)
{
    return e->vm.imaged && !e->vm.parked && e->vm.park_after != VM_NEVER
           && (e->vm.save_after == VM_NEVER
               || e->vm.park_after < e->vm.save_after);
}


/* What comes next by its state, and after how long without use. */
static int64_t
table_next(const entry_t *e, table_todo_t *todo)
{
    if (e->observed == HATCH_STATE_RUNNING) {
        *todo = TABLE_PAUSE;
        return e->vm.idle_timeout;
    }

    if (e->observed == HATCH_STATE_PAUSED) {
        if (table_parks(e)) {
            *todo = TABLE_PARK;
            return e->vm.park_after;
        }

        *todo = TABLE_SAVE;
        return e->vm.save_after;
    }

    return VM_NEVER;
}


/*
 * Nearly all of thousands end at the first test, which costs one cache line.
 * One that fell asleep is looked at each time: a stamp may come late.
 */
static int
table_due_in(entry_t *e, uint64_t now, table_todo_t *todo, uint64_t *when)
{
    int64_t   after;
    uint64_t  last, pass;

    if (e->due_from > now) {
        *when = e->due_from;
        return 0;
    }

    if (e->busy || e->doing != HATCH_STATE_NONE || e->wanted != 0) {
        return -1;
    }

    if (e->idled != 0 && table_last_request(e, &last, &pass) == 0
        && last > e->idled)
    {
        /* in flight, and the stamp came too late */
        *todo = TABLE_WAKE;
        *when = now;
        return 0;
    }

    after = table_next(e, todo);

    if (after == VM_NEVER) {
        e->due_from = e->idled == 0 ? UINT64_MAX : 0;
        return -1;
    }

    if (table_last_use(e, &last, &pass) != 0) {
        return -1;
    }

    *when = table_max(last + (uint64_t) after, e->retry);

    if (*todo == TABLE_PAUSE && pass != 0) {
        *when = table_max(*when, pass + HATCH_ACTIVITY_PASS);
    }

    e->due_from = e->idled == 0 ? *when : 0;

    return 0;
}


size_t
table_due(uint64_t now, const unsigned room[TABLE_TODOS], table_due_t *due,
    uint64_t *next)
{
    int            i;
    size_t         n = 0;
    unsigned       left[TABLE_TODOS];
    entry_t       *e;
    uint64_t       when;
    table_todo_t   todo;

    memcpy(left, room, sizeof(left));

    pthread_mutex_lock(&table.lock);

    for (i = 0; i < TABLE_BUCKETS; i++) {
        for (e = table.buckets[i]; e != NULL; e = e->next) {
            if (table_due_in(e, now, &todo, &when) != 0) {
                continue;
            }

            if (when > now) {
                *next = when < *next ? when : *next;

            } else if (left[todo] != 0) {
                left[todo]--;
                memcpy(due[n].id, e->vm.id, sizeof(due[n].id));
                due[n].todo = todo;
                due[n].mem_mib = e->vm.mem_mib;
                due[n++].no_room = e->no_room;
            }
        }
    }

    pthread_mutex_unlock(&table.lock);

    return n;
}


int
table_is_idle(const char *id, uint64_t now)
{
    int        idle = 0;
    entry_t   *e;
    uint64_t   last, pass;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    /*
     * state_since is of "pausing" by now: not table_last_use(), but what
     * counts beside it
     */
    if (e != NULL && !e->slotless && e->wanted == 0
        && e->vm.idle_timeout != VM_NEVER
        && table_last_request(e, &last, &pass) == 0)
    {
        last = table_max(last, e->used);
        idle = now >= last + (uint64_t) e->vm.idle_timeout
               && (pass == 0 || now >= pass + HATCH_ACTIVITY_PASS);
    }

    pthread_mutex_unlock(&table.lock);

    return idle;
}


void
table_idled(const char *id, uint64_t now)
{
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL) {
        e->idled = now;
        e->retry = 0;
        table_slept(e);
        e->due_from = 0;
    }

    pthread_mutex_unlock(&table.lock);
}


void
table_sleep_later(const char *id, uint64_t until)
{
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL) {
        e->retry = until;
    }

    pthread_mutex_unlock(&table.lock);
}


int
table_sleep_failed(const char *id, uint64_t now, uint32_t cause,
    uint64_t no_room)
{
    int        news = 0;
    entry_t   *e;
    uint64_t   backoff = TABLE_SLEEP_RETRY_MAX;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL) {
        if (e->sleepless < 6) {
            backoff = (uint64_t) TABLE_SLEEP_RETRY << e->sleepless;
        }

        news = e->sleepless == 0 || e->cause != cause;
        e->sleepless++;
        e->cause = cause;
        e->no_room = no_room;
        e->retry = now + (backoff < TABLE_SLEEP_RETRY_MAX
                          ? backoff : TABLE_SLEEP_RETRY_MAX);
        e->due_from = 0;
    }

    pthread_mutex_unlock(&table.lock);

    return news;
}


/* --- a save that can be cancelled --- */

int
table_save_begin(const char *id)
{
    int       may;
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);
    may = e != NULL && e->wanted == 0;

    if (may) {
        e->saving = 1;
    }

    pthread_mutex_unlock(&table.lock);

    return may;
}


void
table_save_end(const char *id)
{
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL) {
        e->saving = 0;
        pthread_cond_broadcast(&table.changed);
    }

    pthread_mutex_unlock(&table.lock);
}


void
table_want(const char *id)
{
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL) {
        e->wanted++;
    }

    pthread_mutex_unlock(&table.lock);
}


void
table_unwant(const char *id)
{
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL && e->wanted != 0) {
        e->wanted--;
    }

    pthread_mutex_unlock(&table.lock);
}


int
table_wanted(const char *id)
{
    int       wanted;
    entry_t  *e;

    pthread_mutex_lock(&table.lock);
    e = *table_find(id);
    wanted = e != NULL && e->wanted != 0;
    pthread_mutex_unlock(&table.lock);

    return wanted;
}


int
table_saving(const char *id, unsigned ms)
{
    int              rc = 0, saving;
    entry_t         *e;
    struct timespec  deadline = cond_deadline(ms);

    pthread_mutex_lock(&table.lock);

    while ((e = *table_find(id)) != NULL && e->saving && rc != ETIMEDOUT) {
        rc = pthread_cond_timedwait(&table.changed, &table.lock, &deadline);
    }

    saving = e != NULL && e->saving;

    pthread_mutex_unlock(&table.lock);

    return saving;
}
