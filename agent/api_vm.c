/* /vms: the handlers.  Parse, check, one operation, answer. */

#define _GNU_SOURCE

#include "api.h"
#include "cleanup.h"
#include "seed.h"
#include "table.h"
#include "vm.h"

#include "hatch_json.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>


static const hatch_json_field_t  vm_create_fields[] = {
    { "image_id", HATCH_JSON_STRING, 0, 1, HATCH_ID_SIZE - 1 },
    { "template_id", HATCH_JSON_STRING, 0, 1, HATCH_ID_SIZE - 1 },
    { "vcpu_count", HATCH_JSON_INTEGER, 0, 1, 32 },
    { "mem_mib", HATCH_JSON_INTEGER, 0, 128, 65536 },
    { "boot_args", HATCH_JSON_STRING, 0, 0, VM_BOOT_ARGS_MAX - 1 },
    { "enable_network", HATCH_JSON_BOOLEAN, 0, 0, 0 },
    { "guest_ip", HATCH_JSON_STRING, 0, 1, 64 },
    { "guest_mac", HATCH_JSON_STRING, 0, 1, 64 },
    { "user_data", HATCH_JSON_STRING, 0, 1, SEED_DATA_MAX },
    { NULL, HATCH_JSON_BOOLEAN, 0, 0, 0 }
};


static const hatch_json_field_t  vm_stop_fields[] = {
    { "force", HATCH_JSON_BOOLEAN, 0, 0, 0 },
    { NULL, HATCH_JSON_BOOLEAN, 0, 0, 0 }
};


static const hatch_json_field_t  vm_no_fields[] = {
    { NULL, HATCH_JSON_BOOLEAN, 0, 0, 0 }
};


/* ISO 8601, UTC, with milliseconds. */
static json_object *
vm_time(uint64_t ms)
{
    char       text[64];
    size_t     n;
    time_t     t = (time_t) (ms / 1000);
    struct tm  tm;

    (void) gmtime_r(&t, &tm);
    n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    (void) snprintf(text + n, sizeof(text) - n, ".%03uZ",
                    (unsigned) (ms % 1000));

    return json_object_new_string(text);
}


static json_object *
vm_json(const vm_t *vm)
{
    char          ip[INET_ADDRSTRLEN];
    json_object  *object = json_object_new_object();

#define ADD(name, value)  (void) json_object_object_add(object, name, value)

    ADD("id", json_object_new_string(vm->id));
    ADD("image_id", json_object_new_string(vm->image_id));
    ADD("state", json_object_new_string(hatch_state_name(vm->state)));
    ADD("vcpu_count", json_object_new_int64(vm->vcpu_count));
    ADD("mem_mib", json_object_new_int64(vm->mem_mib));
    ADD("boot_args", json_object_new_string(vm->boot_args));
    ADD("enable_network", json_object_new_boolean(vm->enable_network));

    if (vm->enable_network) {
        (void) inet_ntop(AF_INET, &vm->guest_ip, ip, sizeof(ip));
        ADD("guest_ip", json_object_new_string(ip));
        ADD("guest_mac", json_object_new_string(vm->guest_mac));
    }

    ADD("created_at", vm_time(vm->created));
    ADD("updated_at", vm_time(vm->updated));

#undef ADD

    return object;
}


static void
vm_answer(api_response_t *response, unsigned status, const vm_t *vm)
{
    response->status = status;
    response->body = vm_json(vm);
}


static int
vm_parse_ip(const char *text, struct in_addr *ip, hatch_err_t *err)
{
    if (text != NULL
        && (inet_pton(AF_INET, text, ip) != 1 || ip->s_addr == 0))
    {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"guest_ip\" must be an "
                             "IPv4 address, not \"%s\"", text);
    }

    return 0;
}


/* Checks a MAC and writes it in lower case to mac. */
static int
vm_parse_mac(const char *text, char *mac, hatch_err_t *err)
{
    int       i, ok;
    unsigned  first = 0;

    ok = strlen(text) == VM_MAC_SIZE - 1;

    for (i = 0; ok && i < VM_MAC_SIZE - 1; i++) {
        ok = i % 3 == 2 ? text[i] == ':' : isxdigit((unsigned char) text[i]);
        mac[i] = (char) tolower((unsigned char) text[i]);
    }

    if (ok) {
        mac[VM_MAC_SIZE - 1] = '\0';
        ok = sscanf(mac, "%2x", &first) == 1 && (first & 1) == 0
             && strcmp(mac, "00:00:00:00:00:00") != 0;
    }

    return ok ? 0 : hatch_err_set(err, HATCH_ERR_INVALID, "\"guest_mac\" must "
                                  "be a unicast address like "
                                  "52:54:00:12:34:56, not \"%s\"", text);
}


static int
vm_check_boot_args(const char *text, hatch_err_t *err)
{
    const char  *p;

    for (p = text; p != NULL && *p != '\0'; p++) {
        if (*p < 0x20 || *p > 0x7e) {
            return hatch_err_set(err, HATCH_ERR_INVALID, "\"boot_args\" must "
                                 "be printable ASCII, byte %d is not",
                                 (int) (p - text));
        }
    }

    return 0;
}


static int
vm_parse_create(json_object *body, vm_request_t *request, char *mac,
    hatch_err_t *err)
{
    int          rc;
    const char  *text;

    rc = hatch_json_check(body, vm_create_fields, err);
    if (rc != 0) {
        return rc;
    }

    text = hatch_json_string(body, "template_id", NULL);
    if (text != NULL) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"template_id\": no "
                             "template \"%s\"", text);
    }

    request->image_id = hatch_json_string(body, "image_id", NULL);
    request->boot_args = hatch_json_string(body, "boot_args", NULL);
    request->user_data = hatch_json_string(body, "user_data", NULL);
    request->vcpu_count = (unsigned) hatch_json_integer(body, "vcpu_count", 0);
    request->mem_mib = (unsigned) hatch_json_integer(body, "mem_mib", 0);
    request->enable_network = hatch_json_boolean(body, "enable_network", 1);

    rc = vm_check_boot_args(request->boot_args, err);

    if (rc == 0) {
        rc = vm_parse_ip(hatch_json_string(body, "guest_ip", NULL),
                         &request->guest_ip, err);
    }

    text = hatch_json_string(body, "guest_mac", NULL);

    if (rc == 0 && text != NULL) {
        rc = vm_parse_mac(text, mac, err);
        request->guest_mac = mac;
    }

    if (rc == 0 && !request->enable_network
        && (text != NULL || request->guest_ip.s_addr != 0))
    {
        rc = hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" needs "
                           "\"enable_network\"",
                           text != NULL ? "guest_mac" : "guest_ip");
    }

    return rc;
}


static void
vm_handle_create(const api_request_t *request, api_response_t *response)
{
    char          mac[VM_MAC_SIZE];
    vm_t          vm;
    hatch_err_t   err;
    vm_request_t  create;

    memset(&create, 0, sizeof(create));

    if (vm_parse_create(request->body, &create, mac, &err) != 0
        || vm_create(request->config, &create, &vm, &err) != 0)
    {
        api_fail(response, &err);
        return;
    }

    (void) snprintf(response->location, sizeof(response->location),
                    "/vms/%s", vm.id);
    vm_answer(response, 201, &vm);
}


static void
vm_handle_list(const api_request_t *request, api_response_t *response)
{
    size_t               i, n;
    cleanup_free vm_t   *vms = NULL;

    (void) request;

    if (table_list(&vms, &n) != 0) {
        api_error(response, 500, "internal_error", "out of memory");
        return;
    }

    response->status = 200;
    response->body = json_object_new_array();

    for (i = 0; i < n; i++) {
        (void) json_object_array_add(response->body, vm_json(&vms[i]));
    }
}


static void
vm_handle_get(const api_request_t *request, api_response_t *response)
{
    vm_t         vm;
    hatch_err_t  err;

    if (table_get(request->id, &vm) != 0) {
        (void) hatch_err_set(&err, HATCH_ERR_NOT_FOUND, "no VM \"%s\"",
                             request->id);
        api_fail(response, &err);
        return;
    }

    vm_answer(response, 200, &vm);
}


static void
vm_handle_delete(const api_request_t *request, api_response_t *response)
{
    hatch_err_t  err;

    if (vm_delete(request->config, request->id, &err) != 0) {
        api_fail(response, &err);
        return;
    }

    response->status = 200;
    response->body = json_object_new_object();
    (void) json_object_object_add(response->body, "status",
                                  json_object_new_string("deleted"));
}


static void
vm_handle_start(const api_request_t *request, api_response_t *response)
{
    vm_t         vm;
    hatch_err_t  err;

    if ((request->body != NULL
         && hatch_json_check(request->body, vm_no_fields, &err) != 0)
        || vm_start(request->config, request->id, &vm, &err) != 0)
    {
        api_fail(response, &err);
        return;
    }

    vm_answer(response, 200, &vm);
}


static void
vm_handle_stop(const api_request_t *request, api_response_t *response)
{
    int          force = 0;
    vm_t         vm;
    hatch_err_t  err;

    if (request->body != NULL) {
        if (hatch_json_check(request->body, vm_stop_fields, &err) != 0) {
            api_fail(response, &err);
            return;
        }

        force = hatch_json_boolean(request->body, "force", 0);
    }

    if (vm_stop(request->config, request->id, force, &vm, &err) != 0) {
        api_fail(response, &err);
        return;
    }

    vm_answer(response, 200, &vm);
}


const api_endpoint_t  api_vm_endpoints[] = {
    { "GET", "/vms", API_BODY_NONE, vm_handle_list },
    { "POST", "/vms", API_BODY_REQUIRED, vm_handle_create },
    { "GET", "/vms/{id}", API_BODY_NONE, vm_handle_get },
    { "DELETE", "/vms/{id}", API_BODY_NONE, vm_handle_delete },
    { "POST", "/vms/{id}/start", API_BODY_OPTIONAL, vm_handle_start },
    { "POST", "/vms/{id}/stop", API_BODY_OPTIONAL, vm_handle_stop },
    { NULL, NULL, API_BODY_NONE, NULL }
};
