/* What nft.c and link.c share. */

#ifndef HATCH_AGENT_NETLINK_H_INCLUDED
#define HATCH_AGENT_NETLINK_H_INCLUDED

#include <linux/netlink.h>


/* NLMSG_OK() without its comparison of signed and unsigned. */
static inline int
netlink_ok(const struct nlmsghdr *header, int left)
{
    return left >= (int) sizeof(*header)
           && header->nlmsg_len >= sizeof(*header)
           && header->nlmsg_len <= (unsigned) left;
}

#endif /* HATCH_AGENT_NETLINK_H_INCLUDED */
