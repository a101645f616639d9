/*
 * hatch-zone: prints a live zone as JSON, one VM a line.
 *
 *   hatch-zone [PATH]      default /run/hatch/zone
 *
 * Reads only, needs neither agent nor nginx.  Exit status 0, or 1 if the zone
 * cannot be read (the reason is on standard error), or 2 for a wrong call.
 */

#include "hatch_activity.h"
#include "hatch_clock.h"
#include "hatch_guard.h"
#include "hatch_zone.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>


/* The agent writes printable UTF-8 only, but the file is not trusted. */
static void
print_string(const char *s)
{
    const unsigned char  *p;

    putchar('"');

    for (p = (const unsigned char *) s; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\') {
            printf("\\%c", *p);

        } else if (*p < 0x20 || *p == 0x7f) {
            printf("\\u%04x", *p);

        } else {
            putchar(*p);
        }
    }

    putchar('"');
}


/* Milliseconds since `then`, or null for never. */
static void
print_age(const char *key, uint64_t then, uint64_t now)
{
    if (then == 0) {
        printf("\"%s\":null", key);

    } else {
        printf("\"%s\":%" PRIu64, key, now > then ? now - then : 0);
    }
}


static void
print_counters(const hatch_zone_t *zone)
{
    unsigned               i;
    hatch_zone_counters_t  c;

    memset(&c, 0, sizeof(c));
    (void) hatch_zone_counters(zone, &c);

    printf("\"wakes\":{");

    for (i = HATCH_WAKE_KIND_NONE + 1; i < HATCH_WAKE_KINDS; i++) {
        printf("%s\"%s\":%" PRIu64, i > 1 ? "," : "", hatch_wake_kind_name(i),
               c.wakes[i]);
    }

    printf("},\"pauses\":%" PRIu64 ",\"saves\":%" PRIu64
           ",\"lost_saves\":%" PRIu64 ",\"samples\":%" PRIu64
           ",\"sample_failures\":%" PRIu64 ",", c.pauses, c.saves,
           c.lost_saves, c.samples, c.sample_failures);
}


static void
print_notice(const hatch_zone_t *zone)
{
    char            text[HATCH_NOTICE_TEXT];
    uint32_t        ms;
    hatch_notice_t  notice;

    notice = hatch_zone_notice(zone, &ms);

    if (notice == HATCH_NOTICE_NONE) {
        printf("\"notice\":null,");
        return;
    }

    hatch_notice_text(notice, ms, text);
    printf("\"notice\":");
    print_string(text);
    putchar(',');
}


static void
print_head(const hatch_zone_t *zone, const char *path, uint64_t now)
{
    uint32_t             state;
    hatch_zone_counts_t  counts;

    static const char *const  libvirt[] = {
        "unknown", "connected", "disconnected"
    };

    printf("{\"zone\":");
    print_string(path);
    printf(",\"version\":%u,\"layout\":\"%08x\",\"slots\":%u,\"size\":%zu,",
           (unsigned) zone->head->head.version,
           (unsigned) zone->head->head.layout, (unsigned) zone->file.slots,
           zone->file.size);
    printf("\"agent_pid\":%u,\"libvirt\":\"%s\",",
           (unsigned) zone->head->agent_pid,
           zone->head->libvirt < 3 ? libvirt[zone->head->libvirt] : "unknown");
    print_notice(zone);
    print_age("published_age_ms", zone->head->published, now);
    putchar(',');
    print_age("heartbeat_age_ms", zone->head->heartbeat, now);

    memset(&counts, 0, sizeof(counts));
    (void) hatch_zone_counts(zone, &counts);
    printf(",\"vm_count\":%u,\"orphans\":%u,\"states\":{",
           (unsigned) hatch_zone_vm_count(zone),
           (unsigned) hatch_zone_orphans(zone));

    for (state = HATCH_STATE_NONE + 1; state < HATCH_STATE_MAX; state++) {
        printf("%s\"%s\":%u", state > 1 ? "," : "", hatch_state_name(state),
               (unsigned) counts.by_state[state]);
    }

    printf("},");
    print_counters(zone);
    print_age("sampled_age_ms", hatch_zone_sampled(zone), now);
    printf(",\"vms\":[");
}


static void
print_stats(const hatch_zone_t *zone, uint32_t slot, uint64_t generation,
    uint64_t now)
{
    hatch_zone_stats_t  s;

    if (hatch_zone_stats(zone, slot, generation, &s) != 0) {
        printf(",\"stats\":null");
        return;
    }

    printf(",\"stats\":{");
    print_age("age_ms", s.sampled, now);
    printf(",\"cpu_ns\":%" PRIu64 ",\"memory_current\":%" PRIu64
           ",\"memory_resident\":%" PRIu64, s.cpu_time, s.memory_current,
           s.memory_resident);
    printf(",\"rx_bytes\":%" PRIu64 ",\"rx_packets\":%" PRIu64
           ",\"tx_bytes\":%" PRIu64 ",\"tx_packets\":%" PRIu64, s.rx_bytes,
           s.rx_packets, s.tx_bytes, s.tx_packets);
    printf(",\"read_bytes\":%" PRIu64 ",\"reads\":%" PRIu64
           ",\"written_bytes\":%" PRIu64 ",\"writes\":%" PRIu64 "}",
           s.read_bytes, s.reads, s.written_bytes, s.writes);
}


static void
print_vm(const hatch_zone_t *zone, const hatch_activity_t *activity,
    uint32_t slot, const hatch_zone_vm_t *vm, int first, uint64_t now)
{
    char  address[INET6_ADDRSTRLEN] = "";

    if (vm->family != 0) {
        (void) inet_ntop(vm->family == 6 ? AF_INET6 : AF_INET, vm->address,
                         address, sizeof(address));
    }

    printf("%s\n{\"slot\":%u,\"id\":", first ? "" : ",", (unsigned) slot);
    print_string(vm->id);
    printf(",\"name\":");
    print_string(vm->name);
    printf(",\"state\":\"%s\",",
           hatch_state_name(hatch_zone_state(zone, slot)));
    print_age("state_age_ms", vm->state_since, now);
    printf(",\"generation\":%" PRIu64 ",\"guest_ip\":", vm->generation);
    print_string(address);
    printf(",\"vcpus\":%u,\"memory\":%" PRIu64, (unsigned) vm->vcpus,
           vm->memory);
    printf(",\"incarnation\":%" PRIu64 ",\"idle_timeout_ms\":%" PRIu64 ",",
           vm->incarnation, vm->idle_timeout);
    print_age("used_age_ms", vm->used, now);
    printf(",\"wakes\":%" PRIu64 ",\"wake_failures\":%" PRIu64, vm->wakes,
           vm->wake_failures);
    print_stats(zone, slot, vm->generation, now);

    if (activity->file.base != NULL) {
        putchar(',');
        print_age("last_request_age_ms",
                  hatch_activity_last(activity, slot, vm->generation), now);
        putchar(',');
        print_age("last_pass_age_ms",
                  hatch_activity_last_pass(activity, slot, vm->generation),
                  now);
        printf(",\"requests\":%" PRIu64,
               hatch_activity_requests(activity, slot, vm->generation));
    }

    putchar('}');
}


int
main(int argc, char **argv)
{
    int                first = 1;
    char               beside[PATH_MAX];
    uint32_t           slot;
    uint64_t           now;
    const char        *path;
    hatch_err_t        err;
    hatch_zone_t       zone;
    hatch_zone_vm_t    vm;
    hatch_activity_t   activity;

    if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
        fprintf(stderr, "usage: hatch-zone [PATH]    (default %s)\n",
                HATCH_ZONE_PATH);
        return 2;
    }

    path = argc == 2 ? argv[1] : HATCH_ZONE_PATH;
    memset(&zone, 0, sizeof(zone));
    memset(&activity, 0, sizeof(activity));
    (void) hatch_guard_install();

    if (hatch_zone_attach(&zone, path, 1, &err) != 0) {
        fprintf(stderr, "hatch-zone: %s\n", err.text);
        return 1;
    }

    (void) snprintf(beside, sizeof(beside), "%s" HATCH_ACTIVITY_SUFFIX, path);
    (void) hatch_activity_attach(&activity, beside, 1, NULL);

    now = hatch_clock_ms();
    print_head(&zone, path, now);

    for (slot = 0; slot < zone.file.slots; slot++) {
        if (hatch_zone_read(&zone, slot, &vm) == 0) {
            print_vm(&zone, &activity, slot, &vm, first, now);
            first = 0;
        }
    }

    printf("]}\n");

    if (!hatch_zone_intact(&zone)) {
        fprintf(stderr, "hatch-zone: zone \"%s\" was truncated meanwhile\n",
                path);
        return 1;
    }

    return 0;
}
