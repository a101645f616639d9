/*
 * The host's neighbour entry of a guest.
 *
 * Its address and MAC are known and never change, so nobody has to ask for
 * them by ARP.  While a guest boots, that question stays without an answer,
 * and the kernel repeats it only every second: a second in which nothing
 * reaches a guest that is up.
 */

#ifndef HATCH_AGENT_NEIGHBOR_H_INCLUDED
#define HATCH_AGENT_NEIGHBOR_H_INCLUDED

#include <netinet/in.h>


/*
 * Makes the entry, for as long as the bridge lives.  Where that is not
 * possible (no permission, no such bridge), ARP does it, as ever.
 */
void neighbor_set(const char *bridge, struct in_addr ip, const char *mac);

/* Removes it. */
void neighbor_delete(const char *bridge, struct in_addr ip);

#endif /* HATCH_AGENT_NEIGHBOR_H_INCLUDED */
