/* /vms/{id}/snapshot(s), /vms/{id}/restore, /snapshots: the handlers. */

#define _GNU_SOURCE

#include "api_vm.h"
#include "core/cleanup.h"
#include "vm/snapshot.h"

#include <stdio.h>


static const hatch_json_field_t  snapshot_take_fields[] = {
    { "name", HATCH_JSON_STRING, 0, 1, SNAPSHOT_NAME_MAX },
    { "keep_running", HATCH_JSON_BOOLEAN, 0, 0, 0 },
    { NULL, HATCH_JSON_BOOLEAN, 0, 0, 0 }
};


static const hatch_json_field_t  snapshot_restore_fields[] = {
    { "snapshot_id", HATCH_JSON_STRING, 0, 1, HATCH_ID_SIZE - 1 },
    { NULL, HATCH_JSON_BOOLEAN, 0, 0, 0 }
};


/* A record as the API shows it: a new value. */
static json_object *
snapshot_json(json_object *record)
{
    size_t        i;
    json_object  *object = json_object_new_object(), *value;

    static const char *const  fields[] = {
        "id", "vm_id", "name", "state_key", "memory_key", "disk_key",
        "vm_config", "size_bytes"
    };

    for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (json_object_object_get_ex(record, fields[i], &value)) {
            (void) json_object_object_add(object, fields[i],
                                          json_object_get(value));
        }
    }

    (void) json_object_object_add(object, "created_at", api_time(
                       (uint64_t) hatch_json_integer(record, "created", 0)));

    return object;
}


static void
snapshot_handle_take(const api_request_t *request, api_response_t *response)
{
    int                        keep_running = 0;
    const char                *name = NULL;
    hatch_err_t                err;
    cleanup_json json_object  *record = NULL;

    if (request->body != NULL) {
        if (hatch_json_check(request->body, snapshot_take_fields, &err) != 0
            || api_check_text(request->body, "name", &err) != 0)
        {
            api_fail(response, &err, "vm_not_found");
            return;
        }

        name = hatch_json_string(request->body, "name", NULL);
        keep_running = hatch_json_boolean(request->body, "keep_running", 0);
    }

    if (snapshot_take(request->config, request->id, name, keep_running,
                      &record, &err)
        != 0)
    {
        api_fail(response, &err, "vm_not_found");
        return;
    }

    (void) snprintf(response->location, sizeof(response->location),
                    "/snapshots/%s", hatch_json_string(record, "id", ""));
    response->status = 201;
    response->body = snapshot_json(record);
}


static void
snapshot_handle_restore(const api_request_t *request,
    api_response_t *response)
{
    vm_t         vm;
    const char  *id = NULL;
    hatch_err_t  err;

    if (request->body != NULL) {
        if (hatch_json_check(request->body, snapshot_restore_fields, &err)
            != 0)
        {
            api_fail(response, &err, "vm_not_found");
            return;
        }

        id = hatch_json_string(request->body, "snapshot_id", NULL);
    }

    if (snapshot_restore(request->config, request->id, id, &vm, &err) != 0) {
        api_fail(response, &err, table_has(request->id)
                                 ? "snapshot_not_found" : "vm_not_found");
        return;
    }

    api_vm_answer(response, 200, &vm);
}


static void
snapshot_handle_list(const api_request_t *request, api_response_t *response)
{
    vm_t                       vm;
    size_t                     i, n;
    hatch_err_t                err;
    cleanup_json json_object  *list = NULL;

    if (table_get(request->id, &vm) != 0) {
        (void) hatch_err_set(&err, HATCH_ERR_NOT_FOUND, "no VM \"%s\"",
                             request->id);
        api_fail(response, &err, "vm_not_found");
        return;
    }

    list = snapshot_list(request->id);
    response->status = 200;
    response->body = json_object_new_array();

    for (i = 0, n = json_object_array_length(list); i < n; i++) {
        (void) json_object_array_add(response->body, snapshot_json(
                                       json_object_array_get_idx(list, i)));
    }
}


static void
snapshot_handle_get(const api_request_t *request, api_response_t *response)
{
    hatch_err_t                err;
    cleanup_json json_object  *record = snapshot_get(request->id);

    if (record == NULL) {
        (void) hatch_err_set(&err, HATCH_ERR_NOT_FOUND, "no snapshot \"%s\"",
                             request->id);
        api_fail(response, &err, "snapshot_not_found");
        return;
    }

    response->status = 200;
    response->body = snapshot_json(record);
}


static void
snapshot_handle_delete(const api_request_t *request,
    api_response_t *response)
{
    hatch_err_t  err;

    if (snapshot_delete(request->config, request->id, &err) != 0) {
        api_fail(response, &err, "snapshot_not_found");
        return;
    }

    api_deleted(response);
}


const api_endpoint_t  api_snapshot_endpoints[] = {
    { "POST", "/vms/{id}/snapshot", API_WORK, API_BODY_OPTIONAL,
      snapshot_handle_take, NULL },
    { "POST", "/vms/{id}/restore", API_WORK, API_BODY_OPTIONAL,
      snapshot_handle_restore, NULL },
    { "GET", "/vms/{id}/snapshots", API_DIRECT, API_BODY_NONE,
      snapshot_handle_list, NULL },
    { "GET", "/snapshots/{id}", API_DIRECT, API_BODY_NONE,
      snapshot_handle_get, NULL },
    { "DELETE", "/snapshots/{id}", API_WORK, API_BODY_NONE,
      snapshot_handle_delete, NULL },
    { NULL, NULL, API_DIRECT, API_BODY_NONE, NULL, NULL }
};
