/* Reading the zone; the theory is in hatch_zone.h. */

#include "hatch_zone_private.h"
#include "hatch_hash.h"
#include "hatch_latch.h"

#include <string.h>


/* How often a miss in a moving index is looked up again before all slots. */
#define HATCH_ZONE_INDEX_TRIES  4


static uint32_t
hatch_zone_buckets(uint32_t slots)
{
    uint32_t  buckets = 2;

    while (buckets < slots * 2) {
        buckets <<= 1;
    }

    return buckets;
}


static size_t
hatch_zone_size(uint32_t slots)
{
    return HATCH_ZONE_SLOTS_OFFSET
           + (size_t) slots * (sizeof(hatch_zone_slot_t)
                               + sizeof(hatch_zone_stats_slot_t))
           + (size_t) hatch_zone_buckets(slots) * sizeof(uint32_t);
}


static uint32_t
hatch_zone_layout_word(void)
{
    const uint32_t  numbers[] = {
        sizeof(hatch_zone_head_t),
        offsetof(hatch_zone_head_t, heartbeat),
        offsetof(hatch_zone_head_t, published),
        offsetof(hatch_zone_head_t, libvirt_since),
        offsetof(hatch_zone_head_t, libvirt),
        offsetof(hatch_zone_head_t, generation),
        offsetof(hatch_zone_head_t, index_seq),
        offsetof(hatch_zone_head_t, vm_count),
        offsetof(hatch_zone_head_t, counts_seq),
        offsetof(hatch_zone_head_t, sampled),
        offsetof(hatch_zone_head_t, counters_seq),
        offsetof(hatch_zone_head_t, counts),
        offsetof(hatch_zone_head_t, counters),
        sizeof(hatch_zone_counts_t),
        sizeof(hatch_zone_counters_t),
        offsetof(hatch_zone_counters_t, pauses),
        offsetof(hatch_zone_counters_t, wake_time),
        sizeof(hatch_zone_stats_slot_t),
        sizeof(hatch_zone_stats_t),
        offsetof(hatch_zone_stats_t, cpu_time),
        offsetof(hatch_zone_stats_t, rx_bytes),
        offsetof(hatch_zone_stats_t, read_bytes),
        sizeof(hatch_zone_slot_t),
        offsetof(hatch_zone_slot_t, seq),
        offsetof(hatch_zone_slot_t, vm),
        sizeof(hatch_zone_vm_t),
        offsetof(hatch_zone_vm_t, created),
        offsetof(hatch_zone_vm_t, state_since),
        offsetof(hatch_zone_vm_t, incarnation),
        offsetof(hatch_zone_vm_t, used),
        offsetof(hatch_zone_vm_t, idle_timeout),
        offsetof(hatch_zone_vm_t, id),
        offsetof(hatch_zone_vm_t, name),
        offsetof(hatch_zone_vm_t, address),
        offsetof(hatch_zone_vm_t, family),
        offsetof(hatch_zone_vm_t, memory),
        offsetof(hatch_zone_vm_t, wakes),
        HATCH_ZONE_SLOTS_OFFSET,
        HATCH_STATE_MAX
    };

    return hatch_file_layout(numbers, sizeof(numbers) / sizeof(numbers[0]));
}


const hatch_file_kind_t  hatch_zone_kind = {
    "zone", HATCH_ZONE_MAGIC, HATCH_ZONE_VERSION, hatch_zone_layout_word,
    hatch_zone_size, HATCH_SLOTS_MAX
};


void
hatch_zone_layout(hatch_zone_t *zone)
{
    char  *base = zone->file.base;

    zone->head = zone->file.base;
    zone->slots = (hatch_zone_slot_t *) (base + HATCH_ZONE_SLOTS_OFFSET);
    zone->stats = (hatch_zone_stats_slot_t *) (zone->slots
                                               + zone->file.slots);
    zone->index = (uint32_t *) (zone->stats + zone->file.slots);
    zone->mask = hatch_zone_buckets(zone->file.slots) - 1;
}


int
hatch_zone_attach(hatch_zone_t *zone, const char *path, uint32_t min_slots,
    hatch_err_t *err)
{
    int  rc;

    rc = hatch_file_open(&zone->file, &hatch_zone_kind, path, 0, min_slots,
                         err);
    if (rc == 0) {
        hatch_zone_layout(zone);
    }

    return rc;
}


void
hatch_zone_detach(hatch_zone_t *zone)
{
    hatch_file_close(&zone->file);
    zone->head = NULL;
}


uint32_t
hatch_zone_vm_count(const hatch_zone_t *zone)
{
    return __atomic_load_n(&zone->head->vm_count, __ATOMIC_RELAXED);
}


int
hatch_zone_counts(const hatch_zone_t *zone, hatch_zone_counts_t *counts)
{
    return hatch_latch_read(&zone->head->counts_seq, zone->head->counts,
                            counts, sizeof(*counts)) == 0 ? 0 : HATCH_ERR_BUSY;
}


int
hatch_zone_read(const hatch_zone_t *zone, uint32_t slot, hatch_zone_vm_t *vm)
{
    const hatch_zone_slot_t  *s;

    if (hatch_zone_state(zone, slot) == HATCH_STATE_NONE) {
        return HATCH_ERR_NOT_FOUND;
    }

    s = &zone->slots[slot];

    if (hatch_latch_read(&s->seq, s->vm, vm, sizeof(*vm)) != 0) {
        return HATCH_ERR_BUSY;
    }

    /* nothing in the file is trusted to be terminated */
    vm->id[HATCH_ID_SIZE - 1] = '\0';
    vm->name[HATCH_NAME_SIZE - 1] = '\0';

    return vm->id[0] != '\0' ? 0 : HATCH_ERR_NOT_FOUND;
}


uint32_t
hatch_zone_bucket(const hatch_zone_t *zone, const char *id)
{
    uint64_t  word[2];

    /* the random part is all of it that differs */
    memcpy(word, id + sizeof(HATCH_ID_VM) - 1, sizeof(word));

    return hatch_hash_end(hatch_hash_word(hatch_hash_word(0, word[0]),
                                          word[1]))
           & zone->mask;
}


static int
hatch_zone_same_id(const char *a, const char *b)
{
    return memcmp(a, b, HATCH_ID_VM_SIZE) == 0;
}


static inline int
hatch_zone_read_peer(const hatch_zone_t *zone, uint32_t slot,
    hatch_zone_peer_t *peer)
{
    const hatch_zone_slot_t  *s;

    if (hatch_zone_state(zone, slot) == HATCH_STATE_NONE) {
        return HATCH_ERR_NOT_FOUND;
    }

    s = &zone->slots[slot];

    if (hatch_latch_read_part(&s->seq, s->vm, peer, sizeof(s->vm[0]),
                              HATCH_ZONE_PEER_PART, &peer->seq)
        != 0)
    {
        return HATCH_ERR_BUSY;
    }

    peer->slot = slot;
    peer->id[HATCH_ID_SIZE - 1] = '\0';

    return peer->id[0] != '\0' ? 0 : HATCH_ERR_NOT_FOUND;
}


static int
hatch_zone_probe(const hatch_zone_t *zone, const char *id,
    hatch_zone_peer_t *peer)
{
    int       rc;
    uint32_t  bucket, n, entry;

    bucket = hatch_zone_bucket(zone, id);

    for (n = 0; n <= zone->mask; n++) {
        entry = __atomic_load_n(&zone->index[bucket], __ATOMIC_ACQUIRE);

        if (entry == 0) {
            break;
        }

        rc = hatch_zone_read_peer(zone, entry - 1, peer);

        if (rc == HATCH_ERR_BUSY) {
            return rc;
        }

        if (rc == 0 && hatch_zone_same_id(peer->id, id)) {
            return 0;
        }

        bucket = (bucket + 1) & zone->mask;
    }

    return HATCH_ERR_NOT_FOUND;
}


/* The slow way, for an index that its writer left half changed. */
static int
hatch_zone_search(const hatch_zone_t *zone, const char *id,
    hatch_zone_peer_t *peer)
{
    uint32_t  n;

    for (n = 0; n < zone->file.slots; n++) {
        if (hatch_zone_read_peer(zone, n, peer) == 0
            && hatch_zone_same_id(peer->id, id))
        {
            return 0;
        }
    }

    return HATCH_ERR_NOT_FOUND;
}


int
hatch_zone_peer(const hatch_zone_t *zone, const char *id,
    hatch_zone_peer_t *peer)
{
    int       rc, tries;
    uint32_t  seq;

    for (tries = 0; tries < HATCH_ZONE_INDEX_TRIES; tries++) {
        seq = __atomic_load_n(&zone->head->index_seq, __ATOMIC_ACQUIRE);

        rc = hatch_zone_probe(zone, id, peer);

        if (rc != HATCH_ERR_NOT_FOUND) {
            return rc;
        }

        __atomic_thread_fence(__ATOMIC_ACQUIRE);

        if ((seq & 1) == 0
            && __atomic_load_n(&zone->head->index_seq, __ATOMIC_RELAXED)
               == seq)
        {
            return HATCH_ERR_NOT_FOUND;
        }
    }

    return hatch_zone_search(zone, id, peer);
}


int
hatch_zone_find(const hatch_zone_t *zone, const char *id, uint32_t *slot,
    hatch_zone_vm_t *vm)
{
    int                rc, tries;
    char               whole[HATCH_ID_SIZE];
    hatch_zone_peer_t  peer;

    if (strnlen(id, HATCH_ID_VM_SIZE) != HATCH_ID_VM_SIZE - 1) {
        return HATCH_ERR_NOT_FOUND;
    }

    memcpy(whole, id, HATCH_ID_VM_SIZE);

    for (tries = 0; tries < HATCH_ZONE_INDEX_TRIES; tries++) {
        rc = hatch_zone_peer(zone, whole, &peer);
        if (rc != 0) {
            return rc;
        }

        *slot = peer.slot;

        /* unless the slot changed hands in between */
        if (hatch_zone_read(zone, peer.slot, vm) == 0
            && vm->generation == peer.generation)
        {
            return 0;
        }
    }

    return HATCH_ERR_BUSY;
}


int
hatch_zone_stats(const hatch_zone_t *zone, uint32_t slot, uint64_t generation,
    hatch_zone_stats_t *stats)
{
    const hatch_zone_stats_slot_t  *s;

    if (slot >= zone->file.slots) {
        return HATCH_ERR_NOT_FOUND;
    }

    s = &zone->stats[slot];

    if (hatch_latch_read(&s->seq, s->stats, stats, sizeof(*stats)) != 0) {
        return HATCH_ERR_BUSY;
    }

    return stats->generation == generation ? 0 : HATCH_ERR_NOT_FOUND;
}


int
hatch_zone_counters(const hatch_zone_t *zone, hatch_zone_counters_t *counters)
{
    return hatch_latch_read(&zone->head->counters_seq, zone->head->counters,
                            counters, sizeof(*counters)) == 0
           ? 0 : HATCH_ERR_BUSY;
}


uint64_t
hatch_zone_heartbeat(const hatch_zone_t *zone)
{
    return __atomic_load_n(&zone->head->heartbeat, __ATOMIC_RELAXED);
}


uint64_t
hatch_zone_sampled(const hatch_zone_t *zone)
{
    return __atomic_load_n(&zone->head->sampled, __ATOMIC_RELAXED);
}


uint64_t
hatch_zone_started(const hatch_zone_t *zone)
{
    return __atomic_load_n(&zone->head->started, __ATOMIC_RELAXED);
}


hatch_libvirt_t
hatch_zone_libvirt(const hatch_zone_t *zone)
{
    uint32_t  state;

    state = __atomic_load_n(&zone->head->libvirt, __ATOMIC_RELAXED);

    return state <= HATCH_LIBVIRT_DISCONNECTED ? (hatch_libvirt_t) state
                                               : HATCH_LIBVIRT_UNKNOWN;
}


hatch_notice_t
hatch_zone_notice(const hatch_zone_t *zone, uint32_t *ms)
{
    uint64_t  word;

    word = __atomic_load_n(&zone->head->notice, __ATOMIC_RELAXED);
    *ms = (uint32_t) (word >> 32);

    /* a number of a newer agent's: only the figure is known */
    return (uint32_t) word < HATCH_NOTICE_MAX ? (hatch_notice_t) (uint32_t) word
                                              : HATCH_NOTICE_SLOW;
}


uint32_t
hatch_zone_orphans(const hatch_zone_t *zone)
{
    return (uint32_t) __atomic_load_n(&zone->head->orphans, __ATOMIC_RELAXED);
}
