/* One record of virConnectGetAllDomainStats(), as a sample. */

#ifndef HATCH_AGENT_STATS_RECORD_H_INCLUDED
#define HATCH_AGENT_STATS_RECORD_H_INCLUDED

#include <libvirt/libvirt.h>

#include "table/table_stats.h"


/*
 * libvirt's groups.  The first ones cost no call to the guest's QEMU, so one
 * that hangs cannot hold them up.
 */
#define STATS_GROUPS_PLAIN  (VIR_DOMAIN_STATS_STATE                           \
                             | VIR_DOMAIN_STATS_INTERFACE)
#define STATS_GROUPS        (STATS_GROUPS_PLAIN | VIR_DOMAIN_STATS_CPU_TOTAL  \
                             | VIR_DOMAIN_STATS_BALLOON                       \
                             | VIR_DOMAIN_STATS_VCPU                          \
                             | VIR_DOMAIN_STATS_BLOCK)


/* Fills sample; raw is NULL if there is no memory.  One thread at a time. */
void stats_record(const virDomainStatsRecord *record, table_sample_t *sample);

#endif /* HATCH_AGENT_STATS_RECORD_H_INCLUDED */
