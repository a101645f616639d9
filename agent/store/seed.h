/*
 * cloud-init seeds: user_data as a NoCloud ISO (label CIDATA), one per VM, in
 * state_dir/seeds.  xorriso writes it.  It stays attached as long as the VM
 * exists: saved memory refers to the drive.
 */

#ifndef HATCH_AGENT_SEED_H_INCLUDED
#define HATCH_AGENT_SEED_H_INCLUDED

#include <stddef.h>

#include "core/config.h"
#include "hatch_err.h"
#include "table/table.h"


#define SEED_DATA_MAX  65536        /* bytes of user_data */


/* Where the seed of a VM is, into path[STATEDIR_PATH]. */
void seed_path(const config_t *config, const char *id, char *path);

/*
 * Writes the seed of a VM: user-data as given, meta-data with the VM's id as
 * instance-id, and a network-config that finds the card by its MAC.  Nothing
 * is left of one that fails.
 */
int seed_create(const config_t *config, const vm_t *vm, const char *user_data,
    hatch_err_t *err);

/* Also one that is half made; it is no error if there is none. */
void seed_delete(const config_t *config, const char *id);

#endif /* HATCH_AGENT_SEED_H_INCLUDED */
