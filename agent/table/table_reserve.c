/* What a VM has for itself: id, name, address, MAC. */

#define _GNU_SOURCE

#include "table_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>


/* The network, for one call of table_reserve(). */
typedef struct {
    struct in_addr       gateway;
    unsigned             prefix;
    const vm_address_t  *taken;
    unsigned             n;
} table_network_t;


/* Is this address or MAC another VM's?  The lock is held. */
static const char *
table_holder(const table_network_t *network, struct in_addr ip,
    const char *mac)
{
    int              i;
    entry_t         *e;
    size_t           o;
    unsigned         n;
    table_orphan_t  *orphan;

    for (i = 0; i < TABLE_BUCKETS; i++) {
        for (e = table.buckets[i]; e != NULL; e = e->next) {
            if ((ip.s_addr != 0 && e->vm.guest_ip.s_addr == ip.s_addr)
                || (mac != NULL && strcmp(e->vm.guest_mac, mac) == 0))
            {
                return e->vm.id;
            }
        }
    }

    /* of a VM that may come back: nobody gave it up */
    for (o = 0; o < table.n_orphans; o++) {
        orphan = &table.orphans[o];

        if ((ip.s_addr != 0 && orphan->address.ip.s_addr == ip.s_addr)
            || (mac != NULL && strcasecmp(orphan->address.mac, mac) == 0))
        {
            return orphan->id;
        }
    }

    /* or of somebody's */
    for (n = 0; n < network->n; n++) {
        if ((ip.s_addr != 0 && network->taken[n].ip.s_addr == ip.s_addr)
            || (mac != NULL && strcasecmp(network->taken[n].mac, mac) == 0))
        {
            return "a reservation of the network";
        }
    }

    return NULL;
}


static int
table_choose_ip(const table_network_t *network, vm_t *vm, hatch_err_t *err)
{
    uint32_t        mask, base, size, n, host;
    struct in_addr  ip;

    mask = network->prefix == 0 ? 0 : ~0u << (32 - network->prefix);
    base = ntohl(network->gateway.s_addr) & mask;
    size = ~mask;                       /* the broadcast address */

    for (n = 0; n < size; n++) {
        host = (table.next_ip + n) % size;
        ip.s_addr = htonl(base + host);

        if (host == 0 || ip.s_addr == network->gateway.s_addr
            || table_holder(network, ip, NULL) != NULL)
        {
            continue;
        }

        /* next fit: a freed address rests before it is used again */
        table.next_ip = host + 1;
        vm->guest_ip = ip;
        return 0;
    }

    return hatch_err_set(err, HATCH_ERR_FULL, "the network has no free "
                         "address left");
}


/*
 * QEMU's prefix and the last three bytes of the address, so that the next VM
 * with an address has its MAC, too: dnsmasq would refuse to give the address
 * to another one until the lease of the VM before has ended.  A random one
 * where somebody chose that one for another VM.
 */
static int
table_choose_mac(const table_network_t *network, vm_t *vm, hatch_err_t *err)
{
    int            tries;
    uint32_t       ip = ntohl(vm->guest_ip.s_addr);
    unsigned char  r[3] = {
        (unsigned char) (ip >> 16), (unsigned char) (ip >> 8),
        (unsigned char) ip
    };

    for (tries = 0; tries < 100; tries++) {
        (void) snprintf(vm->guest_mac, sizeof(vm->guest_mac),
                        "52:54:00:%02x:%02x:%02x", r[0], r[1], r[2]);

        if (table_holder(network, (struct in_addr) { 0 }, vm->guest_mac)
            == NULL)
        {
            return 0;
        }

        if (getrandom(r, sizeof(r), 0) != (ssize_t) sizeof(r)) {
            break;
        }
    }

    return hatch_err_set(err, HATCH_ERR_FULL, "no free MAC address");
}


static int
table_reserve_network(const table_network_t *network, vm_t *vm,
    hatch_err_t *err)
{
    int          rc;
    const char  *holder;

    if (vm->guest_ip.s_addr != 0) {
        holder = table_holder(network, vm->guest_ip, NULL);

        if (holder != NULL) {
            return hatch_err_set(err, HATCH_ERR_CONFLICT,
                                 "\"guest_ip\" is in use by %s", holder);
        }

    } else {
        rc = table_choose_ip(network, vm, err);
        if (rc != 0) {
            return rc;
        }
    }

    if (vm->guest_mac[0] == '\0') {
        return table_choose_mac(network, vm, err);
    }

    holder = table_holder(network, (struct in_addr) { 0 }, vm->guest_mac);

    if (holder != NULL) {
        return hatch_err_set(err, HATCH_ERR_CONFLICT,
                             "\"guest_mac\" is in use by %s", holder);
    }

    return 0;
}


static int
table_check_name(const vm_t *vm, hatch_err_t *err)
{
    int       i;
    entry_t  *e;

    for (i = 0; i < TABLE_BUCKETS; i++) {
        for (e = table.buckets[i]; e != NULL; e = e->next) {
            if (strcmp(e->vm.name, vm->name) == 0
                && strcmp(e->vm.id, vm->id) != 0)
            {
                return hatch_err_set(err, HATCH_ERR_CONFLICT, "\"name\" "
                                     "\"%s\" is taken by %s", vm->name,
                                     e->vm.id);
            }
        }
    }

    return 0;
}


int
table_change(const vm_t *vm, hatch_err_t *err)
{
    int       rc;
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    rc = table_check_name(vm, err);
    e = *table_find(vm->id);

    if (rc == 0 && e != NULL && (vm->vcpu_count > e->vm.vcpu_count
                                 || vm->mem_mib > e->vm.mem_mib))
    {
        rc = table_check_limits(vm, err);
    }

    if (rc == 0 && e != NULL) {
        memcpy(e->vm.name, vm->name, sizeof(vm->name));
        e->vm.vcpu_count = vm->vcpu_count;
        e->vm.mem_mib = vm->mem_mib;
        table_publish_entry(e);
    }

    pthread_mutex_unlock(&table.lock);

    return rc;
}


int
table_reserve(vm_t *vm, struct in_addr gateway, unsigned prefix,
    const vm_address_t *taken, unsigned n, hatch_err_t *err)
{
    int                    rc = 0;
    entry_t              **link, *e;
    const table_network_t  network = { gateway, prefix, taken, n };

    e = calloc(1, sizeof(*e));
    if (e == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot create a VM");
    }

    pthread_mutex_lock(&table.lock);

    if (table.count >= table.writer.zone.file.slots) {
        rc = hatch_err_set(err, HATCH_ERR_FULL, "the zone is full: %u VMs; "
                           "raise \"zone_vms\" and \"vms\" of hatch_zone",
                           (unsigned) table.writer.zone.file.slots);

    } else {
        rc = table_check_limits(vm, err);
    }

    if (rc == 0) {
        rc = table_check_name(vm, err);
    }

    if (rc == 0 && vm->enable_network) {
        rc = table_reserve_network(&network, vm, err);
    }

    if (rc == 0) {
        link = table_find(vm->id);
        e->vm = *vm;
        e->busy = 1;
        e->epoch = ++table.epoch;
        e->next = *link;
        *link = e;
        table.count++;
    }

    pthread_mutex_unlock(&table.lock);

    if (rc != 0) {
        free(e);
    }

    return rc;
}
