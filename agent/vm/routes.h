/*
 * The agent's one right in the route store: deleting the routes of a VM that
 * libvirt no longer has.  The VM must be out of the zone already, so that
 * nginx adds no new ones.  Thread-safe; may wait for the disk.
 */

#ifndef HATCH_AGENT_ROUTES_H_INCLUDED
#define HATCH_AGENT_ROUTES_H_INCLUDED

#include <json-c/json.h>

#include "core/config.h"
#include "hatch_err.h"


/* Deletes the routes of one VM and sets n to their number. */
int routes_delete(const config_t *config, const char *vm, unsigned *n,
    hatch_err_t *err);

/*
 * Adds the VMs that have routes and that the table does not have to an object,
 * as keys, and how many each has.
 */
int routes_note_vms(const config_t *config, json_object *ids,
    hatch_err_t *err);

void routes_close(void);

#endif /* HATCH_AGENT_ROUTES_H_INCLUDED */
