/*
 * The memory of a VM as an image (store/memory_record.h): started with it,
 * written to it, started from it.
 *
 *            boot                          wake
 *   (disk) --------> running, VM.ram <------------- snapshotted
 *                       |   ^                           ^
 *                 pause |   | resume: used              | end of the process
 *                       v   |                           |
 *                     paused ----- save: valid ---> paused, parked
 *
 * While a guest runs, its memory is VM.ram and, beside it, the pages that it
 * has changed.  A save writes those into the file, the state of the devices
 * beside it, and then the record, which is valid from then on: whatever becomes
 * of the process, the guest goes on from there, once.
 */

#ifndef HATCH_AGENT_MEMORY_H_INCLUDED
#define HATCH_AGENT_MEMORY_H_INCLUDED

#include "vm_private.h"


/*
 * Starts a VM that is not up from its disk, with an image for its memory where
 * its setting and the host allow it.  What else it had, is worth nothing then.
 * op->domain is another one afterwards.
 */
int memory_boot(vm_op_t *op, hatch_err_t *err);

/*
 * Starts it from its valid image; it stands afterwards.  1: the image is proved
 * bad and was put aside, with a warning; it is to be booted.  HATCH_ERR_KEPT:
 * it could not be loaded now, and is still there.
 */
int memory_wake(vm_op_t *op, hatch_err_t *err);

/*
 * Before a guest of the VM runs by our doing: its image is used, on disk.  An
 * error: it must not run.
 */
int memory_use(const vm_op_t *op, hatch_err_t *err);

/*
 * libvirt says that it runs, and nobody of us let it: then its image, if it is
 * valid, is not any more.  Any thread.
 */
void memory_seen_running(const config_t *config, const char *vm);

/* Does the QEMU of this VM, which is up, have an image? */
int memory_has_image(const vm_op_t *op);

/*
 * Before libvirt itself starts a guest from memory that it has saved: if that
 * guest's XML names the image, there has to be such a file.
 */
int memory_prepare(const vm_op_t *op, const char *xml, unsigned mem_mib,
    hatch_err_t *err);

/*
 * A paused VM is saved into its image and its process ended; HATCH_ERR_BUSY if
 * somebody wanted it meanwhile: it is paused as before.
 */
int memory_sleep(vm_op_t *op, hatch_err_t *err);

/*
 * A paused VM is saved into its image, and its memory dropped: it stays paused,
 * and is parked.  HATCH_ERR_BUSY as above.
 */
int memory_park(vm_op_t *op, hatch_err_t *err);

/*
 * Ends processes that an agent before us has started to load an image, so that
 * it can be loaded again.  On the first connection, before any VM is looked at.
 */
void memory_recover(const config_t *config, virConnectPtr conn);

/* Drops the image, because a user said so. */
int memory_drop(const vm_op_t *op, hatch_err_t *err);

#endif /* HATCH_AGENT_MEMORY_H_INCLUDED */
