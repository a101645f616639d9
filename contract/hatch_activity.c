/* The theory is in hatch_activity.h. */

#include "hatch_activity.h"

#include <stddef.h>
#include <string.h>
#include <unistd.h>


#define HATCH_ACTIVITY_TOTALS_OFFSET  1024
#define HATCH_ACTIVITY_SLOTS_OFFSET   4096

_Static_assert(HATCH_ACTIVITY_TOTALS_OFFSET
               + HATCH_ACTIVITY_TOTALS * sizeof(hatch_activity_total_t)
               <= HATCH_ACTIVITY_SLOTS_OFFSET, "totals");

/*
 * A compare-and-swap that loses has lost to another worker; with at most a
 * few dozen workers this bound is never met, but it is a bound.
 */
#define HATCH_ACTIVITY_TRIES  1000


static size_t
hatch_activity_size(uint32_t slots)
{
    return HATCH_ACTIVITY_SLOTS_OFFSET
           + (size_t) slots * sizeof(hatch_activity_slot_t);
}


static uint32_t
hatch_activity_layout_word(void)
{
    const uint32_t  numbers[] = {
        sizeof(hatch_file_head_t),
        sizeof(hatch_activity_slot_t),
        offsetof(hatch_activity_slot_t, last_request),
        offsetof(hatch_activity_slot_t, requests),
        offsetof(hatch_activity_slot_t, last_pass),
        offsetof(hatch_activity_total_t, held),
        HATCH_ACTIVITY_TOTALS,
        HATCH_ACTIVITY_TOTALS_OFFSET,
        HATCH_ACTIVITY_SLOTS_OFFSET,
        HATCH_ACTIVITY_VALUE_BITS
    };

    return hatch_file_layout(numbers, sizeof(numbers) / sizeof(numbers[0]));
}


static const hatch_file_kind_t  hatch_activity_kind = {
    "activity file", HATCH_ACTIVITY_MAGIC, HATCH_ACTIVITY_VERSION,
    hatch_activity_layout_word, hatch_activity_size, HATCH_SLOTS_MAX
};


static void
hatch_activity_layout(hatch_activity_t *activity)
{
    char  *base = activity->file.base;

    activity->totals = (hatch_activity_total_t *)
                       (base + HATCH_ACTIVITY_TOTALS_OFFSET);
    activity->slots = (hatch_activity_slot_t *)
                      (base + HATCH_ACTIVITY_SLOTS_OFFSET);
}


/*
 * Word by word, since workers write it meanwhile.  A file that is cut short
 * meanwhile reads as zeroes (hatch_guard.h), which are no stamps.
 */
static void
hatch_activity_copy(void *to, const void *from, size_t size)
{
    size_t           i;
    uint64_t        *target = to;
    const uint64_t  *source = from;

    for (i = 0; i < size / sizeof(uint64_t); i++) {
        target[i] = __atomic_load_n(&source[i], __ATOMIC_RELAXED);
    }
}


/* What the file before this one had. */
static void
hatch_activity_inherit(hatch_file_t *file, const void *data)
{
    uint32_t                 slots;
    hatch_activity_t         activity = { .file = *file };
    const hatch_activity_t  *before = data;

    hatch_activity_layout(&activity);

    slots = file->slots < before->file.slots ? file->slots
                                             : before->file.slots;

    hatch_activity_copy(activity.totals, before->totals,
                        HATCH_ACTIVITY_TOTALS
                        * sizeof(hatch_activity_total_t));
    hatch_activity_copy(activity.slots, before->slots,
                        (size_t) slots * sizeof(hatch_activity_slot_t));
}


int
hatch_activity_own(hatch_activity_t *activity, const char *path,
    uint32_t slots, uid_t uid, gid_t gid, hatch_err_t *err)
{
    int               rc;
    hatch_err_t       why;
    hatch_activity_t  before = { .slots = NULL };

    rc = hatch_file_open(&activity->file, &hatch_activity_kind, path, 1, 0,
                         &why);

    /* no permission, or a file of somebody's, is a mistake to report */
    if (rc != 0) {
        rc = hatch_file_may_replace(&hatch_activity_kind, path, &why, err);

        if (rc != 0) {
            return rc;
        }

        rc = hatch_file_create(&activity->file, &hatch_activity_kind, path,
                               slots, 0640, uid, gid, err);

    } else if (activity->file.slots != slots) {
        before.file = activity->file;
        hatch_activity_layout(&before);
        memset(&activity->file, 0, sizeof(activity->file));

        rc = hatch_file_create_filled(&activity->file, &hatch_activity_kind,
                                      path, slots, 0640, uid, gid,
                                      hatch_activity_inherit, &before, err);
        hatch_file_close(&before.file);
    }

    if (rc == 0) {
        hatch_activity_layout(activity);
    }

    return rc;
}


int
hatch_activity_replaced(const hatch_activity_t *activity, const char *path)
{
    return activity->file.base == NULL
           || hatch_file_replaced(&activity->file, path);
}


int
hatch_activity_reattach(hatch_activity_t *activity, const char *path,
    hatch_err_t *err)
{
    int               rc;
    hatch_activity_t  now = { .totals = NULL };

    rc = hatch_file_open(&now.file, &hatch_activity_kind, path, 1, 0, err);
    if (rc != 0) {
        return rc;
    }

    /* the lock is the master's */
    (void) close(now.file.fd);
    now.file.fd = -1;

    hatch_activity_layout(&now);
    hatch_activity_detach(activity);
    *activity = now;

    return 0;
}


int
hatch_activity_attach(hatch_activity_t *activity, const char *path,
    uint32_t min_slots, hatch_err_t *err)
{
    int  rc;

    rc = hatch_file_open(&activity->file, &hatch_activity_kind, path, 0,
                         min_slots, err);
    if (rc == 0) {
        hatch_activity_layout(activity);
    }

    return rc;
}


void
hatch_activity_detach(hatch_activity_t *activity)
{
    hatch_file_close(&activity->file);
}


int
hatch_activity_intact(const hatch_activity_t *activity)
{
    return hatch_file_intact(&activity->file, &hatch_activity_kind);
}


static uint64_t
hatch_activity_word(uint64_t generation, uint64_t value)
{
    return generation << HATCH_ACTIVITY_VALUE_BITS
           | (value & HATCH_ACTIVITY_VALUE_MASK);
}


static void
hatch_activity_touch(uint64_t *word, uint64_t generation, uint64_t now,
    uint64_t fresh)
{
    int       tries;
    uint64_t  old, last;

    old = __atomic_load_n(word, __ATOMIC_SEQ_CST);

    for (tries = 0; tries < HATCH_ACTIVITY_TRIES; tries++) {
        last = hatch_activity_value(old, generation);

        if (last != 0 && (now <= last || now - last < fresh)) {
            return;
        }

        if (__atomic_compare_exchange_n(word, &old,
                                        hatch_activity_word(generation, now),
                                        0, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST))
        {
            return;
        }
    }
}


void
hatch_activity_stamp(hatch_activity_t *activity, uint32_t slot,
    uint64_t generation, uint64_t now, uint64_t fresh)
{
    if (slot < activity->file.slots) {
        hatch_activity_touch(&activity->slots[slot].last_request, generation,
                             now, fresh);
    }
}


void
hatch_activity_pass(hatch_activity_t *activity, uint32_t slot,
    uint64_t generation, uint64_t now, uint64_t fresh)
{
    if (slot < activity->file.slots) {
        hatch_activity_touch(&activity->slots[slot].last_pass, generation,
                             now, fresh);
    }
}


void
hatch_activity_count(hatch_activity_t *activity, unsigned worker,
    uint32_t slot, uint64_t generation)
{
    int        tries;
    uint64_t  *word, old, count;

    if (slot >= activity->file.slots) {
        return;
    }

    (void) __atomic_fetch_add(
                 &activity->totals[worker % HATCH_ACTIVITY_TOTALS].requests, 1,
                 __ATOMIC_RELAXED);

    word = &activity->slots[slot].requests;
    old = __atomic_load_n(word, __ATOMIC_RELAXED);

    for (tries = 0; tries < HATCH_ACTIVITY_TRIES; tries++) {
        count = hatch_activity_value(old, generation);

        if (__atomic_compare_exchange_n(word, &old,
                                        hatch_activity_word(generation,
                                                            count + 1),
                                        0, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
        {
            return;
        }
    }
}


void
hatch_activity_count_held(hatch_activity_t *activity, unsigned worker)
{
    if (activity->file.slots != 0) {
        (void) __atomic_fetch_add(
                     &activity->totals[worker % HATCH_ACTIVITY_TOTALS].held, 1,
                     __ATOMIC_RELAXED);
    }
}


void
hatch_activity_sum(const hatch_activity_t *activity,
    hatch_activity_total_t *sum)
{
    unsigned                       i;
    const hatch_activity_total_t  *total;

    sum->requests = 0;
    sum->held = 0;

    for (i = 0; activity->file.slots != 0 && i < HATCH_ACTIVITY_TOTALS; i++) {
        total = &activity->totals[i];

        sum->requests += __atomic_load_n(&total->requests, __ATOMIC_RELAXED);
        sum->held += __atomic_load_n(&total->held, __ATOMIC_RELAXED);
    }
}


uint64_t
hatch_activity_last(const hatch_activity_t *activity, uint32_t slot,
    uint64_t generation)
{
    if (slot >= activity->file.slots) {
        return 0;
    }

    return hatch_activity_value(
                     __atomic_load_n(&activity->slots[slot].last_request,
                                     __ATOMIC_SEQ_CST),
                     generation);
}


uint64_t
hatch_activity_last_pass(const hatch_activity_t *activity, uint32_t slot,
    uint64_t generation)
{
    if (slot >= activity->file.slots) {
        return 0;
    }

    return hatch_activity_value(
                     __atomic_load_n(&activity->slots[slot].last_pass,
                                     __ATOMIC_SEQ_CST),
                     generation);
}


uint64_t
hatch_activity_requests(const hatch_activity_t *activity, uint32_t slot,
    uint64_t generation)
{
    if (slot >= activity->file.slots) {
        return 0;
    }

    return hatch_activity_value(
                     __atomic_load_n(&activity->slots[slot].requests,
                                     __ATOMIC_RELAXED),
                     generation);
}
