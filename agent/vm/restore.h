/* The steps of a restore that recovery takes, too. */

#ifndef HATCH_AGENT_RESTORE_H_INCLUDED
#define HATCH_AGENT_RESTORE_H_INCLUDED

#include "vm_private.h"


/* Sets vCPUs and memory in the definition. */
int restore_hardware(vm_op_t *op, unsigned vcpu_count, unsigned mem_mib,
    hatch_err_t *err);

/* The VM is not up: disk and definition as before the restore. */
int restore_undo(vm_op_t *op, unsigned vcpu_count, unsigned mem_mib,
    hatch_err_t *err);

/* The VM is up: what it had before goes. */
int restore_keep(vm_op_t *op, hatch_err_t *err);

#endif /* HATCH_AGENT_RESTORE_H_INCLUDED */
