/*
 * The table's figures: what the agent counts, and the last sample of what
 * each VM uses.  Both go to the zone, for /metrics.  Any thread; nothing here
 * blocks.
 */

#ifndef HATCH_AGENT_TABLE_STATS_H_INCLUDED
#define HATCH_AGENT_TABLE_STATS_H_INCLUDED

#include <stddef.h>

#include "table.h"


/* One of libvirt's own figures; the name is never freed. */
typedef struct {
    const char  *name;
    uint64_t     value;
} table_raw_t;


/* The bit of a member of hatch_zone_stats_t in `told`. */
#define TABLE_TOLD(member)                                                    \
    (1u << (offsetof(hatch_zone_stats_t, member) / sizeof(uint64_t)))


typedef struct {
    hatch_zone_stats_t  stats;
    int                 domain_id;  /* of the run they are of; -1: not up */
    unsigned            told;       /* TABLE_TOLD() of what libvirt said */
    table_raw_t        *raw;        /* malloc()ed, or NULL */
    size_t              n_raw;
} table_sample_t;


/*
 * A new sample of a VM, taken at `now` (the zone's clock).  What libvirt did
 * not tell, because another operation had the VM, stays as it was; `sampled`
 * is then of the last complete one.  Takes sample->raw.
 */
void table_sample(const char *id, table_sample_t *sample, uint64_t now);

/* Is a guest up of whose run there is no sample yet? */
int table_wants_sample(const char *id);

/*
 * The last sample of a VM (raw is a copy that the caller frees), and how much
 * of its processors it used before that, in percent.  HATCH_ERR_NOT_FOUND.
 */
int table_last_sample(const char *id, table_sample_t *sample,
    double *utilization);

/* All VMs were sampled, in so many ms. */
void table_sampled(uint64_t now, uint64_t took);

/* They could not be, or not in time. */
void table_sample_failed(void);


/* --- counters --- */

/* The VM was woken; `since` (wake_now()) it was asked for. */
void table_count_wake(const char *id, hatch_wake_kind_t kind, uint64_t since);

/* Its guest has answered whoever asked for it. */
void table_count_answer(const char *id, uint64_t now);

/* It could not be woken, or its guest does not answer. */
void table_count_failure(const char *id, hatch_wake_failure_t failure);

typedef enum {
    TABLE_PAUSED,               /* put to sleep, nobody used it */
    TABLE_SAVED,                /* and then to disk */
    TABLE_LOST_SAVE             /* its saved memory could not be restored */
} table_event_t;

void table_count(table_event_t event);

#endif /* HATCH_AGENT_TABLE_STATS_H_INCLUDED */
