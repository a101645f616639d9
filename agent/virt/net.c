#define _GNU_SOURCE

#include "net.h"
#include "virt.h"
#include "virt_cleanup.h"
#include "xml.h"
#include "table/table.h"

#include <arpa/inet.h>
#include <errno.h>
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

    if (virNetworkIsActive(*network) == 0 && virNetworkCreate(*network) == -1
        && virNetworkIsActive(*network) != 1)
    {
        return virt_error(err, "cannot start the network");
    }

    return 0;
}


static int
net_describe(virNetworkPtr network, xml_network_t *described,
    hatch_err_t *err)
{
    cleanup_free char  *xml = virNetworkGetXMLDesc(network, 0);

    if (xml == NULL) {
        return virt_error(err, "cannot read the network");
    }

    return xml_read_network(xml, described, err);
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
    int there)
{
    int            so;
    hatch_err_t    err;
    xml_network_t  described;

    if (net_describe(network, &described, &err) != 0) {
        return 0;
    }

    so = net_has_host(&described, mac, ip) == there;
    free(described.host);

    return so;
}


/*
 * Adds or deletes a reservation.  The tidy thread and an operation may want
 * the same at once; whoever comes second finds it done, which is no error.
 */
static int
net_update(virNetworkPtr network, int add, const char *mac, struct in_addr ip,
    hatch_err_t *err)
{
    int                 rc;
    cleanup_free char  *xml = xml_host(mac, ip);

    if (xml == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot change the network");
    }

    if (virNetworkUpdate(network,
                         add ? VIR_NETWORK_UPDATE_COMMAND_ADD_LAST
                             : VIR_NETWORK_UPDATE_COMMAND_DELETE,
                         VIR_NETWORK_SECTION_IP_DHCP_HOST, -1, xml,
                         VIR_NETWORK_UPDATE_AFFECT_LIVE
                         | VIR_NETWORK_UPDATE_AFFECT_CONFIG)
        == 0)
    {
        return 0;
    }

    rc = virt_error(err, "cannot change the reservations of the network");

    return net_is_so(network, mac, ip, add) ? 0 : rc;
}


int
net_reserve(virConnectPtr conn, const config_t *config, const char *mac,
    struct in_addr ip, hatch_err_t *err)
{
    int                            rc;
    cleanup_network virNetworkPtr  network = NULL;

    rc = net_open(conn, config, &network, err);

    if (rc != 0 || net_is_so(network, mac, ip, 1)) {
        return rc;
    }

    return net_update(network, 1, mac, ip, err);
}


int
net_release(virConnectPtr conn, const config_t *config, const char *mac,
    struct in_addr ip, hatch_err_t *err)
{
    cleanup_network virNetworkPtr  network = NULL;

    network = virNetworkLookupByName(conn, config->network_name);

    if (network == NULL) {
        return virt_last_class() == VIRT_GONE
               ? 0 : virt_error(err, "cannot look up the network");
    }

    return net_is_so(network, mac, ip, 0)
           ? 0 : net_update(network, 0, mac, ip, err);
}


/* Does the reservation keep a VM from its own? */
static int
net_is_in_the_way(const vm_address_t *host, const vm_t *vms, size_t n)
{
    int     ip, mac;
    size_t  i;

    for (i = 0; i < n; i++) {
        if (!vms[i].enable_network || vms[i].state == HATCH_STATE_NONE) {
            continue;
        }

        ip = vms[i].guest_ip.s_addr == host->ip.s_addr;
        mac = strcasecmp(vms[i].guest_mac, host->mac) == 0;

        if (ip != mac) {
            return 1;
        }
    }

    return 0;
}


static int
net_correct(virNetworkPtr network, const xml_network_t *described,
    const vm_t *vms, size_t n, unsigned *changed, hatch_err_t *err)
{
    int       rc;
    size_t    i;

    /* first what is in the way, then what is missing */
    for (i = 0; i < described->hosts; i++) {
        if (!net_is_in_the_way(&described->host[i], vms, n)) {
            continue;
        }

        rc = net_update(network, 0, described->host[i].mac,
                        described->host[i].ip, err);
        if (rc != 0) {
            return rc;
        }

        (*changed)++;
    }

    for (i = 0; i < n; i++) {
        /* one that is being created makes its own */
        if (!vms[i].enable_network || vms[i].state == HATCH_STATE_NONE
            || net_has_host(described, vms[i].guest_mac, vms[i].guest_ip))
        {
            continue;
        }

        rc = net_update(network, 1, vms[i].guest_mac, vms[i].guest_ip, err);
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
