/* /images: the handlers. */

#define _GNU_SOURCE

#include "api_vm.h"
#include "core/cleanup.h"
#include "store/image.h"

#include <stdio.h>


static const hatch_json_field_t  image_fields[] = {
    { "id", HATCH_JSON_STRING, 0, 1, HATCH_ID_SIZE - 1 },
    { "name", HATCH_JSON_STRING, 0, 1, 128 },
    { "kernel_path", HATCH_JSON_STRING, 0, 1, CONFIG_TEXT - 1 },
    { "initrd_path", HATCH_JSON_STRING, 0, 1, CONFIG_TEXT - 1 },
    { "rootfs_path", HATCH_JSON_STRING, 0, 1, CONFIG_TEXT - 1 },
    { "boot_args", HATCH_JSON_STRING, 0, 0, VM_BOOT_ARGS_MAX - 1 },
    { NULL, HATCH_JSON_BOOLEAN, 0, 0, 0 }
};


/* A record as the API shows it: a new value. */
static json_object *
image_json(json_object *record)
{
    size_t        i;
    json_object  *object = json_object_new_object(), *value;

    static const char *const  fields[] = {
        "id", "name", "kernel_path", "initrd_path", "rootfs_path", "format",
        "disk_mib", "boot_args"
    };

    for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (json_object_object_get_ex(record, fields[i], &value)) {
            (void) json_object_object_add(object, fields[i],
                                          json_object_get(value));
        }
    }

    /* that of the configuration was not created by anybody */
    if (json_object_object_get_ex(record, "created", NULL)) {
        (void) json_object_object_add(object, "created_at", api_time(
                       (uint64_t) hatch_json_integer(record, "created", 0)));
    }

    return object;
}


static void
image_handle_add(const api_request_t *request, api_response_t *response)
{
    hatch_err_t                err;
    cleanup_json json_object  *record = NULL;

    if (hatch_json_check(request->body, image_fields, &err) != 0
        || api_check_text(request->body, "name", &err) != 0
        || api_check_boot_args(request->body, &err) != 0
        || image_add(request->config, request->body, &record, &err) != 0)
    {
        api_fail(response, &err, "image_not_found");
        return;
    }

    (void) snprintf(response->location, sizeof(response->location),
                    "/images/%s", hatch_json_string(record, "id", ""));
    response->status = 201;
    response->body = image_json(record);
}


static void
image_handle_list(const api_request_t *request, api_response_t *response)
{
    size_t                     i, n;
    cleanup_json json_object  *list = image_list(request->config);

    response->status = 200;
    response->body = json_object_new_array();

    for (i = 0, n = json_object_array_length(list); i < n; i++) {
        (void) json_object_array_add(response->body, image_json(
                                       json_object_array_get_idx(list, i)));
    }
}


static void
image_handle_get(const api_request_t *request, api_response_t *response)
{
    hatch_err_t                err;
    cleanup_json json_object  *record = image_get(request->config,
                                                  request->id);

    if (record == NULL) {
        (void) hatch_err_set(&err, HATCH_ERR_NOT_FOUND, "no image \"%s\"",
                             request->id);
        api_fail(response, &err, "image_not_found");
        return;
    }

    response->status = 200;
    response->body = image_json(record);
}


static void
image_handle_delete(const api_request_t *request, api_response_t *response)
{
    hatch_err_t  err;

    if (image_delete(request->config, request->id, &err) != 0) {
        api_fail(response, &err, "image_not_found");
        return;
    }

    api_deleted(response);
}


const api_endpoint_t  api_image_endpoints[] = {
    { "GET", "/images", API_DIRECT, API_BODY_NONE, image_handle_list, NULL },
    { "POST", "/images", API_WORK, API_BODY_REQUIRED, image_handle_add, NULL },
    { "GET", "/images/{id}", API_DIRECT, API_BODY_NONE,
      image_handle_get, NULL },
    { "DELETE", "/images/{id}", API_WORK, API_BODY_NONE,
      image_handle_delete, NULL },
    { NULL, NULL, API_DIRECT, API_BODY_NONE, NULL, NULL }
};
