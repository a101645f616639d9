#define _GNU_SOURCE

#include "image.h"
#include "image_base.h"
#include "image_file.h"
#include "records.h"
#include "core/cleanup.h"

#include "hatch_clock.h"
#include "hatch_json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>


static records_t  images = { .folder = "images" };


int
image_open(const config_t *config, hatch_err_t *err)
{
    return records_open(&images, config, err);
}


static int
image_is_configured(const config_t *config)
{
    config = config_image(config);

    return config->default_kernel_path[0] != '\0'
           || config->default_rootfs_path[0] != '\0';
}


/* img_default of the configuration, as the record that it would be. */
static json_object *
image_configured(const config_t *config)
{
    size_t        i;
    json_object  *record = json_object_new_object();

    const struct {
        const char  *name;
        const char  *value;
    } fields[] = {
        { "kernel_path", config->default_kernel_path },
        { "initrd_path", config->default_initrd_path },
        { "rootfs_path", config->default_rootfs_path },
        { "boot_args", config->default_kernel_path[0] != '\0'
                       ? config->default_boot_args : "" }
    };

    (void) json_object_object_add(record, "id",
                                  json_object_new_string(IMAGE_DEFAULT));

    for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (fields[i].value[0] != '\0') {
            (void) json_object_object_add(record, fields[i].name,
                                     json_object_new_string(fields[i].value));
        }
    }

    return record;
}


json_object *
image_get(const config_t *config, const char *id)
{
    config = config_image(config);

    if (strcmp(id, IMAGE_DEFAULT) == 0 && image_is_configured(config)) {
        return image_configured(config);
    }

    return records_get(&images, id);
}


json_object *
image_list(const config_t *config)
{
    size_t        i, n;
    json_object  *list = json_object_new_array(), *record;
    cleanup_json json_object  *all = records_list(&images);

    config = config_image(config);

    for (i = 0, n = json_object_array_length(all); i < n; i++) {
        record = json_object_array_get_idx(all, i);

        if (!records_match(record, "id", IMAGE_DEFAULT)
            || !image_is_configured(config))
        {
            (void) json_object_array_add(list, json_object_get(record));
        }
    }

    if (image_is_configured(config)) {
        (void) json_object_array_add(list, image_configured(config));
    }

    return list;
}


/* The operator's own files, named in the configuration, may be anywhere. */
static int
image_check_configured(const char *key, const char *path, hatch_err_t *err)
{
    if (path[0] != '\0' && access(path, R_OK) == -1) {
        return hatch_err_errno(err, errno, "\"%s\": cannot read \"%s\"", key,
                               path);
    }

    return 0;
}


static int
image_files_configured(const config_t *config, image_t *image,
    hatch_err_t *err)
{
    int  rc;

    rc = image_check_configured("default_kernel_path",
                                config->default_kernel_path, err);
    if (rc == 0) {
        rc = image_check_configured("default_initrd_path",
                                    config->default_initrd_path, err);
    }

    if (rc == 0) {
        rc = image_check_configured("default_rootfs_path",
                                    config->default_rootfs_path, err);
    }

    memcpy(image->kernel_path, config->default_kernel_path, CONFIG_TEXT);
    memcpy(image->initrd_path, config->default_initrd_path, CONFIG_TEXT);
    memcpy(image->rootfs_path, config->default_rootfs_path, CONFIG_TEXT);

    return rc;
}


static int
image_files_registered(const config_t *config, json_object *record,
    image_t *image, hatch_err_t *err)
{
    int     rc = 0;
    size_t  i;

    const struct {
        const char  *key;
        char        *real;
    } files[] = {
        { "kernel_path", image->kernel_path },
        { "initrd_path", image->initrd_path },
        { "rootfs_path", image->rootfs_path }
    };

    for (i = 0; rc == 0 && i < sizeof(files) / sizeof(files[0]); i++) {
        if (json_object_object_get_ex(record, files[i].key, NULL)) {
            rc = image_file_resolve(config, files[i].key,
                                    hatch_json_string(record, files[i].key,
                                                      ""),
                                    files[i].real, err);
        }
    }

    return rc;
}


/* Fills image from a record, looking at the files. */
static int
image_load(const config_t *config, json_object *record, int configured,
    image_t *image, hatch_err_t *err)
{
    int       rc;
    uint64_t  size = 0;

    memset(image, 0, sizeof(*image));
    (void) snprintf(image->id, sizeof(image->id), "%s",
                    hatch_json_string(record, "id", ""));
    (void) snprintf(image->boot_args, sizeof(image->boot_args), "%s",
                    hatch_json_string(record, "boot_args", ""));

    rc = configured ? image_files_configured(config, image, err)
                    : image_files_registered(config, record, image, err);

    if (rc == 0 && image->rootfs_path[0] != '\0') {
        rc = image_file_look(image->rootfs_path, image->format, &size, err);
        image->size_mib = (unsigned) ((size + (1 << 20) - 1) >> 20);
    }

    return rc;
}


int
image_find(const config_t *config, const char *id, image_t *image,
    hatch_err_t *err)
{
    int                        rc, configured;
    hatch_err_t                why;
    cleanup_json json_object  *record = NULL;

    config = config_image(config);

    if (id == NULL) {
        id = IMAGE_DEFAULT;
    }

    record = image_get(config, id);

    if (record == NULL) {
        return strcmp(id, IMAGE_DEFAULT) == 0
               ? hatch_err_set(err, HATCH_ERR_INVALID, "\"image_id\": there "
                               "is no default image; register one as "
                               IMAGE_DEFAULT ", or set "
                               "\"default_kernel_path\" of the agent")
               : hatch_err_set(err, HATCH_ERR_INVALID,
                               "\"image_id\": no image \"%.40s\"", id);
    }

    configured = strcmp(id, IMAGE_DEFAULT) == 0 && image_is_configured(config);
    rc = image_load(config, record, configured, image, &why);

    if (rc == 0 && !configured && image->rootfs_path[0] != '\0') {
        rc = image_base_check(config, id, image->rootfs_path, &why);
    }

    if (rc == HATCH_ERR_INVALID) {
        return hatch_err_set(err, rc, "\"image_id\": image %.40s: %s", id,
                             why.text);
    }

    if (rc != 0) {
        *err = why;
    }

    return rc;
}


/* What its fields say together. */
static int
image_check(json_object *fields, hatch_err_t *err)
{
    int  kernel, initrd, rootfs, args;

    kernel = json_object_object_get_ex(fields, "kernel_path", NULL);
    initrd = json_object_object_get_ex(fields, "initrd_path", NULL);
    rootfs = json_object_object_get_ex(fields, "rootfs_path", NULL);
    args = json_object_object_get_ex(fields, "boot_args", NULL);

    if (!kernel && !rootfs) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"kernel_path\" or "
                             "\"rootfs_path\" is missing");
    }

    if (!kernel && (initrd || args)) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" needs "
                             "\"kernel_path\"",
                             initrd ? "initrd_path" : "boot_args");
    }

    return 0;
}


static int
image_set_id(const config_t *config, json_object *record, hatch_err_t *err)
{
    char         made[HATCH_ID_SIZE];
    const char  *id = hatch_json_string(record, "id", NULL), *p;

    if (id == NULL) {
        if (hatch_id_make(HATCH_ID_IMAGE, made) != 0) {
            return hatch_err_errno(err, errno, "no random numbers");
        }

        (void) json_object_object_add(record, "id",
                                      json_object_new_string(made));
        return 0;
    }

    p = id + strlen(HATCH_ID_IMAGE);

    if (strncmp(id, HATCH_ID_IMAGE, strlen(HATCH_ID_IMAGE)) != 0
        || *p == '\0'
        || p[strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789-_")] != '\0')
    {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"id\" must be "
                             HATCH_ID_IMAGE " and a-z, 0-9, \"-\" or \"_\", "
                             "not \"%s\"", id);
    }

    if (strcmp(id, IMAGE_DEFAULT) == 0 && image_is_configured(config)) {
        return hatch_err_set(err, HATCH_ERR_CONFLICT, "\"id\" "
                             IMAGE_DEFAULT " is taken by the agent's "
                             "configuration");
    }

    return 0;
}


int
image_add(const config_t *config, json_object *fields, json_object **record,
    hatch_err_t *err)
{
    int                        rc;
    image_t                    image;
    hatch_err_t                why;
    cleanup_json json_object  *new = NULL;

    rc = image_check(fields, err);

    if (rc == 0 && json_object_deep_copy(fields, &new, NULL) != 0) {
        rc = hatch_err_errno(err, ENOMEM, "cannot register the image");
    }

    if (rc == 0) {
        rc = image_set_id(config, new, err);
    }

    if (rc == 0) {
        rc = image_load(config, new, 0, &image, err);
    }

    if (rc != 0) {
        return rc;
    }

    if (image.rootfs_path[0] != '\0') {
        (void) json_object_object_add(new, "format",
                                      json_object_new_string(image.format));
        (void) json_object_object_add(new, "disk_mib",
                                      json_object_new_int64(image.size_mib));
    }

    (void) json_object_object_add(new, "created", json_object_new_int64(
                                       (int64_t) hatch_clock_wall_ms()));

    rc = records_add(&images, new, NULL, err);

    if (rc == 0 && image.rootfs_path[0] != '\0') {
        rc = image_base_note(config, image.id, image.rootfs_path, err);

        if (rc != 0) {
            (void) records_delete(&images, image.id, &why);
        }
    }

    if (rc == 0) {
        *record = take(new);
    }

    return rc;
}


int
image_delete(const config_t *config, const char *id, hatch_err_t *err)
{
    int                        rc = 0;
    unsigned                   n;
    hatch_err_t                why;
    cleanup_json json_object  *record = NULL;

    if (strcmp(id, IMAGE_DEFAULT) == 0 && image_is_configured(config)) {
        return hatch_err_set(err, HATCH_ERR_CONFLICT, "cannot delete "
                             "image " IMAGE_DEFAULT ": it comes from the "
                             "agent's configuration");
    }

    record = records_get(&images, id);

    if (record == NULL) {
        return hatch_err_set(err, HATCH_ERR_NOT_FOUND, "no image \"%s\"", id);
    }

    n = table_count_image(id);

    if (n == 0) {
        rc = records_delete(&images, id, err);

        /*
         * A VM may have come meanwhile: vm_create() reserves first and looks
         * for the image then, so one of the two sees the other.
         */
        n = rc == 0 ? table_count_image(id) : 0;

        if (n != 0) {
            (void) records_add(&images, record, NULL, &why);
        }
    }

    if (n != 0) {
        return hatch_err_set(err, HATCH_ERR_CONFLICT, "cannot delete image "
                             "%s: %u VM%s it", id, n,
                             n == 1 ? " uses" : "s use");
    }

    if (rc == 0) {
        image_base_forget(config, id);
    }

    return rc;
}
