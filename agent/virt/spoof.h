/*
 * Guests and their addresses: what comes from a guest's port of the bridge
 * with another MAC or another address than the VM's is dropped, in IPv4, ARP
 * and DHCP; all else that is neither is dropped, too.
 *
 * The kernel does it, by an nf_tables table named as the bridge.  A VM is in
 * it from its reservation to its deletion, under the name that its port will
 * have, so that a start or a wake has nothing to do.  The table is no state:
 * each agent makes it anew, and so does this one when somebody removed it.
 */

#ifndef HATCH_AGENT_SPOOF_H_INCLUDED
#define HATCH_AGENT_SPOOF_H_INCLUDED

#include <net/if.h>

#include "core/config.h"
#include "hatch_err.h"
#include "table/table.h"


/* The name of a VM's port at the bridge, which says its address. */
void spoof_port(struct in_addr ip, char name[IFNAMSIZ]);

/*
 * Starts the thread that keeps the rules.  Where the kernel refuses them (no
 * CAP_NET_ADMIN), the log says so once, and VMs start all the same.
 */
int spoof_start(const config_t *config, hatch_err_t *err);

/*
 * The table of VMs is complete, or the bridge may be another one: the rules
 * are made anew by the thread.  Any thread; never waits.
 */
void spoof_request(void);

/*
 * Lets a VM use its address; before it starts.  Nothing if that is so already.
 * Any thread; no call to libvirt.
 */
void spoof_admit(const vm_t *vm);

/* Its address is no longer a VM's. */
void spoof_dismiss(const vm_t *vm);

/* May the rules be made by this process?  HATCH_ERR_DENIED and others. */
int spoof_check(const config_t *config, hatch_err_t *err);

#endif /* HATCH_AGENT_SPOOF_H_INCLUDED */
