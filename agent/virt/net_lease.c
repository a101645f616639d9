#define _GNU_SOURCE

#include "net_lease.h"

#include <arpa/inet.h>
#include <net/if_arp.h>
#include <netinet/ether.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>


#define DHCP_PORT     67
#define DHCP_RELEASE  7
#define DHCP_TYPE     53            /* the options */
#define DHCP_SERVER   54
#define DHCP_END      255


/* RFC 2131.  Every address here stands where it needs no padding. */
typedef struct {
    uint8_t         op;
    uint8_t         hardware;
    uint8_t         hardware_len;
    uint8_t         hops;
    uint32_t        id;
    uint16_t        seconds;
    uint16_t        flags;
    struct in_addr  client;
    struct in_addr  yours;
    struct in_addr  next;
    struct in_addr  relay;
    uint8_t         mac[16];
    char            server[64];
    char            file[128];
    uint8_t         cookie[4];
    uint8_t         options[60];
} net_dhcp_t;


void
net_lease_release(struct in_addr server, const char *mac, struct in_addr ip)
{
    int                 fd;
    net_dhcp_t          message = { .op = 1, .hardware = ARPHRD_ETHER,
                                    .hardware_len = ETH_ALEN };
    struct ether_addr   ether;
    struct sockaddr_in  to = { .sin_family = AF_INET,
                               .sin_port = htons(DHCP_PORT),
                               .sin_addr = server };
    const uint8_t       cookie[] = { 99, 130, 83, 99 };

    if (server.s_addr == 0 || ether_aton_r(mac, &ether) == NULL
        || getrandom(&message.id, sizeof(message.id), 0)
           != (ssize_t) sizeof(message.id))
    {
        return;
    }

    message.client = ip;
    memcpy(message.mac, &ether, sizeof(ether));
    memcpy(message.cookie, cookie, sizeof(cookie));

    message.options[0] = DHCP_TYPE;
    message.options[1] = 1;
    message.options[2] = DHCP_RELEASE;
    message.options[3] = DHCP_SERVER;
    message.options[4] = sizeof(server);
    memcpy(&message.options[5], &server, sizeof(server));
    message.options[9] = DHCP_END;

    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd != -1) {
        (void) sendto(fd, &message, sizeof(message), MSG_DONTWAIT,
                      (struct sockaddr *) &to, sizeof(to));
        (void) close(fd);
    }
}


void
net_lease_clear(virNetworkPtr network, struct in_addr server,
    const char *mac, struct in_addr ip)
{
    int                    i, n;
    char                   text[INET_ADDRSTRLEN];
    virNetworkDHCPLeasePtr  *leases = NULL;

    (void) inet_ntop(AF_INET, &ip, text, sizeof(text));

    n = virNetworkGetDHCPLeases(network, NULL, &leases, 0);

    for (i = 0; i < n; i++) {
        if (leases[i]->ipaddr != NULL && leases[i]->mac != NULL
            && strcmp(leases[i]->ipaddr, text) == 0
            && strcasecmp(leases[i]->mac, mac) != 0)
        {
            net_lease_release(server, leases[i]->mac, ip);
        }

        virNetworkDHCPLeaseFree(leases[i]);
    }

    free(leases);
}
