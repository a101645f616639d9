#define _GNU_SOURCE

#include "api.h"
#include "core/work.h"
#include "table/table_sleep.h"

#include "hatch_json.h"
#include "hatch_uri.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>


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
api_fail(api_response_t *response, const hatch_err_t *err,
    const char *not_found)
{
    size_t  i;

    static const struct {
        int          err;
        unsigned     status;
        const char  *code;
    } map[] = {
        { HATCH_ERR_INVALID, 400, "invalid_field" },
        { HATCH_ERR_LIMIT, 403, "limit_reached" },
        { HATCH_ERR_CONFLICT, 409, "conflict" },
        { HATCH_ERR_EXISTS, 409, "conflict" },
        { HATCH_ERR_BUSY, 503, "busy" },
        { HATCH_ERR_MEMORY, 503, "insufficient_memory" },
        { HATCH_ERR_KEPT, 503, "restore_failed" },
        { HATCH_ERR_BRIDGE, 503, "bridge_full" },
        { HATCH_ERR_HOST, 503, "host_trouble" },
        { HATCH_ERR_ABSENT, 503, "host_trouble" },
        { HATCH_ERR_DENIED, 503, "host_trouble" },
        { HATCH_ERR_UNAVAILABLE, 503, "libvirt_unavailable" },
        { HATCH_ERR_TIMEOUT, 504, "timeout" },
        { HATCH_ERR_FULL, 507, "full" },
        { HATCH_ERR_TRUNCATED, 500, "damaged" },
        { HATCH_ERR_LIBVIRT, 500, "libvirt_error" }
    };

    if (err->code == HATCH_ERR_NOT_FOUND) {
        api_error(response, 404, not_found, err->text);
        return;
    }

    for (i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
        if (map[i].err == (int) err->code) {
            api_error(response, map[i].status, map[i].code, err->text);
            return;
        }
    }

    api_error(response, 500, "internal_error", err->text);
}


/* What the {id} of a path is the id of. */
static const char *
api_kind(const char *path)
{
    size_t  i;

    static const char *const  kinds[][2] = {
        { "/vms/", "VM" }, { "/images/", "image" },
        { "/templates/", "template" }, { "/snapshots/", "snapshot" },
        { "/orphans/", "orphan" }
    };

    for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strncmp(path, kinds[i][0], strlen(kinds[i][0])) == 0) {
            return kinds[i][1];
        }
    }

    return "";
}


void
api_name(const api_head_t *head, api_response_t *response)
{
    char          name[41], text[sizeof(((hatch_err_t *) 0)->text) + 64];
    const char   *error;
    json_object  *value;

    if (response->status < 400 || head->endpoint == NULL
        || head->id[0] == '\0'
        || !json_object_object_get_ex(response->body, "error", &value))
    {
        return;
    }

    (void) snprintf(name, sizeof(name), "%.40s", head->id);
    hatch_err_utf8(name);
    error = json_object_get_string(value);

    if (strstr(error, name) == NULL) {
        (void) snprintf(text, sizeof(text), "%s \"%s\": %s",
                        api_kind(head->endpoint->path), name, error);
        (void) json_object_object_add(response->body, "error",
                                      json_object_new_string(text));
    }
}


/*
 * Does the path fit the endpoint's?  Copies the segment that {id} stands for;
 * of an overlong one, which is nobody's, the beginning.
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

        if (len == 0) {
            return 0;
        }

        (void) snprintf(id, size, "%.*s", (int) len, path);
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


void
api_deleted(api_response_t *response)
{
    response->status = 200;
    response->body = json_object_new_object();
    (void) json_object_object_add(response->body, "status",
                                  json_object_new_string("deleted"));
}


json_object *
api_time(uint64_t ms)
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


/* --- one request --- */

typedef struct {
    const api_endpoint_t  *endpoint;
    api_request_t          request;
    api_response_t         response;
} api_job_t;


static void
api_job_run(void *arg)
{
    api_job_t  *job = arg;

    job->endpoint->handler(&job->request, &job->response);
}


/* Its answer, if nobody took it, goes too. */
static void
api_job_release(void *arg)
{
    api_job_t  *job = arg;

    json_object_put(job->request.body);
    json_object_put(job->request.query);
    json_object_put(job->response.body);
    free(job);
}


static void
api_job(api_job_t *job, api_response_t *response)
{
    char         new_id[HATCH_ID_SIZE];
    const char  *path = job->endpoint->path;
    hatch_err_t  err;

    /* the job is not ours any more when it is late */
    memcpy(new_id, job->request.new_id, sizeof(new_id));

    /* whoever changes a VM uses it; whoever looks at it does not */
    if (strcmp(job->endpoint->method, "GET") != 0) {
        table_use(job->request.id);
    }

    if (job->endpoint->where == API_DIRECT) {
        api_job_run(job);

    } else if (work_run(api_job_run, api_job_release, job, &err) != 0) {
        api_fail(response, &err, "not_found");

        if (response->status == 504 && new_id[0] != '\0') {
            (void) snprintf(response->location, sizeof(response->location),
                            "%s/%s", path, new_id);
        }

        return;
    }

    *response = job->response;
    job->response.body = NULL;
    api_job_release(job);
}


/*
 * Before the first comparison with libvirt nobody knows which VMs there are:
 * "none" would be wrong, and a new one might take another's address.
 */
static int
api_knows_vms(const api_endpoint_t *endpoint, api_response_t *response)
{
    if (strncmp(endpoint->path, "/templates", 10) == 0
        || strncmp(endpoint->path, "/images", 7) == 0
        || table_is_complete())
    {
        return 1;
    }

    api_error(response, 503, "libvirt_unavailable", "the VMs are not known "
              "yet: libvirt has not answered since the agent started");

    return 0;
}


/* The endpoint of method and path, or NULL; then allow has the others. */
static const api_endpoint_t *
api_find(const char *method, const char *path, char id[API_ID_SIZE],
    char *allow, size_t size)
{
    size_t                 i, used;
    const api_endpoint_t  *e;

    static const api_endpoint_t *const  tables[] = {
        api_vm_endpoints, api_vm_action_endpoints, api_snapshot_endpoints,
        api_image_endpoints, api_template_endpoints, api_orphan_endpoints
    };

    for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        for (e = tables[i]; e->path != NULL; e++) {
            id[0] = '\0';

            if (!api_match(e->path, path, id, API_ID_SIZE)) {
                continue;
            }

            if (strcmp(e->method, method) == 0) {
                return e;
            }

            used = strlen(allow);
            (void) snprintf(allow + used, size - used, "%s%s%s",
                            used != 0 ? ", " : "", e->method,
                            strcmp(e->method, "GET") == 0 ? ", HEAD" : "");
        }
    }

    return NULL;
}


/* No endpoint has this method and path; allow has the methods that may be. */
static void
api_refuse(const char *method, const char *path, const char *allow,
    api_response_t *response)
{
    hatch_err_t  err;

    if (allow[0] != '\0') {
        (void) hatch_err_set(&err, HATCH_OK, "method \"%.20s\" is not allowed "
                             "for \"%.80s\", use %s", method, path, allow);
        (void) snprintf(response->allow, sizeof(response->allow), "%s", allow);
        api_error(response, 405, "method_not_allowed", err.text);
        return;
    }

    (void) hatch_err_set(&err, HATCH_OK, "no such endpoint: \"%.100s\"", path);
    api_error(response, 404, "not_found", err.text);
}


/* The rest of a head, whose endpoint is known.  As api_head(). */
static int
api_head_check(api_head_t *head, const char *query, unsigned long long length,
    int tagged, api_response_t *response)
{
    hatch_err_t  err;

    if (hatch_uri_query(query, strlen(query), head->endpoint->arguments,
                        &head->query, &err)
        != 0)
    {
        if (err.code == HATCH_ERR_INVALID) {
            api_error(response, 400, "invalid_argument", err.text);
        } else {
            api_fail(response, &err, "not_found");
        }

        return -1;
    }

    if (length > API_BODY_MAX) {
        (void) hatch_err_set(&err, HATCH_OK, API_TOO_LARGE ", it has %llu",
                             length);
        api_error(response, 413, "payload_too_large", err.text);
        return -1;
    }

    if (tagged) {
        api_error(response, 412, "precondition_failed", "\"If-Match\" must be "
                  "\"*\": nothing here has an entity tag");
        return -1;
    }

    return 0;
}


int
api_head(api_head_t *head, const char *method, char *target,
    unsigned long long length, int tagged, api_response_t *response)
{
    char        *path, allow[sizeof(response->allow)] = "";
    const char  *query;
    hatch_err_t  err;

    if (hatch_uri_split(target, &path, &query, &err) != 0) {
        api_error(response, 400, "invalid_path", err.text);
        return -1;
    }

    head->endpoint = api_find(strcmp(method, "HEAD") == 0 ? "GET" : method,
                              path, head->id, allow, sizeof(allow));

    if (head->endpoint == NULL) {
        api_refuse(method, path, allow, response);
        return -1;
    }

    return api_head_check(head, query, length, tagged, response);
}


void
api_handle(const config_t *config, api_head_t *head, const char *text,
    size_t len, api_response_t *response)
{
    api_job_t  *job = calloc(1, sizeof(*job));

    if (job == NULL) {
        api_error(response, 500, "internal_error", "out of memory");
        return;
    }

    job->endpoint = head->endpoint;
    job->request.config = config;
    job->request.query = head->query;
    memcpy(job->request.id, head->id, sizeof(job->request.id));
    head->query = NULL;

    /* before it is begun: who hears that it is late hears where it will be */
    if (strcmp(job->endpoint->method, "POST") == 0
        && strcmp(job->endpoint->path, "/vms") == 0
        && hatch_id_make(HATCH_ID_VM, job->request.new_id) != 0)
    {
        api_error(response, 500, "internal_error", "no random numbers");
        api_job_release(job);
        return;
    }

    if (!api_knows_vms(job->endpoint, response)
        || api_parse(job->endpoint, text, len, &job->request.body, response)
           != 0)
    {
        api_job_release(job);
        return;
    }

    api_job(job, response);
}
