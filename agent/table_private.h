/* What table.c and table_reserve.c share; nobody else. */

#ifndef HATCH_AGENT_TABLE_PRIVATE_H_INCLUDED
#define HATCH_AGENT_TABLE_PRIVATE_H_INCLUDED

#include <pthread.h>

#include "table.h"


#define TABLE_BUCKETS  16384


typedef struct entry_s {
    struct entry_s  *next;          /* in the bucket */
    vm_t             vm;
    hatch_state_t    observed;      /* NONE: not in libvirt yet */
    hatch_state_t    doing;         /* NONE: no operation to show */
    uint64_t         epoch;
    unsigned         busy:1;        /* an operation is under way */
    unsigned         slotless:1;    /* the zone was full */
} entry_t;


typedef struct {
    pthread_mutex_t      lock;
    pthread_cond_t       changed;   /* any entry did */
    entry_t             *buckets[TABLE_BUCKETS];
    size_t               count;
    uint64_t             epoch;
    uint32_t             next_ip;   /* where the search goes on */
    hatch_zone_writer_t  writer;
    const config_t      *config;
    unsigned             slotless;
} table_t;


/* The one table.  Its lock guards all of it. */
extern table_t  table;


/* The link to a VM's entry, or to the NULL where it would be.  Locked. */
entry_t **table_find(const char *id);

#endif /* HATCH_AGENT_TABLE_PRIVATE_H_INCLUDED */
