#include "image.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>


static int
image_check_file(const char *key, const char *path, hatch_err_t *err)
{
    if (path[0] != '\0' && access(path, R_OK) == -1) {
        return hatch_err_errno(err, errno, "\"%s\": cannot read \"%s\"", key,
                               path);
    }

    return 0;
}


int
image_find(const config_t *config, const char *id, image_t *image,
    hatch_err_t *err)
{
    int  rc;

    if (id != NULL && strcmp(id, IMAGE_DEFAULT) != 0) {
        return hatch_err_set(err, HATCH_ERR_INVALID,
                             "\"image_id\": no image \"%.40s\"", id);
    }

    if (config->default_kernel_path[0] == '\0') {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"image_id\": there is "
                             "no default image; set \"default_kernel_path\" "
                             "of the agent");
    }

    rc = image_check_file("default_kernel_path", config->default_kernel_path,
                          err);
    if (rc == 0) {
        rc = image_check_file("default_initrd_path",
                              config->default_initrd_path, err);
    }

    if (rc != 0) {
        return rc;
    }

    (void) snprintf(image->id, sizeof(image->id), "%s", IMAGE_DEFAULT);
    memcpy(image->kernel_path, config->default_kernel_path, CONFIG_TEXT);
    memcpy(image->initrd_path, config->default_initrd_path, CONFIG_TEXT);
    memcpy(image->boot_args, config->default_boot_args, CONFIG_TEXT);

    return 0;
}
