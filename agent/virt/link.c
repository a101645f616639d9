#define _GNU_SOURCE

#include "link.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
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


static void
link_message(struct nlmsghdr *header, int master, link_joined_t joined,
    void *ctx)
{
    int             len = (int) IFLA_PAYLOAD(header), of = 0;
    char            name[IFNAMSIZ] = "";
    struct rtattr  *attr;

    if (header->nlmsg_type != RTM_NEWLINK) {
        return;
    }

    for (attr = IFLA_RTA(NLMSG_DATA(header)); RTA_OK(attr, len);
         attr = RTA_NEXT(attr, len))
    {
        if (attr->rta_type == IFLA_IFNAME) {
            (void) snprintf(name, sizeof(name), "%s",
                            (const char *) RTA_DATA(attr));

        } else if (attr->rta_type == IFLA_MASTER) {
            memcpy(&of, RTA_DATA(attr), sizeof(of));
        }
    }

    if (of != 0 && of == master && name[0] != '\0') {
        joined(ctx, name);
    }
}


int
link_hear(int fd, const char *bridge, link_joined_t joined, void *ctx)
{
    int               n, lost = 0, master = (int) if_nametoindex(bridge);
    char              buffer[65536];
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

        for (header = (struct nlmsghdr *) buffer; NLMSG_OK(header, n);
             header = NLMSG_NEXT(header, n))
        {
            link_message(header, master, joined, ctx);
        }
    }
}


static int
link_read_mac(const char *port, char mac[18])
{
    char     path[PATH_MAX];
    FILE    *file;
    size_t   n;

    (void) snprintf(path, sizeof(path), "/sys/class/net/%s/address", port);

    file = fopen(path, "re");
    if (file == NULL) {
        return -1;
    }

    n = fread(mac, 1, 17, file);
    mac[n] = '\0';
    (void) fclose(file);

    return n == 17 ? 0 : -1;
}


void
link_each_port(const char *bridge,
    void (*each)(void *ctx, const char *port, const char *mac), void *ctx)
{
    DIR            *dir;
    char            path[PATH_MAX], mac[18];
    struct dirent  *entry;

    (void) snprintf(path, sizeof(path), "/sys/class/net/%s/brif", bridge);

    dir = opendir(path);

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.' && link_read_mac(entry->d_name, mac) == 0)
        {
            each(ctx, entry->d_name, mac + 3);
        }
    }

    if (dir != NULL) {
        (void) closedir(dir);
    }
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
