/*
 * Images: what a VM boots from.
 *
 * So far there is one, img_default, which the configuration describes
 * (default_kernel_path, default_initrd_path).
 */

#ifndef HATCH_AGENT_IMAGE_H_INCLUDED
#define HATCH_AGENT_IMAGE_H_INCLUDED

#include "config.h"
#include "hatch_err.h"
#include "hatch_id.h"


#define IMAGE_DEFAULT  "img_default"


typedef struct {
    char  id[HATCH_ID_SIZE];
    char  kernel_path[CONFIG_TEXT];
    char  initrd_path[CONFIG_TEXT];     /* "" for none */
    char  boot_args[CONFIG_TEXT];
} image_t;


/*
 * The image of an id, NULL meaning the default one.  HATCH_ERR_INVALID if
 * there is none, naming image_id.
 */
int image_find(const config_t *config, const char *id, image_t *image,
    hatch_err_t *err);

#endif /* HATCH_AGENT_IMAGE_H_INCLUDED */
