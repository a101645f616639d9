/*
 * Two processes on one zone: the writer publishes as fast as it can and is
 * killed at random moments; the reader never accepts a torn VM, always finds
 * the VM that is never dropped, and never hangs.
 *
 * Each VM carries one number in all of its fields, so that a mixture of two
 * versions shows.
 */

#define _GNU_SOURCE

#include "hatch_zone.h"

#include "tap.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>


#define VMS     8           /* 0 stays, the others come and go */
#define KILLS   60


static char  path[256];


static hatch_zone_vm_t
make_vm(unsigned n, uint64_t number)
{
    hatch_zone_vm_t  vm;

    memset(&vm, 0, sizeof(vm));
    (void) strcpy(vm.id, "vm_aaaaaaaaaaaaaaaa");
    vm.id[18] = (char) ('a' + n);
    vm.created = number;
    vm.vcpus = (uint32_t) number;
    vm.memory = number;
    vm.family = 4;
    memcpy(vm.address, &number, sizeof(number));
    (void) snprintf(vm.name, sizeof(vm.name), "%llu",
                    (unsigned long long) number);

    return vm;
}


static int
is_torn(const hatch_zone_vm_t *vm)
{
    uint64_t  in_address;

    memcpy(&in_address, vm->address, sizeof(in_address));

    return vm->memory != vm->created || vm->vcpus != (uint32_t) vm->created
           || in_address != vm->created
           || strtoull(vm->name, NULL, 10) != vm->created;
}


static void
write_for_ever(unsigned seed)
{
    unsigned             n;
    uint64_t             number = 1;
    hatch_zone_vm_t      vm;
    hatch_zone_writer_t  writer;

    if (hatch_zone_own(&writer, path, 16, (gid_t) -1, NULL) != 0) {
        _exit(1);
    }

    srandom(seed);

    for ( ;; ) {
        n = (unsigned) random() % VMS;
        vm = make_vm(n, number++);

        if (n != 0 && random() % 4 == 0) {
            (void) hatch_zone_drop(&writer, vm.id);
        } else {
            (void) hatch_zone_put(&writer, &vm, number & 1
                                  ? HATCH_STATE_RUNNING : HATCH_STATE_PAUSED,
                                  number);
        }

        hatch_zone_beat(&writer, number);
    }
}


static uint64_t
now_us(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}


int
main(void)
{
    int                  kills, rc;
    pid_t                pid;
    uint32_t             slot;
    uint64_t             until, reads = 0, torn = 0, lost = 0, odd = 0;
    unsigned             n;
    hatch_zone_t         zone;
    hatch_zone_vm_t      vm, keep = make_vm(0, 1);
    hatch_zone_writer_t  writer;
    hatch_zone_counts_t  counts;

    (void) snprintf(path, sizeof(path), "%s/zone", tap_dir());
    (void) hatch_zone_own(&writer, path, 16, (gid_t) -1, NULL);
    (void) hatch_zone_put(&writer, &keep, HATCH_STATE_RUNNING, 1);
    hatch_zone_disown(&writer);

    is_int(hatch_zone_attach(&zone, path, 16, NULL), 0, "attach");
    srandom(42);

    for (kills = 0; kills < KILLS; kills++) {
        pid = fork();

        if (pid == 0) {
            write_for_ever((unsigned) kills);
        }

        until = now_us() + 5000 + (uint64_t) random() % 20000;

        while (now_us() < until) {
            n = (unsigned) random() % VMS;
            keep = make_vm(n, 1);
            rc = hatch_zone_find(&zone, keep.id, &slot, &vm);
            reads++;

            if (rc == 0) {
                torn += is_torn(&vm) != 0;

            } else if (n == 0) {
                lost++;
            }

            odd += hatch_zone_counts(&zone, &counts) != 0
                   || counts.total > VMS;
        }

        (void) kill(pid, SIGKILL);
        (void) waitpid(pid, NULL, 0);

        /* the writer is dead now, wherever it was */
        keep = make_vm(0, 1);
        lost += hatch_zone_find(&zone, keep.id, &slot, &vm) != 0;
    }

    ok(reads > 10000, "%llu reads beside %d killed writers",
       (unsigned long long) reads, KILLS);
    is_int(torn, 0, "no torn VM was accepted");
    is_int(lost, 0, "the VM that stays was always found");
    is_int(odd, 0, "the counts were always possible");
    ok(!hatch_file_replaced(&zone.file, path), "all in one file");

    tap_cleanup();

    return tap_done();
}
