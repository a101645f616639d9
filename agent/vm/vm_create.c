/* The beginning of a VM's life; its end is in vm_delete.c. */

#define _GNU_SOURCE

#include "files.h"
#include "memory.h"
#include "routes.h"
#include "vm.h"
#include "durable.h"
#include "operation.h"
#include "vm_private.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/work.h"
#include "store/disk.h"
#include "store/image.h"
#include "store/seed.h"
#include "store/statedir.h"
#include "virt/host.h"
#include "virt/net.h"
#include "virt/spoof.h"
#include "virt/sync.h"
#include "virt/virt.h"
#include "virt/xml.h"

#include "hatch_clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>


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
    details.isolated = op->config->guest_isolation != 0;
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

    return op->domain != NULL ? durable_definition(op, err)
                              : virt_error(err, "cannot define the VM");
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

    memcpy(vm->id, request->id, sizeof(vm->id));
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
    vm->park_after = request->park_after;
    vm->save_after = request->save_after;
    vm->autostart = request->autostart;
    vm->memory = request->memory;
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


/* libvirt takes what the bridge has already; neither could be reached. */
static int
vm_check_mac(const char *mac, const xml_network_t *network, hatch_err_t *err)
{
    return mac[0] == '\0' || strcasecmp(mac, network->mac) != 0
           ? 0 : hatch_err_set(err, HATCH_ERR_INVALID, "\"guest_mac\" must "
                               "not be the MAC of the network's gateway, "
                               "\"%s\"", mac);
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

        if (rc == 0) {
            rc = vm_check_mac(op->vm.guest_mac, &network, err);
        }
    }

    if (rc == 0) {
        rc = table_reserve(&op->vm, network.gateway, network.prefix,
                           network.host, network.hosts, err);
    }

    free(network.host);

    return rc;
}


/* What its steps need and recovery does not: those it only undoes. */
typedef struct {
    const image_t  *image;
    const char     *user_data;
} create_t;


static int
create_seed(vm_op_t *op, hatch_err_t *err)
{
    int              rc = 0;
    const create_t  *create = op->arg;

    if (virt_driver(op->lease.conn)->forgets) {
        rc = files_mark_test(op->config, op->vm.id, err);
    }

    if (rc == 0 && op->vm.has_seed) {
        rc = seed_create(op->config, &op->vm, create->user_data, err);
    }

    return rc;
}


static int
create_disk(vm_op_t *op, hatch_err_t *err)
{
    const create_t  *create = op->arg;

    return op->vm.disk_mib != 0
           ? disk_create(op->config, &op->vm, create->image, err) : 0;
}


static int
create_define(vm_op_t *op, hatch_err_t *err)
{
    int              rc;
    const create_t  *create = op->arg;

    rc = vm_define(op, create->image, err);

    if (rc == 0) {
        table_defined(op->vm.id, HATCH_STATE_STARTING);
    }

    return rc;
}


static int
create_start(vm_op_t *op, hatch_err_t *err)
{
    int  rc = memory_boot(op, err);

    vm_end_start(op);

    return rc;
}


/* All that names it goes: the domain, then its place in the table, routes. */
static int
create_undefine(vm_op_t *op, hatch_err_t *err)
{
    int       rc;
    unsigned  n;

    rc = vm_undefine(op, err);

    if (rc == 0) {
        rc = vm_forget(op, err);
    }

    return rc == 0 ? routes_delete(op->config, op->vm.id, &n, err) : rc;
}


static int
create_delete_files(vm_op_t *op, hatch_err_t *err)
{
    (void) err;

    files_delete(op->config, op->vm.id);

    return 0;
}


static const step_t  create_steps[] = {
    { .name = "seeded", .run = create_seed, .undo = create_delete_files },
    { .name = "disk", .run = create_disk },
    { .name = "reserved", .run = vm_prepare_start, .undo = vm_release },
    { .name = "defined", .run = create_define, .undo = create_undefine },
    { .name = "started", .doing = "starting the VM", .deadline = STEP_SAVE,
      .is_done = vm_is_active, .run = create_start, .commits = 1 },
    { .name = NULL }
};

const operation_t  create_operation = {
    .name = "create", .steps = create_steps, .noted = 1, .undoes_all = 1
};


static int
vm_create_reserved(vm_op_t *op, const vm_request_t *request,
    const image_t *image, hatch_err_t *err)
{
    int                        rc;
    create_t                   create = { image, request->user_data };
    cleanup_json json_object  *record = NULL;

    if (create.user_data == NULL) {
        create.user_data = VM_NO_USER_DATA;
    }

    /* again: image_delete() looks at what is reserved */
    record = image_get(op->config, image->id);

    if (record == NULL) {
        return hatch_err_set(err, HATCH_ERR_INVALID,
                             "\"image_id\": no image \"%s\"", image->id);
    }

    op->note = vm_note(op);
    op->arg = &create;

    rc = operation_run(&create_operation, op, err);
    op->arg = NULL;

    if (rc != 0) {
        net_forget();
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

        if (!op.abandoned) {
            table_forget_orphan(op.vm.id);
        }

        vm_drop(&op);
        return rc;
    }

    rc = vm_end(&op, 0, vm, err);

    if (rc == 0) {
        log_event(LOG_INFO, "%s: created", vm->id);
    }

    return rc;
}
