/* What the operations on VMs share: vm*.c, snapshot.c, restore.c, recover.c. */

#ifndef HATCH_AGENT_VM_PRIVATE_H_INCLUDED
#define HATCH_AGENT_VM_PRIVATE_H_INCLUDED

#include <json-c/json.h>
#include <libvirt/libvirt.h>

#include "core/config.h"
#include "hatch_err.h"
#include "table/table.h"
#include "virt/virt.h"


/* An operation on one VM, from vm_begin() to vm_end(). */
typedef struct {
    const config_t  *config;
    virt_lease_t     lease;
    virDomainPtr     domain;
    vm_t             vm;                /* as it was at the beginning */

    /* for the steps (operation.h) */
    json_object     *note;              /* or NULL; recovery has it, too */
    void            *arg;               /* what recovery has not */

    unsigned         forced:1;          /* vm_begin_force() pulled the plug */
    unsigned         deletes:1;         /* whatever state the VM is in */
    unsigned         quick:1;           /* libvirt has not been asked */
    unsigned         starts:1;          /* has one of the turns to start */
    unsigned         recovers:1;        /* nobody waits, and arg is NULL */
    unsigned         abandoned:1;       /* it did not end: recovery goes on */
} vm_op_t;


/*
 * Begins an operation: turn, connection, domain, and what libvirt says of it
 * now (somebody with virsh may have changed it).  HATCH_ERR_BUSY if the VM
 * has yet to be recovered.  On failure there is nothing to end.
 */
int vm_begin(vm_op_t *op, const config_t *config, const char *id,
    hatch_err_t *err);

/*
 * The same, without asking libvirt first: the VM as the table has it.  For
 * those in a hurry; what libvirt then refuses tells that it was wrong.
 */
int vm_begin_quick(vm_op_t *op, const config_t *config, const char *id,
    unsigned timeout, hatch_err_t *err);

/* Asks libvirt after all: op->vm is then as it is. */
int vm_look(vm_op_t *op, hatch_err_t *err);

/*
 * The same for one that must not wait for an operation that hangs: it pulls
 * the plug under that, which then ends, with an error.  libvirt can do so
 * while the QEMU does not answer.  One that deletes the VM need not wait for
 * its recovery either, which may not succeed.
 */
int vm_begin_force(vm_op_t *op, const config_t *config, const char *id,
    int deletes, hatch_err_t *err);

/*
 * What an operation that went wrong has to say: if somebody pulled the plug
 * under it, that, and not what libvirt made of it.  Before it is ended.
 */
int vm_forced(const vm_op_t *op, int rc, hatch_err_t *err);

/*
 * Ends it: what libvirt says now is the state, whatever the operation hoped
 * for.  rc and err are the operation's own result; returns rc, or what went
 * wrong here.  Fills vm.
 */
int vm_end(vm_op_t *op, int rc, vm_t *vm, hatch_err_t *err);

/* The same for a VM that is not to be looked at any more.  Puts op->note. */
void vm_drop(vm_op_t *op);

/* "cannot WHAT VM "ID": it is STATE"; the operation is still to be ended. */
int vm_conflict(const vm_op_t *op, const char *what, hatch_err_t *err);

/*
 * What every note of an operation has (pending_begin()): which libvirt has the
 * VM, whether that is the test driver, and its address, for a recovery that
 * finds no domain to ask.  The caller may add to it.
 */
json_object *vm_note(const vm_op_t *op);

/* Announces a call to libvirt, with libvirt_timeout. */
void vm_step(const vm_op_t *op, const char *what);

/* The same for pulling the plug, which takes longer where QEMU hangs. */
void vm_step_kill(const config_t *config);

/*
 * Makes room for a VM to start: turn, host memory, reservation.  After it,
 * vm_end_start() is due, also if it fails.
 */
int vm_prepare_start(vm_op_t *op, hatch_err_t *err);

/*
 * What libvirt said when it refused to start the VM, at once after that; or, if
 * QEMU's user cannot get to a file of it, that.
 */
int vm_start_error(vm_op_t *op, hatch_err_t *err);

/* Gives the turn back, if it has one. */
void vm_end_start(vm_op_t *op);

/*
 * Lets the guest run, if it is paused or has suspended itself (S3).  Asks
 * libvirt first.
 */
int vm_unpause(vm_op_t *op, hatch_err_t *err);

/*
 * The same for one that stands because its disk could not be written
 * (vm_t.stalled), and looks whether it goes on: HATCH_ERR_FULL if not.
 */
int vm_unstall(vm_op_t *op, hatch_err_t *err);

/* The same at once, for a guest that is thought to be paused. */
int vm_resume_now(vm_op_t *op, hatch_err_t *err);

/*
 * Wakes a guest that has suspended itself, and no other: QEMU can neither pause
 * nor save it.  *state is libvirt's of before.
 */
int vm_rouse(vm_op_t *op, int *state, hatch_err_t *err);

/* 1 if there is a process, 0 if there is none, or an error. */
int vm_is_active(vm_op_t *op, hatch_err_t *err);

/*
 * Is the disk that the guest writes to the one that the agent made, and the
 * only one?  A backup tool's snapshot puts a layer over it; then a copy of it
 * would not be what the guest has.  HATCH_ERR_CONFLICT names the disk; what is
 * "snapshot" or "restore".
 */
int vm_check_disks(vm_op_t *op, const char *what, hatch_err_t *err);

/*
 * Writes the definition anew, with vm's metadata, vCPUs and memory; flags are
 * libvirt's, of virDomainDefineXMLFlags().
 */
int vm_redefine(vm_op_t *op, const vm_t *vm, unsigned flags,
    hatch_err_t *err);

/* Ends and undefines the domain, if there is one. */
int vm_undefine(vm_op_t *op, hatch_err_t *err);

/* libvirt has it no more: out of the table and the zone. */
int vm_forget(vm_op_t *op, hatch_err_t *err);

/* Gives back its address. */
int vm_release(vm_op_t *op, hatch_err_t *err);

#endif /* HATCH_AGENT_VM_PRIVATE_H_INCLUDED */
