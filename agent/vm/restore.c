/* Bringing a VM back to a snapshot. */

#define _GNU_SOURCE

#include "durable.h"
#include "memory.h"
#include "operation.h"
#include "saved_file.h"
#include "snapshot.h"
#include "vm.h"
#include "vm_private.h"
#include "core/log.h"
#include "core/work.h"
#include "store/disk.h"
#include "store/records.h"
#include "store/statedir.h"
#include "virt/clock.h"
#include "virt/host.h"
#include "virt/virt_cleanup.h"
#include "virt/xml.h"

#include "hatch_json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>


/* vCPUs and memory belong to the memory image; the definition follows it. */
static int
restore_hardware(vm_op_t *op, int64_t vcpu_count, int64_t mem_mib,
    hatch_err_t *err)
{
    int   rc;
    vm_t  vm = op->vm;

    if (vcpu_count == op->vm.vcpu_count && mem_mib == op->vm.mem_mib) {
        return 0;
    }

    vm.vcpu_count = (unsigned) vcpu_count;
    vm.mem_mib = (unsigned) mem_mib;

    vm_step(op, "defining the VM");
    rc = vm_redefine(op, &vm, 0, err);

    if (rc == 0) {
        op->vm.vcpu_count = vm.vcpu_count;
        op->vm.mem_mib = vm.mem_mib;
    }

    return rc;
}


/* A copy of the snapshot's disk; the note tells which file it is. */
static int
restore_stage(vm_op_t *op, hatch_err_t *err)
{
    int           rc;
    char          path[STATEDIR_PATH];
    json_object  *record = op->arg;

    if (op->vm.disk_mib == 0) {
        return 0;
    }

    snapshot_path(op->config, hatch_json_string(record, "id", ""),
                  SNAPSHOT_DISK, path);
    rc = disk_stage(op->config, op->vm.id, path, err);

    if (rc == 0) {
        (void) json_object_object_add(op->note, "staged",
                       json_object_new_int64(disk_staged(op->config,
                                                         op->vm.id)));
        rc = operation_note(&restore_operation, op, err);
    }

    return rc;
}


static int
restore_swap(vm_op_t *op, hatch_err_t *err)
{
    return op->vm.disk_mib != 0 ? disk_swap(op->config, op->vm.id, err) : 0;
}


static int
restore_unswap(vm_op_t *op, hatch_err_t *err)
{
    return disk_unswap(op->config, op->vm.id, err);
}


static int
restore_define(vm_op_t *op, hatch_err_t *err)
{
    json_object  *record = op->arg;

    return restore_hardware(op, hatch_json_integer(record, "vcpu_count", 0),
                            hatch_json_integer(record, "mem_mib", 0), err);
}


static int
restore_undefine(vm_op_t *op, hatch_err_t *err)
{
    return restore_hardware(op, hatch_json_integer(op->note, "vcpu_count", 0),
                            hatch_json_integer(op->note, "mem_mib", 0), err);
}


/* Is libvirt still in the middle of what the agent before us asked for? */
static int
restore_is_moving(virDomainPtr domain)
{
    int  state, reason;

    return virDomainGetState(domain, &state, &reason, 0) == 0
           && state == VIR_DOMAIN_PAUSED
           && (reason == VIR_DOMAIN_PAUSED_STARTING_UP
               || reason == VIR_DOMAIN_PAUSED_MIGRATION
               || reason == VIR_DOMAIN_PAUSED_SAVE
               || reason == VIR_DOMAIN_PAUSED_SNAPSHOT);
}


/*
 * The VM runs, or it did: its guest has written to the disk that was put in
 * its place.
 */
static int
restore_has_run(vm_op_t *op, hatch_err_t *err)
{
    int      active = vm_is_active(op, err);
    int64_t  staged;

    if (active == 1 && op->recovers && restore_is_moving(op->domain)) {
        return hatch_err_set(err, HATCH_ERR_BUSY, "libvirt is still "
                             "restoring it");
    }

    if (active != 0 || !op->recovers) {
        return active;
    }

    staged = hatch_json_integer(op->note, "staged", 0);

    return staged != 0 && disk_is_swapped(op->config, op->vm.id)
           && disk_changed(op->config, op->vm.id) != staged;
}


static int
restore_start(vm_op_t *op, hatch_err_t *err)
{
    int                  rc;
    char                 path[STATEDIR_PATH];
    json_object         *record = op->arg;
    cleanup_free char   *xml = NULL;

    rc = vm_prepare_start(op, err);
    if (rc != 0) {
        return rc;
    }

    work_step("restoring the VM", host_save_timeout(op->config));
    snapshot_path(op->config, hatch_json_string(record, "id", ""),
                  SNAPSHOT_MEMORY, path);

    xml = virDomainSaveImageGetXMLDesc(op->lease.conn, path, 0);
    rc = xml != NULL
         ? memory_prepare(op, xml, (unsigned) hatch_json_integer(record,
                                                      "mem_mib", 0), err)
         : 0;
    rc = rc == 0 ? memory_use(op, err) : rc;

    if (rc == 0 && virDomainRestoreFlags(op->lease.conn, path, NULL,
                              virt_driver(op->lease.conn)->restore_flags)
        == -1)
    {
        rc = virt_error(err, "cannot restore the VM");
    }

    vm_end_start(op);

    return rc;
}


/* One that was restored by an agent that is gone may still be paused. */
static int
restore_unpause(vm_op_t *op, hatch_err_t *err)
{
    return op->recovers && vm_is_active(op, err) == 1
           ? vm_unpause(op, err) : 0;
}


/*
 * The guest has ended since, and nobody saw it run: what was before is kept.
 * The memory that is saved may be of the disk before; with this one the guest
 * would die of it.
 */
static int
restore_put_aside(vm_op_t *op, hatch_err_t *err)
{
    int   rc = 0;
    char  path[STATEDIR_PATH];

    if (virDomainHasManagedSaveImage(op->domain, 0) == 1) {
        rc = saved_file_put_aside(op, path, err);

        if (rc == 0) {
            log_event(LOG_WARN, "%s: was restored, and has ended since; its "
                      "saved memory may be older, and is kept as \"%s\"",
                      op->vm.id, path);
        }
    }

    if (rc == 0 && disk_is_swapped(op->config, op->vm.id)) {
        rc = disk_put_aside(op->config, op->vm.id, path, err);

        if (rc == 0) {
            log_event(LOG_WARN, "%s: was restored, and has ended since; its "
                      "disk before that is kept as \"%s\"", op->vm.id, path);
        }
    }

    return rc;
}


/* What it had before goes: a user said so. */
static int
restore_keep(vm_op_t *op, hatch_err_t *err)
{
    int  rc = 0;

    if (op->recovers && vm_is_active(op, err) == 0) {
        return restore_put_aside(op, err);
    }

    /* it belongs to the disk before; started from it, the guest would die */
    if (virDomainHasManagedSaveImage(op->domain, 0) == 1) {
        rc = virDomainManagedSaveRemove(op->domain, 0) == 0
             ? durable_memory(op, err)
             : virt_error(err, "cannot remove the saved memory");
    }

    return rc == 0 ? disk_keep(op->config, op->vm.id, err) : rc;
}


static const step_t  restore_steps[] = {
    { .name = "staged", .doing = "copying the disk", .deadline = STEP_SAVE,
      .run = restore_stage, .undo = restore_unswap },
    { .name = "swapped", .run = restore_swap, .undo = restore_unswap },
    { .name = "defined", .run = restore_define, .undo = restore_undefine },
    { .name = "restored", .doing = "looking at the VM", .deadline = STEP_CALL,
      .is_done = restore_has_run, .run = restore_start, .commits = 1 },
    { .name = "running", .run = restore_unpause },
    { .name = "kept", .doing = "removing the saved memory",
      .deadline = STEP_CALL, .run = restore_keep },
    { .name = NULL }
};

const operation_t  restore_operation = {
    .name = "restore", .steps = restore_steps, .noted = 1, .needs_domain = 1
};


static int
restore_run(vm_op_t *op, json_object *record, hatch_err_t *err)
{
    op->arg = record;
    op->note = vm_note(op);

    (void) json_object_object_add(op->note, "vcpu_count",
                                  json_object_new_int64(op->vm.vcpu_count));
    (void) json_object_object_add(op->note, "mem_mib",
                                  json_object_new_int64(op->vm.mem_mib));

    return operation_run(&restore_operation, op, err);
}


/* The record to go back to, or NULL with err. */
static json_object *
restore_choose(const vm_op_t *op, const char *id, hatch_err_t *err)
{
    json_object               *record = NULL;
    cleanup_json json_object  *list = NULL;

    if (id != NULL) {
        record = snapshot_get(id);

        if (record != NULL && !records_match(record, "vm_id", op->vm.id)) {
            json_object_put(take(record));
        }

        if (record == NULL) {
            (void) hatch_err_set(err, HATCH_ERR_NOT_FOUND, "\"snapshot_id\": "
                                 "the VM has no snapshot \"%.40s\"", id);
        }

        return record;
    }

    list = snapshot_list(op->vm.id);

    if (json_object_array_length(list) == 0) {
        (void) hatch_err_set(err, HATCH_ERR_CONFLICT, "cannot restore VM "
                             "\"%s\": it is %s and has no snapshot",
                             op->vm.id, hatch_state_name(op->vm.state));
        return NULL;
    }

    return json_object_get(json_object_array_get_idx(list, 0));
}


int
snapshot_restore(const config_t *config, const char *vm, const char *id,
    vm_t *restored, hatch_err_t *err)
{
    int                        rc;
    vm_op_t                    op;
    cleanup_json json_object  *record = NULL;

    rc = vm_begin(&op, config, vm, err);
    if (rc != 0) {
        return rc;
    }

    if (id == NULL && op.vm.state == HATCH_STATE_SNAPSHOTTED) {
        vm_drop(&op);
        return vm_start(config, vm, restored, err);
    }

    if (!hatch_state_may(op.vm.state, HATCH_STATE_RESTORING)
        || virDomainIsActive(op.domain) == 1)
    {
        rc = vm_conflict(&op, "restore", err);

    } else {
        record = restore_choose(&op, id, err);
        rc = record != NULL ? snapshot_check(config, record, err)
                            : (int) err->code;
        rc = rc == 0 ? vm_check_disks(&op, "restore", err) : rc;
    }

    if (rc != 0) {
        vm_drop(&op);
        return rc;
    }

    table_doing(vm, HATCH_STATE_RESTORING);
    rc = restore_run(&op, record, err);

    if (rc == 0) {
        log_event(LOG_INFO, "%s: restored to %s", vm,
                  hatch_json_string(record, "id", ""));
    }

    rc = vm_end(&op, rc, restored, err);

    if (rc == 0) {
        clock_set(vm);
    }

    return rc;
}
