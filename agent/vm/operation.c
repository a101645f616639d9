#define _GNU_SOURCE

#include "operation.h"
#include "core/fault.h"
#include "core/log.h"
#include "core/work.h"
#include "store/pending.h"
#include "virt/host.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>


static const operation_t *const  operations[] = {
    &create_operation, &delete_operation, &snapshot_operation,
    &restore_operation, &sleep_operation, &image_operation, &park_operation,
    &load_operation, &wake_operation, &unsnap_operation
};

#define OPERATIONS  (sizeof(operations) / sizeof(operations[0]))


const operation_t *
operation_find(const char *name)
{
    size_t  i;

    for (i = 0; i < OPERATIONS; i++) {
        if (operations[i]->noted && strcmp(operations[i]->name, name) == 0) {
            return operations[i];
        }
    }

    return NULL;
}


void
operation_print_points(void)
{
    size_t         i;
    const step_t  *step;

    for (i = 0; i < OPERATIONS; i++) {
        if (operations[i]->noted) {
            printf("%s.noted\n", operations[i]->name);
        }

        for (step = operations[i]->steps; step->name != NULL; step++) {
            printf("%s.%s\n", operations[i]->name, step->name);
        }
    }
}


static json_object *
operation_copy(json_object *note)
{
    json_object  *copy = NULL;

    if (note == NULL || json_object_deep_copy(note, &copy, NULL) != 0) {
        return NULL;
    }

    return copy;
}


int
operation_note(const operation_t *o, vm_op_t *op, hatch_err_t *err)
{
    return pending_begin(op->config, op->vm.id, o->name,
                         operation_copy(op->note), err);
}


static void
operation_announce(const vm_op_t *op, const step_t *step)
{
    switch (step->deadline) {

    case STEP_CALL:
        work_step(step->doing, host_call_timeout(op->config));
        break;

    case STEP_KILL:
        vm_step_kill(op->config);
        break;

    case STEP_SAVE:
        work_step(step->doing, host_save_timeout(op->config));
        break;

    default:
        break;
    }
}


static int
operation_step(const operation_t *o, const step_t *step, vm_op_t *op,
    hatch_err_t *err)
{
    int  rc;

    operation_announce(op, step);
    rc = step->run(op, err);

    return rc == 0 ? fault(o->name, step->name, err) : rc;
}


/* Has the step that commits been done?  1, 0, or an error. */
static int
operation_committed(const operation_t *o, vm_op_t *op, hatch_err_t *err)
{
    const step_t  *step;

    if (o->forward) {
        return 1;
    }

    for (step = o->steps; step->name != NULL; step++) {
        if (step->commits) {
            operation_announce(op, step);
            return step->is_done(op, err);
        }
    }

    return 0;
}


/* From this step back to the first. */
static int
operation_undo(const operation_t *o, const step_t *step, vm_op_t *op,
    hatch_err_t *err)
{
    int  rc = 0;

    for ( ;; ) {
        if (step->undo != NULL) {
            operation_announce(op, step);
            rc = step->undo(op, err);
        }

        if (rc != 0 || step == o->steps) {
            return rc;
        }

        step--;
    }
}


/* Is it as if nothing had happened?  Of one that is never undone. */
static int
operation_untouched(const operation_t *o, const step_t *step, vm_op_t *op)
{
    hatch_err_t  ignored;

    return step == o->steps
           && (step->is_done == NULL || step->is_done(op, &ignored) == 0);
}


/* `step` has failed with rc: takes back what there is, or leaves a note. */
static int
operation_failed(const operation_t *o, const step_t *step, vm_op_t *op,
    int rc, hatch_err_t *err)
{
    int          undone = -1;
    hatch_err_t  why = { 0, "" };

    /* before the table has forgotten who pulled the plug */
    rc = vm_forced(op, rc, err);

    if (o->forward) {
        undone = operation_untouched(o, step, op) ? 0 : -1;
        why = *err;

    } else if (o->undoes_all || operation_committed(o, op, &why) == 0) {
        undone = operation_undo(o, step, op, &why);

    } else if (why.text[0] == '\0') {
        why = *err;
    }

    if (!o->noted) {
        return rc;
    }

    if (undone == 0) {
        (void) pending_undone(op->config, op->vm.id);
        return rc;
    }

    log_event(LOG_WARN, "%s: to %s has not ended yet: %s", op->vm.id, o->name,
              why.text);
    pending_abandon(op->vm.id);
    op->abandoned = 1;

    return rc;
}


int
operation_run(const operation_t *o, vm_op_t *op, hatch_err_t *err)
{
    int            rc;
    const step_t  *step = o->steps;

    if (o->noted) {
        rc = o->forward
             ? pending_begin_anyway(op->config, op->vm.id, o->name,
                                    operation_copy(op->note), err)
             : operation_note(o, op, err);

        if (rc != 0) {
            return rc;
        }

        rc = fault(o->name, "noted", err);

    } else {
        rc = 0;
    }

    while (rc == 0 && step->name != NULL) {
        rc = operation_step(o, step, op, err);
        step += rc == 0;
    }

    vm_end_start(op);

    /* with a note that stays, the next agent would undo it */
    if (rc == 0 && o->noted && pending_end(op->config, op->vm.id) != 0) {
        rc = hatch_err_set(err, HATCH_ERR_SYSTEM, "cannot end the operation; "
                           "is the state directory writable?");
        step--;
    }

    return rc == 0 ? 0 : operation_failed(o, step, op, rc, err);
}


/* What is not done yet, from the first step behind the one that commits. */
static int
operation_go_on(const operation_t *o, vm_op_t *op, hatch_err_t *err)
{
    int            rc = 0, done;
    const step_t  *step = o->steps;

    if (!o->forward) {
        while (!step->commits) {
            step++;
        }

        step++;
    }

    for ( ; rc == 0 && step->name != NULL; step++) {
        operation_announce(op, step);
        done = step->is_done != NULL ? step->is_done(op, err) : 0;
        rc = done == 0 ? operation_step(o, step, op, err)
                       : done < 0 ? done : 0;
    }

    return rc;
}


int
operation_recover(const operation_t *o, vm_op_t *op, hatch_err_t *err)
{
    int            rc, committed;
    const step_t  *last = o->steps;

    op->recovers = 1;
    rc = o->settle != NULL && op->domain != NULL ? o->settle(op, err) : 0;

    if (rc != 0) {
        return rc;
    }

    committed = operation_committed(o, op, err);

    if (committed < 0) {
        return committed;
    }

    if (committed) {
        rc = operation_go_on(o, op, err);

    } else {
        while (last[1].name != NULL) {
            last++;
        }

        rc = operation_undo(o, last, op, err);
    }

    if (rc == 0) {
        rc = pending_end(op->config, op->vm.id);
    }

    return rc == 0 ? committed : rc;
}
