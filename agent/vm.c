#define _GNU_SOURCE

#include "vm.h"
#include "cleanup.h"
#include "image.h"
#include "log.h"
#include "net.h"
#include "seed.h"
#include "sync.h"
#include "virt.h"
#include "xml.h"

#include "hatch_clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


/* How long an operation waits for the one before it on the same VM, ms. */
#define VM_TURN_TIMEOUT  30000


/*
 * /dev/kvm alone says nothing: on some machines it opens and guests hang.
 * Only a CPU that has virtualization, and says so, is used.
 */
static int
vm_has_kvm(void)
{
    int       found = 0;
    char     *line = NULL;
    FILE     *cpuinfo;
    size_t    size = 0;

    if (access("/dev/kvm", R_OK | W_OK) == -1) {
        return 0;
    }

    cpuinfo = fopen("/proc/cpuinfo", "re");
    if (cpuinfo == NULL) {
        return 0;
    }

    while (!found && getline(&line, &size, cpuinfo) > 0) {
        found = strncmp(line, "flags", 5) == 0
                && (strstr(line, " vmx") != NULL
                    || strstr(line, " svm") != NULL);
    }

    free(line);
    (void) fclose(cpuinfo);

    return found;
}


static const char *
vm_type(virConnectPtr conn, const config_t *config)
{
    if (virt_is_test(conn)) {
        return "test";
    }

    if (strcmp(config->virt_type, "auto") != 0) {
        return config->virt_type;
    }

    return vm_has_kvm() ? "kvm" : "qemu";
}


static int
vm_define(virConnectPtr conn, const config_t *config, const vm_t *vm,
    const image_t *image, virDomainPtr *domain, hatch_err_t *err)
{
    char                seed[SEED_PATH_MAX];
    xml_domain_t        details;
    cleanup_free char  *xml = NULL;

    seed_path(config, vm->id, seed);

    details.type = vm_type(conn, config);
    details.network = config->network_name;
    details.kernel_path = image->kernel_path;
    details.initrd_path = image->initrd_path;
    details.seed_path = seed;

    xml = xml_domain(vm, &details);
    if (xml == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot create a VM");
    }

    *domain = virDomainDefineXMLFlags(conn, xml, VIR_DOMAIN_DEFINE_VALIDATE);

    return *domain != NULL ? 0 : virt_error(err, "cannot define the VM");
}


/* The settings of a new VM: what was asked for, else the defaults. */
static int
vm_settings(const config_t *config, const vm_request_t *request,
    const image_t *image, vm_t *vm, hatch_err_t *err)
{
    memset(vm, 0, sizeof(*vm));

    if (hatch_id_make(HATCH_ID_VM, vm->id) != 0) {
        return hatch_err_errno(err, errno, "no random numbers");
    }

    memcpy(vm->image_id, image->id, sizeof(vm->image_id));
    (void) snprintf(vm->boot_args, sizeof(vm->boot_args), "%s",
                    request->boot_args != NULL ? request->boot_args
                                               : image->boot_args);

    vm->vcpu_count = request->vcpu_count != 0
                     ? request->vcpu_count : (unsigned) config->default_vcpu;
    vm->mem_mib = request->mem_mib != 0
                  ? request->mem_mib : (unsigned) config->default_mem_mib;
    vm->enable_network = request->enable_network;
    vm->has_seed = request->user_data != NULL;
    vm->guest_ip = request->guest_ip;
    vm->created = hatch_clock_wall_ms();
    vm->updated = vm->created;

    if (request->guest_mac != NULL) {
        (void) snprintf(vm->guest_mac, sizeof(vm->guest_mac), "%s",
                        request->guest_mac);
    }

    return 0;
}


static int
vm_check_ip(struct in_addr ip, struct in_addr gateway, unsigned prefix,
    hatch_err_t *err)
{
    char      network[INET_ADDRSTRLEN];
    uint32_t  mask = ~0u << (32 - prefix), host;

    if (ip.s_addr == 0) {
        return 0;
    }

    host = ntohl(ip.s_addr) & ~mask;

    if ((ntohl(ip.s_addr) & mask) != (ntohl(gateway.s_addr) & mask)
        || host == 0 || host == ~mask || ip.s_addr == gateway.s_addr)
    {
        (void) inet_ntop(AF_INET, &gateway, network, sizeof(network));

        return hatch_err_set(err, HATCH_ERR_INVALID, "\"guest_ip\" must be a "
                             "free host address of the network %s/%u",
                             network, prefix);
    }

    return 0;
}


/* Seed, reservation, definition, start.  A failure undoes what came before. */
static int
vm_build(virConnectPtr conn, const config_t *config, const image_t *image,
    const vm_t *vm, const char *user_data, hatch_err_t *err)
{
    int                          rc = 0;
    hatch_err_t                  ignored;
    cleanup_domain virDomainPtr  domain = NULL;

    if (vm->has_seed) {
        rc = seed_create(config, vm, user_data, err);
    }

    if (rc == 0 && vm->enable_network) {
        rc = net_reserve(conn, config, vm->guest_mac, vm->guest_ip, err);
    }

    if (rc == 0) {
        rc = vm_define(conn, config, vm, image, &domain, err);
    }

    if (rc == 0) {
        table_defined(vm->id, HATCH_STATE_STARTING);

        if (virDomainCreate(domain) == 0) {
            return 0;
        }

        rc = virt_error(err, "cannot start the VM");
        (void) virDomainUndefine(domain);
    }

    if (vm->enable_network) {
        (void) net_release(conn, config, vm->guest_mac, vm->guest_ip,
                           &ignored);
    }

    seed_delete(config, vm->id);

    return rc;
}


int
vm_create(const config_t *config, const vm_request_t *request, vm_t *vm,
    hatch_err_t *err)
{
    int                         rc;
    image_t                     image;
    unsigned                    prefix = 0;
    struct in_addr              gateway = { 0 };
    cleanup_conn virConnectPtr  conn = NULL;

    rc = image_find(config, request->image_id, &image, err);

    if (rc == 0) {
        rc = vm_settings(config, request, &image, vm, err);
    }

    if (rc != 0) {
        return rc;
    }

    conn = virt_get(err);
    if (conn == NULL) {
        return HATCH_ERR_UNAVAILABLE;
    }

    if (vm->enable_network) {
        rc = net_ensure(conn, config, &gateway, &prefix, err);

        if (rc == 0) {
            rc = vm_check_ip(vm->guest_ip, gateway, prefix, err);
        }
    }

    if (rc == 0) {
        rc = table_reserve(vm, gateway, prefix, err);
    }

    if (rc != 0) {
        return rc;
    }

    rc = vm_build(conn, config, &image, vm, request->user_data, err);

    if (rc != 0) {
        (void) table_forget(vm->id);
        return rc;
    }

    rc = sync_vm(conn, vm->id, err);
    table_end(vm->id);

    if (rc == 0) {
        log_event(LOG_INFO, "%s: created", vm->id);
        rc = table_get(vm->id, vm);
    }

    return rc;
}


/*
 * Begins an operation: connection, turn, domain.  What the table says may be
 * a moment old (somebody with virsh), so libvirt is asked once more.
 * vm_close() ends it.
 */
static int
vm_open(const char *id, vm_t *vm, virConnectPtr *conn, virDomainPtr *domain,
    hatch_err_t *err)
{
    int  rc;

    *conn = virt_get(err);
    if (*conn == NULL) {
        return HATCH_ERR_UNAVAILABLE;
    }

    rc = table_begin(id, vm, VM_TURN_TIMEOUT, err);
    if (rc != 0) {
        return rc;
    }

    rc = sync_vm(*conn, id, err);

    if (rc == 0) {
        *domain = virDomainLookupByName(*conn, id);

        if (*domain == NULL) {
            rc = virt_error(err, "cannot look up the VM");

        } else if (table_get(id, vm) != 0) {
            rc = hatch_err_set(err, HATCH_ERR_NOT_FOUND, "no VM \"%s\"", id);
        }
    }

    if (rc != 0) {
        table_end(id);
    }

    return rc;
}


/*
 * Ends an operation: what libvirt says now is the state, whatever the
 * operation hoped for.  rc is the operation's own result.
 */
static int
vm_close(virConnectPtr conn, const char *id, int rc, vm_t *vm,
    hatch_err_t *err)
{
    int          synced;
    hatch_err_t  why;

    synced = sync_vm(conn, id, &why);
    table_end(id);

    if (rc != 0) {
        return rc;
    }

    if (synced != 0) {
        *err = why;
        return synced;
    }

    rc = table_get(id, vm);

    return rc == 0 ? 0 : hatch_err_set(err, rc, "no VM \"%s\"", id);
}


static int
vm_conflict(const vm_t *vm, const char *operation, hatch_err_t *err)
{
    return hatch_err_set(err, HATCH_ERR_CONFLICT, "cannot %s the VM: it is %s",
                         operation, hatch_state_name(vm->state));
}


int
vm_start(const config_t *config, const char *id, vm_t *vm, hatch_err_t *err)
{
    int                          rc;
    cleanup_conn virConnectPtr   conn = NULL;
    cleanup_domain virDomainPtr  domain = NULL;

    rc = vm_open(id, vm, &conn, &domain, err);
    if (rc != 0) {
        return rc;
    }

    if (!hatch_state_may(vm->state, HATCH_STATE_STARTING)) {
        rc = vm_conflict(vm, "start", err);
        table_end(id);
        return rc;
    }

    table_doing(id, vm->state == HATCH_STATE_SNAPSHOTTED
                    ? HATCH_STATE_RESTORING : HATCH_STATE_STARTING);

    /* somebody may have stopped the network, or made it anew */
    if (vm->enable_network) {
        rc = net_reserve(conn, config, vm->guest_mac, vm->guest_ip, err);
    }

    if (rc == 0 && virDomainCreate(domain) == -1) {
        rc = virt_error(err, "cannot start the VM");
    }

    return vm_close(conn, id, rc, vm, err);
}


/* Asks the guest, waits, and pulls the plug if it did not go. */
static int
vm_shutdown(const config_t *config, virDomainPtr domain, const char *id,
    int force, hatch_err_t *err)
{
    if (!force && config->stop_timeout > 0 && virDomainShutdown(domain) == 0
        && table_wait(id, HATCH_STATE_STOPPED,
                      (unsigned) config->stop_timeout * 1000) == 0)
    {
        return 0;
    }

    if (virDomainDestroy(domain) == 0 || virDomainIsActive(domain) == 0) {
        return 0;
    }

    return virt_error(err, "cannot stop the VM");
}


int
vm_stop(const config_t *config, const char *id, int force, vm_t *vm,
    hatch_err_t *err)
{
    int                          rc;
    cleanup_conn virConnectPtr   conn = NULL;
    cleanup_domain virDomainPtr  domain = NULL;

    rc = vm_open(id, vm, &conn, &domain, err);
    if (rc != 0) {
        return rc;
    }

    if (!hatch_state_may(vm->state, HATCH_STATE_STOPPING)) {
        rc = vm_conflict(vm, "stop", err);
        table_end(id);
        return rc;
    }

    table_doing(id, HATCH_STATE_STOPPING);

    if (vm->state == HATCH_STATE_SNAPSHOTTED) {
        /* stopping what sleeps means to drop its memory */
        rc = virDomainManagedSaveRemove(domain, 0) == 0
             ? 0 : virt_error(err, "cannot remove the saved memory");

    } else if (virDomainIsActive(domain) != 0) {
        /* a guest that is paused cannot answer */
        rc = vm_shutdown(config, domain, id,
                         force || vm->state == HATCH_STATE_PAUSED, err);
    }

    return vm_close(conn, id, rc, vm, err);
}


int
vm_delete(const config_t *config, const char *id, hatch_err_t *err)
{
    int                          rc;
    vm_t                         vm;
    hatch_err_t                  why;
    cleanup_conn virConnectPtr   conn = NULL;
    cleanup_domain virDomainPtr  domain = NULL;

    rc = vm_open(id, &vm, &conn, &domain, err);
    if (rc != 0) {
        return rc;
    }

    table_doing(id, HATCH_STATE_STOPPING);

    if (virDomainIsActive(domain) == 1 && virDomainDestroy(domain) == -1
        && virDomainIsActive(domain) == 1)
    {
        rc = virt_error(err, "cannot stop the VM");
        return vm_close(conn, id, rc, &vm, err);
    }

    if (virDomainUndefineFlags(domain, VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
        == -1)
    {
        rc = virt_error(err, "cannot undefine the VM");

        if (rc != HATCH_ERR_NOT_FOUND) {
            return vm_close(conn, id, rc, &vm, err);
        }
    }

    /* libvirt has it no more: out of table and zone, then its routes */
    (void) sync_vm(conn, id, &why);

    if (vm.enable_network
        && net_release(conn, config, vm.guest_mac, vm.guest_ip, &why) != 0)
    {
        /* the next comparison removes it */
        log_event(LOG_WARN, "%s: its reservation remains: %s", id, why.text);
    }

    seed_delete(config, id);
    log_event(LOG_INFO, "%s: deleted", id);

    return 0;
}
