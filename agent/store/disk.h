/*
 * VMs' disks: state_dir/disks/VM.qcow2, an overlay on the image's disk, which
 * is never written, or an empty disk where the image has none.  The path of a
 * VM's disk never changes, also when a snapshot is restored.
 */

#ifndef HATCH_AGENT_DISK_H_INCLUDED
#define HATCH_AGENT_DISK_H_INCLUDED

#include "core/config.h"
#include "hatch_err.h"
#include "image.h"
#include "table/table.h"


/* Where the disk of a VM is, into path[STATEDIR_PATH]. */
void disk_path(const config_t *config, const char *id, char *path);

/* Creates it, of vm->disk_mib; nothing is left of one that fails. */
int disk_create(const config_t *config, const vm_t *vm, const image_t *image,
    hatch_err_t *err);

/*
 * Is it there, and could it be opened anew?  A QEMU that runs does not look
 * again, but has to after it has written its memory, and drops a disk that it
 * cannot open then.  HATCH_ERR_ABSENT, DENIED, or HATCH_ERR_HOST if the disk is
 * damaged.
 */
int disk_check(const config_t *config, const char *id, hatch_err_t *err);

/* Also what a restore left; it is no error if there is none. */
void disk_delete(const config_t *config, const char *id);


/*
 * Replacing a disk by that of a snapshot, in three steps.  Each is whole on
 * disk when it returns, and what there is tells how far it got:
 *
 *   staged       VM.qcow2, VM.qcow2.new
 *   swapped      VM.qcow2, VM.qcow2.old   (in between: .new and .old)
 *   kept         VM.qcow2
 */
int disk_stage(const config_t *config, const char *id, const char *from,
    hatch_err_t *err);
int disk_swap(const config_t *config, const char *id, hatch_err_t *err);
int disk_keep(const config_t *config, const char *id, hatch_err_t *err);

/*
 * When the staged copy, or the disk, was last written, ns since 1970: as long
 * as it is the same, nobody has run with it.  0: it is not there.
 */
int64_t disk_staged(const config_t *config, const char *id);
int64_t disk_changed(const config_t *config, const char *id);

/* Is the disk before it still there? */
int disk_is_swapped(const config_t *config, const char *id);

/*
 * In the place of keeping: in doubt the disk before gets another name beside
 * it, path[STATEDIR_PATH], which goes with the VM.
 */
int disk_put_aside(const config_t *config, const char *id, char *path,
    hatch_err_t *err);

/* Undoes them, wherever they are: the disk is the one before. */
int disk_unswap(const config_t *config, const char *id, hatch_err_t *err);

#endif /* HATCH_AGENT_DISK_H_INCLUDED */
