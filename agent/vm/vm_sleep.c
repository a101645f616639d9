#define _GNU_SOURCE

#include "vm_sleep.h"
#include "memory.h"
#include "operation.h"
#include "saved.h"
#include "saved_file.h"
#include "vm_private.h"
#include "core/log.h"
#include "core/work.h"
#include "table/activity.h"
#include "table/table_sleep.h"
#include "table/table_stats.h"
#include "virt/clock.h"
#include "virt/sync.h"
#include "virt/virt_cleanup.h"

#include "hatch_clock.h"

#include <errno.h>
#include <string.h>
#include <time.h>


/* How often a save that is being cancelled is told so, ms. */
#define SLEEP_CANCEL_STEP  10

/* A save that was cancelled is about to end, ms. */
#define SLEEP_CANCEL_TIMEOUT  2000

/* After a save that found no room, so much more is worth another try, bytes. */
#define SLEEP_ROOM  (16 * 1024 * 1024)

/* How long a guest whose disk could not be written is watched, ms. */
#define SLEEP_STALLED       500
#define SLEEP_STALLED_STEP  25


/* --- falling asleep --- */

/* The agent's half of the handshake; "pausing" is published already. */
static int
sleep_may(const char *id)
{
    return activity_is_current() && table_is_idle(id, hatch_clock_ms());
}


/* Whoever has its turn uses the VM; one that is gone needs no sleep. */
static int
sleep_begin_rc(int rc)
{
    return rc == HATCH_ERR_TIMEOUT || rc == HATCH_ERR_NOT_FOUND ? 1 : rc;
}


int
vm_idle_pause(const config_t *config, const char *id, hatch_err_t *err)
{
    int      rc;
    vm_t     vm;
    vm_op_t  op;

    rc = vm_begin_quick(&op, config, id, 0, err);
    if (rc != 0) {
        return sleep_begin_rc(rc);
    }

    if (op.vm.state != HATCH_STATE_RUNNING) {
        vm_drop(&op);
        return 1;
    }

    table_doing(id, HATCH_STATE_PAUSING);

    if (!sleep_may(id)) {
        vm_drop(&op);
        return 1;
    }

    rc = 0;

    if (virDomainSuspend(op.domain) == -1) {
        rc = virt_error(err, "cannot pause the VM");

    } else {
        table_idled(id, hatch_clock_ms());
        table_count(TABLE_PAUSED);
    }

    return vm_end(&op, rc, &vm, err);
}


static int
sleep_step_save(vm_op_t *op, hatch_err_t *err)
{
    int  rc, state;

    rc = vm_rouse(op, &state, err);

    /* libvirt may let it run before it is saved */
    rc = rc == 0 ? memory_use(op, err) : rc;

    if (rc == 0
        && virDomainManagedSave(op->domain, VIR_DOMAIN_SAVE_RUNNING) == -1)
    {
        rc = virt_error(err, "cannot save the memory");
    }

    return rc;
}


static int
sleep_step_note(vm_op_t *op, hatch_err_t *err)
{
    (void) err;

    saved_note(op);

    return 0;
}


/* libvirt itself goes back to before when a save fails or is cancelled. */
static const step_t  sleep_steps[] = {
    { .name = "saved", .run = sleep_step_save },
    { .name = "noted", .run = sleep_step_note },
    { .name = NULL }
};

const operation_t  sleep_operation = { .name = "sleep", .steps = sleep_steps };


/* After one that found no room: is there more now? */
static int
sleep_has_room(const vm_op_t *op, uint64_t before)
{
    int64_t  free = saved_file_room(op);

    return before == 0 || free == -1
           || (uint64_t) free >= before + SLEEP_ROOM
           || (uint64_t) free >= (uint64_t) op->vm.mem_mib * 1024 * 1024;
}


/*
 * Its memory goes to the disk, and it stays paused.  Somebody who wants it ends
 * that as they end a save: table_wanted() is asked before each piece.
 */
int
vm_idle_park(const config_t *config, const char *id, uint64_t *room,
    hatch_err_t *err)
{
    int      rc;
    vm_t     vm;
    vm_op_t  op;

    rc = vm_begin_quick(&op, config, id, 0, err);
    if (rc != 0) {
        return sleep_begin_rc(rc);
    }

    *room = 0;

    if (op.vm.state != HATCH_STATE_PAUSED || !table_save_begin(id)) {
        vm_drop(&op);
        return 1;
    }

    rc = memory_park(&op, err);
    table_save_end(id);

    rc = vm_end(&op, rc, &vm, err);

    return rc != 0 && table_wanted(id) ? 1 : rc;
}


/* Into its image, if it has one and QEMU does not refuse. */
static int
sleep_save(vm_op_t *op, hatch_err_t *err)
{
    int  rc;

    if (!memory_has_image(op)) {
        return operation_run(&sleep_operation, op, err);
    }

    rc = memory_sleep(op, err);

    if (rc != HATCH_ERR_CONFLICT && rc != HATCH_ERR_DENIED) {
        return rc;
    }

    log_event(LOG_WARN, "%s: it is saved by libvirt, not into its memory "
              "image: %s", op->vm.id, err->text);

    return operation_run(&sleep_operation, op, err);
}


int
vm_idle_save(const config_t *config, const char *id, uint64_t *room,
    hatch_err_t *err)
{
    int      rc, wanted;
    vm_t     vm;
    int64_t  left;
    vm_op_t  op;

    rc = vm_begin_quick(&op, config, id, 0, err);
    if (rc != 0) {
        return sleep_begin_rc(rc);
    }

    if (op.vm.state != HATCH_STATE_PAUSED || !table_save_begin(id)) {
        vm_drop(&op);
        return 1;
    }

    if (!sleep_has_room(&op, *room)) {
        table_save_end(id);
        vm_drop(&op);
        return 2;
    }

    table_doing(id, HATCH_STATE_SNAPSHOTTING);

    rc = sleep_save(&op, err);

    left = rc == HATCH_ERR_FULL ? saved_file_room(&op) : -1;
    *room = left == -1 ? 0 : (uint64_t) left + 1;

    if (rc == 0) {
        table_count(TABLE_SAVED);
    }

    table_save_end(id);
    wanted = table_wanted(id);

    /* libvirt lets a guest run whose save ended early */
    if (rc != 0 && !wanted) {
        (void) virDomainSuspend(op.domain);
    }

    rc = vm_end(&op, rc, &vm, err);

    return rc != 0 && wanted ? 1 : rc;
}


/* --- waking --- */

/*
 * Cancels a save, again and again: libvirt refuses while the save has not
 * yet begun its job.  Returns 1 if there was one; cancelled in time, libvirt
 * itself lets the guest run.
 */
static int
rise_cancel_save(const char *id)
{
    virt_lease_t                 lease = { NULL, 0 };
    hatch_err_t                  err;
    cleanup_domain virDomainPtr  domain = NULL;

    if (!table_saving(id, 0) || virt_lease(&lease, &err) != 0) {
        return 0;
    }

    domain = virDomainLookupByName(lease.conn, id);

    while (domain != NULL && table_saving(id, SLEEP_CANCEL_STEP)) {
        (void) virDomainAbortJob(domain);
    }

    virt_release(&lease);

    return 1;
}


/* Announces that the guest runs: to the zone, then to whoever waits. */
static void
rise_running(vm_op_t *op, hatch_wake_kind_t kind,
    void (*awake)(void *arg, hatch_wake_kind_t kind), void *arg)
{
    if (kind != HATCH_WAKE_KIND_NONE) {
        table_started(op->vm.id, (int) virDomainGetID(op->domain),
                      kind == HATCH_WAKE_KIND_BOOT);
    }

    table_doing(op->vm.id, HATCH_STATE_RUNNING);
    awake(arg, kind);
}


static hatch_wake_kind_t
rise_kind(virDomainPtr domain)
{
    int  state, reason;

    /* what comes up paused was saved paused */
    return virDomainGetState(domain, &state, &reason, 0) == 0
           && (state == VIR_DOMAIN_PAUSED
               || reason == VIR_DOMAIN_RUNNING_RESTORED)
           ? HATCH_WAKE_KIND_RESTORE : HATCH_WAKE_KIND_BOOT;
}


/* From saved memory, or from the disk; op->arg is told which. */
static int
rise_step_start(vm_op_t *op, hatch_err_t *err)
{
    int                 rc = saved_start(op, err);
    hatch_wake_kind_t  *kind = op->arg;

    vm_end_start(op);

    if (rc == 0 && kind != NULL) {
        *kind = rise_kind(op->domain);
    }

    return rc;
}


/* What was saved paused comes up so. */
static const step_t  wake_steps[] = {
    { .name = "prepared", .run = vm_prepare_start },
    { .name = "started", .run = rise_step_start },
    { .name = "running", .doing = "resuming the VM", .deadline = STEP_CALL,
      .run = vm_unpause },
    { .name = NULL }
};

const operation_t  wake_operation = { .name = "wake", .steps = wake_steps };


static int
rise_start(vm_op_t *op, hatch_wake_kind_t *kind, hatch_err_t *err)
{
    int  rc;

    if (!hatch_state_may(op->vm.state, HATCH_STATE_STARTING)) {
        return vm_conflict(op, "wake", err);
    }

    table_doing(op->vm.id, op->vm.state == HATCH_STATE_SNAPSHOTTED
                           ? HATCH_STATE_RESTORING : HATCH_STATE_STARTING);

    op->arg = kind;
    rc = operation_run(&wake_operation, op, err);
    op->arg = NULL;

    return rc;
}


int
vm_unstall(vm_op_t *op, hatch_err_t *err)
{
    int                    rc, i, state, reason;
    const struct timespec  step = { 0, SLEEP_STALLED_STEP * 1000000 };

    /* no request goes to it before it has shown that it goes on */
    table_doing(op->vm.id, HATCH_STATE_ERROR);
    rc = vm_unpause(op, err);

    /* QEMU repeats what could not be written at once */
    for (i = 0; rc == 0 && i < SLEEP_STALLED / SLEEP_STALLED_STEP; i++) {
        (void) nanosleep(&step, NULL);

        if (virDomainGetState(op->domain, &state, &reason, 0) == 0
            && state == VIR_DOMAIN_PAUSED
            && reason == VIR_DOMAIN_PAUSED_IOERROR)
        {
            rc = hatch_err_set(err, HATCH_ERR_FULL, "the VM's disk cannot be "
                               "written; is the host's disk full?");
        }
    }

    return rc;
}


/* The ladder.  Whatever the table said, libvirt decides. */
static int
rise_up(vm_op_t *op, hatch_wake_kind_t *kind, hatch_err_t *err)
{
    int  rc;

    /* in a hurry: nearly always the table is right */
    if (op->vm.state == HATCH_STATE_PAUSED && vm_resume_now(op, err) == 0) {
        *kind = HATCH_WAKE_KIND_RESUME;
        return 0;
    }

    rc = vm_look(op, err);
    if (rc != 0) {
        return rc;
    }

    switch (op->vm.state) {

    case HATCH_STATE_RUNNING:
        *kind = HATCH_WAKE_KIND_NONE;
        return 0;

    case HATCH_STATE_PAUSED:
        *kind = HATCH_WAKE_KIND_RESUME;
        return vm_unpause(op, err);

    case HATCH_STATE_ERROR:
        /* one whose disk had no room left is still there */
        if (virDomainIsActive(op->domain) != 1) {
            return rise_start(op, kind, err);
        }

        *kind = HATCH_WAKE_KIND_RESUME;
        return vm_unstall(op, err);

    default:
        return rise_start(op, kind, err);
    }
}


int
vm_wake(const config_t *config, const char *id,
    void (*awake)(void *arg, hatch_wake_kind_t kind), void *arg,
    hatch_err_t *err)
{
    int                rc, cancelled;
    vm_t               vm;
    vm_op_t            op;
    hatch_wake_kind_t  kind = HATCH_WAKE_KIND_NONE;

    cancelled = rise_cancel_save(id);
    rc = vm_begin_quick(&op, config, id, cancelled ? SLEEP_CANCEL_TIMEOUT : 0,
                        err);

    if (rc != 0) {
        return rc == HATCH_ERR_TIMEOUT && table_has(id) ? 1 : rc;
    }

    /* it was falling asleep, and did not */
    if (op.vm.state == HATCH_STATE_RUNNING) {
        awake(arg, cancelled ? HATCH_WAKE_KIND_RESUME : kind);
        vm_drop(&op);

        if (cancelled) {
            clock_set(id);
        }

        return 0;
    }

    rc = rise_up(&op, &kind, err);

    if (rc == 0) {
        rise_running(&op, kind, awake, arg);

    } else if (virConnectIsAlive(op.lease.conn) != 1) {
        rc = err->code = HATCH_ERR_UNAVAILABLE;
    }

    rc = vm_end(&op, rc, &vm, err);

    if (rc == 0 && kind != HATCH_WAKE_KIND_BOOT) {
        clock_set(id);
    }

    return rc;
}
