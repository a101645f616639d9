/* Writing the zone: the agent's side.  The theory is in hatch_zone.h. */

#define _GNU_SOURCE

#include "hatch_zone_private.h"
#include "hatch_clock.h"
#include "hatch_latch.h"

#include <string.h>
#include <sys/random.h>
#include <unistd.h>


static void
hatch_zone_index_begin(hatch_zone_t *zone)
{
    /* a former writer may have left it odd: odd it stays, then */
    uint32_t  seq = zone->head->index_seq | 1;

    __atomic_store_n(&zone->head->index_seq, seq, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}


static void
hatch_zone_index_end(hatch_zone_t *zone)
{
    __atomic_store_n(&zone->head->index_seq, zone->head->index_seq + 1,
                     __ATOMIC_RELEASE);
}


static void
hatch_zone_index_insert(hatch_zone_t *zone, const char *id, uint32_t slot)
{
    uint32_t  bucket = hatch_zone_bucket(zone, id);

    /* ends: there are at least twice as many buckets as slots */
    while (zone->index[bucket] != 0) {
        bucket = (bucket + 1) & zone->mask;
    }

    __atomic_store_n(&zone->index[bucket], slot + 1, __ATOMIC_RELEASE);
}


/*
 * Takes the entry in a bucket out and closes the gap, so that no search stops
 * early and no tombstones pile up.  The caller has made index_seq odd.
 */
static void
hatch_zone_index_delete(hatch_zone_t *zone, uint32_t bucket)
{
    uint32_t                  gap, home, entry, distance;
    const hatch_zone_slot_t  *slot;

    gap = bucket;

    for ( ;; ) {
        bucket = (bucket + 1) & zone->mask;
        entry = zone->index[bucket];

        if (entry == 0) {
            break;
        }

        slot = &zone->slots[entry - 1];
        home = hatch_zone_bucket(zone, slot->vm[slot->seq & 1].id);
        distance = (bucket - home) & zone->mask;

        /* it may move back to the gap if its home is not after the gap */
        if (distance >= ((bucket - gap) & zone->mask)) {
            __atomic_store_n(&zone->index[gap], entry, __ATOMIC_RELEASE);
            gap = bucket;
        }
    }

    __atomic_store_n(&zone->index[gap], 0, __ATOMIC_RELEASE);
}


static int64_t
hatch_zone_index_find(hatch_zone_t *zone, const char *id, uint32_t *bucket)
{
    uint32_t                  b, entry;
    const hatch_zone_slot_t  *slot;

    b = hatch_zone_bucket(zone, id);

    for ( ;; ) {
        entry = zone->index[b];

        if (entry == 0) {
            return -1;
        }

        slot = &zone->slots[entry - 1];

        if (strncmp(slot->vm[slot->seq & 1].id, id, HATCH_ID_SIZE) == 0) {
            *bucket = b;
            return (int64_t) entry - 1;
        }

        b = (b + 1) & zone->mask;
    }
}


static void
hatch_zone_publish_counts(hatch_zone_writer_t *writer)
{
    uint32_t            state;
    hatch_zone_head_t  *head = writer->zone.head;

    writer->counts.total = writer->overflow;

    for (state = HATCH_STATE_NONE + 1; state < HATCH_STATE_MAX; state++) {
        writer->counts.total += writer->counts.by_state[state];
    }

    hatch_latch_write(&head->counts_seq, head->counts, &writer->counts,
                      sizeof(writer->counts));
    __atomic_store_n(&head->vm_count, writer->counts.total, __ATOMIC_RELAXED);
}


/* A slot that a former agent left is kept if it makes sense. */
static int
hatch_zone_slot_sane(const hatch_zone_slot_t *slot)
{
    const hatch_zone_vm_t  *vm = &slot->vm[slot->seq & 1];

    return slot->state > HATCH_STATE_NONE && slot->state < HATCH_STATE_MAX
           && memchr(vm->id, '\0', HATCH_ID_SIZE) != NULL
           && memchr(vm->name, '\0', HATCH_NAME_SIZE) != NULL
           && hatch_id_valid(HATCH_ID_VM, vm->id, strlen(vm->id))
           && (vm->family == 0 || vm->family == 4 || vm->family == 6);
}


/* Index and counts anew from the slots of a zone that was taken over. */
static void
hatch_zone_repair(hatch_zone_writer_t *writer)
{
    uint32_t            n, bucket;
    hatch_zone_t       *zone = &writer->zone;
    hatch_zone_slot_t  *slot;

    hatch_zone_index_begin(zone);

    for (n = 0; n <= zone->mask; n++) {
        __atomic_store_n(&zone->index[n], 0, __ATOMIC_RELAXED);
    }

    for (n = 0; n < zone->file.slots; n++) {
        slot = &zone->slots[n];

        if (!hatch_zone_slot_sane(slot)
            || hatch_zone_index_find(zone, slot->vm[slot->seq & 1].id,
                                     &bucket) >= 0)
        {
            __atomic_store_n(&slot->state, HATCH_STATE_NONE, __ATOMIC_SEQ_CST);
            continue;
        }

        hatch_zone_index_insert(zone, slot->vm[slot->seq & 1].id, n);
        writer->counts.by_state[slot->state]++;
    }

    hatch_zone_index_end(zone);
    hatch_zone_publish_counts(writer);
}


static int
hatch_zone_create(hatch_zone_writer_t *writer, const char *path,
    uint32_t slots, gid_t gid, hatch_err_t *err)
{
    int            rc;
    uint32_t       seed;
    hatch_zone_t  *zone = &writer->zone;

    rc = hatch_file_create(&zone->file, &hatch_zone_kind, path, slots, 0640,
                           (uid_t) -1, gid, err);
    if (rc != 0) {
        return rc;
    }

    hatch_zone_layout(zone);

    /*
     * A stamp in zone.activity that was meant for a VM of the file before
     * must not fit one of this file.
     */
    if (getrandom(&seed, sizeof(seed), 0) == (ssize_t) sizeof(seed)) {
        zone->head->generation = (uint64_t) seed << 16;
    }

    return 0;
}


int
hatch_zone_own(hatch_zone_writer_t *writer, const char *path, uint32_t slots,
    gid_t gid, hatch_err_t *err)
{
    int            rc;
    hatch_err_t    why;
    hatch_zone_t  *zone = &writer->zone;

    memset(writer, 0, sizeof(*writer));
    zone->file.fd = -1;

    if (slots == 0 || slots > HATCH_SLOTS_MAX) {
        return hatch_err_set(err, HATCH_ERR_INVALID,
                             "a zone has 1 to %u slots, not %u",
                             HATCH_SLOTS_MAX, (unsigned) slots);
    }

    rc = hatch_file_open(&zone->file, &hatch_zone_kind, path, 1, 0, &why);

    if (rc == 0) {
        rc = hatch_file_lock(&zone->file, &hatch_zone_kind, path, err);

        if (rc != 0) {
            hatch_file_close(&zone->file);
            return rc;
        }

    } else if (hatch_file_may_replace(&hatch_zone_kind, path, &why, &why)
               != 0)
    {
        if (err != NULL) {
            *err = why;
        }

        return (int) why.code;
    }

    if (rc == 0 && zone->file.slots == slots) {
        hatch_zone_layout(zone);
        hatch_zone_repair(writer);

    } else {
        /* not there, not usable, or of another size: begin anew */
        hatch_file_close(&zone->file);

        rc = hatch_zone_create(writer, path, slots, gid, err);
        if (rc != 0) {
            return rc;
        }
    }

    __atomic_store_n(&zone->head->agent_pid, (uint32_t) getpid(),
                     __ATOMIC_RELAXED);
    __atomic_store_n(&zone->head->started, hatch_clock_wall_ms(),
                     __ATOMIC_RELAXED);

    return 0;
}


void
hatch_zone_disown(hatch_zone_writer_t *writer)
{
    hatch_zone_detach(&writer->zone);
}


static int64_t
hatch_zone_free_slot(hatch_zone_writer_t *writer)
{
    uint32_t  n, slot, slots = writer->zone.file.slots;

    for (n = 0; n < slots; n++) {
        slot = (writer->search + n) % slots;

        if (writer->zone.slots[slot].state == HATCH_STATE_NONE) {
            /* round robin: a slot rests as long as possible before reuse */
            writer->search = slot + 1;
            return slot;
        }
    }

    return HATCH_ERR_FULL;
}


int64_t
hatch_zone_put(hatch_zone_writer_t *writer, hatch_zone_vm_t *vm,
    hatch_state_t state, uint64_t now)
{
    int64_t             n;
    uint32_t            bucket;
    hatch_zone_t       *zone = &writer->zone;
    hatch_zone_slot_t  *slot;

    n = hatch_zone_index_find(zone, vm->id, &bucket);

    if (n >= 0) {
        slot = &zone->slots[n];
        vm->generation = slot->vm[slot->seq & 1].generation;
        vm->state_since = slot->vm[slot->seq & 1].state_since;
        hatch_latch_write(&slot->seq, slot->vm, vm, sizeof(*vm));
        hatch_zone_set_state(writer, (uint32_t) n, state, now);
        return n;
    }

    n = hatch_zone_free_slot(writer);
    if (n < 0) {
        return n;
    }

    slot = &zone->slots[n];
    vm->generation = ++zone->head->generation;
    vm->state_since = now;

    /* record, index, state: until the state is there, the slot is free */
    hatch_latch_write(&slot->seq, slot->vm, vm, sizeof(*vm));

    hatch_zone_index_begin(zone);
    hatch_zone_index_insert(zone, vm->id, (uint32_t) n);
    hatch_zone_index_end(zone);

    __atomic_store_n(&slot->state, state, __ATOMIC_SEQ_CST);

    writer->counts.by_state[state]++;
    hatch_zone_publish_counts(writer);

    return n;
}


void
hatch_zone_set_state(hatch_zone_writer_t *writer, uint32_t n,
    hatch_state_t state, uint64_t now)
{
    uint32_t            before;
    hatch_zone_vm_t     vm;
    hatch_zone_slot_t  *slot;

    if (n >= writer->zone.file.slots || state == HATCH_STATE_NONE
        || state >= HATCH_STATE_MAX)
    {
        return;
    }

    slot = &writer->zone.slots[n];
    before = slot->state;

    if (before == HATCH_STATE_NONE || before == state) {
        return;
    }

    __atomic_store_n(&slot->state, state, __ATOMIC_SEQ_CST);

    vm = slot->vm[slot->seq & 1];
    vm.state_since = now;
    hatch_latch_write(&slot->seq, slot->vm, &vm, sizeof(vm));

    writer->counts.by_state[before]--;
    writer->counts.by_state[state]++;
    hatch_zone_publish_counts(writer);
}


uint64_t
hatch_zone_state_since(const hatch_zone_writer_t *writer, uint32_t slot)
{
    const hatch_zone_slot_t  *s;

    if (hatch_zone_state(&writer->zone, slot) == HATCH_STATE_NONE) {
        return 0;
    }

    /* its only writer needs no latch */
    s = &writer->zone.slots[slot];

    return s->vm[s->seq & 1].state_since;
}


int
hatch_zone_drop(hatch_zone_writer_t *writer, const char *id)
{
    int64_t             n;
    uint32_t            bucket;
    hatch_zone_t       *zone = &writer->zone;
    hatch_zone_slot_t  *slot;

    n = hatch_zone_index_find(zone, id, &bucket);
    if (n < 0) {
        return HATCH_ERR_NOT_FOUND;
    }

    slot = &zone->slots[n];
    writer->counts.by_state[slot->state]--;

    __atomic_store_n(&slot->state, HATCH_STATE_NONE, __ATOMIC_SEQ_CST);

    hatch_zone_index_begin(zone);
    hatch_zone_index_delete(zone, bucket);
    hatch_zone_index_end(zone);

    hatch_zone_publish_counts(writer);

    return 0;
}


void
hatch_zone_set_overflow(hatch_zone_writer_t *writer, uint32_t n)
{
    if (writer->overflow != n) {
        writer->overflow = n;
        hatch_zone_publish_counts(writer);
    }
}


void
hatch_zone_beat(hatch_zone_writer_t *writer, uint64_t now)
{
    __atomic_store_n(&writer->zone.head->heartbeat, now, __ATOMIC_RELAXED);
}


void
hatch_zone_publish(hatch_zone_writer_t *writer, uint64_t now)
{
    hatch_zone_beat(writer, now);

    if (writer->zone.head->published == 0) {
        __atomic_store_n(&writer->zone.head->published, now != 0 ? now : 1,
                         __ATOMIC_RELEASE);
    }
}


void
hatch_zone_set_libvirt(hatch_zone_writer_t *writer, hatch_libvirt_t state,
    uint64_t now)
{
    hatch_zone_head_t  *head = writer->zone.head;

    if (head->libvirt != (uint32_t) state) {
        __atomic_store_n(&head->libvirt_since, now, __ATOMIC_RELAXED);
        __atomic_store_n(&head->libvirt, (uint32_t) state, __ATOMIC_RELAXED);
    }
}


void
hatch_zone_set_notice(hatch_zone_writer_t *writer, hatch_notice_t notice,
    uint32_t ms)
{
    __atomic_store_n(&writer->zone.head->notice,
                     (uint64_t) ms << 32 | (uint32_t) notice,
                     __ATOMIC_RELAXED);
}


void
hatch_zone_set_orphans(hatch_zone_writer_t *writer, uint32_t n)
{
    __atomic_store_n(&writer->zone.head->orphans, n, __ATOMIC_RELAXED);
}


void
hatch_zone_set_stats(hatch_zone_writer_t *writer, uint32_t slot,
    const hatch_zone_stats_t *stats)
{
    hatch_zone_stats_slot_t  *s;

    if (slot < writer->zone.file.slots) {
        s = &writer->zone.stats[slot];
        hatch_latch_write(&s->seq, s->stats, stats, sizeof(*stats));
    }
}


void
hatch_zone_set_sampled(hatch_zone_writer_t *writer, uint64_t now)
{
    __atomic_store_n(&writer->zone.head->sampled, now, __ATOMIC_RELAXED);
}


void
hatch_zone_set_counters(hatch_zone_writer_t *writer,
    const hatch_zone_counters_t *counters)
{
    hatch_zone_head_t  *head = writer->zone.head;

    hatch_latch_write(&head->counters_seq, head->counters, counters,
                      sizeof(*counters));
}
