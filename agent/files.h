/*
 * All that belongs to one VM in the state directory: seed, disk, snapshots.
 */

#ifndef HATCH_AGENT_FILES_H_INCLUDED
#define HATCH_AGENT_FILES_H_INCLUDED

#include "config.h"


/* Deletes them; the VM is gone, or is being undone.  Any thread. */
void files_delete(const config_t *config, const char *vm);

/*
 * Looks for files of VMs that are not in the table.  With `discard` they are
 * deleted; else they stay, and are logged once: libvirt may have lost the VM
 * by mistake, or somebody means to define it again.
 */
void files_tidy(const config_t *config, int discard);

#endif /* HATCH_AGENT_FILES_H_INCLUDED */
