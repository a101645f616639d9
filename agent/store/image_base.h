/*
 * Which file a disk is an overlay on.
 *
 * An overlay has only what differs from its base; on another file, or on one
 * that somebody has written to, it is a disk that never was, and QEMU cannot
 * tell.  So the file is known by its content: disks/VM.base has what it was
 * when the VM's disk was made, images/ID.base when the image was registered.
 *
 * All of a file is read once, when it is first seen.  After that inode, size
 * and time of the last change say that it is the same one; only if one of
 * them differs it is read again, so a touch, or a copy that is put back, does
 * no harm.
 */

#ifndef HATCH_AGENT_IMAGE_BASE_H_INCLUDED
#define HATCH_AGENT_IMAGE_BASE_H_INCLUDED

#include "core/config.h"
#include "hatch_err.h"


/*
 * Notes what an image's disk is when it is registered; and forgets it.  These
 * and the next two may read all of a file: as work (work.h).
 */
int image_base_note(const config_t *config, const char *image,
    const char *path, hatch_err_t *err);
void image_base_forget(const config_t *config, const char *image);

/*
 * Is it still that?  HATCH_ERR_CONFLICT naming image and file if it is not,
 * 0 if nothing was noted.
 */
int image_base_check(const config_t *config, const char *image,
    const char *path, hatch_err_t *err);

/* Notes it for a VM whose disk is made on it. */
int image_base_note_vm(const config_t *config, const char *vm,
    const char *image, const char *path, hatch_err_t *err);
void image_base_forget_vm(const config_t *config, const char *vm);

/*
 * May the VM start?  HATCH_ERR_CONFLICT, naming image, file and what has
 * changed, if the base of its disk is another one than when the disk was made.
 * 0 also if the file is not there, which libvirt says better, and for disks of
 * before.
 */
int image_check_base(const config_t *config, const char *vm,
    hatch_err_t *err);

#endif /* HATCH_AGENT_IMAGE_BASE_H_INCLUDED */
