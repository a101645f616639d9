/*
 * hatch-agent --save-all: when the host stops, the memory of every VM that is
 * up is saved, as the agent does it when a VM falls asleep (vm_idle_save()), so
 * that nothing is lost by it.
 *
 * A unit runs it after the agent has ended and before libvirt-guests looks at
 * the VMs.  What cannot be saved is left to that.  The settings are the
 * agent's; table, zone and sockets are not used.
 */

#ifndef HATCH_AGENT_SAVE_ALL_H_INCLUDED
#define HATCH_AGENT_SAVE_ALL_H_INCLUDED

#include "core/config.h"
#include "hatch_err.h"


/*
 * Returns how many VMs were not saved, each of which the log names, or an
 * error if libvirt could not be asked for them.  A thread that libvirt does not
 * answer may be left behind: the process has to end.
 */
int save_all(const config_t *config, hatch_err_t *err);

#endif /* HATCH_AGENT_SAVE_ALL_H_INCLUDED */
