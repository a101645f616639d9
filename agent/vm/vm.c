#define _GNU_SOURCE

#include "vm.h"
#include "durable.h"
#include "memory.h"
#include "operation.h"
#include "saved.h"
#include "vm_private.h"
#include "core/log.h"
#include "core/work.h"
#include "virt/clock.h"
#include "virt/host.h"
#include "virt/sync.h"
#include "virt/virt_cleanup.h"
#include "virt/xml.h"

#include "hatch_clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


/* What somebody did to a VM; a failure is its caller's to tell. */
static void
vm_log(const char *id, int rc, const char *what)
{
    if (rc == 0) {
        log_event(LOG_INFO, "%s: %s", id, what);
    }
}


int
vm_start(const config_t *config, const char *id, vm_t *vm, hatch_err_t *err)
{
    int      rc;
    vm_op_t  op;

    rc = vm_begin(&op, config, id, err);
    if (rc != 0) {
        return rc;
    }

    if (op.vm.stalled) {
        return vm_end(&op, vm_unstall(&op, err), vm, err);
    }

    /* nobody paused it: to start it is to wake it */
    if (op.vm.suspended) {
        return vm_end(&op, vm_unpause(&op, err), vm, err);
    }

    if (!hatch_state_may(op.vm.state, HATCH_STATE_STARTING)) {
        rc = vm_conflict(&op, "start", err);
        vm_drop(&op);
        return rc;
    }

    table_doing(id, op.vm.state == HATCH_STATE_SNAPSHOTTED
                    ? HATCH_STATE_RESTORING : HATCH_STATE_STARTING);

    rc = operation_run(&wake_operation, &op, err);
    rc = vm_end(&op, rc, vm, err);
    vm_log(id, rc, op.vm.state == HATCH_STATE_SNAPSHOTTED
                   ? "started, from its saved memory" : "started");

    if (rc == 0 && op.vm.state == HATCH_STATE_SNAPSHOTTED) {
        clock_set(id);
    }

    return rc;
}


/* --- stop --- */

/* Asks the guest, waits, and pulls the plug if it did not go. */
static int
vm_shutdown(vm_op_t *op, int64_t timeout, hatch_err_t *err)
{
    int          rc;
    hatch_err_t  ignored;

    if (timeout > 0) {
        /* a guest that is paused cannot answer */
        (void) vm_unpause(op, &ignored);
        vm_step(op, "shutting down the VM");

        if (virDomainShutdown(op->domain) == 0) {
            work_step("shutting down the VM",
                      timeout + host_call_timeout(op->config));

            if (table_wait(op->vm.id, HATCH_STATE_STOPPED,
                           (unsigned) timeout * 1000) == 0)
            {
                return 0;
            }
        }
    }

    vm_step_kill(op->config);

    if (virDomainDestroy(op->domain) == 0) {
        return 0;
    }

    rc = virt_error(err, "cannot stop the VM");

    return virDomainIsActive(op->domain) == 0 ? 0 : rc;
}


/* One that is parked would go on from it, which nobody wants who stops it. */
static void
vm_stop_image(const vm_op_t *op)
{
    hatch_err_t  err;

    if (memory_use(op, &err) != 0) {
        log_event(LOG_WARN, "%s: it is stopped, and its memory image could "
                  "not be marked used: %s", op->vm.id, err.text);
    }
}


int
vm_stop(const config_t *config, const char *id, int force, int64_t timeout,
    vm_t *vm, hatch_err_t *err)
{
    int      rc;
    vm_op_t  op;

    rc = force ? vm_begin_force(&op, config, id, 0, err)
               : vm_begin(&op, config, id, err);
    if (rc != 0) {
        return rc;
    }

    if (op.forced && op.vm.state == HATCH_STATE_STOPPED) {
        rc = vm_end(&op, 0, vm, err);       /* that is what was asked for */
        vm_log(id, rc, "stopped by force");
        return rc;
    }

    if (!hatch_state_may(op.vm.state, HATCH_STATE_STOPPING)) {
        rc = vm_conflict(&op, "stop", err);
        vm_drop(&op);
        return rc;
    }

    table_doing(id, HATCH_STATE_STOPPING);
    vm_step(&op, "stopping the VM");

    if (virDomainIsActive(op.domain) != 0) {
        vm_stop_image(&op);
        rc = vm_shutdown(&op, force ? 0 : timeout, err);

    } else if (op.vm.state == HATCH_STATE_SNAPSHOTTED) {
        /* stopping what sleeps means to drop its memory */
        rc = saved_drop(&op, err);
    }

    rc = vm_end(&op, rc, vm, err);
    vm_log(id, rc, op.vm.state == HATCH_STATE_SNAPSHOTTED
                   ? "stopped, its saved memory is dropped"
                   : force ? "stopped by force" : "stopped");

    return rc;
}


/* --- pause, resume --- */

int
vm_pause(const config_t *config, const char *id, vm_t *vm, hatch_err_t *err)
{
    int      rc;
    vm_op_t  op;

    rc = vm_begin(&op, config, id, err);
    if (rc != 0) {
        return rc;
    }

    if (!hatch_state_may(op.vm.state, HATCH_STATE_PAUSING)) {
        rc = vm_conflict(&op, "pause", err);
        vm_drop(&op);
        return rc;
    }

    table_doing(id, HATCH_STATE_PAUSING);
    vm_step(&op, "pausing the VM");

    if (virDomainSuspend(op.domain) == -1) {
        rc = virt_error(err, "cannot pause the VM");
    }

    rc = vm_end(&op, rc, vm, err);
    vm_log(id, rc, "paused");

    return rc;
}


int
vm_resume(const config_t *config, const char *id, vm_t *vm, hatch_err_t *err)
{
    int      rc;
    vm_op_t  op;

    rc = vm_begin(&op, config, id, err);
    if (rc != 0) {
        return rc;
    }

    if (op.vm.state != HATCH_STATE_PAUSED && !op.vm.stalled) {
        rc = vm_conflict(&op, "resume", err);
        vm_drop(&op);
        return rc;
    }

    rc = op.vm.stalled ? vm_unstall(&op, err) : vm_unpause(&op, err);
    rc = vm_end(&op, rc, vm, err);
    vm_log(id, rc, "resumed");

    if (rc == 0) {
        clock_set(id);
    }

    return rc;
}


/* --- change --- */

/* The definition's; and the running domain's, so that all show the same. */
static int
vm_set_metadata(vm_op_t *op, const vm_t *vm, hatch_err_t *err)
{
    unsigned            flags = VIR_DOMAIN_AFFECT_CONFIG;
    cleanup_free char  *xml = xml_metadata(vm);

    if (xml == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot change the VM");
    }

    if (virDomainIsActive(op->domain) == 1) {
        flags |= VIR_DOMAIN_AFFECT_LIVE;
    }

    if (virDomainSetMetadata(op->domain, VIR_DOMAIN_METADATA_ELEMENT, xml,
                             XML_PREFIX, XML_NAMESPACE, flags) == -1)
    {
        return virt_error(err, "cannot change the VM");
    }

    return durable_definition(op, err);
}


int
vm_change(const config_t *config, const char *id, const vm_patch_t *patch,
    vm_t *vm, hatch_err_t *err)
{
    int      rc, hardware;
    vm_t     new;
    vm_op_t  op;

    rc = vm_begin(&op, config, id, err);
    if (rc != 0) {
        return rc;
    }

    new = op.vm;
    new.updated = hatch_clock_wall_ms();

    /* a clock that was set back */
    if (new.updated < op.vm.updated) {
        new.updated = op.vm.updated;
    }

    if (patch->name[0] != '\0') {
        memcpy(new.name, patch->name, sizeof(new.name));
    }

    new.vcpu_count = patch->vcpu_count != 0 ? patch->vcpu_count
                                            : op.vm.vcpu_count;
    new.mem_mib = patch->mem_mib != 0 ? patch->mem_mib : op.vm.mem_mib;
    new.idle_timeout = patch->has_idle_timeout ? patch->idle_timeout
                                               : op.vm.idle_timeout;
    new.park_after = patch->has_park_after ? patch->park_after
                                           : op.vm.park_after;
    new.save_after = patch->has_save_after ? patch->save_after
                                           : op.vm.save_after;
    new.memory = patch->has_memory ? patch->memory : op.vm.memory;
    new.autostart = patch->has_autostart ? patch->autostart : op.vm.autostart;

    hardware = new.vcpu_count != op.vm.vcpu_count
               || new.mem_mib != op.vm.mem_mib;

    if (hardware && op.vm.state != HATCH_STATE_STOPPED) {
        rc = hatch_err_set(err, HATCH_ERR_CONFLICT, "cannot change \"%s\" of "
                           "the VM: it is %s, not stopped",
                           new.mem_mib != op.vm.mem_mib
                           ? "mem_mib" : "vcpu_count",
                           hatch_state_name(op.vm.state));
        vm_drop(&op);
        return rc;
    }

    rc = table_change(&new, err);

    if (rc == 0) {
        vm_step(&op, "changing the VM");
        rc = hardware ? vm_redefine(&op, &new, VIR_DOMAIN_DEFINE_VALIDATE, err)
                      : vm_set_metadata(&op, &new, err);
    }

    return vm_end(&op, rc, vm, err);
}
