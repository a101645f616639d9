/* The two ends of a VM's life. */

#define _GNU_SOURCE

#include "files.h"
#include "routes.h"
#include "saved.h"
#include "vm.h"
#include "vm_private.h"
#include "core/cleanup.h"
#include "core/fault.h"
#include "core/log.h"
#include "core/work.h"
#include "store/disk.h"
#include "store/image.h"
#include "store/pending.h"
#include "store/seed.h"
#include "store/statedir.h"
#include "virt/host.h"
#include "virt/neighbor.h"
#include "virt/net.h"
#include "virt/sync.h"
#include "virt/virt.h"
#include "virt/xml.h"

#include "hatch_clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


/* What cloud-init gets of a VM with a disk and without user_data. */
#define VM_NO_USER_DATA  "#cloud-config\n{}\n"


static int
vm_define(vm_op_t *op, const image_t *image, hatch_err_t *err)
{
    char                seed[STATEDIR_PATH], disk[STATEDIR_PATH];
    xml_domain_t        details;
    cleanup_free char  *xml = NULL;

    seed_path(op->config, op->vm.id, seed);
    disk_path(op->config, op->vm.id, disk);

    work_step("asking libvirt what QEMU can do", HOST_WAIT / 1000 + 10);
    details.type = host_type(op->config, op->lease.conn);

    if (details.type == NULL) {
        return hatch_err_set(err, HATCH_ERR_UNAVAILABLE, "libvirt has not yet "
                             "said what QEMU can do");
    }

    details.network = op->config->network_name;
    details.kernel_path = image->kernel_path;
    details.initrd_path = image->initrd_path;
    details.seed_path = seed;
    details.disk_path = disk;
    details.base_path = image->rootfs_path;
    details.base_format = image->format;

    xml = xml_domain(&op->vm, &details);
    if (xml == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot create a VM");
    }

    vm_step(op, "defining the VM");
    op->domain = virDomainDefineXMLFlags(op->lease.conn, xml,
                                         VIR_DOMAIN_DEFINE_VALIDATE);

    return op->domain != NULL ? 0 : virt_error(err, "cannot define the VM");
}


static int
vm_settings_disk(const config_t *config, const vm_request_t *request,
    const image_t *image, vm_t *vm, hatch_err_t *err)
{
    vm->disk_mib = request->disk_mib != 0 ? request->disk_mib
                                          : image->size_mib;

    if (vm->disk_mib < image->size_mib) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"disk_mib\" must be at "
                             "least %u, the size of image %s, not %u",
                             image->size_mib, image->id, vm->disk_mib);
    }

    if (vm->disk_mib > config->max_overlay_size_mib) {
        return hatch_err_set(err, HATCH_ERR_LIMIT, "disk size limit reached "
                             "(%u/%lld)", vm->disk_mib,
                             (long long) config->max_overlay_size_mib);
    }

    return 0;
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
    (void) snprintf(vm->template_id, sizeof(vm->template_id), "%s",
                    request->template_id != NULL ? request->template_id : "");
    (void) snprintf(vm->boot_args, sizeof(vm->boot_args), "%s",
                    request->boot_args != NULL ? request->boot_args
                                               : image->boot_args);

    if (request->name[0] != '\0') {
        memcpy(vm->name, request->name, sizeof(vm->name));
    } else {
        /* '_' is no character of a host name */
        (void) snprintf(vm->name, sizeof(vm->name), "vm-%s",
                        vm->id + strlen(HATCH_ID_VM));
    }

    if (request->boot_args != NULL && image->kernel_path[0] == '\0') {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"boot_args\": image %s "
                             "has no kernel, it boots from its disk",
                             image->id);
    }

    vm->vcpu_count = request->vcpu_count != 0
                     ? request->vcpu_count : (unsigned) config->default_vcpu;
    vm->mem_mib = request->mem_mib != 0
                  ? request->mem_mib : (unsigned) config->default_mem_mib;
    vm->idle_timeout = request->idle_timeout;
    vm->save_after = request->save_after;
    vm->enable_network = request->enable_network;
    vm->has_seed = request->user_data != NULL || image->rootfs_path[0] != '\0';
    vm->guest_ip = request->guest_ip;
    vm->created = hatch_clock_wall_ms();
    vm->updated = vm->created;

    if (request->guest_mac != NULL) {
        (void) snprintf(vm->guest_mac, sizeof(vm->guest_mac), "%s",
                        request->guest_mac);
    }

    return vm_settings_disk(config, request, image, vm, err);
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


/* Chooses address and MAC, and makes the name, id and limits its own. */
static int
vm_reserve(vm_op_t *op, hatch_err_t *err)
{
    int            rc = 0;
    xml_network_t  network;

    memset(&network, 0, sizeof(network));

    if (op->vm.enable_network) {
        vm_step(op, "preparing the network");
        rc = net_ensure(op->lease.conn, op->config, &network, err);

        if (rc == 0) {
            rc = vm_check_ip(op->vm.guest_ip, network.gateway, network.prefix,
                             err);
        }
    }

    if (rc == 0) {
        rc = table_reserve(&op->vm, network.gateway, network.prefix,
                           network.host, network.hosts, err);
    }

    free(network.host);

    return rc;
}


/* Seed, disk, reservation, definition, start: each a fault point. */
static int
vm_build(vm_op_t *op, const image_t *image, const char *user_data,
    hatch_err_t *err)
{
    int  rc;

    rc = fault("create.noted", err);

    if (rc == 0 && virt_driver(op->lease.conn)->forgets) {
        rc = files_mark_test(op->config, op->vm.id, err);
    }

    if (rc == 0 && op->vm.has_seed) {
        rc = seed_create(op->config, &op->vm, user_data, err);
    }

    if (rc == 0) {
        rc = fault("create.seeded", err);
    }

    if (rc == 0 && op->vm.disk_mib != 0) {
        rc = disk_create(op->config, &op->vm, image, err);
    }

    if (rc == 0) {
        rc = fault("create.disk", err);
    }

    if (rc == 0) {
        rc = vm_prepare_start(op, err);

        if (rc == 0) {
            rc = fault("create.reserved", err);
        }

        if (rc == 0) {
            rc = vm_define(op, image, err);
        }

        if (rc == 0) {
            table_defined(op->vm.id, HATCH_STATE_STARTING);
            rc = fault("create.defined", err);
        }

        work_step("starting the VM", host_save_timeout(op->config));

        if (rc == 0 && virDomainCreate(op->domain) == -1) {
            rc = virt_error(err, "cannot start the VM");
        }

        work_start_end();
    }

    return rc == 0 ? fault("create.started", err) : rc;
}


/* Undoes what there is of a VM that could not be built. */
static void
vm_unbuild(vm_op_t *op)
{
    hatch_err_t  why;

    if (vm_erase(op, &why) != 0) {
        log_event(LOG_WARN, "%s: not undone yet: %s", op->vm.id, why.text);
        pending_abandon(op->vm.id);
    }
}


static int
vm_create_reserved(vm_op_t *op, const vm_request_t *request,
    const image_t *image, hatch_err_t *err)
{
    int                        rc = 0;
    cleanup_json json_object  *record = NULL;

    /* again: image_delete() looks at what is reserved */
    record = image_get(op->config, image->id);

    if (record == NULL) {
        rc = hatch_err_set(err, HATCH_ERR_INVALID,
                           "\"image_id\": no image \"%s\"", image->id);
    }

    if (rc == 0) {
        rc = pending_begin(op->config, op->vm.id, "create",
                           vm_note(op), err);
    }

    if (rc != 0) {
        return rc;
    }

    rc = vm_build(op, image, request->user_data != NULL ? request->user_data
                                                        : VM_NO_USER_DATA,
                  err);

    /* with a note that stays, the next agent would undo it */
    if (rc == 0 && pending_end(op->config, op->vm.id) != 0) {
        rc = hatch_err_set(err, HATCH_ERR_SYSTEM, "cannot end the creation; "
                           "is the state directory writable?");
    }

    /* before it is undone: the table has forgotten the VM then */
    if (rc != 0) {
        rc = vm_forced(op, rc, err);
        vm_unbuild(op);
    }

    return rc;
}


int
vm_create(const config_t *config, const vm_request_t *request, vm_t *vm,
    hatch_err_t *err)
{
    int      rc;
    image_t  image;
    vm_op_t  op;

    memset(&op, 0, sizeof(op));
    op.config = config;

    rc = image_find(config, request->image_id, &image, err);

    if (rc == 0) {
        rc = vm_settings(config, request, &image, &op.vm, err);
    }

    if (rc != 0) {
        return rc;
    }

    vm_step(&op, "connecting");
    rc = virt_lease(&op.lease, err);

    if (rc == 0) {
        work_step("asking libvirt what QEMU can do", HOST_WAIT / 1000 + 10);
        host_wait();
    }

    if (rc == 0) {
        rc = vm_reserve(&op, err);
    }

    if (rc != 0) {
        virt_release(&op.lease);
        return rc;
    }

    rc = vm_create_reserved(&op, request, &image, err);

    if (rc != 0) {
        (void) table_forget(op.vm.id);
        vm_drop(&op);
        return rc;
    }

    rc = vm_end(&op, 0, vm, err);

    if (rc == 0) {
        log_event(LOG_INFO, "%s: created", vm->id);
    }

    return rc;
}


/* --- the other end --- */

/* Ends and undefines the domain; also if somebody just starts it. */
static int
vm_undefine(vm_op_t *op, hatch_err_t *err)
{
    int  rc;

    vm_step_kill(op->config);
    (void) virDomainDestroy(op->domain);

    vm_step(op, "undefining the VM");

    if (virDomainUndefineFlags(op->domain,
                               VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                               | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)
        == -1)
    {
        rc = virt_error(err, "cannot undefine the VM");

        if (rc != HATCH_ERR_NOT_FOUND && virDomainIsPersistent(op->domain)
                                         != 0)
        {
            return rc;
        }
    }

    /* what is still running now has no definition and goes for good */
    if (virDomainIsActive(op->domain) == 1
        && virDomainDestroy(op->domain) == -1
        && virDomainIsActive(op->domain) == 1)
    {
        return virt_error(err, "cannot stop the VM");
    }

    return 0;
}


static int
vm_release(vm_op_t *op, hatch_err_t *err)
{
    if (!op->vm.enable_network || op->vm.guest_ip.s_addr == 0) {
        return 0;
    }

    vm_step(op, "releasing the address");

    if (virt_driver(op->lease.conn)->has_guests) {
        neighbor_delete(op->config->bridge_name, op->vm.guest_ip);
    }

    return net_release(op->lease.conn, op->config, op->vm.guest_mac,
                       op->vm.guest_ip, err);
}


/*
 * The files, which may be what fills the disk, go even if the routes cannot:
 * both are tried again until they are gone.
 */
static int
vm_erase_rest(vm_op_t *op, hatch_err_t *err)
{
    int          rc, routes;
    unsigned     n;
    hatch_err_t  why;
    const char  *id = op->vm.id;

    routes = routes_delete(op->config, id, &n, &why);
    rc = fault("delete.routes", err);

    if (rc == 0) {
        files_delete(op->config, id);
        saved_delete_aside(op);
        rc = fault("delete.files", err);
    }

    if (rc == 0) {
        rc = vm_release(op, err);
    }

    if (rc == 0) {
        rc = fault("delete.released", err);
    }

    if (rc == 0 && routes != 0) {
        *err = why;
        rc = routes;
    }

    return rc == 0 ? pending_end(op->config, id) : rc;
}


int
vm_erase(vm_op_t *op, hatch_err_t *err)
{
    int          rc = 0;
    const char  *id = op->vm.id;

    if (op->domain != NULL) {
        rc = vm_undefine(op, err);
    }

    if (rc == 0) {
        rc = fault("delete.undefined", err);
    }

    if (rc != 0) {
        return rc;
    }

    /* libvirt has it no more: out of table and zone, then its routes */
    rc = sync_vm(op->lease.conn, id, err);

    if (rc != HATCH_ERR_NOT_FOUND) {
        return rc != 0 ? rc : hatch_err_set(err, HATCH_ERR_LIBVIRT,
                                            "libvirt still has the VM");
    }

    rc = fault("delete.forgotten", err);

    return rc == 0 ? vm_erase_rest(op, err) : rc;
}


int
vm_delete(const config_t *config, const char *id, hatch_err_t *err)
{
    int      rc;
    vm_t     vm;
    vm_op_t  op;

    rc = vm_begin_force(&op, config, id, 1, err);
    if (rc != 0) {
        return rc;
    }

    table_doing(id, HATCH_STATE_STOPPING);
    rc = pending_begin_anyway(config, id, "delete", vm_note(&op), err);

    if (rc == 0) {
        rc = fault("delete.noted", err);
    }

    if (rc == 0) {
        rc = vm_erase(&op, err);
    }

    if (rc != 0 && virDomainIsPersistent(op.domain) == 1) {
        (void) pending_undone(config, id);  /* it is as it was, or stopped */
        return vm_end(&op, rc, &vm, err);
    }

    if (rc != 0) {
        log_event(LOG_WARN, "%s: not all deleted yet: %s", id, err->text);
        pending_abandon(id);
    }

    if (rc != 0 && table_has(id)) {
        return vm_end(&op, rc, &vm, err);
    }

    vm_drop(&op);
    log_event(LOG_INFO, "%s: deleted", id);

    return 0;
}
