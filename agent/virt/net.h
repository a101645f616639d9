/*
 * The NAT network of the VMs: defined by the agent, with a DHCP reservation
 * for each VM, so that guest_ip is known before the guest boots and stays.
 *
 * The network is ours alone: a reservation that belongs to no VM is removed.
 */

#ifndef HATCH_AGENT_NET_H_INCLUDED
#define HATCH_AGENT_NET_H_INCLUDED

#include <libvirt/libvirt.h>
#include <net/if.h>
#include <netinet/in.h>

#include "core/config.h"
#include "hatch_err.h"
#include "xml.h"


/*
 * Defines the network if it is not there, starts it if it does not run, and
 * reads its address range and reservations; the caller frees network->host.
 * A network of that name that is there already is used as it is.
 */
int net_ensure(virConnectPtr conn, const config_t *config,
    xml_network_t *network, hatch_err_t *err);

/*
 * Is the network as the configuration says?  One that the agent made is made
 * anew if it is not; HATCH_ERR_INVALID if something has an address of it, which
 * names both.  checks: nothing is changed.  On each connection.
 */
int net_follow(virConnectPtr conn, const config_t *config, int checks,
    hatch_err_t *err);

/* The bridge: as libvirt says, else as the configuration does. */
void net_bridge(const config_t *config, char bridge[IFNAMSIZ]);

/* Something failed, perhaps since what is known of the network is wrong. */
void net_forget(void);

/*
 * Sees to it that there is a reservation, in the running network and in its
 * definition; makes or starts the network if need be.  libvirt is asked only
 * if that may have changed.
 */
int net_reserve(virConnectPtr conn, const config_t *config, const char *mac,
    struct in_addr ip, hatch_err_t *err);

/* Removes one, with its lease; it is no error if it is not there. */
int net_release(virConnectPtr conn, const config_t *config, const char *mac,
    struct in_addr ip, hatch_err_t *err);

/*
 * Adds the reservations that VMs in the table lack, and takes out what is in
 * their way: another MAC's with the same address, or the other way round.  All
 * others stay, of a VM that libvirt does not have at the moment or of
 * somebody's.  Sets changed to how many it corrected.
 */
int net_reconcile(virConnectPtr conn, const config_t *config,
    unsigned *changed, hatch_err_t *err);

#endif /* HATCH_AGENT_NET_H_INCLUDED */
