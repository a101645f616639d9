/*
 * What the VMs use, as libvirt counts it: sampled every stats_interval, for
 * the zone and for GET /vms/{id}/metrics.
 */

#ifndef HATCH_AGENT_STATS_H_INCLUDED
#define HATCH_AGENT_STATS_H_INCLUDED

#include <json-c/json.h>

#include "core/config.h"
#include "hatch_err.h"


/*
 * Starts the sampling thread, which rests while stats_interval is never.  Each
 * sample is one call to libvirt, by a connection and in a thread that nobody
 * else uses; one that does not come back in time is left behind.
 */
int stats_start(const config_t *config, hatch_err_t *err);

/* stats_interval may be another one. */
void stats_reload(void);

void stats_stop(void);

/*
 * Has a sample taken before the next one is due, and waits for it, a second
 * at most.
 */
void stats_refresh(void);

/*
 * The last sample of one VM, as GET /vms/{id}/metrics shows it: a new value.
 * Waits (stats_refresh()) for the first one of a guest that has just begun.
 * HATCH_ERR_NOT_FOUND.
 */
int stats_get(const char *id, json_object **metrics, hatch_err_t *err);

#endif /* HATCH_AGENT_STATS_H_INCLUDED */
