/* What the endpoints of VMs, snapshots and templates share. */

#ifndef HATCH_AGENT_API_VM_H_INCLUDED
#define HATCH_AGENT_API_VM_H_INCLUDED

#include <json-c/json.h>

#include "api.h"
#include "hatch_json.h"
#include "store/seed.h"
#include "store/user_data.h"
#include "table/table.h"
#include "vm/vm.h"


/*
 * The fields that POST /vms and templates have in common, as rows of a
 * hatch_json_field_t table; `how` is HATCH_JSON_OPTIONAL or NULLABLE.
 */
#define API_VM_FIELDS(how)                                                    \
    { "image_id", HATCH_JSON_STRING, how, 1, HATCH_ID_SIZE - 1 },             \
    { "vcpu_count", HATCH_JSON_INTEGER, how, 1, 32 },                         \
    { "mem_mib", HATCH_JSON_INTEGER, how, 128, 65536 },                       \
    { "disk_mib", HATCH_JSON_INTEGER, how, 1, CONFIG_DISK_MAX },              \
    { "boot_args", HATCH_JSON_STRING, how, 0, VM_BOOT_ARGS_MAX - 1 },         \
    { "enable_network", HATCH_JSON_BOOLEAN, how, 0, 0 },                      \
    { "idle_timeout", HATCH_JSON_SECONDS, how, CONFIG_DURATION_MIN,           \
      CONFIG_DURATION_MAX },                                                  \
    { "save_after", HATCH_JSON_SECONDS, how, CONFIG_DURATION_MIN,             \
      CONFIG_DURATION_MAX },                                                  \
    { "memory", HATCH_JSON_STRING, how, 1, 32 },                              \
    { "park_after", HATCH_JSON_SECONDS, how, CONFIG_DURATION_MIN,             \
      CONFIG_DURATION_MAX },                                                  \
    { USER_DATA, HATCH_JSON_STRING, how, 1, SEED_DATA_MAX },                  \
    { USER_DATA_FORMAT, HATCH_JSON_STRING, how, 1, USER_DATA_FORMAT_MAX }


/* A VM as the API shows it: a new value. */
json_object *api_vm_json(const vm_t *vm);

/* Fills response with a VM. */
void api_vm_answer(api_response_t *response, unsigned status,
    const vm_t *vm);

/*
 * Reads POST /vms, its template applied, into create, which then points into
 * fields (the caller's to put) and mac.
 */
int api_vm_parse_create(const config_t *config, json_object *body,
    json_object **fields, vm_request_t *create, char mac[VM_MAC_SIZE],
    hatch_err_t *err);

/* Reads PATCH /vms/{id}. */
int api_vm_parse_patch(json_object *body, vm_patch_t *patch,
    hatch_err_t *err);

/* Printable ASCII: it goes into XML and to the kernel. */
int api_check_boot_args(json_object *body, hatch_err_t *err);

/* "memory", if it is there; else it stays what it is. */
int api_parse_memory(json_object *body, vm_memory_t *memory,
    hatch_err_t *err);

/* A field of text for people: no control characters. */
int api_check_text(json_object *body, const char *field, hatch_err_t *err);

#endif /* HATCH_AGENT_API_VM_H_INCLUDED */
