/*
 * Operations on a VM as lists of steps.  One runner carries each of them out,
 * with the deadline, the fault point and the note of every step, and takes it
 * back when it fails; recovery reads the same list.
 *
 *   create     seeded disk reserved defined started
 *   delete     undefined forgotten files released routes checked
 *   snapshot   paused memory disk recorded resumed slept
 *   restore    staged swapped defined restored running kept
 *   sleep      saved noted                             without a note
 *   image      pages devices recorded ended            without a note
 *   load       started loaded used                      without a note
 *   park       pages devices recorded dropped          without a note
 *   wake       prepared started running                without a note
 *   unsnap     forgotten files                         without a note
 *
 * How far an operation got is seen from libvirt and the files (is_done), never
 * believed because a note says so.  Before the step that commits has been done
 * all is undone, after it all is done to the end.
 */

#ifndef HATCH_AGENT_OPERATION_H_INCLUDED
#define HATCH_AGENT_OPERATION_H_INCLUDED

#include "vm_private.h"


/* How long a step may take before whoever waits is told that it is late. */
typedef enum {
    STEP_OWN = 0,               /* it says so itself, or takes no time */
    STEP_CALL,                  /* one call: libvirt_timeout */
    STEP_KILL,                  /* the same, and until QEMU has been killed */
    STEP_SAVE                   /* memory or a disk: save_timeout */
} step_deadline_t;


typedef struct {
    /* its fault point, which stands behind it, is OPERATION.NAME */
    const char       *name;

    /* for whoever waits for it, a literal: "copying the disk" */
    const char       *doing;
    step_deadline_t   deadline;

    /*
     * 1, 0, or an error if that cannot be seen now.  NULL: cannot be seen, and
     * doing it again does no harm.
     */
    int             (*is_done)(vm_op_t *op, hatch_err_t *err);

    /* Also of one that was done, in part or to its end. */
    int             (*run)(vm_op_t *op, hatch_err_t *err);

    /* Wherever it got, if it was begun at all.  NULL: leaves nothing. */
    int             (*undo)(vm_op_t *op, hatch_err_t *err);

    unsigned          commits:1;
} step_t;


typedef struct {
    const char      *name;
    const step_t    *steps;     /* the last one has no name */

    /* before its recovery: what libvirt may still be at work on */
    int            (*settle)(vm_op_t *op, hatch_err_t *err);

    unsigned         noted:1;           /* is recovered, if it does not end */
    unsigned         forward:1;         /* is never undone */
    unsigned         needs_domain:1;    /* waits for one that is gone */
    unsigned         undoes_all:1;      /* a failure undoes what committed, too:
                                           nobody has been told yet */
} operation_t;


extern const operation_t  create_operation;
extern const operation_t  delete_operation;
extern const operation_t  snapshot_operation;
extern const operation_t  restore_operation;
extern const operation_t  sleep_operation;
extern const operation_t  image_operation;
extern const operation_t  park_operation;
extern const operation_t  load_operation;
extern const operation_t  wake_operation;
extern const operation_t  unsnap_operation;


/* The operation of that name that is noted, or NULL. */
const operation_t *operation_find(const char *name);

/*
 * Carries it out in the calling thread.  op->note, if there is one, is what
 * its note says beside the operation's name; the steps may read it.  A failure
 * is taken back, and if that is not possible left to recovery
 * (pending_abandon()), which op->abandoned says.
 */
int operation_run(const operation_t *o, vm_op_t *op, hatch_err_t *err);

/*
 * Brings one that did not end to one of its two ends, by op->note; the note is
 * removed then.  op->domain may be NULL.  Returns 1 if it got to its end, 0 if
 * it was undone, or an error: it is to be tried again.
 */
int operation_recover(const operation_t *o, vm_op_t *op, hatch_err_t *err);

/* Writes op->note again: a step has found out something that undo needs. */
int operation_note(const operation_t *o, vm_op_t *op, hatch_err_t *err);

/* Prints all fault points, one a line, for tests that try each of them. */
void operation_print_points(void);

#endif /* HATCH_AGENT_OPERATION_H_INCLUDED */
