/*
 * zone.activity: what nginx tells the agent about the VMs' use, in a mapped
 * file beside the zone.
 *
 * Ownership: the nginx master creates it before it forks workers, and the
 * workers (all of them, of old and new cycles) write it.  The agent and
 * hatch-zone attach read-only.  There is one slot for each slot of the zone.
 *
 * A slot of the zone can change hands while a worker still holds the VM that
 * was in it.  So every word carries the low bits of the generation for which
 * it was written, beside its value, and is read only for that generation: a
 * stamp of the old VM is never taken for one of the new.  A stamp for the old
 * VM that comes last may hide one for the new VM; its reader then knows no
 * last request and counts idle time from the VM's last change of state, which
 * was just now.
 *
 * Another number of slots takes another file.  It begins with a copy of what
 * the one before had: the totals, and the slots that both have.  Workers that
 * were started before go on with the file that they have mapped until they
 * move (hatch_activity_reattach()).  What they write there after the copy was
 * made is lost: a few counts; and stamps, so a worker that has moved stamps
 * again for all requests that it has in flight.  Until it has, the agent does
 * not see them; then it sees stamps that are younger than the VM's sleep, and
 * wakes it.
 *
 * Two stamps.  `last_request` is use: idle time counts from it.  `last_pass` is
 * a request that may not keep the VM awake (a monitor's, "hatch_wake off"); it
 * only says that one is under way, so that the VM does not fall asleep under
 * it.  Both take part in the handshake.
 */

#ifndef HATCH_ACTIVITY_H_INCLUDED
#define HATCH_ACTIVITY_H_INCLUDED

#include <stdint.h>

#include "hatch_file.h"


#define HATCH_ACTIVITY_MAGIC    0x4356544348435448ull   /* "HTCHCTVC" */
#define HATCH_ACTIVITY_VERSION  3
#define HATCH_ACTIVITY_SUFFIX   ".activity"

/*
 * A request within this time of the last stamp need not stamp again, ms; for
 * a VM that falls asleep sooner, a quarter of its idle time.
 */
#define HATCH_ACTIVITY_FRESH    100

/*
 * A request that passes has ended when it has not stamped for this long, ms.
 */
#define HATCH_ACTIVITY_PASS     300


/* A word: 20 bits of generation above 44 bits of value (557 years in ms). */
#define HATCH_ACTIVITY_VALUE_BITS  44
#define HATCH_ACTIVITY_VALUE_MASK  ((1ull << HATCH_ACTIVITY_VALUE_BITS) - 1)


typedef struct {
    uint64_t  last_request;     /* word: CLOCK_BOOTTIME ms */
    uint64_t  requests;         /* word: requests proxied or held */
    uint64_t  last_pass;        /* word: CLOCK_BOOTTIME ms */
    uint64_t  reserved[5];
} hatch_activity_slot_t;

_Static_assert(sizeof(hatch_activity_slot_t) == 64, "a cache line");


/*
 * What all VMs together got.  Not the sum of the slots, which would fall when
 * a VM is deleted.  Workers share HATCH_ACTIVITY_TOTALS of these, so that they
 * seldom want the same cache line.
 */
typedef struct {
    uint64_t  requests;         /* proxied, held or refused for a VM */
    uint64_t  held;             /* had to wait for their VM */
    uint64_t  reserved[6];
} hatch_activity_total_t;

_Static_assert(sizeof(hatch_activity_total_t) == 64, "a cache line");

#define HATCH_ACTIVITY_TOTALS  32


typedef struct {
    hatch_file_t             file;
    hatch_activity_total_t  *totals;
    hatch_activity_slot_t   *slots;
} hatch_activity_t;


/*
 * The nginx master: opens the file at path, or puts a new one there if it is
 * absent, unusable or has another number of slots; in that case with a copy of
 * what the file had.
 */
int hatch_activity_own(hatch_activity_t *activity, const char *path,
    uint32_t slots, uid_t uid, gid_t gid, hatch_err_t *err);

/*
 * 1 if path now names another file than the mapped one, or none; 1 also of one
 * that is not mapped.  One system call.
 */
int hatch_activity_replaced(const hatch_activity_t *activity,
    const char *path);

/*
 * A worker, which need not be privileged: maps the file that is at path now,
 * with any number of slots, for writing, in place of the one that it has, if
 * any.  Never creates one.  On errors (every hatch_err_code_t of
 * hatch_file_open()) everything stays as it was.  The caller then stamps again
 * for all requests that it has in flight, see above.
 */
int hatch_activity_reattach(hatch_activity_t *activity, const char *path,
    hatch_err_t *err);

/* A reader: the agent, hatch-zone. */
int hatch_activity_attach(hatch_activity_t *activity, const char *path,
    uint32_t min_slots, hatch_err_t *err);

void hatch_activity_detach(hatch_activity_t *activity);

/* 1 while the mapping is an activity file. */
int hatch_activity_intact(const hatch_activity_t *activity);

/* How old a stamp may be to stand for a new one; idle_timeout as published. */
static inline uint64_t
hatch_activity_fresh(uint64_t idle_timeout)
{
    return idle_timeout != 0 && idle_timeout / 4 < HATCH_ACTIVITY_FRESH
           ? idle_timeout / 4 : HATCH_ACTIVITY_FRESH;
}


/* The value of a word if it was written for this generation, else 0. */
static inline uint64_t
hatch_activity_value(uint64_t word, uint64_t generation)
{
    if (((word >> HATCH_ACTIVITY_VALUE_BITS) ^ generation)
        << HATCH_ACTIVITY_VALUE_BITS)
    {
        return 0;
    }

    return word & HATCH_ACTIVITY_VALUE_MASK;
}


/* Would hatch_activity_stamp() find a stamp that is as good as a new one? */
static inline int
hatch_activity_stamped(const hatch_activity_t *activity, uint32_t slot,
    uint64_t generation, uint64_t now, uint64_t fresh)
{
    uint64_t  last;

    if (slot >= activity->file.slots) {
        return 1;
    }

    last = hatch_activity_value(
                     __atomic_load_n(&activity->slots[slot].last_request,
                                     __ATOMIC_SEQ_CST),
                     generation);

    return last != 0 && (now <= last || now - last < fresh);
}


/*
 * A worker: the VM of this generation in this slot was used now.  The store
 * is seq_cst: it is the module's half of the sleep handshake, and the caller
 * reads the VM's state after it.  Nothing is stored if the last stamp is
 * younger than `fresh` ms.
 */
void hatch_activity_stamp(hatch_activity_t *activity, uint32_t slot,
    uint64_t generation, uint64_t now, uint64_t fresh);

/* The same for a request that passes. */
void hatch_activity_pass(hatch_activity_t *activity, uint32_t slot,
    uint64_t generation, uint64_t now, uint64_t fresh);

/* A worker (its number): one more request for that VM. */
void hatch_activity_count(hatch_activity_t *activity, unsigned worker,
    uint32_t slot, uint64_t generation);

/* The same worker: one more request has to wait. */
void hatch_activity_count_held(hatch_activity_t *activity, unsigned worker);

/* The sum over all workers since the file was made. */
void hatch_activity_sum(const hatch_activity_t *activity,
    hatch_activity_total_t *sum);

/* When the VM was last used, seq_cst; 0 if not since it has the slot. */
uint64_t hatch_activity_last(const hatch_activity_t *activity, uint32_t slot,
    uint64_t generation);

/* When a request last passed, seq_cst; 0 if none did. */
uint64_t hatch_activity_last_pass(const hatch_activity_t *activity,
    uint32_t slot, uint64_t generation);

/* Requests for the VM since it has the slot. */
uint64_t hatch_activity_requests(const hatch_activity_t *activity,
    uint32_t slot, uint64_t generation);

#endif /* HATCH_ACTIVITY_H_INCLUDED */
