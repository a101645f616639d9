/* What sync.c and sync_vm.c share; nobody else. */

#ifndef HATCH_AGENT_SYNC_PRIVATE_H_INCLUDED
#define HATCH_AGENT_SYNC_PRIVATE_H_INCLUDED

#include <libvirt/libvirt.h>

#include "table/table.h"

#include "hatch_err.h"


/*
 * Takes settings and state of a domain into the table, as the VM with that id.
 * The object should be new: it keeps the number of the domain's run.
 * NOT_FOUND: it is gone, or not ours; the table is as it was.
 */
int sync_domain(virDomainPtr domain, const char *id, hatch_err_t *err);

/* Tells the listener what libvirt says of a VM. */
void sync_observed(const vm_t *vm, hatch_state_t state);

/* Tells the listener that a VM is gone, or all have been compared. */
void sync_settled(void);

#endif /* HATCH_AGENT_SYNC_PRIVATE_H_INCLUDED */
