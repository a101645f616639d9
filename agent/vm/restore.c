/* Bringing a VM back to a snapshot. */

#define _GNU_SOURCE

#include "restore.h"
#include "snapshot.h"
#include "vm.h"
#include "vm_private.h"
#include "core/fault.h"
#include "core/log.h"
#include "core/work.h"
#include "store/disk.h"
#include "store/pending.h"
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
int
restore_hardware(vm_op_t *op, unsigned vcpu_count, unsigned mem_mib,
    hatch_err_t *err)
{
    vm_t                         vm = op->vm;
    cleanup_free char           *text = NULL, *xml = NULL;
    cleanup_domain virDomainPtr  domain = NULL;

    vm.vcpu_count = vcpu_count;
    vm.mem_mib = mem_mib;

    vm_step(op, "defining the VM");
    text = virDomainGetXMLDesc(op->domain, VIR_DOMAIN_XML_INACTIVE
                                           | VIR_DOMAIN_XML_SECURE);
    if (text == NULL) {
        return virt_error(err, "cannot read the domain");
    }

    xml = xml_edit_domain(text, &vm, op->config->guest_isolation != 0);
    if (xml == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot restore the VM");
    }

    domain = virDomainDefineXML(op->lease.conn, xml);

    return domain != NULL ? 0 : virt_error(err, "cannot define the VM");
}


int
restore_undo(vm_op_t *op, unsigned vcpu_count, unsigned mem_mib,
    hatch_err_t *err)
{
    int  rc;

    rc = disk_unswap(op->config, op->vm.id, err);

    return rc == 0 ? restore_hardware(op, vcpu_count, mem_mib, err) : rc;
}


int
restore_keep(vm_op_t *op, hatch_err_t *err)
{
    /* it belongs to the disk before; started from it, the guest would die */
    if (virDomainHasManagedSaveImage(op->domain, 0) == 1
        && virDomainManagedSaveRemove(op->domain, 0) == -1)
    {
        return virt_error(err, "cannot remove the saved memory");
    }

    return disk_keep(op->config, op->vm.id, err);
}


/* The steps up to the one that makes the VM run.  A failure is undone. */
static int
restore_steps(vm_op_t *op, json_object *record, hatch_err_t *err)
{
    int          rc = 0, test;
    char         path[STATEDIR_PATH];
    const char  *id = hatch_json_string(record, "id", "");
    unsigned     vcpus, mem;

    vcpus = (unsigned) hatch_json_integer(record, "vcpu_count", 0);
    mem = (unsigned) hatch_json_integer(record, "mem_mib", 0);
    test = virt_driver(op->lease.conn)->forgets;

    if (op->vm.disk_mib != 0) {
        work_step("copying the disk", host_save_timeout(op->config));
        snapshot_path(op->config, id, SNAPSHOT_DISK, path);
        rc = disk_stage(op->config, op->vm.id, path, err);

        if (rc == 0) {
            rc = fault("restore.staged", err);
        }

        if (rc == 0) {
            rc = disk_swap(op->config, op->vm.id, err);
        }
    }

    if (rc == 0) {
        rc = fault("restore.swapped", err);
    }

    if (rc == 0 && (vcpus != op->vm.vcpu_count || mem != op->vm.mem_mib)) {
        rc = restore_hardware(op, vcpus, mem, err);
    }

    if (rc == 0) {
        rc = fault("restore.defined", err);
    }

    if (rc != 0) {
        return rc;
    }

    work_step("restoring the VM", host_save_timeout(op->config));
    snapshot_path(op->config, id, SNAPSHOT_MEMORY, path);

    return virDomainRestoreFlags(op->lease.conn, path, NULL,
                                 test ? 0 : VIR_DOMAIN_SAVE_RUNNING) == 0
           ? fault("restore.restored", err)
           : virt_error(err, "cannot restore the VM");
}


static int
restore_run(vm_op_t *op, json_object *record, hatch_err_t *err)
{
    int           rc;
    hatch_err_t   why;
    json_object  *details = vm_note(op);

    (void) json_object_object_add(details, "vcpu_count",
                                  json_object_new_int64(op->vm.vcpu_count));
    (void) json_object_object_add(details, "mem_mib",
                                  json_object_new_int64(op->vm.mem_mib));

    rc = pending_begin(op->config, op->vm.id, "restore", details, err);
    if (rc != 0) {
        return rc;
    }

    rc = fault("restore.noted", err);

    if (rc == 0) {
        rc = vm_prepare_start(op, err);

        if (rc == 0) {
            rc = restore_steps(op, record, err);
        }

        work_start_end();
    }

    vm_step(op, "looking at the VM");

    if (rc == 0) {
        rc = restore_keep(op, err);

    } else if (virDomainIsActive(op->domain) == 0
               && restore_undo(op, op->vm.vcpu_count, op->vm.mem_mib, &why)
                  == 0)
    {
        (void) pending_end(op->config, op->vm.id);
        return rc;

    } else {
        log_event(LOG_WARN, "%s: not as it was yet", op->vm.id);
        pending_abandon(op->vm.id);
        return rc;
    }

    if (rc == 0) {
        rc = fault("restore.kept", err);
    }

    if (rc == 0) {
        (void) pending_end(op->config, op->vm.id);
    } else {
        pending_abandon(op->vm.id);
    }

    return rc;
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
        (void) hatch_err_set(err, HATCH_ERR_CONFLICT, "cannot restore the VM: "
                             "it is %s and has no snapshot",
                             hatch_state_name(op->vm.state));
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
        rc = record != NULL ? 0 : (int) err->code;
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
