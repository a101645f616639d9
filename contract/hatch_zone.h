/*
 * The zone: what the agent tells nginx about the VMs, in a mapped file.
 *
 * Ownership
 *
 *   The agent creates the file (hatch_zone_own), is its only writer and holds
 *   flock() on it.  nginx workers, tests and hatch-zone attach to it read-only
 *   (hatch_zone_attach); the file's mode keeps them from writing.
 *
 *   offset 0     head      written once, before the file has its name; and
 *                          notice and orphans, single words
 *          64    beat      heartbeat, published, libvirt: single words
 *          128   counts    VMs by state, under a latch
 *          then  counters  what the agent counts, under a latch
 *          4096  slots     hatch_zone_slot_t each; state is a word of its own
 *                          (the sleep handshake needs it so), the rest of a
 *                          VM is under the slot's latch
 *          then  stats     hatch_zone_stats_slot_t each (hatch_zone_stats.h)
 *          then  index     open-addressing hash of ids: slot + 1, or 0
 *
 * What a reader may see
 *
 *   Each VM is whole (latch), but two VMs may be of different moments.  The
 *   index may be in the middle of a change, or may stay so for ever if the
 *   writer was killed in it: a hit is checked against the slot, a miss counts
 *   only if index_seq stood still and is even, else all slots are searched.
 *
 * What happens when the agent dies
 *
 *   The file stays and readers go on with the last good data; the age of the
 *   heartbeat tells how old it is.  The next agent takes the same file over
 *   (hatch_zone_own), keeps the slot and the generation of every VM, repairs
 *   index and counts, and drops what libvirt no longer has.  If it cannot use
 *   the file (another version or size), it puts a new one in its place;
 *   readers notice that by hatch_file_replaced().  A file that is no zone it
 *   leaves alone, with an error.
 *
 * Times are CLOCK_BOOTTIME milliseconds and are passed in (hatch_clock.h).
 */

#ifndef HATCH_ZONE_H_INCLUDED
#define HATCH_ZONE_H_INCLUDED

#include <stddef.h>
#include <stdint.h>

#include "hatch_file.h"
#include "hatch_id.h"
#include "hatch_notice.h"
#include "hatch_state.h"
#include "hatch_zone_stats.h"


#define HATCH_ZONE_MAGIC    0x454e4f5a48435448ull   /* "HTCHZONE" */
#define HATCH_ZONE_VERSION  4

#define HATCH_ZONE_PATH     "/run/hatch/zone"
#define HATCH_ZONE_VMS      16384

#define HATCH_NAME_SIZE     64


typedef enum {
    HATCH_LIBVIRT_UNKNOWN = 0,
    HATCH_LIBVIRT_CONNECTED = 1,
    HATCH_LIBVIRT_DISCONNECTED = 2
} hatch_libvirt_t;


/*
 * One VM as it is published.  Its size is a multiple of 8, without holes.  It
 * begins with what a request needs, hatch_zone_peer_t.
 */
typedef struct {
    uint64_t  generation;       /* of the slot; set by hatch_zone_put() */
    uint64_t  incarnation;      /* another one, another guest: after a boot,
                                 * a reboot or a restore, connections made
                                 * before are worth nothing */
    uint64_t  idle_timeout;     /* ms without use until it sleeps; 0: never */
    char      id[HATCH_ID_SIZE];
    uint8_t   address[16];      /* network order; the first 4 for IPv4 */
    uint32_t  family;           /* 4, 6, or 0: the VM has no address */
    uint32_t  vcpus;
    uint64_t  created;          /* wall clock, ms since 1970 */
    uint64_t  state_since;      /* when the state was published */
    uint64_t  used;             /* last use through the API; 0: none */
    char      name[HATCH_NAME_SIZE];    /* NUL-padded, may be empty */
    uint64_t  memory;           /* bytes */
    uint64_t  wakes;            /* counters, for as long as the file lives */
    uint64_t  wake_failures;
} hatch_zone_vm_t;


/* The first fields of hatch_zone_vm_t, and where they were read. */
typedef struct {
    uint64_t  generation;
    uint64_t  incarnation;
    uint64_t  idle_timeout;
    char      id[HATCH_ID_SIZE];
    uint8_t   address[16];
    uint32_t  family;
    uint32_t  vcpus;

    uint32_t  slot;
    uint32_t  seq;              /* of the latch, for hatch_zone_peer_same() */
} hatch_zone_peer_t;

#define HATCH_ZONE_PEER_PART  offsetof(hatch_zone_peer_t, slot)

_Static_assert(offsetof(hatch_zone_vm_t, id)
               == offsetof(hatch_zone_peer_t, id), "peer id");
_Static_assert(offsetof(hatch_zone_vm_t, address)
               == offsetof(hatch_zone_peer_t, address), "peer address");
_Static_assert(offsetof(hatch_zone_vm_t, family)
               == offsetof(hatch_zone_peer_t, family), "peer family");
_Static_assert(offsetof(hatch_zone_vm_t, created) == HATCH_ZONE_PEER_PART,
               "peer part");


/* Six cache lines; the parts for requests touch two or three of them. */
typedef struct {
    uint32_t         state;     /* hatch_state_t; seq_cst, NONE: free */
    uint32_t         seq;       /* of the latch over vm[] */
    hatch_zone_vm_t  vm[2];
    uint64_t         reserved;
} hatch_zone_slot_t;


typedef struct {
    uint32_t  total;            /* every VM that Hatch manages */
    uint32_t  by_state[HATCH_STATE_MAX];
} hatch_zone_counts_t;


typedef struct {
    hatch_file_head_t    head;
    uint64_t             notice;        /* hatch_notice_t, and above it ms;
                                         * relaxed; 0 in older agents' */
    uint64_t             orphans;       /* relaxed; 0 in older agents' */
    uint64_t             reserved[2];

    /* 64: single words, relaxed unless said otherwise */
    uint64_t             heartbeat;     /* the agent was alive then */
    uint64_t             published;     /* first complete publication; 0:
                                         * never (release / acquire) */
    uint64_t             libvirt_since;
    uint32_t             libvirt;       /* hatch_libvirt_t */
    uint32_t             agent_pid;
    uint64_t             generation;    /* last one given to a slot */
    uint32_t             index_seq;     /* odd: the index is being changed */
    uint32_t             vm_count;      /* counts.total, for /healthz */
    uint64_t             started;       /* the agent was; wall clock, ms */
    uint64_t             sampled;       /* the last statistics; 0: never */

    /* 128 */
    uint32_t             counts_seq;
    uint32_t             counters_seq;
    hatch_zone_counts_t  counts[2];
    hatch_zone_counters_t  counters[2];
} hatch_zone_head_t;


#define HATCH_ZONE_SLOTS_OFFSET  4096

_Static_assert(offsetof(hatch_zone_head_t, heartbeat) == 64, "beat offset");
_Static_assert(offsetof(hatch_zone_head_t, counts_seq) == 128, "counts");
_Static_assert(sizeof(hatch_zone_head_t) <= HATCH_ZONE_SLOTS_OFFSET, "head");
_Static_assert(sizeof(hatch_zone_counts_t) % 8 == 0, "latched in words");
_Static_assert(sizeof(hatch_zone_vm_t) == 184, "vm size");
_Static_assert(sizeof(hatch_zone_slot_t) == 384, "slot size");


/* An attached zone.  Not shared between threads without the caller's care. */
typedef struct {
    hatch_file_t              file;
    hatch_zone_head_t        *head;
    hatch_zone_slot_t        *slots;
    hatch_zone_stats_slot_t  *stats;
    uint32_t                 *index;
    uint32_t                  mask;     /* buckets of the index - 1 */
} hatch_zone_t;


/* --- readers: nginx workers, hatch-zone, tests; any thread --- */

/*
 * Attaches read-only.  Errors: every hatch_err_code_t of hatch_file_open();
 * HATCH_ERR_ABSENT before an agent has ever run.
 */
int hatch_zone_attach(hatch_zone_t *zone, const char *path,
    uint32_t min_slots, hatch_err_t *err);

void hatch_zone_detach(hatch_zone_t *zone);

/* 1 while the mapping is a zone; 0 after somebody truncated the file. */
static inline int
hatch_zone_intact(const hatch_zone_t *zone)
{
    return __atomic_load_n(&zone->head->head.magic, __ATOMIC_RELAXED)
           == HATCH_ZONE_MAGIC;
}

/* Has an agent ever published a complete list of VMs here? */
static inline int
hatch_zone_published(const hatch_zone_t *zone)
{
    return __atomic_load_n(&zone->head->published, __ATOMIC_ACQUIRE) != 0;
}

/* Every VM that Hatch manages, in any state. */
uint32_t hatch_zone_vm_count(const hatch_zone_t *zone);

/* 0, or HATCH_ERR_BUSY (the writer overtook us; cannot last). */
int hatch_zone_counts(const hatch_zone_t *zone, hatch_zone_counts_t *counts);

/* The state of a slot, seq_cst; HATCH_STATE_NONE if it has no VM. */
static inline hatch_state_t
hatch_zone_state(const hatch_zone_t *zone, uint32_t slot)
{
    uint32_t  state;

    if (slot >= zone->file.slots) {
        return HATCH_STATE_NONE;
    }

    state = __atomic_load_n(&zone->slots[slot].state, __ATOMIC_SEQ_CST);

    /* a number that no agent writes: the file is damaged */
    return state < HATCH_STATE_MAX ? (hatch_state_t) state : HATCH_STATE_ERROR;
}


/*
 * Copies the VM in a slot.  Returns 0, HATCH_ERR_NOT_FOUND (the slot is free
 * or out of range), HATCH_ERR_BUSY (see hatch_zone_counts()).
 */
int hatch_zone_read(const hatch_zone_t *zone, uint32_t slot,
    hatch_zone_vm_t *vm);

/*
 * Finds a VM by id, and copies it to vm and its slot number to slot.
 * Returns as hatch_zone_read().
 */
int hatch_zone_find(const hatch_zone_t *zone, const char *id, uint32_t *slot,
    hatch_zone_vm_t *vm);

/* The same of what a request needs; id has HATCH_ID_SIZE bytes. */
int hatch_zone_peer(const hatch_zone_t *zone, const char *id,
    hatch_zone_peer_t *peer);

/* 1 if nothing of the VM in the slot has changed since peer was read. */
static inline int
hatch_zone_peer_same(const hatch_zone_t *zone, const hatch_zone_peer_t *peer)
{
    return __atomic_load_n(&zone->slots[peer->slot].seq, __ATOMIC_ACQUIRE)
           == peer->seq;
}

/*
 * The statistics of the VM that has (or had) this slot in this generation.
 * HATCH_ERR_NOT_FOUND: none were taken yet.
 */
int hatch_zone_stats(const hatch_zone_t *zone, uint32_t slot,
    uint64_t generation, hatch_zone_stats_t *stats);

/* 0 or HATCH_ERR_BUSY. */
int hatch_zone_counters(const hatch_zone_t *zone,
    hatch_zone_counters_t *counters);

/* The single words of the head. */
uint64_t hatch_zone_heartbeat(const hatch_zone_t *zone);
uint64_t hatch_zone_sampled(const hatch_zone_t *zone);
uint64_t hatch_zone_started(const hatch_zone_t *zone);
hatch_libvirt_t hatch_zone_libvirt(const hatch_zone_t *zone);

/* What the agent found amiss with the host, and its figure (ms). */
hatch_notice_t hatch_zone_notice(const hatch_zone_t *zone, uint32_t *ms);

/* What is kept of VMs that libvirt does not have any more, and its like. */
uint32_t hatch_zone_orphans(const hatch_zone_t *zone);


/* --- the writer: the agent; one thread at a time --- */

typedef struct {
    hatch_zone_t         zone;
    hatch_zone_counts_t  counts;
    uint32_t             overflow;      /* VMs for which there was no slot */
    uint32_t             search;        /* where the next free slot may be */
} hatch_zone_writer_t;


/*
 * Takes over the zone at path or creates a new one, with the given slots;
 * gid (or -1) is the group that may read it.  HATCH_ERR_BUSY if another agent
 * owns it, HATCH_ERR_FOREIGN if the file is not a zone.  What a former agent
 * published stays until it is overwritten or dropped.
 */
int hatch_zone_own(hatch_zone_writer_t *writer, const char *path,
    uint32_t slots, gid_t gid, hatch_err_t *err);

void hatch_zone_disown(hatch_zone_writer_t *writer);

/*
 * Publishes a VM, new or known (by vm->id), with its state.  Returns its slot
 * or HATCH_ERR_FULL.
 */
int64_t hatch_zone_put(hatch_zone_writer_t *writer, hatch_zone_vm_t *vm,
    hatch_state_t state, uint64_t now);

/* Publishes only a state, seq_cst: the agent's half of the sleep handshake. */
void hatch_zone_set_state(hatch_zone_writer_t *writer, uint32_t slot,
    hatch_state_t state, uint64_t now);

/* Since when the VM in a slot has its state; 0: there is none. */
uint64_t hatch_zone_state_since(const hatch_zone_writer_t *writer,
    uint32_t slot);

/* Frees the slot of a VM.  0 or HATCH_ERR_NOT_FOUND. */
int hatch_zone_drop(hatch_zone_writer_t *writer, const char *id);

/* VMs that exist but have no slot; they are in vm_count all the same. */
void hatch_zone_set_overflow(hatch_zone_writer_t *writer, uint32_t n);

/* "I am alive." */
void hatch_zone_beat(hatch_zone_writer_t *writer, uint64_t now);

/* The list of VMs is complete; the first call makes the zone readable. */
void hatch_zone_publish(hatch_zone_writer_t *writer, uint64_t now);

void hatch_zone_set_libvirt(hatch_zone_writer_t *writer, hatch_libvirt_t state,
    uint64_t now);

/* What is amiss with the host; NONE takes it back.  ms: hatch_notice.h. */
void hatch_zone_set_notice(hatch_zone_writer_t *writer, hatch_notice_t notice,
    uint32_t ms);

/* How many orphans there are. */
void hatch_zone_set_orphans(hatch_zone_writer_t *writer, uint32_t n);

/* The statistics of the VM in a slot; stats->generation says of which. */
void hatch_zone_set_stats(hatch_zone_writer_t *writer, uint32_t slot,
    const hatch_zone_stats_t *stats);

/* All VMs have been sampled. */
void hatch_zone_set_sampled(hatch_zone_writer_t *writer, uint64_t now);

void hatch_zone_set_counters(hatch_zone_writer_t *writer,
    const hatch_zone_counters_t *counters);

#endif /* HATCH_ZONE_H_INCLUDED */
