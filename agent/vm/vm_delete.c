/* The end of a VM's life. */

#define _GNU_SOURCE

#include "vm.h"
#include "durable.h"
#include "files.h"
#include "operation.h"
#include "routes.h"
#include "saved.h"
#include "vm_private.h"
#include "core/log.h"
#include "store/pending.h"
#include "virt/neighbor.h"
#include "virt/net.h"
#include "virt/spoof.h"
#include "virt/sync.h"

#include <string.h>


/*
 * The definition first: libvirt refuses that of a domain that somebody else
 * has something of, and then nothing has happened.  What still runs without
 * one goes for good when it is ended.
 */
int
vm_undefine(vm_op_t *op, hatch_err_t *err)
{
    int       rc;
    unsigned  flags;

    if (op->domain == NULL) {
        return 0;
    }

    flags = virt_driver(op->lease.conn)->undefine_flags;
    vm_step(op, "undefining the VM");

    if (virDomainUndefineFlags(op->domain, flags) == -1) {
        rc = virt_error(err, "cannot undefine the VM");

        if (rc != HATCH_ERR_NOT_FOUND
            && virDomainIsPersistent(op->domain) != 0)
        {
            return rc;
        }
    }

    /* with the definition goes saved memory */
    rc = durable_definition(op, err);
    rc = rc == 0 ? durable_memory(op, err) : rc;

    if (rc != 0) {
        return rc;
    }

    vm_step_kill(op->config);

    if (virDomainIsActive(op->domain) != 1
        || virDomainDestroy(op->domain) == 0)
    {
        return 0;
    }

    rc = virt_error(err, "cannot stop the VM");

    return virDomainIsActive(op->domain) == 1 ? rc : 0;
}


int
vm_forget(vm_op_t *op, hatch_err_t *err)
{
    int  rc = sync_vm(op->lease.conn, op->vm.id, err);

    if (rc == HATCH_ERR_NOT_FOUND) {
        return 0;
    }

    return rc != 0 ? rc : hatch_err_set(err, HATCH_ERR_LIBVIRT,
                                        "libvirt still has the VM");
}


int
vm_release(vm_op_t *op, hatch_err_t *err)
{
    char  bridge[IFNAMSIZ];

    if (!op->vm.enable_network || op->vm.guest_ip.s_addr == 0) {
        return 0;
    }

    vm_step(op, "releasing the address");

    if (virt_driver(op->lease.conn)->has_guests) {
        net_bridge(op->config, bridge);
        neighbor_delete(bridge, op->vm.guest_ip);
        spoof_dismiss(&op->vm);
    }

    return net_release(op->lease.conn, op->config, op->vm.guest_mac,
                       op->vm.guest_ip, err);
}


/* 1 if it has no definition any more. */
static int
delete_is_undefined(vm_op_t *op, hatch_err_t *err)
{
    int  persistent;

    if (op->domain == NULL) {
        return 1;
    }

    persistent = virDomainIsPersistent(op->domain);

    if (persistent == -1 && virt_last_class() == VIRT_GONE) {
        return 1;
    }

    return persistent == -1 ? virt_error(err, "cannot look at the VM")
           : persistent == 0 && vm_is_active(op, err) == 0;
}


static int
delete_files(vm_op_t *op, hatch_err_t *err)
{
    (void) err;

    files_delete(op->config, op->vm.id);
    saved_delete_aside(op);

    return 0;
}


static int
delete_routes(vm_op_t *op, hatch_err_t *err)
{
    unsigned  n;

    return routes_delete(op->config, op->vm.id, &n, err);
}


/* What could not be removed no orphan should be: recovery tries again. */
static int
delete_check(vm_op_t *op, hatch_err_t *err)
{
    return files_check_deleted(op->config, op->vm.id, err);
}


/*
 * The files, which may be what fills the disk, before the routes, which need
 * room to be deleted.  libvirt and the table have forgotten the VM before, so
 * nginx adds no route to it.
 */
static const step_t  delete_steps[] = {
    { .name = "undefined", .is_done = delete_is_undefined,
      .run = vm_undefine },
    { .name = "forgotten", .doing = "looking up the VM",
      .deadline = STEP_CALL, .run = vm_forget },
    { .name = "files", .run = delete_files },
    { .name = "released", .run = vm_release },
    { .name = "routes", .run = delete_routes },
    { .name = "checked", .run = delete_check },
    { .name = NULL }
};

const operation_t  delete_operation = {
    .name = "delete", .steps = delete_steps, .noted = 1, .forward = 1
};


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
    op.note = vm_note(&op);
    rc = operation_run(&delete_operation, &op, err);

    if (rc != 0 && table_has(id)) {
        return vm_end(&op, rc, &vm, err);
    }

    /* the rest goes without the user: the VM is not there any more */
    if (!op.abandoned) {
        table_forget_orphan(id);
    }

    vm_drop(&op);
    log_event(LOG_INFO, "%s: deleted", id);

    return 0;
}
