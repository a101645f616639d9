/*
 * zone-poke: makes a zone for the module's tests, without an agent.
 *
 *   zone-poke [OPTION...] PATH SLOTS [ID STATE ADDRESS[=NAME]]...
 *
 * Publishes these VMs.  ADDRESS is IPv4, IPv6 or "-" for none.  Those that
 * are there already stay; STATE "gone" takes one away.
 *
 *   --age=MS            the last sign of life was so long ago
 *   --libvirt=STATE     unknown, connected (the default) or disconnected
 *   --unpublished       the list of VMs is not complete yet
 *   --figures           statistics and counters, all different
 *   --max-figures       the same, each as large as it can be
 *   --incarnation=N     of all these VMs
 *   --more=N            N more VMs that run, with statistics
 */

#include "hatch_clock.h"
#include "hatch_zone.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>


static struct {
    unsigned long    age;
    unsigned         more;
    unsigned         incarnation;
    int              figures;
    int              max_figures;
    int              unpublished;
    hatch_libvirt_t  libvirt;
} options = { .libvirt = HATCH_LIBVIRT_CONNECTED };


static int
poke_option(const char *arg)
{
    if (strncmp(arg, "--age=", 6) == 0) {
        options.age = strtoul(arg + 6, NULL, 10);

    } else if (strncmp(arg, "--more=", 7) == 0) {
        options.more = (unsigned) strtoul(arg + 7, NULL, 10);

    } else if (strncmp(arg, "--incarnation=", 14) == 0) {
        options.incarnation = (unsigned) strtoul(arg + 14, NULL, 10);

    } else if (strcmp(arg, "--figures") == 0) {
        options.figures = 1;

    } else if (strcmp(arg, "--max-figures") == 0) {
        options.figures = 1;
        options.max_figures = 1;

    } else if (strcmp(arg, "--unpublished") == 0) {
        options.unpublished = 1;

    } else if (strncmp(arg, "--libvirt=", 10) == 0) {
        options.libvirt = arg[10] == 'u' ? HATCH_LIBVIRT_UNKNOWN
                          : arg[10] == 'c' ? HATCH_LIBVIRT_CONNECTED
                          : HATCH_LIBVIRT_DISCONNECTED;

    } else {
        return -1;
    }

    return 0;
}


/* The members count up from 1000 times (n + 1), in the order of the struct. */
static void
poke_stats(hatch_zone_writer_t *writer, int64_t slot, uint64_t generation,
    unsigned n)
{
    size_t               i;
    hatch_zone_stats_t   stats;
    uint64_t            *words = (uint64_t *) &stats;

    for (i = 0; i < sizeof(stats) / sizeof(*words); i++) {
        words[i] = options.max_figures ? UINT64_MAX : (n + 1) * 1000ull + i;
    }

    stats.generation = generation;
    stats.sampled = hatch_clock_ms();
    stats.cpu_time *= options.max_figures ? 1 : 1000000;
    hatch_zone_set_stats(writer, (uint32_t) slot, &stats);
}


/* The sums over the buckets of a histogram are at most that large, too. */
static void
poke_max_counters(hatch_zone_writer_t *writer)
{
    unsigned               i;
    hatch_zone_counters_t  c;

    memset(&c, 0xff, sizeof(c));

    for (i = 0; i < HATCH_WAKE_KINDS; i++) {
        memset(&c.wake_time[i].buckets[1], 0,
               sizeof(c.wake_time[i].buckets)
               - sizeof(c.wake_time[i].buckets[0]));
    }

    hatch_zone_set_counters(writer, &c);
    hatch_zone_set_sampled(writer, hatch_clock_ms());
}


static void
poke_counters(hatch_zone_writer_t *writer)
{
    unsigned               i;
    hatch_zone_counters_t  c;

    memset(&c, 0, sizeof(c));

    for (i = 0; i < HATCH_WAKE_KINDS; i++) {
        c.wakes[i] = 10 + i;
    }

    for (i = 0; i < HATCH_WAKE_FAILURES; i++) {
        c.wake_failures[i] = 20 + i;
    }

    c.pauses = 30;
    c.saves = 31;
    c.lost_saves = 32;
    c.samples = 33;
    c.sample_failures = 34;
    c.sample_time = 35;

    hatch_zone_histogram_add(&c.wake_time[HATCH_WAKE_KIND_RESUME], 5);
    hatch_zone_histogram_add(&c.wake_time[HATCH_WAKE_KIND_RESUME], 6);
    hatch_zone_histogram_add(&c.wake_time[HATCH_WAKE_KIND_RESUME], 60001);

    hatch_zone_set_counters(writer, &c);
    hatch_zone_set_sampled(writer, hatch_clock_ms());
}


static void
poke_vm(hatch_zone_writer_t *writer, unsigned n, const char *id,
    const char *state, char *address)
{
    char             *name = strchr(address, '=');
    int64_t           slot;
    hatch_zone_vm_t   vm;

    if (strcmp(state, "gone") == 0) {
        (void) hatch_zone_drop(writer, id);
        return;
    }

    memset(&vm, 0, sizeof(vm));
    vm.incarnation = options.incarnation;
    (void) snprintf(vm.id, sizeof(vm.id), "%s", id);
    vm.vcpus = 1;
    vm.memory = 1 << 20;

    if (name != NULL) {
        *name++ = '\0';
        (void) snprintf(vm.name, sizeof(vm.name), "%s", name);
    }

    if (inet_pton(AF_INET, address, vm.address) == 1) {
        vm.family = 4;

    } else if (inet_pton(AF_INET6, address, vm.address) == 1) {
        vm.family = 6;
    }

    vm.wakes = options.figures ? n + 1 : 0;
    vm.wake_failures = options.figures ? n + 2 : 0;

    if (options.max_figures) {
        vm.vcpus = UINT32_MAX;
        vm.memory = UINT64_MAX;
        vm.wakes = UINT64_MAX;
        vm.wake_failures = UINT64_MAX;
    }

    slot = hatch_zone_put(writer, &vm, hatch_state_parse(state),
                          hatch_clock_ms());

    if (slot >= 0 && options.figures) {
        poke_stats(writer, slot, vm.generation, n);
    }
}


int
main(int argc, char **argv)
{
    int                  i;
    char                 id[HATCH_ID_SIZE + 16], address[] = "127.0.0.1=web";
    unsigned             n = 0, more;
    uint64_t             now;
    hatch_err_t          err;
    hatch_zone_writer_t  writer;

    for (i = 1; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        if (poke_option(argv[i]) != 0) {
            fprintf(stderr, "zone-poke: no option %s\n", argv[i]);
            return 2;
        }
    }

    if (argc - i < 2 || (argc - i - 2) % 3 != 0) {
        fprintf(stderr, "usage: zone-poke [OPTION...] PATH SLOTS "
                "[ID STATE ADDRESS[=NAME]]...\n");
        return 2;
    }

    argv += i;

    if (hatch_zone_own(&writer, argv[0], (uint32_t) atoi(argv[1]),
                       (gid_t) -1, &err) != 0)
    {
        fprintf(stderr, "zone-poke: %s\n", err.text);
        return 1;
    }

    for (i = 2; argv[i] != NULL; i += 3) {
        poke_vm(&writer, n++, argv[i], argv[i + 1], argv[i + 2]);
    }

    for (more = 0; more < options.more; more++) {
        (void) snprintf(id, sizeof(id), "vm_%016x", more);
        id[3] = 'm';
        options.figures = 1;
        address[9] = '=';
        poke_vm(&writer, n++, id, "running", address);
    }

    if (options.max_figures) {
        poke_max_counters(&writer);

    } else if (options.figures) {
        poke_counters(&writer);
    }

    now = hatch_clock_ms();
    now = now > options.age ? now - options.age : 1;
    hatch_zone_set_libvirt(&writer, options.libvirt, now);

    if (options.unpublished) {
        hatch_zone_beat(&writer, now);

    } else {
        hatch_zone_publish(&writer, now);
    }

    (void) chmod(argv[0], 0644);

    return 0;
}
