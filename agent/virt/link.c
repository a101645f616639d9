#define _GNU_SOURCE

#include "link.h"
#include "netlink.h"

#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>


#define LINK_RECEIVE_MAX  (256 * 1024)


int
link_listen(void)
{
    int                 fd, size = LINK_RECEIVE_MAX;
    struct sockaddr_nl  address = {
        .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK
    };

    fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
                NETLINK_ROUTE);

    if (fd != -1) {
        (void) setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size,
                          sizeof(size));

        if (bind(fd, (struct sockaddr *) &address, sizeof(address)) == -1) {
            (void) close(fd);
            fd = -1;
        }
    }

    return fd;
}


/* What a message says of a device. */
typedef struct {
    char           name[IFNAMSIZ];
    int            master;
    unsigned char  mac[6];
} link_news_t;


/* 0, or -1: it is not about one that is there. */
static int
link_read(struct nlmsghdr *header, link_news_t *news)
{
    int             len = (int) IFLA_PAYLOAD(header);
    struct rtattr  *attr;

    memset(news, 0, sizeof(*news));

    if (header->nlmsg_type != RTM_NEWLINK) {
        return -1;
    }

    for (attr = IFLA_RTA(NLMSG_DATA(header)); RTA_OK(attr, len);
         attr = RTA_NEXT(attr, len))
    {
        switch (attr->rta_type) {

        case IFLA_IFNAME:
            (void) snprintf(news->name, sizeof(news->name), "%s",
                            (const char *) RTA_DATA(attr));
            break;

        case IFLA_MASTER:
            memcpy(&news->master, RTA_DATA(attr), sizeof(news->master));
            break;

        case IFLA_ADDRESS:
            if (RTA_PAYLOAD(attr) == sizeof(news->mac)) {
                memcpy(news->mac, RTA_DATA(attr), sizeof(news->mac));
            }
            break;
        }
    }

    return news->name[0] != '\0' && news->master != 0 ? 0 : -1;
}


int
link_hear(int fd, const char *bridge, link_joined_t joined, void *ctx)
{
    int               n, lost = 0, master = (int) if_nametoindex(bridge);
    char              buffer[65536];
    link_news_t       news;
    struct nlmsghdr  *header;

    for ( ;; ) {
        n = (int) recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);

        if (n == -1 && errno == ENOBUFS) {
            lost = 1;
            continue;
        }

        if (n <= 0) {
            return lost;
        }

        for (header = (struct nlmsghdr *) buffer; netlink_ok(header, n);
             header = NLMSG_NEXT(header, n))
        {
            if (link_read(header, &news) == 0 && news.master == master) {
                joined(ctx, news.name);
            }
        }
    }
}


/* One answer's worth of the list; 0: that was the end of it. */
static int
link_each_read(int fd, int master, link_port_t each, void *ctx)
{
    int               n;
    char              mac[16], buffer[65536];
    link_news_t       news;
    struct nlmsghdr  *header;

    n = (int) recv(fd, buffer, sizeof(buffer), 0);

    if (n <= 0) {
        return 0;
    }

    for (header = (struct nlmsghdr *) buffer; netlink_ok(header, n);
         header = NLMSG_NEXT(header, n))
    {
        if (header->nlmsg_type == NLMSG_DONE
            || header->nlmsg_type == NLMSG_ERROR)
        {
            return 0;
        }

        if (link_read(header, &news) == 0 && news.master == master) {
            (void) snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x",
                            news.mac[1], news.mac[2], news.mac[3],
                            news.mac[4], news.mac[5]);
            each(ctx, news.name, mac);
        }
    }

    return 1;
}


void
link_each_port(const char *bridge, link_port_t each, void *ctx)
{
    int  fd, master = (int) if_nametoindex(bridge);
    struct {
        struct nlmsghdr   header;
        struct ifinfomsg  link;
    }    request;

    memset(&request, 0, sizeof(request));
    request.header.nlmsg_len = sizeof(request);
    request.header.nlmsg_type = RTM_GETLINK;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;

    fd = master != 0 ? socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC,
                              NETLINK_ROUTE) : -1;
    if (fd == -1) {
        return;
    }

    if (send(fd, &request, sizeof(request), 0) != -1) {
        while (link_each_read(fd, master, each, ctx)) {
            /* void */
        }
    }

    (void) close(fd);
}


typedef struct {
    struct nlmsghdr   header;
    struct ifinfomsg  link;
    struct rtattr     info;
    struct rtattr     kind;
    char              bridge[RTA_ALIGN(sizeof("bridge"))];
    struct rtattr     data;
    struct rtattr     attr;
    struct br_boolopt_multi  options;
} link_request_t;


void
link_harden(const char *bridge)
{
    int             fd;
    link_request_t  request;
    const unsigned  options = sizeof(request.attr) + sizeof(request.options);

    memset(&request, 0, sizeof(request));
    request.header.nlmsg_len = sizeof(request);
    request.header.nlmsg_type = RTM_NEWLINK;
    request.header.nlmsg_flags = NLM_F_REQUEST;
    request.link.ifi_index = (int) if_nametoindex(bridge);
    request.info.rta_type = IFLA_LINKINFO;
    request.info.rta_len = (unsigned short)
                           (sizeof(request.info) + sizeof(request.kind)
                            + sizeof(request.bridge) + sizeof(request.data)
                            + options);
    request.kind.rta_type = IFLA_INFO_KIND;
    request.kind.rta_len = RTA_LENGTH(sizeof("bridge"));
    memcpy(request.bridge, "bridge", sizeof("bridge"));
    request.data.rta_type = IFLA_INFO_DATA;
    request.data.rta_len = (unsigned short) (sizeof(request.data) + options);
    request.attr.rta_type = IFLA_BR_MULTI_BOOLOPT;
    request.attr.rta_len = (unsigned short) options;
    request.options.optval = 1u << BR_BOOLOPT_NO_LL_LEARN;
    request.options.optmask = 1u << BR_BOOLOPT_NO_LL_LEARN;

    fd = request.link.ifi_index != 0
         ? socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE) : -1;

    if (fd != -1) {
        (void) send(fd, &request, sizeof(request), 0);
        (void) close(fd);
    }
}
