/* Looking at the files of images. */

#ifndef HATCH_AGENT_IMAGE_FILE_H_INCLUDED
#define HATCH_AGENT_IMAGE_FILE_H_INCLUDED

#include <stdint.h>

#include "core/config.h"
#include "hatch_err.h"


/*
 * The absolute path, without symbolic links, of a file in the image directory:
 * `path` is relative to that, or absolute and in it.  HATCH_ERR_INVALID naming
 * the field `key` if it leads out of it, or is no regular file with a content.
 */
int image_file_resolve(const config_t *config, const char *key,
    const char *path, char real[CONFIG_TEXT], hatch_err_t *err);

/*
 * Which format has a disk image, by its first bytes, and how large is the disk
 * in it (bytes)?  HATCH_ERR_INVALID naming rootfs_path for anything but a raw
 * image or a qcow2 that stands alone: QEMU would follow a backing or data file
 * that is named in it to any place of the host.
 */
int image_file_look(const char *path, char format[8], uint64_t *size,
    hatch_err_t *err);

#endif /* HATCH_AGENT_IMAGE_FILE_H_INCLUDED */
