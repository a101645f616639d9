/* /vms: the handlers.  Parse, check, one operation, answer. */

#define _GNU_SOURCE

#include "api_vm.h"
#include "core/cleanup.h"
#include "vm/tidy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define VM_LIMIT_MAX  1000


json_object *
api_vm_json(const vm_t *vm)
{
    char          ip[INET_ADDRSTRLEN];
    json_object  *object = json_object_new_object();

#define ADD(name, value)  (void) json_object_object_add(object, name, value)

    ADD("id", json_object_new_string(vm->id));
    ADD("name", json_object_new_string(vm->name));
    ADD("image_id", json_object_new_string(vm->image_id));

    if (vm->template_id[0] != '\0') {
        ADD("template_id", json_object_new_string(vm->template_id));
    }

    ADD("state", json_object_new_string(hatch_state_name(vm->state)));
    ADD("vcpu_count", json_object_new_int64(vm->vcpu_count));
    ADD("mem_mib", json_object_new_int64(vm->mem_mib));
    ADD("disk_mib", json_object_new_int64(vm->disk_mib));
    ADD("boot_args", json_object_new_string(vm->boot_args));
    ADD("enable_network", json_object_new_boolean(vm->enable_network));

    if (vm->enable_network) {
        (void) inet_ntop(AF_INET, &vm->guest_ip, ip, sizeof(ip));
        ADD("guest_ip", json_object_new_string(ip));
        ADD("guest_mac", json_object_new_string(vm->guest_mac));
    }

    ADD("idle_timeout", hatch_json_new_seconds(vm->idle_timeout));
    ADD("save_after", hatch_json_new_seconds(vm->save_after));
    ADD("park_after", hatch_json_new_seconds(vm->park_after));
    ADD("parked", json_object_new_boolean(vm->parked));
    ADD("memory", json_object_new_string(vm_memory_name(vm->memory)));
    ADD("autostart", json_object_new_boolean(vm->autostart));
    ADD("created_at", api_time(vm->created));
    ADD("updated_at", api_time(vm->updated));

#undef ADD

    return object;
}


void
api_vm_answer(api_response_t *response, unsigned status, const vm_t *vm)
{
    response->status = status;
    response->body = api_vm_json(vm);
}


static void
vm_handle_create(const api_request_t *request, api_response_t *response)
{
    char                       mac[VM_MAC_SIZE];
    vm_t                       vm;
    hatch_err_t                err;
    vm_request_t               create;
    cleanup_json json_object  *fields = NULL;

    if (api_vm_parse_create(request->config, request->body, &fields, &create,
                            mac, &err)
        != 0)
    {
        api_fail(response, &err, "vm_not_found");
        return;
    }

    memcpy(create.id, request->new_id, sizeof(create.id));

    if (vm_create(request->config, &create, &vm, &err) != 0) {
        api_fail(response, &err, "vm_not_found");
        return;
    }

    tidy_request();                     /* its name and address are noted */
    (void) snprintf(response->location, sizeof(response->location),
                    "/vms/%s", vm.id);
    api_vm_answer(response, 201, &vm);
}


/* --- the list --- */

static const char *const  vm_arguments[] = {
    "state", "name", "limit", "after", NULL
};


/* What a list is asked for. */
typedef struct {
    unsigned     states;            /* bits of hatch_state_t, 0: all */
    const char  *name;              /* NULL: all */
    size_t       limit;             /* 0: none */
    char         after[HATCH_ID_SIZE];  /* "": from the first */
    uint64_t     created;           /* of the VM `after` */
} vm_query_t;


static int
vm_query_states(const char *text, unsigned *states, hatch_err_t *err)
{
    char           name[32];
    size_t         n;
    hatch_state_t  state;

    do {
        n = strcspn(text, ",");
        (void) snprintf(name, sizeof(name), "%.*s",
                        n < sizeof(name) ? (int) n : 0, text);
        state = hatch_state_parse(name);

        if (state == HATCH_STATE_NONE) {
            return hatch_err_set(err, HATCH_ERR_INVALID, "\"state\" must be a "
                                 "state, or more with commas between them, "
                                 "not \"%.40s\"", text);
        }

        *states |= 1u << state;
        text += n;
    } while (*text++ == ',');

    return 0;
}


/*
 * Where a page begins: behind a VM, given by its id.  The links that we give
 * have ID.MS, the time of its creation, so that they work after it is gone.
 */
static int
vm_query_after(const char *text, vm_query_t *query, hatch_err_t *err)
{
    vm_t    vm;
    char   *end;
    size_t  n = strcspn(text, ".");

    if (hatch_id_valid(HATCH_ID_VM, text, n)) {
        (void) snprintf(query->after, sizeof(query->after), "%.*s", (int) n,
                        text);

        if (text[n] == '.') {
            errno = 0;
            query->created = strtoull(text + n + 1, &end, 10);

            if (errno == 0 && text[n + 1] >= '0' && text[n + 1] <= '9'
                && *end == '\0')
            {
                return 0;
            }

        } else if (table_get(query->after, &vm) == 0) {
            query->created = vm.created;
            return 0;
        }
    }

    return hatch_err_set(err, HATCH_ERR_INVALID, "\"after\" must be the id of "
                         "a VM, not \"%.60s\"", text);
}


static int
vm_query_limit(const char *text, size_t *limit, hatch_err_t *err)
{
    long  n = strtol(text, NULL, 10);

    /* digits only: strtol() takes blanks and a sign */
    if (text[strspn(text, "0123456789")] != '\0'
        || n < 1 || n > VM_LIMIT_MAX)
    {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"limit\" must be 1 to "
                             "%d, not \"%.40s\"", VM_LIMIT_MAX, text);
    }

    *limit = (size_t) n;

    return 0;
}


static int
vm_query(const api_request_t *request, vm_query_t *query, hatch_err_t *err)
{
    int          rc = 0;
    const char  *text;

    memset(query, 0, sizeof(*query));

    query->name = hatch_json_string(request->query, "name", NULL);

    text = hatch_json_string(request->query, "state", NULL);
    if (text != NULL) {
        rc = vm_query_states(text, &query->states, err);
    }

    text = hatch_json_string(request->query, "limit", NULL);
    if (rc == 0 && text != NULL) {
        rc = vm_query_limit(text, &query->limit, err);
    }

    text = hatch_json_string(request->query, "after", NULL);
    if (rc == 0 && text != NULL) {
        rc = vm_query_after(text, query, err);
    }

    return rc;
}


static int
vm_query_match(const vm_query_t *query, const vm_t *vm)
{
    if (query->after[0] != '\0'
        && (vm->created > query->created
            || (vm->created == query->created
                && strcmp(vm->id, query->after) <= 0)))
    {
        return 0;
    }

    return (query->states == 0 || (query->states & (1u << vm->state)) != 0)
           && (query->name == NULL || strcmp(query->name, vm->name) == 0);
}


/*
 * Link: the next page, with the same filter.  One by name never has a next
 * page: names are unique.
 */
static void
vm_link(const api_request_t *request, const vm_query_t *query,
    const vm_t *last, char *link, size_t size)
{
    (void) snprintf(link, size, "</vms?%s%s%slimit=%zu&after=%s.%llu>; "
                    "rel=\"next\"", query->states != 0 ? "state=" : "",
                    hatch_json_string(request->query, "state", ""),
                    query->states != 0 ? "&" : "", query->limit, last->id,
                    (unsigned long long) last->created);
}


static void
vm_handle_list(const api_request_t *request, api_response_t *response)
{
    size_t               i, n, shown = 0;
    const vm_t          *last = NULL;
    vm_query_t           query;
    hatch_err_t          err;
    cleanup_free vm_t   *vms = NULL;

    if (vm_query(request, &query, &err) != 0) {
        api_error(response, 400, "invalid_argument", err.text);
        return;
    }

    if (table_list(&vms, &n) != 0) {
        api_error(response, 500, "internal_error", "out of memory");
        return;
    }

    response->status = 200;
    response->body = json_object_new_array();

    for (i = 0; i < n; i++) {
        if (!vm_query_match(&query, &vms[i])) {
            continue;
        }

        if (query.limit != 0 && shown == query.limit) {
            vm_link(request, &query, last, response->link,
                    sizeof(response->link));
            break;
        }

        (void) json_object_array_add(response->body, api_vm_json(&vms[i]));
        last = &vms[i];
        shown++;
    }
}


/* --- one VM --- */

static void
vm_handle_get(const api_request_t *request, api_response_t *response)
{
    vm_t         vm;
    hatch_err_t  err;

    if (table_get(request->id, &vm) != 0) {
        (void) hatch_err_set(&err, HATCH_ERR_NOT_FOUND, "no VM \"%s\"",
                             request->id);
        api_fail(response, &err, "vm_not_found");
        return;
    }

    api_vm_answer(response, 200, &vm);
}


static void
vm_handle_patch(const api_request_t *request, api_response_t *response)
{
    vm_t         vm;
    vm_patch_t   patch;
    hatch_err_t  err;

    if (api_vm_parse_patch(request->body, &patch, &err) != 0
        || vm_change(request->config, request->id, &patch, &vm, &err) != 0)
    {
        api_fail(response, &err, "vm_not_found");
        return;
    }

    api_vm_answer(response, 200, &vm);
}


static void
vm_handle_delete(const api_request_t *request, api_response_t *response)
{
    hatch_err_t  err;

    if (vm_delete(request->config, request->id, &err) != 0) {
        api_fail(response, &err, "vm_not_found");
        return;
    }

    api_deleted(response);
}


const api_endpoint_t  api_vm_endpoints[] = {
    { "GET", "/vms", API_DIRECT, API_BODY_NONE, vm_handle_list, vm_arguments },
    { "POST", "/vms", API_WORK, API_BODY_REQUIRED, vm_handle_create, NULL },
    { "GET", "/vms/{id}", API_DIRECT, API_BODY_NONE, vm_handle_get, NULL },
    { "PATCH", "/vms/{id}", API_WORK, API_BODY_REQUIRED,
      vm_handle_patch, NULL },
    { "DELETE", "/vms/{id}", API_WORK, API_BODY_NONE, vm_handle_delete, NULL },
    { NULL, NULL, API_DIRECT, API_BODY_NONE, NULL, NULL }
};
