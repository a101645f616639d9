/* What a VM has for itself: id, name, address, MAC. */

#define _GNU_SOURCE

#include "table_private.h"
#include "core/cleanup.h"

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
    uint64_t            *used;          /* a bit for each of its addresses */
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


/* --- a free address --- */

static uint32_t
table_network_size(const table_network_t *network)
{
    return network->prefix == 0 ? ~0u : ~(~0u << (32 - network->prefix));
}


static void
table_mark(const table_network_t *network, struct in_addr ip)
{
    uint32_t  size = table_network_size(network);
    uint32_t  host = ntohl(ip.s_addr) & size;

    if ((ntohl(ip.s_addr) & ~size) == (ntohl(network->gateway.s_addr) & ~size))
    {
        network->used[host / 64] |= UINT64_C(1) << host % 64;
    }
}


/*
 * Which addresses somebody has, but for the VMs: before the table is locked.
 * The caller frees network->used.
 */
static int
table_mark_taken(table_network_t *network)
{
    unsigned        n;
    uint32_t        size = table_network_size(network);
    struct in_addr  edge;

    network->used = calloc((size_t) size / 64 + 1, sizeof(uint64_t));

    if (network->used == NULL) {
        return -1;
    }

    for (n = 0; n < network->n; n++) {
        table_mark(network, network->taken[n].ip);
    }

    table_mark(network, network->gateway);

    edge.s_addr = htonl(ntohl(network->gateway.s_addr) & ~size);
    table_mark(network, edge);
    edge.s_addr |= htonl(size);         /* the broadcast address */
    table_mark(network, edge);

    return 0;
}


/*
 * One look at each VM, and one at each address from the last one on: next fit,
 * so that a freed address rests before it is used again.
 */
static int
table_choose_ip(const table_network_t *network, vm_t *vm, hatch_err_t *err)
{
    int       i;
    entry_t  *e;
    uint32_t  n, host, size = table_network_size(network);

    for (i = 0; i < TABLE_BUCKETS; i++) {
        for (e = table.buckets[i]; e != NULL; e = e->next) {
            if (e->vm.guest_ip.s_addr != 0) {
                table_mark(network, e->vm.guest_ip);
            }
        }
    }

    for (n = 0; n <= size; n++) {
        host = (table.next_ip + n) & size;

        if (host % 64 == 0 && network->used[host / 64] == UINT64_MAX) {
            n += 63;                    /* all of them are used */
            continue;
        }

        if ((network->used[host / 64] & UINT64_C(1) << host % 64) == 0) {
            table.next_ip = host + 1;
            vm->guest_ip.s_addr = network->gateway.s_addr & htonl(~size);
            vm->guest_ip.s_addr |= htonl(host);
            return 0;
        }
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


/*
 * No two VMs have the same name, nor one the name of an orphan, which will
 * want it when it is back.
 */
static int
table_check_name(const vm_t *vm, hatch_err_t *err)
{
    int              i;
    size_t           o;
    entry_t         *e;
    table_orphan_t  *orphan;

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

    for (o = 0; o < table.n_orphans; o++) {
        orphan = &table.orphans[o];

        /* one that is back has the name that it has now */
        if (strcmp(orphan->name, vm->name) == 0
            && *table_find(orphan->id) == NULL)
        {
            return hatch_err_set(err, HATCH_ERR_CONFLICT, "\"name\" \"%s\" is "
                                 "taken by orphan %s, which has it until it "
                                 "is back, or DELETE /orphans/%s", vm->name,
                                 orphan->id, orphan->id);
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
    int                     rc = 0;
    entry_t               **link, *e;
    table_network_t         network = { gateway, prefix, taken, n, NULL };
    cleanup_free uint64_t  *used = NULL;

    e = calloc(1, sizeof(*e));

    if (e != NULL && vm->enable_network && table_mark_taken(&network) != 0) {
        free(take(e));
    }

    used = network.used;

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
