/* Taking a snapshot. */

#define _GNU_SOURCE

#include "saved.h"
#include "snapshot.h"
#include "snapshot_private.h"
#include "vm_private.h"
#include "core/cleanup.h"
#include "core/fault.h"
#include "core/log.h"
#include "core/work.h"
#include "store/disk.h"
#include "store/pending.h"
#include "store/statedir.h"
#include "virt/clock.h"
#include "virt/host.h"
#include "virt/xml.h"

#include "hatch_clock.h"
#include "hatch_id.h"
#include "hatch_json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


/* What a snapshot was taken of, as the text that the API shows. */
static json_object *
snapshot_config(const vm_t *vm)
{
    json_object               *text;
    cleanup_json json_object  *object = json_object_new_object();

#define ADD(name, value)  (void) json_object_object_add(object, name, value)

    ADD("name", json_object_new_string(vm->name));
    ADD("image_id", json_object_new_string(vm->image_id));
    ADD("vcpu_count", json_object_new_int64(vm->vcpu_count));
    ADD("mem_mib", json_object_new_int64(vm->mem_mib));
    ADD("disk_mib", json_object_new_int64(vm->disk_mib));
    ADD("boot_args", json_object_new_string(vm->boot_args));
    ADD("enable_network", json_object_new_boolean(vm->enable_network));

#undef ADD

    text = json_object_new_string(json_object_to_json_string_ext(object,
                                      JSON_C_TO_STRING_PLAIN
                                      | JSON_C_TO_STRING_NOSLASHESCAPE));

    return text;
}


/* Bytes of a file that is done: on disk, and not to be written any more. */
static int64_t
snapshot_seal(const config_t *config, const char *id, const char *file,
    hatch_err_t *err)
{
    int          fd;
    char         path[STATEDIR_PATH];
    int64_t      size = -1;
    struct stat  st;

    snapshot_path(config, id, file, path);
    fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd != -1 && fsync(fd) == 0 && fchmod(fd, 0400) == 0
        && fstat(fd, &st) == 0)
    {
        size = st.st_size;
    }

    if (size < 0) {
        (void) hatch_err_errno(err, errno, "cannot keep \"%s\"", path);
    }

    if (fd != -1) {
        (void) close(fd);
    }

    return size;
}


static int
snapshot_record(vm_op_t *op, const char *id, const char *name,
    json_object **record, hatch_err_t *err)
{
    int                        rc;
    char                       key[64];
    int64_t                    memory, disk = 0;
    cleanup_json json_object  *new = json_object_new_object();

    memory = snapshot_seal(op->config, id, SNAPSHOT_MEMORY, err);

    if (memory >= 0 && op->vm.disk_mib != 0) {
        disk = snapshot_seal(op->config, id, SNAPSHOT_DISK, err);
    }

    if (memory < 0 || disk < 0) {
        return (int) err->code;
    }

#define ADD(name_, value)  (void) json_object_object_add(new, name_, value)

    ADD("id", json_object_new_string(id));
    ADD("vm_id", json_object_new_string(op->vm.id));

    if (name != NULL) {
        ADD("name", json_object_new_string(name));
    }

    (void) snprintf(key, sizeof(key), "%s" SNAPSHOT_MEMORY, id);
    ADD("state_key", json_object_new_string(key));
    ADD("memory_key", json_object_new_string(key));

    if (op->vm.disk_mib != 0) {
        (void) snprintf(key, sizeof(key), "%s" SNAPSHOT_DISK, id);
        ADD("disk_key", json_object_new_string(key));
    }

    ADD("vm_config", snapshot_config(&op->vm));
    ADD("vcpu_count", json_object_new_int64(op->vm.vcpu_count));
    ADD("mem_mib", json_object_new_int64(op->vm.mem_mib));
    ADD("size_bytes", json_object_new_int64(memory + disk));
    ADD("created", json_object_new_int64((int64_t) hatch_clock_wall_ms()));

#undef ADD

    rc = records_add(&snapshots, new, NULL, err);

    if (rc == 0) {
        *record = take(new);
    }

    return rc;
}


/*
 * The memory of a VM that is paused, into a file; it stays paused.  For QEMU
 * this is libvirt's external snapshot without disks: the process lives on, so
 * whatever fails later, the VM only has to be resumed.  The test driver has
 * no such thing; there, a save and a restore do.
 */
static int
snapshot_memory(vm_op_t *op, const char *path, hatch_err_t *err)
{
    int                             rc = 0;
    virDomainSnapshotPtr            snapshot;
    cleanup_free char              *xml = NULL;

    work_step("saving the memory", host_save_timeout(op->config));

    if (virt_driver(op->lease.conn)->forgets) {
        if (virDomainSave(op->domain, path) == -1
            || virDomainRestore(op->lease.conn, path) == -1
            || virDomainSuspend(op->domain) == -1)
        {
            rc = virt_error(err, "cannot save the memory");
        }

        return rc;
    }

    xml = xml_memory_snapshot(path, op->vm.disk_mib != 0, op->vm.has_seed);
    if (xml == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot save the memory");
    }

    snapshot = virDomainSnapshotCreateXML(op->domain, xml,
                                     VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA);
    if (snapshot == NULL) {
        return virt_error(err, "cannot save the memory");
    }

    (void) virDomainSnapshotFree(snapshot);

    return 0;
}


/* Memory and disk of the paused VM. */
static int
snapshot_capture(vm_op_t *op, const char *id, hatch_err_t *err)
{
    int   rc;
    char  memory[STATEDIR_PATH], disk[STATEDIR_PATH], dir[STATEDIR_PATH];

    snapshot_path(op->config, id, "", dir);
    snapshot_path(op->config, id, SNAPSHOT_MEMORY, memory);

    if (mkdir(dir, 0711) == -1) {
        return hatch_err_errno(err, errno, "cannot create \"%s\"", dir);
    }

    rc = snapshot_memory(op, memory, err);

    if (rc == 0) {
        rc = fault("snapshot.memory", err);
    }

    if (rc == 0 && op->vm.disk_mib != 0) {
        work_step("copying the disk", host_save_timeout(op->config));
        disk_path(op->config, op->vm.id, disk);
        snapshot_path(op->config, id, SNAPSHOT_DISK, dir);
        rc = statedir_copy(disk, dir, err);
    }

    return rc == 0 ? fault("snapshot.disk", err) : rc;
}


/*
 * How the VM goes on.  QEMU cannot save a guest again before it ran, so one
 * that was paused, or is to sleep, runs for a moment.
 */
static int
snapshot_finish(vm_op_t *op, int was_running, int sleep, hatch_err_t *err)
{
    int  rc;

    rc = vm_unpause(op, err);

    if (rc == 0) {
        rc = fault("snapshot.resumed", err);
    }

    if (rc != 0) {
        return rc;
    }

    if (sleep) {
        work_step("saving the memory", host_save_timeout(op->config));

        if (virDomainManagedSave(op->domain, VIR_DOMAIN_SAVE_RUNNING) == -1) {
            return virt_error(err, "cannot put the VM to sleep");
        }

        saved_note(op);

        return fault("snapshot.slept", err);
    }

    vm_step(op, "pausing the VM");

    return was_running || virDomainSuspend(op->domain) == 0
           ? 0 : virt_error(err, "cannot pause the VM again");
}


/* The VM as it was, and no files. */
static void
snapshot_undo(vm_op_t *op, const char *id, int was_running)
{
    int          state, reason, rc;
    hatch_err_t  why;

    if (records_mark_gone(&snapshots, id, &why) != 0
        && why.code != HATCH_ERR_NOT_FOUND)
    {
        log_event(LOG_ERROR, "%s: snapshot %s remains: %s", op->vm.id, id,
                  why.text);

    } else {
        snapshot_delete_files(op->config, id);
    }

    rc = 0;

    if (virDomainGetState(op->domain, &state, &reason, 0) == -1) {
        rc = virt_error(&why, "cannot look at the VM");

    } else if (state != VIR_DOMAIN_SHUTOFF) {
        rc = snapshot_finish(op, was_running, 0, &why);
    }

    if (rc == 0) {
        (void) pending_end(op->config, op->vm.id);

    } else {
        log_event(LOG_WARN, "%s: not as it was yet: %s", op->vm.id, why.text);
        pending_abandon(op->vm.id);
    }
}


static int
snapshot_run(vm_op_t *op, const char *id, const char *name, int keep_running,
    json_object **record, hatch_err_t *err)
{
    int           rc, was_running = op->vm.state == HATCH_STATE_RUNNING;
    json_object  *details = vm_note(op);

    (void) json_object_object_add(details, "snapshot_id",
                                  json_object_new_string(id));
    (void) json_object_object_add(details, "was_running",
                                  json_object_new_boolean(was_running));

    rc = pending_begin(op->config, op->vm.id, "snapshot", details, err);
    if (rc != 0) {
        return rc;
    }

    rc = fault("snapshot.noted", err);

    if (rc == 0 && was_running) {
        vm_step(op, "pausing the VM");

        if (virDomainSuspend(op->domain) == -1) {
            rc = virt_error(err, "cannot pause the VM");
        }
    }

    if (rc == 0) {
        rc = fault("snapshot.paused", err);
    }

    if (rc == 0) {
        rc = snapshot_capture(op, id, err);
    }

    if (rc == 0) {
        rc = snapshot_record(op, id, name, record, err);
    }

    if (rc == 0) {
        rc = fault("snapshot.recorded", err);
    }

    if (rc == 0) {
        rc = snapshot_finish(op, was_running, !keep_running, err);
    }

    if (rc != 0) {
        snapshot_undo(op, id, was_running);
    } else {
        (void) pending_end(op->config, op->vm.id);
    }

    return rc;
}


static int
snapshot_check_limit(vm_op_t *op, hatch_err_t *err)
{
    int64_t                    n, max = op->config->max_snapshots_per_vm;
    cleanup_json json_object  *list = snapshot_list(op->vm.id);

    n = (int64_t) json_object_array_length(list);

    return max == 0 || n < max
           ? 0 : hatch_err_set(err, HATCH_ERR_LIMIT, "snapshot limit reached "
                               "(%" PRId64 "/%" PRId64 ")", n, max);
}


int
snapshot_take(const config_t *config, const char *vm, const char *name,
    int keep_running, json_object **record, hatch_err_t *err)
{
    int      rc;
    char     id[HATCH_ID_SIZE];
    vm_t     after;
    vm_op_t  op;

    rc = vm_begin(&op, config, vm, err);
    if (rc != 0) {
        return rc;
    }

    if (op.vm.state != HATCH_STATE_RUNNING
        && op.vm.state != HATCH_STATE_PAUSED)
    {
        rc = vm_conflict(&op, "snapshot", err);

    } else {
        rc = snapshot_check_limit(&op, err);
    }

    if (rc == 0 && hatch_id_make(HATCH_ID_SNAPSHOT, id) != 0) {
        rc = hatch_err_errno(err, errno, "no random numbers");
    }

    if (rc != 0) {
        vm_drop(&op);
        return rc;
    }

    table_doing(vm, HATCH_STATE_SNAPSHOTTING);
    rc = snapshot_run(&op, id, name, keep_running, record, err);

    if (rc != 0) {
        json_object_put(take(*record));
    }

    rc = vm_end(&op, rc, &after, err);

    if (rc == 0) {
        log_event(LOG_INFO, "%s: snapshot %s", vm, id);

        if (after.state == HATCH_STATE_RUNNING) {
            clock_set(vm);
        }
    }

    return rc;
}
