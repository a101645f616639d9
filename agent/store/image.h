/*
 * Images: what a VM boots from.  A disk (qcow2 or raw), a kernel with or
 * without an initramfs, or a kernel and a disk.
 *
 * They are registered by POST /images, as records; the files stay where they
 * are, in the image directory, and are never written.  img_default may also
 * come from the configuration (default_kernel_path and its like), which then
 * wins over a record of that id.
 */

#ifndef HATCH_AGENT_IMAGE_H_INCLUDED
#define HATCH_AGENT_IMAGE_H_INCLUDED

#include <json-c/json.h>

#include "core/config.h"
#include "hatch_err.h"
#include "hatch_id.h"
#include "table/table.h"


#define IMAGE_DEFAULT  "img_default"


/* An image with its files as they are now: absolute paths, "" for none. */
typedef struct {
    char      id[HATCH_ID_SIZE];
    char      kernel_path[CONFIG_TEXT];
    char      initrd_path[CONFIG_TEXT];
    char      rootfs_path[CONFIG_TEXT];
    char      format[8];                /* of rootfs: "qcow2", "raw" */
    unsigned  size_mib;                 /* of its disk, rounded up */
    char      boot_args[VM_BOOT_ARGS_MAX];
} image_t;


/* Loads the records.  Once, before any other call. */
int image_open(const config_t *config, hatch_err_t *err);

/*
 * The image of an id, NULL meaning the default one, its files looked at anew.
 * HATCH_ERR_INVALID naming image_id if there is none or a file is gone.
 */
int image_find(const config_t *config, const char *id, image_t *image,
    hatch_err_t *err);

/*
 * Registers an image; fields are those of POST /images, checked for type and
 * range.  On success the caller owns *record.  HATCH_ERR_INVALID naming the
 * field, HATCH_ERR_CONFLICT if the id is taken.
 */
int image_add(const config_t *config, json_object *fields,
    json_object **record, hatch_err_t *err);

/* A record of the caller's own, or NULL; and all, newest first. */
json_object *image_get(const config_t *config, const char *id);
json_object *image_list(const config_t *config);

/*
 * Forgets an image; its files stay.  HATCH_ERR_NOT_FOUND, or
 * HATCH_ERR_CONFLICT if a VM uses it or it comes from the configuration.
 */
int image_delete(const config_t *config, const char *id, hatch_err_t *err);

#endif /* HATCH_AGENT_IMAGE_H_INCLUDED */
