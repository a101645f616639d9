/* The host's network devices, by rtnetlink. */

#ifndef HATCH_AGENT_LINK_H_INCLUDED
#define HATCH_AGENT_LINK_H_INCLUDED

#include <net/if.h>


/* A socket that hears of devices that come, change and go; -1 with errno. */
int link_listen(void);

/* A port that joined a bridge.  Called for each news of it. */
typedef void (*link_joined_t)(void *ctx, const char *port);

/*
 * Reads what the socket has, and calls joined() for each port of this bridge
 * that is named.  Returns 1 if messages were lost, else 0.
 */
int link_hear(int fd, const char *bridge, link_joined_t joined, void *ctx);

/*
 * Calls each() for each port of a bridge, with the last five bytes of its MAC,
 * as in "54:00:12:34:56"; those of a guest's port are the guest's.
 */
typedef void (*link_port_t)(void *ctx, const char *port, const char *mac);

void link_each_port(const char *bridge, link_port_t each, void *ctx);

/*
 * Has a bridge not learn from frames that are for itself alone (LLDP and the
 * like), which pass no rule.  Where that is not possible, nothing happens.
 */
void link_harden(const char *bridge);

#endif /* HATCH_AGENT_LINK_H_INCLUDED */
