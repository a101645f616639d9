/*
 * The zone's figures: what each VM uses, as libvirt counts it, and what the
 * agent itself counts.  Part of the zone's layout (hatch_zone.h), by the same
 * rules.
 *
 * A counter here only grows, or begins again at 0: those of a VM with each run
 * of its guest (a boot or a restore; 0 while it is not up), those of the agent
 * when the file is made anew, which a restart of the agent does not do.
 */

#ifndef HATCH_ZONE_STATS_H_INCLUDED
#define HATCH_ZONE_STATS_H_INCLUDED

#include <stdint.h>

#include "hatch_wake.h"


/* One VM.  Counters unless said otherwise; its devices are summed up. */
typedef struct {
    uint64_t  generation;       /* of the slot: whose figures they are */
    uint64_t  sampled;          /* when libvirt last told all of them */
    uint64_t  cpu_time;         /* ns */
    uint64_t  memory_current;   /* gauge, bytes: what the guest has now */
    uint64_t  memory_resident;  /* gauge, bytes: what that takes of the host */
    uint64_t  rx_bytes;
    uint64_t  rx_packets;
    uint64_t  tx_bytes;
    uint64_t  tx_packets;
    uint64_t  read_bytes;
    uint64_t  reads;
    uint64_t  written_bytes;
    uint64_t  writes;
} hatch_zone_stats_t;


typedef struct {
    uint32_t            seq;    /* of the latch over stats[] */
    uint32_t            reserved;
    hatch_zone_stats_t  stats[2];
} hatch_zone_stats_slot_t;


/* Upper bounds of the buckets, ms; one more is without bound. */
#define HATCH_WAKE_BUCKETS                                                    \
    { 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000 }

#define HATCH_WAKE_N_BUCKETS  13


typedef struct {
    uint64_t  buckets[HATCH_WAKE_N_BUCKETS + 1];    /* each for itself */
    uint64_t  sum;                                  /* ms */
} hatch_zone_histogram_t;


/* By hatch_wake_kind_t and hatch_wake_failure_t; the first of each is void. */
#define HATCH_WAKE_KINDS     4
#define HATCH_WAKE_FAILURES  5


typedef struct {
    uint64_t  wakes[HATCH_WAKE_KINDS];      /* VMs woken, for requests */
    uint64_t  wake_failures[HATCH_WAKE_FAILURES];
    uint64_t  pauses;           /* VMs put to sleep because nobody used them */
    uint64_t  saves;            /* and then to disk */
    uint64_t  lost_saves;       /* saved memory that could not be restored */
    uint64_t  samples;          /* of statistics: complete ones */
    uint64_t  sample_failures;  /* libvirt refused, or took too long */
    uint64_t  sample_time;      /* gauge, ms: how long the last one took */

    /* from the first request until the guest accepts a connection */
    hatch_zone_histogram_t  wake_time[HATCH_WAKE_KINDS];
} hatch_zone_counters_t;


_Static_assert(sizeof(hatch_zone_stats_t) == 104, "stats size");
_Static_assert(sizeof(hatch_zone_counters_t) % 8 == 0, "latched in words");


/* Counts one wake that took so long, ms. */
static inline void
hatch_zone_histogram_add(hatch_zone_histogram_t *histogram, uint64_t ms)
{
    unsigned               i;
    static const uint64_t  bounds[] = HATCH_WAKE_BUCKETS;

    for (i = 0; i < HATCH_WAKE_N_BUCKETS && ms > bounds[i]; i++) {
        /* void */
    }

    histogram->buckets[i]++;
    histogram->sum += ms;
}

#endif /* HATCH_ZONE_STATS_H_INCLUDED */
