/* /templates: the handlers. */

#define _GNU_SOURCE

#include "api_vm.h"
#include "core/cleanup.h"
#include "store/image.h"
#include "store/template.h"

#include <stdio.h>
#include <string.h>


#define TEMPLATE_NAME_MAX         128
#define TEMPLATE_DESCRIPTION_MAX  1024


static const hatch_json_field_t  template_add_fields[] = {
    { "name", HATCH_JSON_STRING, HATCH_JSON_REQUIRED, 1, TEMPLATE_NAME_MAX },
    { "description", HATCH_JSON_STRING, 0, 0, TEMPLATE_DESCRIPTION_MAX },
    API_VM_FIELDS(HATCH_JSON_OPTIONAL),
    { NULL, HATCH_JSON_BOOLEAN, 0, 0, 0 }
};


static const hatch_json_field_t  template_patch_fields[] = {
    { "name", HATCH_JSON_STRING, 0, 1, TEMPLATE_NAME_MAX },
    { "description", HATCH_JSON_STRING, HATCH_JSON_NULLABLE, 0,
      TEMPLATE_DESCRIPTION_MAX },
    API_VM_FIELDS(HATCH_JSON_NULLABLE),
    { NULL, HATCH_JSON_BOOLEAN, 0, 0, 0 }
};


/* A record as the API shows it; user_data may have secrets, so no list. */
static json_object *
template_json(json_object *record, int all)
{
    json_object  *object = json_object_new_object();

    json_object_object_foreach(record, name, value) {
        if (strcmp(name, "created") != 0 && strcmp(name, "updated") != 0
            && (all || strcmp(name, "user_data") != 0))
        {
            (void) json_object_object_add(object, name,
                                          json_object_get(value));
        }
    }

    (void) json_object_object_add(object, "created_at", api_time(
                       (uint64_t) hatch_json_integer(record, "created", 0)));
    (void) json_object_object_add(object, "updated_at", api_time(
                       (uint64_t) hatch_json_integer(record, "updated", 0)));

    return object;
}


static int
template_check(const api_request_t *request, const hatch_json_field_t *fields,
    hatch_err_t *err)
{
    int                        rc;
    const char                *image;
    vm_memory_t                ignored;
    cleanup_json json_object  *found = NULL;

    rc = hatch_json_check(request->body, fields, err);

    if (rc == 0) {
        rc = api_check_text(request->body, "name", err);
    }

    if (rc == 0) {
        rc = api_check_boot_args(request->body, err);
    }

    if (rc == 0) {
        rc = api_parse_memory(request->body, &ignored, err);
    }

    image = rc == 0 ? hatch_json_string(request->body, "image_id", NULL)
                    : NULL;

    if (image != NULL) {
        found = image_get(request->config, image);

        if (found == NULL) {
            rc = hatch_err_set(err, HATCH_ERR_INVALID,
                               "\"image_id\": no image \"%.40s\"", image);
        }
    }

    return rc;
}


static void
template_handle_add(const api_request_t *request, api_response_t *response)
{
    hatch_err_t                err;
    cleanup_json json_object  *record = NULL;

    if (template_check(request, template_add_fields, &err) != 0
        || template_add(request->body, &record, &err) != 0)
    {
        api_fail(response, &err, "template_not_found");
        return;
    }

    (void) snprintf(response->location, sizeof(response->location),
                    "/templates/%s", hatch_json_string(record, "id", ""));
    response->status = 201;
    response->body = template_json(record, 1);
}


static void
template_handle_list(const api_request_t *request, api_response_t *response)
{
    size_t                     i, n;
    cleanup_json json_object  *list = template_list();

    (void) request;

    response->status = 200;
    response->body = json_object_new_array();

    for (i = 0, n = json_object_array_length(list); i < n; i++) {
        (void) json_object_array_add(response->body, template_json(
                                    json_object_array_get_idx(list, i), 0));
    }
}


static void
template_handle_get(const api_request_t *request, api_response_t *response)
{
    hatch_err_t                err;
    cleanup_json json_object  *record = template_get(request->id);

    if (record == NULL) {
        (void) hatch_err_set(&err, HATCH_ERR_NOT_FOUND, "no template \"%s\"",
                             request->id);
        api_fail(response, &err, "template_not_found");
        return;
    }

    response->status = 200;
    response->body = template_json(record, 1);
}


static void
template_handle_patch(const api_request_t *request, api_response_t *response)
{
    hatch_err_t                err;
    cleanup_json json_object  *record = NULL;

    if (template_check(request, template_patch_fields, &err) != 0
        || template_change(request->id, request->body, &record, &err) != 0)
    {
        api_fail(response, &err, "template_not_found");
        return;
    }

    response->status = 200;
    response->body = template_json(record, 1);
}


static void
template_handle_delete(const api_request_t *request,
    api_response_t *response)
{
    hatch_err_t  err;

    if (template_delete(request->id, &err) != 0) {
        api_fail(response, &err, "template_not_found");
        return;
    }

    api_deleted(response);
}


const api_endpoint_t  api_template_endpoints[] = {
    { "GET", "/templates", API_DIRECT, API_BODY_NONE,
      template_handle_list, NULL },
    { "POST", "/templates", API_WORK, API_BODY_REQUIRED,
      template_handle_add, NULL },
    { "GET", "/templates/{id}", API_DIRECT, API_BODY_NONE,
      template_handle_get, NULL },
    { "PATCH", "/templates/{id}", API_WORK, API_BODY_REQUIRED,
      template_handle_patch, NULL },
    { "DELETE", "/templates/{id}", API_WORK, API_BODY_NONE,
      template_handle_delete, NULL },
    { NULL, NULL, API_DIRECT, API_BODY_NONE, NULL, NULL }
};
