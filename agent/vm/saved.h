/*
 * The memory that a VM has saved (libvirt's managed save), and the start from
 * it.
 *
 * It is given up only when it is proved bad, and then put aside, never
 * deleted.  Proof is a file that is no save image, or libvirt's mark of one
 * that was not finished, or less of it than there was when it was saved; or
 * that QEMU twice refused to load it while every file of the VM could be
 * opened.  A start that fails for any other reason keeps it.
 *
 * libvirt tells nobody where the file is; the agent knows it of a libvirt on
 * its own host.  Where it cannot reach the file, nothing can be proved.
 */

#ifndef HATCH_AGENT_SAVED_H_INCLUDED
#define HATCH_AGENT_SAVED_H_INCLUDED

#include "vm_private.h"


/*
 * Has the file that has just been made on disk, and notes it, so that it is
 * known when some of it is missing.  Without a note less can be proved, so a
 * failure is only logged.
 */
void saved_note(const vm_op_t *op);

/* Removes the note, of a VM that is deleted. */
void saved_forget(const config_t *config, const char *vm);

/* Deletes what was put aside, of a VM that is deleted. */
void saved_delete_aside(const vm_op_t *op);

/*
 * Starts a VM that is not up: from the memory that it has saved, else from its
 * disk.  Memory that is proved bad is put aside, with a warning, and it boots.
 * HATCH_ERR_KEPT: the memory could not be restored, and is still there.
 */
int saved_start(vm_op_t *op, hatch_err_t *err);

/* Drops the saved memory, because a user said so. */
int saved_drop(vm_op_t *op, hatch_err_t *err);

#endif /* HATCH_AGENT_SAVED_H_INCLUDED */
