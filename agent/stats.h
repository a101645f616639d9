/* What a VM uses, as libvirt counts it. */

#ifndef HATCH_AGENT_STATS_H_INCLUDED
#define HATCH_AGENT_STATS_H_INCLUDED

#include <json-c/json.h>

#include "config.h"
#include "hatch_err.h"


/*
 * The figures of one VM, as GET /vms/{id}/metrics shows them: a new value.
 * Asks libvirt without waiting for the VM's own operations; what it cannot
 * say then, and all of a VM that is not up, is 0.
 */
int stats_get(const config_t *config, const char *id, json_object **metrics,
    hatch_err_t *err);

#endif /* HATCH_AGENT_STATS_H_INCLUDED */
