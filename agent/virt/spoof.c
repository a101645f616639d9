#define _GNU_SOURCE

#include "spoof.h"
#include "link.h"
#include "net.h"
#include "nft.h"
#include "spoof_rules.h"
#include "core/cleanup.h"
#include "core/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <json-c/json.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>


/* The ports of VMs begin so.  libvirt forgets names that begin with "vnet". */
#define SPOOF_PREFIX  "hv"

/* That somebody removes the rules again and again is told once in, s. */
#define SPOOF_TELL    60


static struct {
    const config_t  *config;
    pthread_mutex_t  lock;              /* over the batches, too: no disk */
    int              fd;                /* for batches, or -1 */
    int              rules;             /* listens to nf_tables, or -1 */
    int              links;             /* listens to devices, or -1 */
    int              wake;
    json_object     *ports;             /* in the rules: name to MAC */
    unsigned         index;             /* of the bridge that is hardened */
    char             table[IFNAMSIZ];   /* the one that we made, or "" */
    time_t           told;              /* that they were removed */
    unsigned         ready:1;           /* the table of VMs is complete */
    unsigned         warned:1;          /* that there can be none */
} spoof = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1, .rules = -1,
            .links = -1, .wake = -1 };


void
spoof_port(struct in_addr ip, char name[IFNAMSIZ])
{
    (void) snprintf(name, IFNAMSIZ, SPOOF_PREFIX "%08x", ntohl(ip.s_addr));
}


/* Once: there is nothing that the agent could do about it.  Locked. */
static void
spoof_warn(const char *why)
{
    if (!spoof.warned) {
        spoof.warned = 1;
        log_event(LOG_WARN, "guests are not kept to their own addresses: %s; "
                  "mend it, or set \"spoof_protection\" to false", why);
    }
}


static const char *
spoof_reason(int errnum)
{
    return errnum == EPERM ? "the agent lacks CAP_NET_ADMIN"
           : errnum == EPROTONOSUPPORT || errnum == EOPNOTSUPP
           ? "the kernel has no nf_tables" : strerror(errnum);
}


/* --- all rules --- */

typedef struct {
    nft_batch_t   batch;
    const char   *table;
    json_object  *ports;            /* names, as in spoof.ports */
    json_object  *macs;             /* without their first byte: the VM */
    const vm_t   *vms;
} spoof_all_t;


static void
spoof_add(spoof_all_t *all, const char *port, const vm_t *vm)
{
    spoof_rules_guest(&all->batch, all->table, 1, port, vm->guest_mac,
                      vm->guest_ip);
    (void) json_object_object_add(all->ports, port,
                                  json_object_new_string(vm->guest_mac));
}


/*
 * A port under a name that libvirt chose, of a domain that was defined before
 * ports had names of ours.  libvirt gives it the guest's MAC with another
 * first byte.
 */
static void
spoof_add_port(void *ctx, const char *port, const char *mac)
{
    json_object  *found;
    spoof_all_t  *all = ctx;

    if (!json_object_object_get_ex(all->ports, port, NULL)
        && json_object_object_get_ex(all->macs, mac, &found))
    {
        spoof_add(all, port, &all->vms[json_object_get_int64(found)]);
    }
}


/* Locked. */
static int
spoof_make(const char *bridge)
{
    int                        rc;
    char                       port[IFNAMSIZ];
    size_t                     i, n;
    cleanup_free vm_t         *vms = NULL;
    cleanup_json json_object  *macs = json_object_new_object();
    spoof_all_t                all = { .batch.fd = spoof.fd, .table = bridge };

    if (table_list_all(&vms, &n) != 0) {
        return ENOMEM;
    }

    all.vms = vms;
    all.macs = macs;
    all.ports = json_object_new_object();

    if (spoof.table[0] != '\0' && strcmp(spoof.table, bridge) != 0) {
        spoof_rules_drop(&all.batch, spoof.table);
    }

    spoof_rules_make(&all.batch, bridge);

    for (i = 0; i < n; i++) {
        if (vms[i].enable_network && vms[i].guest_ip.s_addr != 0) {
            spoof_port(vms[i].guest_ip, port);
            spoof_add(&all, port, &vms[i]);
            (void) json_object_object_add(macs, vms[i].guest_mac + 3,
                                          json_object_new_int64((int64_t) i));
        }
    }

    link_each_port(bridge, spoof_add_port, &all);
    rc = nft_commit(&all.batch);

    if (rc != 0) {
        json_object_put(all.ports);
        return rc;
    }

    json_object_put(spoof.ports);
    spoof.ports = all.ports;
    (void) snprintf(spoof.table, sizeof(spoof.table), "%s", bridge);

    return 0;
}


/* Once for each bridge: the network may have been stopped.  Locked. */
static void
spoof_harden(void)
{
    unsigned  index = if_nametoindex(spoof.table);

    if (index != spoof.index) {
        spoof.index = index;
        link_harden(spoof.table);
    }
}


/* Locked. */
static void
spoof_rebuild(void)
{
    int   rc;
    char  bridge[IFNAMSIZ];

    if (!spoof.ready || spoof.fd == -1) {
        return;
    }

    net_bridge(spoof.config, bridge);
    rc = spoof_make(bridge);

    if (rc != 0) {
        spoof_warn(spoof_reason(rc));
        return;
    }

    spoof_harden();
    log_event(LOG_DEBUG, "guests are kept to their own addresses, table "
              "bridge %s: %d ports", bridge,
              json_object_object_length(spoof.ports));
}


/* --- the thread --- */

static void
spoof_joined(void *ctx, const char *port)
{
    int  *unknown = ctx;

    *unknown |= !json_object_object_get_ex(spoof.ports, port, NULL);
}


/* Something may have happened: does it take new rules?  Locked. */
static int
spoof_is_wrong(void)
{
    int       wrong = 0;
    time_t    now = time(NULL);
    uint64_t  n;

    if (eventfd_read(spoof.wake, &n) == 0) {
        wrong = 1;
    }

    /* before there are any, each port is news */
    if (link_hear(spoof.links, spoof.table, spoof_joined, &wrong)) {
        wrong = 1;
    }

    spoof_harden();

    if (nft_heard_deletion(spoof.rules, spoof.fd, spoof.table)) {
        wrong = 1;

        if (now >= spoof.told + SPOOF_TELL || now < spoof.told) {
            spoof.told = now;
            log_event(LOG_WARN, "somebody removed what keeps guests to their "
                      "own addresses (nft table bridge %s): it is made anew",
                      spoof.table);
        }
    }

    return wrong;
}


static void *
spoof_run(void *data)
{
    struct pollfd  fds[] = {
        { spoof.wake, POLLIN, 0 }, { spoof.rules, POLLIN, 0 },
        { spoof.links, POLLIN, 0 }
    };

    (void) data;

    for ( ;; ) {
        (void) poll(fds, sizeof(fds) / sizeof(fds[0]), -1);

        pthread_mutex_lock(&spoof.lock);

        if (spoof_is_wrong()) {
            spoof_rebuild();
        }

        pthread_mutex_unlock(&spoof.lock);
    }

    return NULL;
}


/* Nothing stays of an agent before that had it on. */
static void
spoof_remove(const config_t *config)
{
    nft_batch_t  batch = { .fd = nft_open(0) };

    if (batch.fd != -1) {
        spoof_rules_drop(&batch, config->bridge_name);
        (void) nft_commit(&batch);
        (void) close(batch.fd);
    }
}


int
spoof_start(const config_t *config, hatch_err_t *err)
{
    int        rc;
    pthread_t  thread;

    spoof.config = config;

    if (!config->spoof_protection) {
        spoof_remove(config);
        return 0;
    }

    spoof.ports = json_object_new_object();
    spoof.fd = nft_open(0);
    spoof.rules = nft_open(1);
    spoof.links = link_listen();
    spoof.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (spoof.fd == -1 || spoof.rules == -1 || spoof.links == -1
        || spoof.wake == -1)
    {
        rc = errno;
        pthread_mutex_lock(&spoof.lock);
        spoof_warn(spoof_reason(rc));
        spoof.fd = -1;
        pthread_mutex_unlock(&spoof.lock);
        return 0;
    }

    rc = pthread_create(&thread, NULL, spoof_run, NULL);

    if (rc == 0) {
        (void) pthread_detach(thread);
    }

    return rc == 0 ? 0 : hatch_err_errno(err, rc, "cannot start a thread");
}


void
spoof_request(void)
{
    pthread_mutex_lock(&spoof.lock);
    spoof.ready = 1;
    pthread_mutex_unlock(&spoof.lock);

    if (spoof.wake != -1) {
        (void) eventfd_write(spoof.wake, 1);
    }
}


/* --- one VM --- */

/* Locked. */
static int
spoof_has(const char *port, const char *mac)
{
    json_object  *found;

    return json_object_object_get_ex(spoof.ports, port, &found)
           && strcmp(json_object_get_string(found), mac) == 0;
}


void
spoof_admit(const vm_t *vm)
{
    int          rc;
    char         port[IFNAMSIZ], bridge[IFNAMSIZ];
    nft_batch_t  batch = { .fd = -1 };

    spoof_port(vm->guest_ip, port);

    pthread_mutex_lock(&spoof.lock);

    if (spoof.fd == -1 || spoof_has(port, vm->guest_mac)) {
        pthread_mutex_unlock(&spoof.lock);
        return;
    }

    net_bridge(spoof.config, bridge);

    if (if_nametoindex(bridge) == 0) {
        spoof_warn("the agent does not see the bridge, which is in another "
                   "network namespace or on another host");
    }

    if (strcmp(spoof.table, bridge) == 0
        && !json_object_object_get_ex(spoof.ports, port, NULL))
    {
        batch.fd = spoof.fd;
        spoof_rules_guest(&batch, spoof.table, 1, port, vm->guest_mac,
                          vm->guest_ip);
        rc = nft_commit(&batch);

        if (rc == 0) {
            (void) json_object_object_add(spoof.ports, port,
                                          json_object_new_string(
                                              vm->guest_mac));
        }

    } else {
        rc = ENOENT;        /* no rules yet, or of another bridge or MAC */
    }

    /* it is in the table of VMs already */
    if (rc != 0) {
        spoof_rebuild();
    }

    pthread_mutex_unlock(&spoof.lock);
}


void
spoof_dismiss(const vm_t *vm)
{
    char         port[IFNAMSIZ];
    nft_batch_t  batch = { .fd = spoof.fd };

    spoof_port(vm->guest_ip, port);

    pthread_mutex_lock(&spoof.lock);

    if (spoof.fd != -1 && json_object_object_get_ex(spoof.ports, port, NULL)) {
        spoof_rules_guest(&batch, spoof.table, 0, port, vm->guest_mac,
                          vm->guest_ip);
        (void) nft_commit(&batch);
        json_object_object_del(spoof.ports, port);
    }

    pthread_mutex_unlock(&spoof.lock);
}


int
spoof_check(const config_t *config, hatch_err_t *err)
{
    int          rc;
    nft_batch_t  batch = { .fd = nft_open(0) };

    if (!config->spoof_protection) {
        return 0;
    }

    rc = errno;

    if (batch.fd != -1) {
        /* a table that was not there before, and is not after */
        spoof_rules_make(&batch, "hatch-check");
        nft_message(&batch, NFT_MSG_DELTABLE, 0, "hatch-check");
        rc = nft_commit(&batch);
        (void) close(batch.fd);
    }

    return rc == 0
           ? 0 : hatch_err_set(err, HATCH_ERR_DENIED, "guests will not be "
                               "kept to their own addresses: %s; mend it, or "
                               "set \"spoof_protection\" to false",
                               spoof_reason(rc));
}
