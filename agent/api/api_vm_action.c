/* /vms/{id}/ACTION and /vms/{id}/metrics: the handlers. */

#define _GNU_SOURCE

#include "api_vm.h"
#include "virt/stats.h"


static const hatch_json_field_t  vm_stop_fields[] = {
    { "force", HATCH_JSON_BOOLEAN, 0, 0, 0 },
    { "timeout", HATCH_JSON_INTEGER, 0, 0, 600 },
    { NULL, HATCH_JSON_BOOLEAN, 0, 0, 0 }
};


static const hatch_json_field_t  vm_no_fields[] = {
    { NULL, HATCH_JSON_BOOLEAN, 0, 0, 0 }
};


/* An action without fields: its body, if there is one, is {}. */
static void
vm_act(const api_request_t *request, api_response_t *response,
    int (*act)(const config_t *config, const char *id, vm_t *vm,
               hatch_err_t *err))
{
    vm_t         vm;
    hatch_err_t  err;

    if ((request->body != NULL
         && hatch_json_check(request->body, vm_no_fields, &err) != 0)
        || act(request->config, request->id, &vm, &err) != 0)
    {
        api_fail(response, &err, "vm_not_found");
        return;
    }

    api_vm_answer(response, 200, &vm);
}


static void
vm_handle_start(const api_request_t *request, api_response_t *response)
{
    vm_act(request, response, vm_start);
}


static void
vm_handle_pause(const api_request_t *request, api_response_t *response)
{
    vm_act(request, response, vm_pause);
}


static void
vm_handle_resume(const api_request_t *request, api_response_t *response)
{
    vm_act(request, response, vm_resume);
}


static void
vm_handle_stop(const api_request_t *request, api_response_t *response)
{
    int          force = 0;
    vm_t         vm;
    int64_t      timeout = request->config->stop_timeout;
    hatch_err_t  err;

    if (request->body != NULL) {
        if (hatch_json_check(request->body, vm_stop_fields, &err) != 0) {
            api_fail(response, &err, "vm_not_found");
            return;
        }

        force = hatch_json_boolean(request->body, "force", 0);
        timeout = hatch_json_integer(request->body, "timeout", timeout);
    }

    if (vm_stop(request->config, request->id, force, timeout, &vm, &err)
        != 0)
    {
        api_fail(response, &err, "vm_not_found");
        return;
    }

    api_vm_answer(response, 200, &vm);
}


static void
vm_handle_metrics(const api_request_t *request, api_response_t *response)
{
    hatch_err_t  err;

    if (stats_get(request->id, &response->body, &err) != 0) {
        api_fail(response, &err, "vm_not_found");
        return;
    }

    response->status = 200;
}


const api_endpoint_t  api_vm_action_endpoints[] = {
    { "POST", "/vms/{id}/start", API_WORK, API_BODY_OPTIONAL,
      vm_handle_start, NULL },
    { "POST", "/vms/{id}/stop", API_WORK, API_BODY_OPTIONAL,
      vm_handle_stop, NULL },
    { "POST", "/vms/{id}/pause", API_WORK, API_BODY_OPTIONAL,
      vm_handle_pause, NULL },
    { "POST", "/vms/{id}/resume", API_WORK, API_BODY_OPTIONAL,
      vm_handle_resume, NULL },
    { "GET", "/vms/{id}/metrics", API_WORK, API_BODY_NONE,
      vm_handle_metrics, NULL },
    { NULL, NULL, API_DIRECT, API_BODY_NONE, NULL, NULL }
};
