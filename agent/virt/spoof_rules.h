/*
 * The rules that keep guests to their own addresses.
 *
 *   table bridge BRIDGE {
 *       set ports  { type ifname }
 *       set guests { type ifname . ether_addr . ipv4_addr }
 *       chain guard {
 *           type filter hook prerouting priority -300
 *           iifname != @ports accept
 *           ...
 *           counter drop
 *       }
 *   }
 *
 * A guest has its port in the one, and in the other port, MAC and address,
 * and the same with 0.0.0.0: what it may say before it has one.
 */

#ifndef HATCH_AGENT_SPOOF_RULES_H_INCLUDED
#define HATCH_AGENT_SPOOF_RULES_H_INCLUDED

#include <netinet/in.h>

#include "nft.h"


/* Table, sets and rules, without a guest; in the place of what there is. */
void spoof_rules_make(nft_batch_t *batch, const char *table);

/* No table any more. */
void spoof_rules_drop(nft_batch_t *batch, const char *table);

/* A guest comes, or goes (which fails if it is not there). */
void spoof_rules_guest(nft_batch_t *batch, const char *table, int comes,
    const char *port, const char *mac, struct in_addr ip);

#endif /* HATCH_AGENT_SPOOF_RULES_H_INCLUDED */
