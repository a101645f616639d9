/*
 * What is known of the network: libvirt is not asked at each wake.
 *
 * It is believed until libvirt says that the network changed, the connection
 * is another one, or something failed.  A reservation that somebody takes away
 * makes no event; the next comparison (net_reconcile()) finds that.
 */

#ifndef HATCH_AGENT_NET_KNOWN_H_INCLUDED
#define HATCH_AGENT_NET_KNOWN_H_INCLUDED

#include "xml.h"


/* Read it before libvirt is asked, and give it to net_known_set(). */
unsigned net_known_stamp(void);

/* The network is there, runs, and has these reservations; as of stamp. */
void net_known_set(const xml_network_t *network, unsigned stamp);

/* A reservation was made, or taken away. */
void net_known_host(const char *mac, struct in_addr ip, int there);

/* Is this reservation known to be there in a network that runs? */
int net_known_has(const char *mac, struct in_addr ip);

/* Bridge and gateway as libvirt said last; "" and 0 before it ever did. */
void net_known_place(char bridge[16], struct in_addr *gateway);

/* Nothing is known any more.  Any thread, also libvirt's event loop. */
void net_known_forget(void);

#endif /* HATCH_AGENT_NET_KNOWN_H_INCLUDED */
