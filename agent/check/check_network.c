/* The network that VMs get, or what would keep it from starting. */

#define _GNU_SOURCE

#include "check_private.h"
#include "core/cleanup.h"
#include "virt/net.h"
#include "virt/spoof.h"
#include "virt/virt_cleanup.h"
#include "virt/virt_error.h"
#include "virt/xml.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define CHECK_DNS         53
#define CHECK_TCP_LISTEN  0x0a
#define CHECK_UDP_BOUND   0x07


/* --- the subnet --- */

static uint32_t
check_mask(unsigned prefix)
{
    return prefix == 0 ? 0 : ~UINT32_C(0) << (32 - prefix);
}


/* Have two subnets an address in common?  In host order. */
static int
check_overlap(uint32_t a, uint32_t a_mask, uint32_t b, uint32_t b_mask)
{
    const uint32_t  mask = a_mask & b_mask;

    return (a & mask) == (b & mask);
}


/* A network that runs is not harmed by another, but its VMs may be. */
static void
check_taken(check_t *check, int active, const char *who)
{
    if (active) {
        check_warn("\"bridge_cidr\": the subnet of %s is also that of %s; name "
                   "another one", check->config->bridge_cidr, who);
    } else {
        check_error(check, "\"bridge_cidr\": the subnet of %s is in use by %s, "
                    "so network \"%s\" cannot start; name another one",
                    check->config->bridge_cidr, who,
                    check->config->network_name);
    }
}


static void
check_interfaces(check_t *check, int active, const char *bridge,
    uint32_t gateway, uint32_t mask)
{
    char             who[64];
    uint32_t         address, its;
    struct ifaddrs  *all, *i;

    if (getifaddrs(&all) == -1) {
        return;
    }

    for (i = all; i != NULL; i = i->ifa_next) {
        if (i->ifa_addr == NULL || i->ifa_netmask == NULL
            || i->ifa_addr->sa_family != AF_INET
            || strcmp(i->ifa_name, bridge) == 0
            || strcmp(i->ifa_name, check->config->bridge_name) == 0)
        {
            continue;
        }

        address = ntohl(((struct sockaddr_in *) (void *) i->ifa_addr)
                        ->sin_addr.s_addr);
        its = ntohl(((struct sockaddr_in *) (void *) i->ifa_netmask)
                    ->sin_addr.s_addr);

        if (check_overlap(gateway, mask, address, its)) {
            (void) snprintf(who, sizeof(who), "interface %s", i->ifa_name);
            check_taken(check, active, who);
        }
    }

    freeifaddrs(all);
}


static void
check_other_network(check_t *check, virNetworkPtr network,
    uint32_t gateway, uint32_t mask)
{
    char                who[128];
    hatch_err_t         err;
    const char         *name = virNetworkGetName(network);
    xml_network_t       its;
    cleanup_free char  *xml = virNetworkGetXMLDesc(network, 0);

    if (xml == NULL || name == NULL
        || strcmp(name, check->config->network_name) == 0
        || xml_read_network(xml, &its, &err) != 0)
    {
        return;
    }

    free(its.host);

    /* one that runs is an interface, and was told */
    if (virNetworkIsActive(network) == 1
        || !check_overlap(gateway, mask, ntohl(its.gateway.s_addr),
                          check_mask(its.prefix)))
    {
        return;
    }

    (void) snprintf(who, sizeof(who), "libvirt's network \"%.80s\", which does "
                    "not run", name);
    check_taken(check, 1, who);
}


static void
check_networks(check_t *check, uint32_t gateway, uint32_t mask)
{
    int             i, n;
    virNetworkPtr  *networks = NULL;

    n = virConnectListAllNetworks(check->conn, &networks, 0);

    for (i = 0; i < n; i++) {
        check_other_network(check, networks[i], gateway, mask);
        (void) virNetworkFree(networks[i]);
    }

    free(networks);
}


/* --- port 53 --- */

/*
 * Is the port taken, for this address or for all, by that table of the
 * kernel's?  A socket for all of IPv6 is mostly one for IPv4, too.
 */
static int
check_port_in(const char *file, unsigned state, uint32_t address)
{
    int       taken = 0;
    char      line[256], local[40];
    FILE     *f = fopen(file, "re");
    size_t    n;
    unsigned  port, is;

    while (f != NULL && !taken && fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, " %*d: %39[0-9A-F]:%4x %*[0-9A-F]:%*x %2x", local,
                   &port, &is) != 3
            || port != CHECK_DNS || is != state)
        {
            continue;
        }

        /* as the processor has a word of network order */
        n = strspn(local, "0");
        taken = n == strlen(local)
                || (strlen(local) == 8
                    && strtoul(local, NULL, 16) == htonl(address));
    }

    if (f != NULL) {
        (void) fclose(f);
    }

    return taken;
}


static void
check_dns(check_t *check, uint32_t gateway)
{
    char            ip[INET_ADDRSTRLEN];
    const char     *what = NULL;
    struct in_addr  in = { htonl(gateway) };

    if (check_port_in("/proc/net/udp", CHECK_UDP_BOUND, gateway)
        || check_port_in("/proc/net/udp6", CHECK_UDP_BOUND, gateway))
    {
        what = "udp";

    } else if (check_port_in("/proc/net/tcp", CHECK_TCP_LISTEN, gateway)
               || check_port_in("/proc/net/tcp6", CHECK_TCP_LISTEN, gateway))
    {
        what = "tcp";
    }

    if (what != NULL) {
        (void) inet_ntop(AF_INET, &in, ip, sizeof(ip));
        check_error(check, "port 53 (%s) is taken, also for %s, so libvirt's "
                    "dnsmasq cannot start and neither can network \"%s\"; see "
                    "who it is with \"ss -lnup sport = 53\" (-lntp for tcp), "
                    "and have it listen on its own addresses only", what, ip,
                    check->config->network_name);
    }
}


/* --- all of it --- */

/* Whatever network it will be: it has the gateway and prefix of bridge_cidr. */
static void
check_start(check_t *check, int active, const char *bridge)
{
    char            address[64];
    uint32_t        gateway, mask;
    unsigned        prefix = 0;
    struct in_addr  in = { 0 };

    /* its form was checked when the configuration was read */
    (void) sscanf(check->config->bridge_cidr, "%63[0-9.]/%u", address,
                  &prefix);
    (void) inet_pton(AF_INET, address, &in);
    gateway = ntohl(in.s_addr);
    mask = check_mask(prefix);

    check_interfaces(check, active, bridge, gateway, mask);
    check_networks(check, gateway, mask);

    if (!active) {
        check_dns(check, gateway);
    }
}


void
check_network(check_t *check)
{
    int                            active = 0;
    hatch_err_t                    err;
    cleanup_free char             *bridge = NULL;
    cleanup_network virNetworkPtr  network = NULL;

    if (net_follow(check->conn, check->config, 1, &err) != 0) {
        check_error(check, "%s", err.text);
        return;
    }

    network = virNetworkLookupByName(check->conn, check->config->network_name);
    active = network != NULL && virNetworkIsActive(network) == 1;
    check_found("network", "%s, %s, %s", check->config->network_name,
                check->config->bridge_cidr, active ? "it runs"
                : network != NULL ? "it does not run; the first VM starts it"
                : "it is not there; the first VM makes it");

    if (!check->has_guests) {
        return;
    }

    /* of a network that the agent may yet make anew */
    bridge = network != NULL ? virNetworkGetBridgeName(network) : NULL;

    if (check->local) {
        check_start(check, active, bridge != NULL ? bridge : "");
    }

    if (spoof_check(check->config, &err) != 0) {
        check_warn("%s", err.text);
    }
}
