/* Taking a snapshot. */

#define _GNU_SOURCE

#include "saved.h"
#include "snapshot.h"
#include "operation.h"
#include "snapshot_private.h"
#include "vm_private.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "store/disk.h"
#include "store/statedir.h"
#include "virt/clock.h"
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


/* What its steps need and recovery does not. */
typedef struct {
    const char   *name;             /* or NULL */
    json_object  *record;           /* the new one, the caller's */
    unsigned      sleeps:1;         /* the VM does, when it has been taken */
} snapshot_take_t;


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

    return size >= 0 && statedir_sync(path, err) == 0 ? size : -1;
}


static const char *
snapshot_id(const vm_op_t *op)
{
    return hatch_json_string(op->note, "snapshot_id", "");
}


static int
snapshot_was_running(const vm_op_t *op)
{
    return hatch_json_boolean(op->note, "was_running", 0);
}


/*
 * The newest snapshot of a VM stays the one that was taken last, also after the
 * wall clock was set back.
 */
static int64_t
snapshot_now(const char *vm)
{
    int64_t                    now = (int64_t) hatch_clock_wall_ms(), last;
    cleanup_json json_object  *list = snapshot_list(vm);

    last = hatch_json_integer(json_object_array_get_idx(list, 0), "created", 0);

    return now > last ? now : last + 1;
}


static int
snapshot_record(vm_op_t *op, hatch_err_t *err)
{
    int                        rc;
    char                       key[64];
    int64_t                    memory, disk = 0;
    const char                *id = snapshot_id(op);
    snapshot_take_t           *wanted = op->arg;
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

    if (wanted->name != NULL) {
        ADD("name", json_object_new_string(wanted->name));
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
    ADD("created", json_object_new_int64(snapshot_now(op->vm.id)));

#undef ADD

    rc = records_add(&snapshots, new, NULL, err);

    if (rc == 0) {
        wanted->record = take(new);
    }

    return rc;
}


/* One that has suspended itself (S3) cannot be saved: it is woken first. */
static int
snapshot_pause(vm_op_t *op, hatch_err_t *err)
{
    int  rc, state;

    rc = vm_rouse(op, &state, err);

    return rc != 0 || state == VIR_DOMAIN_PAUSED
           || virDomainSuspend(op->domain) == 0
           ? rc : virt_error(err, "cannot pause the VM");
}


/*
 * The VM as it was.  QEMU cannot save a guest again before it ran, so one that
 * was paused runs for a moment, unless that is long ago.
 */
static int
snapshot_unpause(vm_op_t *op, hatch_err_t *err)
{
    int  rc;

    if (op->domain == NULL || (op->recovers && !snapshot_was_running(op))) {
        return 0;
    }

    rc = vm_unpause(op, err);

    return rc != 0 || snapshot_was_running(op)
           || vm_is_active(op, err) != 1
           || virDomainSuspend(op->domain) == 0
           ? rc : virt_error(err, "cannot pause the VM again");
}


static int
snapshot_memory(vm_op_t *op, hatch_err_t *err)
{
    char                 path[STATEDIR_PATH];
    cleanup_free char   *xml = NULL;

    snapshot_path(op->config, snapshot_id(op), "", path);

    if (mkdir(path, 0711) == -1) {
        return hatch_err_errno(err, errno, "cannot create \"%s\"", path);
    }

    snapshot_path(op->config, snapshot_id(op), SNAPSHOT_MEMORY, path);
    xml = xml_memory_snapshot(path, op->vm.disk_mib != 0, op->vm.has_seed);

    if (xml == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot save the memory");
    }

    return virt_driver(op->lease.conn)->save_memory(op->domain, path, xml) == 0
           ? 0 : virt_error(err, "cannot save the memory");
}


static int
snapshot_delete_begun(vm_op_t *op, hatch_err_t *err)
{
    (void) err;

    snapshot_delete_files(op->config, snapshot_id(op));

    return 0;
}


static int
snapshot_disk(vm_op_t *op, hatch_err_t *err)
{
    char  from[STATEDIR_PATH], to[STATEDIR_PATH];

    if (op->vm.disk_mib == 0) {
        return 0;
    }

    disk_path(op->config, op->vm.id, from);
    snapshot_path(op->config, snapshot_id(op), SNAPSHOT_DISK, to);

    return statedir_copy(from, to, err);
}


static int
snapshot_is_whole(vm_op_t *op, hatch_err_t *err)
{
    (void) err;

    return snapshot_is_recorded(op->config, snapshot_id(op));
}


static int
snapshot_unrecord(vm_op_t *op, hatch_err_t *err)
{
    int  rc;

    rc = records_mark_gone(&snapshots, snapshot_id(op), err);

    return rc == HATCH_ERR_NOT_FOUND ? 0 : rc;
}


/* QEMU cannot save a guest again before it ran. */
static int
snapshot_resume(vm_op_t *op, hatch_err_t *err)
{
    return op->domain == NULL
           || (op->recovers && !snapshot_was_running(op))
           ? 0 : vm_unpause(op, err);
}


/* How it goes on: asleep, running, or paused again. */
static int
snapshot_sleep(vm_op_t *op, hatch_err_t *err)
{
    const snapshot_take_t  *wanted = op->arg;

    if (op->recovers) {
        return 0;
    }

    if (wanted->sleeps) {
        if (virDomainManagedSave(op->domain, VIR_DOMAIN_SAVE_RUNNING) == -1) {
            return virt_error(err, "cannot put the VM to sleep");
        }

        saved_note(op);
        return 0;
    }

    return snapshot_was_running(op) || virDomainSuspend(op->domain) == 0
           ? 0 : virt_error(err, "cannot pause the VM again");
}


/* What libvirt is at work on was asked for by an agent that is gone. */
static int
snapshot_settle(vm_op_t *op, hatch_err_t *err)
{
    (void) err;

    vm_step(op, "ending the save of the VM");
    (void) virDomainAbortJob(op->domain);

    return 0;
}


static const step_t  snapshot_steps[] = {
    { .name = "paused", .doing = "pausing the VM", .deadline = STEP_CALL,
      .run = snapshot_pause, .undo = snapshot_unpause },
    { .name = "memory", .doing = "saving the memory", .deadline = STEP_SAVE,
      .run = snapshot_memory, .undo = snapshot_delete_begun },
    { .name = "disk", .doing = "copying the disk", .deadline = STEP_SAVE,
      .run = snapshot_disk },
    { .name = "recorded", .is_done = snapshot_is_whole,
      .run = snapshot_record, .undo = snapshot_unrecord, .commits = 1 },
    { .name = "resumed", .run = snapshot_resume },
    { .name = "slept", .doing = "saving the memory", .deadline = STEP_SAVE,
      .run = snapshot_sleep },
    { .name = NULL }
};

const operation_t  snapshot_operation = {
    .name = "snapshot", .steps = snapshot_steps, .settle = snapshot_settle,
    .noted = 1, .undoes_all = 1
};


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


/* Until it is taken back or whole, its note says which one it is. */
static void
snapshot_note(vm_op_t *op, const char *id)
{
    op->note = vm_note(op);

    (void) json_object_object_add(op->note, "snapshot_id",
                                  json_object_new_string(id));
    (void) json_object_object_add(op->note, "was_running",
                                  json_object_new_boolean(
                                      op->vm.state == HATCH_STATE_RUNNING));
}


static int
snapshot_may(vm_op_t *op, hatch_err_t *err)
{
    int  rc;

    if (op->vm.state != HATCH_STATE_RUNNING
        && op->vm.state != HATCH_STATE_PAUSED)
    {
        return vm_conflict(op, "snapshot", err);
    }

    rc = snapshot_check_limit(op, err);

    if (rc == 0) {
        rc = vm_check_disks(op, "snapshot", err);
    }

    return rc == 0 && op->vm.disk_mib != 0
           ? disk_check(op->config, op->vm.id, err) : rc;
}


int
snapshot_take(const config_t *config, const char *vm, const char *name,
    int keep_running, json_object **record, hatch_err_t *err)
{
    int              rc;
    char             id[HATCH_ID_SIZE];
    vm_t             after;
    vm_op_t          op;
    snapshot_take_t  wanted = { name, NULL, !keep_running };

    rc = vm_begin(&op, config, vm, err);
    if (rc != 0) {
        return rc;
    }

    rc = snapshot_may(&op, err);

    if (rc == 0 && hatch_id_make(HATCH_ID_SNAPSHOT, id) != 0) {
        rc = hatch_err_errno(err, errno, "no random numbers");
    }

    if (rc != 0) {
        vm_drop(&op);
        return rc;
    }

    table_doing(vm, HATCH_STATE_SNAPSHOTTING);
    snapshot_note(&op, id);
    op.arg = &wanted;
    rc = operation_run(&snapshot_operation, &op, err);
    rc = vm_end(&op, rc, &after, err);

    if (rc != 0) {
        json_object_put(wanted.record);
        return rc;
    }

    *record = wanted.record;
    log_event(LOG_INFO, "%s: snapshot %s", vm, id);

    if (after.state == HATCH_STATE_RUNNING) {
        clock_set(vm);
    }

    return 0;
}
