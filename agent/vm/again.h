/*
 * Which VMs run again when the host has booted: those that never fall asleep
 * ("idle_timeout" null) or have "autostart", and ran when the host went down,
 * whether it was shut down or its power was cut.
 *
 * state_dir/running/VM is there as long as such a VM runs.  It is changed
 * before whoever stopped, paused or started the VM has an answer, so what a
 * user stopped stays stopped.  state_dir/boot_id says which boot of the host
 * these marks are of.  An agent that finds another one starts each VM that has
 * a mark and is not up: from its saved memory (vm/save_all.h), else from its
 * disk.  A host that is a container shows its own host's boot_id; there the
 * zone tells, which an agent leaves behind and a boot does not.
 */

#ifndef HATCH_AGENT_AGAIN_H_INCLUDED
#define HATCH_AGENT_AGAIN_H_INCLUDED

#include "core/config.h"
#include "hatch_err.h"
#include "table/table.h"


/*
 * Reads the marks.  fresh: there was no zone of an agent before.  The main
 * thread, before libvirt is connected.
 */
void again_open(const config_t *config, int fresh);

/*
 * The table has taken over what libvirt said of a VM.  Any thread but libvirt's
 * event loop: the mark is on disk, or off it, when this returns.
 */
void again_observed(const vm_t *vm, hatch_state_t state);

/*
 * The table is complete: VMs that are to run again are started, a few at once,
 * in threads of their own.  Nothing if there are none.  Any thread, any number
 * of times.
 */
void again_request(void);

/* No more of them are started. */
void again_stop(void);

/* Removes the mark of a VM that is deleted. */
void again_forget(const config_t *config, const char *vm);

/*
 * For --save-all, while no agent runs: the same as again_observed() without a
 * table.
 */
void again_note(const config_t *config, const vm_t *vm, hatch_state_t state);

#endif /* HATCH_AGENT_AGAIN_H_INCLUDED */
