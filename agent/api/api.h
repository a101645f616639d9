/*
 * The REST API: between the HTTP server (http.c) and the resources
 * (api_*.c).  A resource knows JSON and operations, no sockets.
 */

#ifndef HATCH_AGENT_API_H_INCLUDED
#define HATCH_AGENT_API_H_INCLUDED

#include <json-c/json.h>
#include <stdint.h>

#include "core/config.h"
#include "hatch_err.h"
#include "hatch_id.h"


#define API_BODY_MAX  (1024 * 1024)
#define API_ID_SIZE   128

/* The text of a 413. */
#define API_TOO_LARGE  "the body is larger than 1048576 bytes"


typedef struct {
    const config_t  *config;
    char             id[API_ID_SIZE];   /* the path's {id}; "": it has none */
    char             new_id[HATCH_ID_SIZE];     /* of the VM that it makes,
                                                   or "" */
    json_object     *body;          /* parsed; NULL if there was none */
    json_object     *query;         /* name to value, both text */
} api_request_t;


typedef struct {
    unsigned         status;
    json_object     *body;          /* owned by the response */
    char             location[64];  /* "" for none */
    char             link[320];     /* the next page, "" for none */
    char             allow[64];     /* of a 405 */
} api_response_t;


typedef void (*api_handler_t)(const api_request_t *request,
    api_response_t *response);


typedef enum {
    API_BODY_NONE = 0,              /* ignored */
    API_BODY_OPTIONAL,
    API_BODY_REQUIRED
} api_body_t;


/* Where a handler runs. */
typedef enum {
    API_DIRECT = 0,     /* at once: it reads the agent's own memory */
    API_WORK            /* as work (work.h): it may wait for libvirt or disk */
} api_where_t;


/* One endpoint.  A table of them ends with path NULL. */
typedef struct {
    const char     *method;
    const char     *path;           /* {id} stands for one segment */
    api_where_t     where;
    api_body_t      body;
    api_handler_t   handler;
    const char *const  *arguments;  /* of its query, ended by NULL; or NULL */
} api_endpoint_t;


extern const api_endpoint_t  api_vm_endpoints[];
extern const api_endpoint_t  api_vm_action_endpoints[];
extern const api_endpoint_t  api_snapshot_endpoints[];
extern const api_endpoint_t  api_image_endpoints[];
extern const api_endpoint_t  api_template_endpoints[];
extern const api_endpoint_t  api_orphan_endpoints[];


/* What a request's first line and headers ask for. */
typedef struct {
    const api_endpoint_t  *endpoint;
    char                   id[API_ID_SIZE];     /* see api_request_t */
    json_object           *query;               /* owned by it */
} api_head_t;


/*
 * Reads the head of a request: its method, its target (lib/hatch_uri.h, which
 * changes it), the length of its body (0: not known) and whether it has an
 * If-Match that names a tag, which nothing here has.  Returns 0; or -1 with
 * response filled, then nothing may be done of what the request wants.
 */
int api_head(api_head_t *head, const char *method, char *target,
    unsigned long long length, int tagged, api_response_t *response);

/*
 * Does what the head asks for; text is the request's body.  Takes head->query
 * over.  Always fills response.  Any thread.
 */
void api_handle(const config_t *config, api_head_t *head, const char *text,
    size_t len, api_response_t *response);

/*
 * An error that does not name the thing that the head asks for gets its kind
 * and id in front: whoever reads it among many sees whose it is.
 */
void api_name(const api_head_t *head, api_response_t *response);

/* Fills response with an error. */
void api_error(api_response_t *response, unsigned status, const char *code,
    const char *text);

/*
 * The same, status and code following from err->code; not_found is the code
 * for HATCH_ERR_NOT_FOUND, as in "vm_not_found".
 */
void api_fail(api_response_t *response, const hatch_err_t *err,
    const char *not_found);

/* Fills response with 200 and {"status":"deleted"}. */
void api_deleted(api_response_t *response);

/* ISO 8601, UTC, with milliseconds: a new value. */
json_object *api_time(uint64_t ms);

#endif /* HATCH_AGENT_API_H_INCLUDED */
