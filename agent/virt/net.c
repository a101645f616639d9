#define _GNU_SOURCE

#include "net.h"
#include "net_known.h"
#include "net_lease.h"
#include "virt.h"
#include "virt_cleanup.h"
#include "xml.h"
#include "core/cleanup.h"
#include "table/table.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>


static int
net_parse_cidr(const config_t *config, struct in_addr *gateway,
    unsigned *prefix)
{
    char  address[64];

    /* checked when the configuration was read */
    return sscanf(config->bridge_cidr, "%63[0-9.]/%u", address, prefix) == 2
           && inet_pton(AF_INET, address, gateway) == 1 ? 0 : -1;
}


static int
net_define(virConnectPtr conn, const config_t *config, virNetworkPtr *network,
    hatch_err_t *err)
{
    unsigned            prefix = 0;
    struct in_addr      gateway = { 0 };
    cleanup_free char  *xml = NULL;

    (void) net_parse_cidr(config, &gateway, &prefix);

    xml = xml_network(config->network_name, config->bridge_name, gateway,
                      prefix);

    *network = xml != NULL ? virNetworkDefineXML(conn, xml) : NULL;

    if (*network == NULL) {
        (void) virt_error(err, "cannot define the network");

        /* another operation may just have defined it */
        *network = virNetworkLookupByName(conn, config->network_name);

        return *network != NULL ? 0 : (int) err->code;
    }

    if (virNetworkSetAutostart(*network, 1) == -1) {
        return virt_error(err, "cannot make the network start by itself");
    }

    return 0;
}


static int
net_open(virConnectPtr conn, const config_t *config, virNetworkPtr *network,
    hatch_err_t *err)
{
    int  rc;

    *network = virNetworkLookupByName(conn, config->network_name);

    if (*network == NULL) {
        rc = virt_error(err, "cannot look up the network");

        if (rc == HATCH_ERR_NOT_FOUND) {
            rc = net_define(conn, config, network, err);
        }

        if (rc != 0) {
            return rc;
        }
    }

    if (virNetworkIsActive(*network) != 0 || virNetworkCreate(*network) == 0) {
        return 0;
    }

    rc = virt_error(err, "cannot start the network");

    /* another operation may just have started it */
    return virNetworkIsActive(*network) == 1 ? 0 : rc;
}


static int
net_describe(virNetworkPtr network, xml_network_t *described,
    hatch_err_t *err)
{
    int                 rc;
    unsigned            stamp = net_known_stamp();
    cleanup_free char  *xml = virNetworkGetXMLDesc(network, 0);

    if (xml == NULL) {
        return virt_error(err, "cannot read the network");
    }

    rc = xml_read_network(xml, described, err);

    if (rc == 0 && virNetworkIsActive(network) == 1) {
        net_known_set(described, stamp);
    }

    return rc;
}


int
net_ensure(virConnectPtr conn, const config_t *config,
    xml_network_t *described, hatch_err_t *err)
{
    int                            rc;
    cleanup_network virNetworkPtr  network = NULL;

    rc = net_open(conn, config, &network, err);

    return rc == 0 ? net_describe(network, described, err) : rc;
}


void
net_bridge(const config_t *config, char bridge[IFNAMSIZ])
{
    struct in_addr  gateway;

    net_known_place(bridge, &gateway);

    if (bridge[0] == '\0') {
        (void) snprintf(bridge, IFNAMSIZ, "%.15s", config->bridge_name);
    }
}


void
net_forget(void)
{
    net_known_forget();
}


/* --- a configuration that was changed --- */

/* What differs, as "KEY is VALUE there"; 0 if nothing does. */
static int
net_differs(const config_t *config, const xml_network_t *there,
    char text[128])
{
    char            ip[INET_ADDRSTRLEN];
    unsigned        prefix = 0;
    struct in_addr  gateway = { 0 };

    (void) net_parse_cidr(config, &gateway, &prefix);

    if (gateway.s_addr != there->gateway.s_addr || prefix != there->prefix) {
        (void) inet_ntop(AF_INET, &there->gateway, ip, sizeof(ip));
        (void) snprintf(text, 128, "\"bridge_cidr\" is \"%.20s\", but "
                        "\"%s/%u\"", config->bridge_cidr, ip,
                        there->prefix);
        return 1;
    }

    if (strcmp(config->bridge_name, there->bridge) != 0) {
        (void) snprintf(text, 128, "\"bridge_name\" is \"%.15s\", but \"%s\"",
                        config->bridge_name, there->bridge);
        return 1;
    }

    return 0;
}


/* It is nobody's: away with it, and made as the configuration says. */
static int
net_make_anew(virConnectPtr conn, const config_t *config,
    virNetworkPtr network, hatch_err_t *err)
{
    cleanup_network virNetworkPtr  new = NULL;

    if ((virNetworkIsActive(network) == 1 && virNetworkDestroy(network) == -1)
        || virNetworkUndefine(network) == -1)
    {
        return virt_error(err, "cannot remove the network, which has to be "
                          "made anew");
    }

    net_known_forget();

    return net_open(conn, config, &new, err);
}


int
net_follow(virConnectPtr conn, const config_t *config, int checks,
    hatch_err_t *err)
{
    char                           what[128];
    xml_network_t                  there;
    cleanup_free vm_address_t     *hosts = NULL;
    cleanup_network virNetworkPtr  network = NULL;

    network = virNetworkLookupByName(conn, config->network_name);

    /* one that cannot be used is told when it is to be used */
    if (network == NULL || net_describe(network, &there, err) != 0) {
        return 0;
    }

    hosts = there.host;

    /* somebody's own is used as it is */
    if (!there.ours || !net_differs(config, &there, what)) {
        return 0;
    }

    if (there.hosts == 0) {
        return checks ? 0 : net_make_anew(conn, config, network, err);
    }

    return hatch_err_set(err, HATCH_ERR_INVALID, "%s in network \"%s\", "
                         "where %u VMs have an address: set it back, or "
                         "delete them first, or name another "
                         "\"network_name\"", what, config->network_name,
                         there.hosts);
}


/* --- reservations --- */

static int
net_has_host(const xml_network_t *described, const char *mac,
    struct in_addr ip)
{
    unsigned  i;

    for (i = 0; i < described->hosts; i++) {
        if (strcasecmp(described->host[i].mac, mac) == 0
            && described->host[i].ip.s_addr == ip.s_addr)
        {
            return 1;
        }
    }

    return 0;
}


/* Is it so in libvirt, now, that there is (or is no) such reservation? */
static int
net_is_so(virNetworkPtr network, const char *mac, struct in_addr ip,
    int there, xml_network_t *described)
{
    int                        so;
    hatch_err_t                err;
    cleanup_free vm_address_t  *hosts = NULL;

    memset(described, 0, sizeof(*described));
    described->index = -1;              /* libvirt finds it */

    if (net_describe(network, described, &err) != 0) {
        return 0;
    }

    hosts = described->host;
    so = net_has_host(described, mac, ip) == there;
    described->host = NULL;

    return so;
}


/*
 * Adds or deletes a reservation, in the <ip> of that number.  The tidy thread
 * and an operation may want the same at once; whoever comes second finds it
 * done, which is no error.
 */
static int
net_update(virNetworkPtr network, int add, int index, const char *mac,
    struct in_addr ip, hatch_err_t *err)
{
    int                 rc;
    xml_network_t       described;
    cleanup_free char  *xml = xml_host(mac, ip);

    if (xml == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot change the network");
    }

    if (virNetworkUpdate(network,
                         add ? VIR_NETWORK_UPDATE_COMMAND_ADD_LAST
                             : VIR_NETWORK_UPDATE_COMMAND_DELETE,
                         VIR_NETWORK_SECTION_IP_DHCP_HOST, index, xml,
                         VIR_NETWORK_UPDATE_AFFECT_LIVE
                         | VIR_NETWORK_UPDATE_AFFECT_CONFIG)
        == 0)
    {
        net_known_host(mac, ip, add);
        return 0;
    }

    rc = virt_error(err, "cannot change the reservations of the network");

    return net_is_so(network, mac, ip, add, &described) ? 0 : rc;
}


int
net_reserve(virConnectPtr conn, const config_t *config, const char *mac,
    struct in_addr ip, hatch_err_t *err)
{
    int                            rc;
    xml_network_t                  described;
    cleanup_network virNetworkPtr  network = NULL;

    if (net_known_has(mac, ip)) {
        return 0;
    }

    rc = net_open(conn, config, &network, err);

    if (rc != 0 || net_is_so(network, mac, ip, 1, &described)) {
        return rc;
    }

    rc = net_update(network, 1, described.index, mac, ip, err);

    if (rc == 0) {
        net_lease_clear(network, described.gateway, mac, ip);
    }

    return rc;
}


int
net_release(virConnectPtr conn, const config_t *config, const char *mac,
    struct in_addr ip, hatch_err_t *err)
{
    int                            rc = 0;
    xml_network_t                  described;
    cleanup_network virNetworkPtr  network = NULL;

    network = virNetworkLookupByName(conn, config->network_name);

    if (network == NULL) {
        return virt_last_class() == VIRT_GONE
               ? 0 : virt_error(err, "cannot look up the network");
    }

    if (!net_is_so(network, mac, ip, 0, &described)) {
        /* before: with the last reservation, libvirt ends the DHCP server */
        net_lease_release(described.gateway, mac, ip);
        rc = net_update(network, 0, described.index, mac, ip, err);
    }

    return rc;
}


/* --- the comparison --- */

/* The VMs' addresses by MAC, and the other way round. */
static json_object *
net_index(const vm_t *vms, size_t n)
{
    char          ip[INET_ADDRSTRLEN];
    size_t        i;
    json_object  *index = json_object_new_object();

    for (i = 0; i < n; i++) {
        if (vms[i].enable_network && vms[i].state != HATCH_STATE_NONE) {
            (void) inet_ntop(AF_INET, &vms[i].guest_ip, ip, sizeof(ip));
            (void) json_object_object_add(index, ip,
                                          json_object_new_string(
                                              vms[i].guest_mac));
            (void) json_object_object_add(index, vms[i].guest_mac,
                                          json_object_new_string(ip));
        }
    }

    return index;
}


/* Does the reservation keep a VM from its own? */
static int
net_is_in_the_way(const vm_address_t *host, json_object *index)
{
    char          ip[INET_ADDRSTRLEN], mac[VM_MAC_SIZE];
    size_t        i;
    json_object  *found;

    for (i = 0; host->mac[i] != '\0'; i++) {
        mac[i] = (char) tolower((unsigned char) host->mac[i]);
    }

    mac[i] = '\0';
    (void) inet_ntop(AF_INET, &host->ip, ip, sizeof(ip));

    return (json_object_object_get_ex(index, ip, &found)
            && strcmp(json_object_get_string(found), mac) != 0)
           || (json_object_object_get_ex(index, mac, &found)
               && strcmp(json_object_get_string(found), ip) != 0);
}


/* A VM that was made with another "network_name" has none of this network. */
static int
net_has_address(const xml_network_t *described, struct in_addr ip)
{
    uint32_t  mask = ~UINT32_C(0) << (32 - described->prefix);

    return ((ntohl(ip.s_addr) ^ ntohl(described->gateway.s_addr)) & mask) == 0;
}


static int
net_correct(virNetworkPtr network, const xml_network_t *described,
    const vm_t *vms, size_t n, unsigned *changed, hatch_err_t *err)
{
    int                        rc;
    size_t                     i;
    cleanup_json json_object  *index = net_index(vms, n);

    /* first what is in the way, then what is missing */
    for (i = 0; i < described->hosts; i++) {
        if (!net_is_in_the_way(&described->host[i], index)) {
            continue;
        }

        rc = net_update(network, 0, described->index, described->host[i].mac,
                        described->host[i].ip, err);
        if (rc != 0) {
            return rc;
        }

        (*changed)++;
    }

    for (i = 0; i < n; i++) {
        /* one that is being created makes its own */
        if (!vms[i].enable_network || vms[i].state == HATCH_STATE_NONE
            || !net_has_address(described, vms[i].guest_ip)
            || net_known_has(vms[i].guest_mac, vms[i].guest_ip)
            || net_has_host(described, vms[i].guest_mac, vms[i].guest_ip))
        {
            continue;
        }

        rc = net_update(network, 1, described->index, vms[i].guest_mac,
                        vms[i].guest_ip, err);
        if (rc != 0) {
            return rc;
        }

        (*changed)++;
    }

    return 0;
}


int
net_reconcile(virConnectPtr conn, const config_t *config, unsigned *changed,
    hatch_err_t *err)
{
    int                            rc;
    size_t                         n;
    xml_network_t                  described;
    cleanup_free vm_t             *vms = NULL;
    cleanup_network virNetworkPtr  network = NULL;

    *changed = 0;

    network = virNetworkLookupByName(conn, config->network_name);

    if (network == NULL || virNetworkIsActive(network) != 1) {
        /* no VM has needed it yet; net_reserve() makes it */
        return 0;
    }

    /* in this order: what is reserved later is in neither or in the table */
    rc = net_describe(network, &described, err);
    if (rc != 0) {
        return rc;
    }

    if (table_list_all(&vms, &n) == 0) {
        rc = net_correct(network, &described, vms, n, changed, err);
    }

    free(described.host);

    return rc;
}
