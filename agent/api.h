/*
 * The REST API: between the HTTP server (http.c) and the resources
 * (api_*.c).  A resource knows JSON and operations, no sockets.
 */

#ifndef HATCH_AGENT_API_H_INCLUDED
#define HATCH_AGENT_API_H_INCLUDED

#include <json-c/json.h>

#include "config.h"
#include "hatch_err.h"


#define API_BODY_MAX  (1024 * 1024)


typedef struct {
    const config_t  *config;
    const char      *id;            /* of the path's {id}, or NULL */
    json_object     *body;          /* parsed; NULL if there was none */
} api_request_t;


typedef struct {
    unsigned         status;
    json_object     *body;          /* owned by the response */
    char             location[64];  /* "" for none */
    char             allow[64];     /* of a 405 */
} api_response_t;


typedef void (*api_handler_t)(const api_request_t *request,
    api_response_t *response);


typedef enum {
    API_BODY_NONE = 0,              /* ignored */
    API_BODY_OPTIONAL,
    API_BODY_REQUIRED
} api_body_t;


/* One endpoint.  A table of them ends with path NULL. */
typedef struct {
    const char     *method;
    const char     *path;           /* {id} stands for one segment */
    api_body_t      body;
    api_handler_t   handler;
} api_endpoint_t;


extern const api_endpoint_t  api_vm_endpoints[];


/*
 * Finds the endpoint of a request and runs it; text is its body.  Always
 * fills response.  Any thread.
 */
void api_handle(const config_t *config, const char *method, const char *path,
    const char *text, size_t len, api_response_t *response);

/* Fills response with an error. */
void api_error(api_response_t *response, unsigned status, const char *code,
    const char *text);

/* The same, status and code following from err->code. */
void api_fail(api_response_t *response, const hatch_err_t *err);

#endif /* HATCH_AGENT_API_H_INCLUDED */
