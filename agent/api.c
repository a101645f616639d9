#define _GNU_SOURCE

#include "api.h"
#include "cleanup.h"

#include "hatch_json.h"

#include <stdio.h>
#include <string.h>


void
api_error(api_response_t *response, unsigned status, const char *code,
    const char *text)
{
    json_object  *body = json_object_new_object();

    (void) json_object_object_add(body, "error", json_object_new_string(text));
    (void) json_object_object_add(body, "code", json_object_new_string(code));

    json_object_put(response->body);
    response->status = status;
    response->body = body;
}


void
api_fail(api_response_t *response, const hatch_err_t *err)
{
    size_t  i;

    static const struct {
        int          err;
        unsigned     status;
        const char  *code;
    } map[] = {
        { HATCH_ERR_INVALID, 400, "invalid_field" },
        { HATCH_ERR_NOT_FOUND, 404, "vm_not_found" },
        { HATCH_ERR_CONFLICT, 409, "conflict" },
        { HATCH_ERR_EXISTS, 409, "conflict" },
        { HATCH_ERR_BUSY, 503, "busy" },
        { HATCH_ERR_UNAVAILABLE, 503, "libvirt_unavailable" },
        { HATCH_ERR_TIMEOUT, 504, "timeout" },
        { HATCH_ERR_FULL, 507, "full" },
        { HATCH_ERR_LIBVIRT, 500, "libvirt_error" }
    };

    for (i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
        if (map[i].err == (int) err->code) {
            api_error(response, map[i].status, map[i].code, err->text);
            return;
        }
    }

    api_error(response, 500, "internal_error", err->text);
}


/*
 * Does the path fit the endpoint's?  Copies the segment that {id} stands for;
 * an empty or overlong one fits and becomes "".
 */
static int
api_match(const char *pattern, const char *path, char *id, size_t size)
{
    size_t  len;

    while (*pattern != '\0') {
        if (*pattern != '{') {
            if (*pattern++ != *path++) {
                return 0;
            }
            continue;
        }

        len = strcspn(path, "/");
        (void) snprintf(id, size, "%.*s", len < size ? (int) len : 0, path);
        path += len;
        pattern = strchr(pattern, '}') + 1;
    }

    return *path == '\0';
}


/* 0, or the response is an error. */
static int
api_parse(const api_endpoint_t *endpoint, const char *text, size_t len,
    json_object **body, api_response_t *response)
{
    hatch_err_t  err;

    if (endpoint->body == API_BODY_NONE
        || (endpoint->body == API_BODY_OPTIONAL && len == 0))
    {
        return 0;
    }

    if (hatch_json_parse(text, len, body, &err) != 0) {
        api_error(response, 400, "invalid_json", err.text);
        return -1;
    }

    return 0;
}


static void
api_run(const config_t *config, const api_endpoint_t *endpoint,
    const char *id, const char *text, size_t len, api_response_t *response)
{
    api_request_t              request = { config, id, NULL };
    cleanup_json json_object  *body = NULL;

    if (strchr(endpoint->path, '{') != NULL && id[0] == '\0') {
        api_error(response, 400, "invalid_path", "the path has an empty id");
        return;
    }

    if (api_parse(endpoint, text, len, &body, response) == 0) {
        request.body = body;
        endpoint->handler(&request, response);
    }
}


void
api_handle(const config_t *config, const char *method, const char *path,
    const char *text, size_t len, api_response_t *response)
{
    char                   id[128];
    size_t                 used;
    const char            *wanted;
    const api_endpoint_t  *endpoint;

    wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    response->allow[0] = '\0';

    for (endpoint = api_vm_endpoints; endpoint->path != NULL; endpoint++) {
        id[0] = '\0';

        if (!api_match(endpoint->path, path, id, sizeof(id))) {
            continue;
        }

        if (strcmp(endpoint->method, wanted) == 0) {
            response->allow[0] = '\0';
            api_run(config, endpoint, id, text, len, response);
            return;
        }

        used = strlen(response->allow);
        (void) snprintf(response->allow + used,
                        sizeof(response->allow) - used, "%s%s%s",
                        used != 0 ? ", " : "", endpoint->method,
                        strcmp(endpoint->method, "GET") == 0 ? ", HEAD" : "");
    }

    if (response->allow[0] != '\0') {
        api_error(response, 405, "method_not_allowed", "method not allowed");

    } else {
        api_error(response, 404, "not_found", "no such endpoint");
    }
}
