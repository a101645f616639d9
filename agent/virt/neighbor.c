#define _GNU_SOURCE

#include "neighbor.h"

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>


typedef struct {
    struct nlmsghdr   header;
    struct ndmsg      neighbor;
    struct {
        struct rtattr   attr;
        struct in_addr  ip;
    } destination;
    struct {
        struct rtattr   attr;
        uint8_t         mac[RTA_ALIGN(ETH_ALEN)];
    } link;
} neighbor_request_t;


static void
neighbor_fill(neighbor_request_t *request, const char *bridge,
    struct in_addr ip)
{
    memset(request, 0, sizeof(*request));
    request->header.nlmsg_flags = NLM_F_REQUEST;
    request->neighbor.ndm_family = AF_INET;
    request->neighbor.ndm_ifindex = (int) if_nametoindex(bridge);
    request->neighbor.ndm_state = NUD_PERMANENT;
    request->destination.attr.rta_type = NDA_DST;
    request->destination.attr.rta_len = sizeof(request->destination);
    request->destination.ip = ip;
}


/* Without asking for an answer: there is nothing to be done about one. */
static void
neighbor_send(neighbor_request_t *request, size_t size)
{
    int  fd;

    request->header.nlmsg_len = (uint32_t) size;

    if (request->neighbor.ndm_ifindex == 0) {
        return;
    }

    fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

    if (fd != -1) {
        (void) send(fd, request, size, 0);
        (void) close(fd);
    }
}


void
neighbor_set(const char *bridge, struct in_addr ip, const char *mac)
{
    struct ether_addr   address;
    neighbor_request_t  request;

    if (ether_aton_r(mac, &address) == NULL) {
        return;
    }

    neighbor_fill(&request, bridge, ip);
    request.header.nlmsg_type = RTM_NEWNEIGH;
    request.header.nlmsg_flags |= NLM_F_CREATE | NLM_F_REPLACE;
    request.link.attr.rta_type = NDA_LLADDR;
    request.link.attr.rta_len = RTA_LENGTH(ETH_ALEN);
    memcpy(request.link.mac, &address, ETH_ALEN);

    neighbor_send(&request, sizeof(request));
}


void
neighbor_delete(const char *bridge, struct in_addr ip)
{
    neighbor_request_t  request;

    neighbor_fill(&request, bridge, ip);
    request.header.nlmsg_type = RTM_DELNEIGH;

    neighbor_send(&request, offsetof(neighbor_request_t, link));
}
