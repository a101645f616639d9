/* What the table's files share; nobody else. */

#ifndef HATCH_AGENT_TABLE_PRIVATE_H_INCLUDED
#define HATCH_AGENT_TABLE_PRIVATE_H_INCLUDED

#include "table.h"
#include "table_stats.h"
#include "core/cond.h"


#define TABLE_BUCKETS  16384

/* How many may be deleted while somebody looks for orphans. */
#define TABLE_DELETED  64

/*
 * How many may wait for one VM.  Each holds a connection; a VM that hangs
 * must not get all of them.
 */
#define TABLE_WAITING  16


/* As the id of a domain: nobody has looked yet whether it is the same one. */
#define TABLE_NOT_LOOKED  (-2)


typedef struct entry_s {
    struct entry_s  *next;          /* in the bucket */
    uint64_t         due_from;      /* 0, or: not due before (table_due()),
                                       unless it is published anew */
    vm_t             vm;
    hatch_state_t    observed;      /* NONE: not in libvirt yet */
    hatch_state_t    doing;         /* NONE: no operation to show */
    uint64_t         epoch;
    uint64_t         booted;        /* the zone's ms: active since, or 0 */
    unsigned         waiting;       /* for the operation to end */

    /* table_sleep.c; times are the zone's */
    uint32_t         slot;          /* in the zone, unless slotless */
    uint64_t         generation;    /* of the slot */
    uint64_t         incarnation;   /* see hatch_zone.h */
    uint64_t         booting;       /* until then its guest may be */
    uint64_t         used;          /* last use through the API */
    uint64_t         requested;     /* last request that was ever seen */
    uint64_t         idled;         /* it fell asleep by itself then, or 0 */
    uint64_t         retry;         /* not put to sleep before; after errors */
    unsigned         sleepless;     /* failures to do so, in a row */
    uint32_t         cause;         /* of the last one, a hash */
    uint64_t         no_room;       /* see table_due_t */
    unsigned         wanted;        /* wakes that wait for it */
    int              domain_id;     /* as last observed */

    /* table_stats.c */
    uint64_t         wakes;
    uint64_t         wake_failures;
    uint64_t         woken_since;   /* of the last wake, wake_now() */
    hatch_wake_kind_t  woken_by;    /* NONE: it was, and has answered */
    table_sample_t   sample;
    uint64_t         cpu_sampled;   /* when its cpu_time was */
    double           utilization;   /* percent */

    unsigned         busy:1;        /* an operation is under way */
    unsigned         forced:1;      /* and somebody pulled the plug under it */
    unsigned         slotless:1;    /* the zone was full */
    unsigned         saving:1;      /* it can be cancelled */
    unsigned         answered:1;    /* the guest did, since its boot */
} entry_t;


typedef struct {
    pthread_mutex_t      lock;
    pthread_cond_t       changed;   /* any entry did */
    entry_t             *buckets[TABLE_BUCKETS];
    size_t               count;
    uint64_t             epoch;
    uint32_t             next_ip;   /* where the search goes on */
    hatch_zone_writer_t  writer;
    hatch_zone_counters_t  counters;
    void               (*freed)(const char *id);
    const config_t      *config;
    table_orphan_t      *orphans;   /* some may be back */
    size_t               n_orphans;
    unsigned             listed;        /* orphans of any kind */
    uint64_t             deleted;       /* how many VMs were, and which ones */
    char                 deleted_id[TABLE_DELETED][HATCH_ID_SIZE];
    unsigned             slotless;
    unsigned             complete:1;
} table_t;


/* The one table.  Its lock guards all of it. */
extern table_t  table;


/* The link to a VM's entry, or to the NULL where it would be.  Locked. */
entry_t **table_find(const char *id);

/* What is shown of an entry; NONE: nothing yet.  Locked. */
hatch_state_t table_state(const entry_t *e);

/*
 * Would the sums of all VMs, this one as it is in vm, be within the limits?
 * HATCH_ERR_LIMIT.  Locked.
 */
int table_check_limits(const vm_t *vm, hatch_err_t *err);

/* Writes an entry to the zone.  Locked. */
void table_publish_entry(entry_t *e);

/* Writes its last sample there, too.  Locked. */
void table_publish_stats(entry_t *e);

/* It has no process (any more): its figures are 0 at once.  Locked. */
void table_note_end(entry_t *e);

/*
 * What was last observed of a domain is about to replace e->vm: notices a
 * guest that began anew.  Locked.
 */
void table_note_run(entry_t *e, const vm_t *vm, hatch_state_t state);

#endif /* HATCH_AGENT_TABLE_PRIVATE_H_INCLUDED */
