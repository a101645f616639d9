/* The zone with one writer: publish, read, find, drop, take over. */

#include "hatch_guard.h"
#include "hatch_zone_private.h"

#include "tap.h"

#include <unistd.h>


static const char *
path_of(const char *name)
{
    static char  path[256];

    (void) snprintf(path, sizeof(path), "%s/%s", tap_dir(), name);

    return path;
}


static hatch_zone_vm_t
make_vm(unsigned n)
{
    unsigned         i;
    hatch_zone_vm_t  vm;

    memset(&vm, 0, sizeof(vm));
    (void) strcpy(vm.id, "vm_aaaaaaaaaaaaaaaa");

    for (i = 0; i < 8; i++) {
        vm.id[18 - i] = (char) ('a' + (n & 15));
        n >>= 4;
    }

    vm.vcpus = 1;
    vm.memory = 1;
    vm.family = 4;

    return vm;
}


static void
test_publish(void)
{
    uint32_t             slot;
    hatch_zone_t         zone;
    hatch_zone_vm_t      vm, got;
    hatch_zone_writer_t  writer;
    hatch_zone_counts_t  counts;
    const char          *path = path_of("zone");

    is_int(hatch_zone_own(&writer, path, 16, (gid_t) -1, NULL), 0, "own");
    is_int(hatch_zone_attach(&zone, path, 16, NULL), 0, "attach");
    ok(!hatch_zone_published(&zone), "nothing is published at first");

    vm = make_vm(1);
    (void) strcpy(vm.name, "one");
    is_int(hatch_zone_put(&writer, &vm, HATCH_STATE_STARTING, 100), 0, "put");
    hatch_zone_publish(&writer, 100);
    ok(hatch_zone_published(&zone), "published");

    is_int(hatch_zone_find(&zone, vm.id, &slot, &got), 0, "found");
    is_int(slot, 0, "in slot 0");
    is_str(got.name, "one", "with its name");
    is_int(got.state_since, 100, "since 100");
    ok(got.generation != 0, "and a generation");
    is_int(hatch_zone_state(&zone, 0), HATCH_STATE_STARTING, "starting");
    is_int(hatch_zone_vm_count(&zone), 1, "one VM");

    hatch_zone_set_state(&writer, 0, HATCH_STATE_RUNNING, 200);
    is_int(hatch_zone_state(&zone, 0), HATCH_STATE_RUNNING, "running");
    (void) hatch_zone_read(&zone, 0, &got);
    is_int(got.state_since, 200, "since 200");
    (void) hatch_zone_counts(&zone, &counts);
    is_int(counts.by_state[HATCH_STATE_RUNNING], 1, "counted as running");
    is_int(counts.by_state[HATCH_STATE_STARTING], 0, "no longer starting");

    (void) hatch_zone_put(&writer, &vm, HATCH_STATE_RUNNING, 300);
    (void) hatch_zone_read(&zone, 0, &got);
    is_int(got.state_since, 200, "the same state is not a new one");

    is_int(hatch_zone_find(&zone, "vm_zzzzzzzzzzzzzzzz", &slot, &got),
           HATCH_ERR_NOT_FOUND, "another is not found");
    is_int(hatch_zone_read(&zone, 16, &got), HATCH_ERR_NOT_FOUND,
           "a slot out of range");
    is_int(hatch_zone_state(&zone, 4000000000u), HATCH_STATE_NONE,
           "a state out of range");

    is_int(hatch_zone_drop(&writer, vm.id), 0, "drop");
    is_int(hatch_zone_drop(&writer, vm.id), HATCH_ERR_NOT_FOUND, "once");
    is_int(hatch_zone_find(&zone, vm.id, &slot, &got), HATCH_ERR_NOT_FOUND,
           "gone");
    is_int(hatch_zone_vm_count(&zone), 0, "no VM");

    hatch_zone_set_overflow(&writer, 3);
    is_int(hatch_zone_vm_count(&zone), 3, "VMs without a slot count");

    hatch_zone_detach(&zone);
    hatch_zone_disown(&writer);
}


/* Fill, empty at random, fill again: everything is always found. */
static void
test_full(void)
{
    int                  missing, round;
    uint32_t             slot;
    unsigned             n;
    unsigned             present[64] = { 0 }, count;
    hatch_zone_t         zone;
    hatch_zone_vm_t      vm, got;
    hatch_zone_writer_t  writer;
    const char          *path = path_of("full");

    (void) hatch_zone_own(&writer, path, 48, (gid_t) -1, NULL);
    (void) hatch_zone_attach(&zone, path, 48, NULL);
    srandom(7);

    for (round = 0, missing = 0; round < 20000; round++) {
        n = (unsigned) random() % 64;
        vm = make_vm(n * 1000003);

        if (present[n]) {
            missing += hatch_zone_drop(&writer, vm.id) != 0;
            present[n] = 0;
        } else {
            present[n] = hatch_zone_put(&writer, &vm, HATCH_STATE_RUNNING, 1)
                         >= 0;
        }

        n = (unsigned) random() % 64;
        vm = make_vm(n * 1000003);
        missing += (hatch_zone_find(&zone, vm.id, &slot, &got) == 0)
                   != (present[n] != 0);
    }

    is_int(missing, 0, "20000 random changes, every look-up right");

    for (n = 0, count = 0; n < 64; n++) {
        vm = make_vm(n * 1000003);

        if (!present[n]
            && hatch_zone_put(&writer, &vm, HATCH_STATE_STOPPED, 1) >= 0)
        {
            present[n] = 1;
        }

        count += present[n];
    }

    is_int(count, 48, "48 fit into 48 slots");
    is_int(hatch_zone_vm_count(&zone), 48, "and are counted");

    hatch_zone_detach(&zone);
    hatch_zone_disown(&writer);
}


static void
test_takeover(void)
{
    uint32_t             slot;
    uint64_t             generation;
    hatch_err_t          err;
    hatch_zone_t         zone;
    hatch_zone_vm_t      vm, got;
    hatch_zone_writer_t  first, second;
    const char          *path = path_of("takeover");

    (void) hatch_zone_own(&first, path, 16, (gid_t) -1, NULL);
    (void) hatch_zone_attach(&zone, path, 16, NULL);
    vm = make_vm(5);
    (void) hatch_zone_put(&first, &vm, HATCH_STATE_RUNNING, 1);
    generation = vm.generation;

    is_int(hatch_zone_own(&second, path, 16, (gid_t) -1, &err),
           HATCH_ERR_BUSY, "a second agent is refused");
    like(err.text, "in use by another process", "and told why");

    /* the first one dies in the middle of a change of the index */
    first.zone.head->index_seq |= 1;
    memset(first.zone.index, 0, 16 * sizeof(uint32_t));
    is_int(hatch_zone_find(&zone, vm.id, &slot, &got), 0,
           "found although the index is broken");
    hatch_zone_disown(&first);

    is_int(hatch_zone_own(&second, path, 16, (gid_t) -1, &err), 0,
           "the next agent takes over");
    is_int(second.zone.head->index_seq & 1, 0, "the index is repaired");
    is_int(hatch_zone_find(&zone, vm.id, &slot, &got), 0, "still there");
    is_int(hatch_zone_vm_count(&zone), 1, "and counted");

    vm = make_vm(5);
    (void) hatch_zone_put(&second, &vm, HATCH_STATE_RUNNING, 2);
    is_int(vm.generation, generation, "with the same generation");
    ok(!hatch_file_replaced(&zone.file, path), "in the same file");

    /* rubbish in a slot is not taken over */
    memset(&second.zone.slots[3], 0x5a, sizeof(hatch_zone_slot_t));
    hatch_zone_disown(&second);
    (void) hatch_zone_own(&second, path, 16, (gid_t) -1, &err);
    is_int(hatch_zone_vm_count(&zone), 1, "rubbish is dropped");
    hatch_zone_disown(&second);

    is_int(hatch_zone_own(&second, path, 32, (gid_t) -1, &err), 0,
           "another size");
    ok(hatch_file_replaced(&zone.file, path), "is a new file");
    is_int(hatch_zone_find(&zone, vm.id, &slot, &got), 0,
           "the old mapping still has the last good data");

    hatch_zone_detach(&zone);
    hatch_zone_disown(&second);
}


/* A mapped file that is truncated must not kill the reader. */
static void
test_truncated(void)
{
    uint32_t             slot;
    hatch_zone_t         zone;
    hatch_zone_vm_t      vm, got;
    hatch_zone_writer_t  writer;
    const char          *path = path_of("truncated");

    is_int(hatch_guard_install(), 0, "guard");
    (void) hatch_zone_own(&writer, path, 16, (gid_t) -1, NULL);
    (void) hatch_zone_attach(&zone, path, 16, NULL);
    vm = make_vm(1);
    (void) hatch_zone_put(&writer, &vm, HATCH_STATE_RUNNING, 1);

    is_int(truncate(path, 0), 0, "truncate it");
    is_int(hatch_zone_find(&zone, vm.id, &slot, &got), HATCH_ERR_NOT_FOUND,
           "reads nothing, and lives");
    ok(!hatch_zone_intact(&zone), "and knows that it is no zone");
    ok(hatch_file_replaced(&zone.file, path), "and that the file changed");

    hatch_zone_detach(&zone);
    hatch_zone_disown(&writer);
}


/* What a VM uses, and what the agent counts. */
static void
test_stats(void)
{
    unsigned               i;
    uint64_t               count = 0;
    hatch_zone_t           zone;
    hatch_zone_vm_t        vm, got;
    hatch_zone_stats_t     stats, read;
    hatch_zone_writer_t    writer;
    hatch_zone_counters_t  counters;
    const char            *path = path_of("stats");

    (void) hatch_zone_own(&writer, path, 2, (gid_t) -1, NULL);
    (void) hatch_zone_attach(&zone, path, 2, NULL);
    vm = make_vm(1);
    vm.wakes = 5;
    (void) hatch_zone_put(&writer, &vm, HATCH_STATE_RUNNING, 1);
    is_int(hatch_zone_stats(&zone, 0, vm.generation, &read),
           HATCH_ERR_NOT_FOUND, "no statistics at first");
    is_int(hatch_zone_sampled(&zone), 0, "nor a time of them");

    memset(&stats, 0, sizeof(stats));
    stats.generation = vm.generation;
    stats.cpu_time = 42;
    hatch_zone_set_stats(&writer, 0, &stats);
    hatch_zone_set_stats(&writer, 2, &stats);
    hatch_zone_set_sampled(&writer, 77);
    is_int(hatch_zone_stats(&zone, 0, vm.generation, &read), 0, "statistics");
    is_int(read.cpu_time, 42, "of this VM");
    is_int(hatch_zone_stats(&zone, 0, vm.generation + 1, &read),
           HATCH_ERR_NOT_FOUND, "not of the next one");
    is_int(hatch_zone_stats(&zone, 2, vm.generation, &read),
           HATCH_ERR_NOT_FOUND, "out of range");
    is_int(hatch_zone_sampled(&zone), 77, "sampled then");
    (void) hatch_zone_read(&zone, 0, &got);
    is_int(got.wakes, 5, "five wakes");

    memset(&counters, 0, sizeof(counters));
    hatch_zone_histogram_add(&counters.wake_time[1], 5);
    hatch_zone_histogram_add(&counters.wake_time[1], 6);
    hatch_zone_histogram_add(&counters.wake_time[1], 60000);
    hatch_zone_histogram_add(&counters.wake_time[1], 60001);
    is_int(counters.wake_time[1].buckets[0], 1, "5 ms are at most 5 ms");
    is_int(counters.wake_time[1].buckets[1], 1, "6 are not");
    is_int(counters.wake_time[1].buckets[HATCH_WAKE_N_BUCKETS - 1], 1, "60 s");
    is_int(counters.wake_time[1].buckets[HATCH_WAKE_N_BUCKETS], 1, "more");

    for (i = 0; i <= HATCH_WAKE_N_BUCKETS; i++) {
        count += counters.wake_time[1].buckets[i];
    }

    is_int(count, 4, "each in one bucket");
    is_int(counters.wake_time[1].sum, 120012, "and in the sum");

    counters.wakes[1] = 9;
    hatch_zone_set_counters(&writer, &counters);
    hatch_zone_disown(&writer);

    is_int(hatch_zone_own(&writer, path, 2, (gid_t) -1, NULL), 0, "the next");
    memset(&counters, 0, sizeof(counters));
    is_int(hatch_zone_counters(&zone, &counters), 0, "agent finds counters");
    is_int(counters.wakes[1], 9, "as they were");
    is_int(hatch_zone_stats(&zone, 0, vm.generation, &read), 0,
           "and statistics");
    ok(hatch_zone_started(&zone) != 0, "since when");

    hatch_zone_detach(&zone);
    hatch_zone_disown(&writer);
}


int
main(void)
{
    test_publish();
    test_full();
    test_takeover();
    test_stats();
    test_truncated();
    tap_cleanup();

    return tap_done();
}
