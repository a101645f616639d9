/*
 * Leases of guests that are gone.  dnsmasq keeps one for an hour, and gives
 * the address to no other MAC until then, whatever is reserved.
 */

#ifndef HATCH_AGENT_NET_LEASE_H_INCLUDED
#define HATCH_AGENT_NET_LEASE_H_INCLUDED

#include <libvirt/libvirt.h>
#include <netinet/in.h>


/*
 * Tells the DHCP server at `server`, in the guest's place, that the address is
 * not needed any more.  Nothing happens where it is not within reach.
 */
void net_lease_release(struct in_addr server, const char *mac,
    struct in_addr ip);

/* The same for whoever else than `mac` has a lease of the address. */
void net_lease_clear(virNetworkPtr network, struct in_addr server,
    const char *mac, struct in_addr ip);

#endif /* HATCH_AGENT_NET_LEASE_H_INCLUDED */
