#define _GNU_SOURCE

#include "http.h"
#include "api.h"
#include "core/descriptors.h"
#include "core/listen.h"
#include "core/log.h"

#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>


#define HTTP_CONNECTIONS  1024
#define HTTP_TIMEOUT      75        /* s without a byte */
#define HTTP_STACK        (512 * 1024)
#define HTTP_REST         100       /* ms, while there is no descriptor */


/* A request, from its first line to its answer. */
typedef struct {
    char            *target;        /* as it came; api_head() changes it */
    api_head_t       head;
    api_response_t   refusal;       /* to the head: the body is read, or not,
                                       and thrown away */
    char            *text;          /* the body */
    size_t           len;
    unsigned         begun:1;       /* the head was read */
    unsigned         refused:1;
    unsigned         too_large:1;
} http_request_t;


static struct {
    const config_t     *config;
    struct MHD_Daemon  *daemon;
    listen_t            listener;
    int                 is_short;   /* of descriptors, and it was said so */
} http = { .listener = { .fd = -1 } };


static enum MHD_Result
http_send(struct MHD_Connection *connection, api_response_t *response)
{
    size_t                len;
    const char           *text;
    enum MHD_Result       rc;
    struct MHD_Response  *mhd;

    text = json_object_to_json_string_length(response->body,
                                             JSON_C_TO_STRING_PLAIN
                                             | JSON_C_TO_STRING_NOSLASHESCAPE,
                                             &len);

    if (response->status == MHD_HTTP_NO_CONTENT) {
        text = "";
        len = 0;
    }

    mhd = MHD_create_response_from_buffer(len, (void *) text,
                                          MHD_RESPMEM_MUST_COPY);
    json_object_put(response->body);

    if (mhd == NULL) {
        return MHD_NO;
    }

    if (response->status != MHD_HTTP_NO_CONTENT) {
        (void) MHD_add_response_header(mhd, "Content-Type",
                                       "application/json");
    }

    (void) MHD_add_response_header(mhd, "Cache-Control", "no-store");

    if (response->location[0] != '\0') {
        (void) MHD_add_response_header(mhd, "Location", response->location);
    }

    if (response->link[0] != '\0') {
        (void) MHD_add_response_header(mhd, "Link", response->link);
    }

    if (response->allow[0] != '\0') {
        (void) MHD_add_response_header(mhd, "Allow", response->allow);
    }

    if (response->status == 503 || response->status == 504) {
        (void) MHD_add_response_header(mhd, "Retry-After", "1");
    }

    rc = MHD_queue_response(connection, response->status, mhd);
    MHD_destroy_response(mhd);

    return rc;
}


static void
http_collect(http_request_t *request, const char *data, size_t size)
{
    char  *text;

    if (request->refused || request->too_large) {
        return;
    }

    text = size <= API_BODY_MAX - request->len
           ? realloc(request->text, request->len + size) : NULL;

    if (text == NULL) {
        request->too_large = 1;
        return;
    }

    memcpy(text + request->len, data, size);
    request->text = text;
    request->len += size;
}


/* Looks for an If-Match that names a tag. */
static enum MHD_Result
http_header(void *cls, enum MHD_ValueKind kind, const char *name,
    const char *value)
{
    int  *tagged = cls;

    (void) kind;

    if (strcasecmp(name, "If-Match") == 0
        && (value == NULL || strcmp(value, "*") != 0))
    {
        *tagged = 1;
    }

    return MHD_YES;
}


static const char *
http_header_value(struct MHD_Connection *connection, const char *name)
{
    const char  *value;

    value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);

    return value != NULL ? value : "";
}


static enum MHD_Result
http_answer(http_request_t *request, struct MHD_Connection *connection,
    const char *url, const char *method)
{
    api_response_t  response;

    memset(&response, 0, sizeof(response));

    if (request->refused) {
        response = request->refusal;
        request->refusal.body = NULL;

    } else if (request->too_large) {
        api_error(&response, 413, "payload_too_large", API_TOO_LARGE);

    } else {
        api_handle(http.config, &request->head,
                   request->text != NULL ? request->text : "", request->len,
                   &response);
    }

    api_name(&request->head, &response);

    if (response.status >= 500) {
        log_event(LOG_WARN, "%s %.100s: %u %s", method, url, response.status,
                  json_object_to_json_string_ext(
                      response.body, JSON_C_TO_STRING_SPACED
                                     | JSON_C_TO_STRING_NOSLASHESCAPE));
    } else {
        log_event(LOG_DEBUG, "%s %.100s: %u", method, url, response.status);
    }

    return http_send(connection, &response);
}


/*
 * The headers are there, the body is not.  Who is refused for the head alone
 * and waits for a word before it sends a body (Expect) gets the answer now,
 * and the connection ends.  All others send their body, and could not read
 * the answer if it was not taken from them.
 */
static enum MHD_Result
http_begin(http_request_t *request, struct MHD_Connection *connection,
    const char *url, const char *method)
{
    int          tagged = 0;
    const char  *length, *expect;

    request->begun = 1;

    (void) MHD_get_connection_values(connection, MHD_HEADER_KIND, http_header,
                                     &tagged);
    length = http_header_value(connection, "Content-Length");
    expect = http_header_value(connection, "Expect");

    request->refused = api_head(&request->head, method, request->target,
                                strtoull(length, NULL, 10), tagged,
                                &request->refusal)
                       != 0;

    return request->refused && strcasecmp(expect, "100-continue") == 0
           ? http_answer(request, connection, url, method) : MHD_YES;
}


static enum MHD_Result
http_handle(void *cls, struct MHD_Connection *connection, const char *url,
    const char *method, const char *version, const char *data, size_t *size,
    void **state)
{
    http_request_t  *request = *state;

    (void) cls;
    (void) version;

    if (request == NULL) {
        return MHD_NO;                  /* out of memory */
    }

    if (!request->begun) {
        return http_begin(request, connection, url, method);
    }

    if (*size != 0) {
        http_collect(request, data, *size);
        *size = 0;
        return MHD_YES;
    }

    return http_answer(request, connection, url, method);
}


/*
 * Nothing is decoded by the library, which would answer by itself (from 1.0.10
 * on) what it cannot decode, and else do it in its own way: a "+" is a blank to
 * it, and a NUL ends the path.
 */
static size_t
http_unescape(void *cls, struct MHD_Connection *connection, char *text)
{
    (void) cls;
    (void) connection;

    return strlen(text);
}


/* The first line is there: api_head() is given the target as it came. */
static void *
http_target(void *cls, const char *target, struct MHD_Connection *connection)
{
    http_request_t  *request = calloc(1, sizeof(*request));

    (void) cls;
    (void) connection;

    if (request != NULL) {
        request->target = strdup(target);

        if (request->target == NULL) {
            free(request);
            return NULL;
        }
    }

    return request;
}


static void
http_completed(void *cls, struct MHD_Connection *connection, void **state,
    enum MHD_RequestTerminationCode code)
{
    http_request_t  *request = *state;

    (void) cls;
    (void) connection;
    (void) code;

    if (request != NULL) {
        json_object_put(request->head.query);
        json_object_put(request->refusal.body);
        free(request->target);
        free(request->text);
        free(request);
        *state = NULL;
    }
}


static void http_log(void *cls, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));


/*
 * The library complains from within the loop that accepts, and where it has no
 * connection yet it tries again at once, for as long as there is no descriptor
 * for one.
 */
static void
http_rest(void)
{
    const struct timespec  rest = { 0, HTTP_REST * 1000000 };

    if (!descriptors_are_short()) {
        __atomic_store_n(&http.is_short, 0, __ATOMIC_RELAXED);
        return;
    }

    if (!__atomic_exchange_n(&http.is_short, 1, __ATOMIC_RELAXED)) {
        log_event(LOG_WARN, "no file descriptor is left for connections to "
                  "the API; they wait");
    }

    (void) nanosleep(&rest, NULL);
}


static void
http_log(void *cls, const char *format, va_list args)
{
    char  text[256];

    (void) cls;

    http_rest();

    (void) vsnprintf(text, sizeof(text), format, args);
    text[strcspn(text, "\n")] = '\0';
    log_event(LOG_DEBUG, "http: %s", text);
}


int
http_start(const config_t *config, hatch_err_t *err)
{
    int  rc;

    http.config = config;

    rc = listen_unix(&http.listener, config, "socket", config->socket, 0, err);
    if (rc != 0) {
        return rc;
    }

    http.daemon = MHD_start_daemon(
                      MHD_USE_THREAD_PER_CONNECTION
                      | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL
                      | MHD_USE_ERROR_LOG,
                      0, NULL, NULL, http_handle, NULL,
                      MHD_OPTION_EXTERNAL_LOGGER, http_log, NULL,
                      MHD_OPTION_LISTEN_SOCKET, http.listener.fd,
                      MHD_OPTION_CONNECTION_LIMIT, HTTP_CONNECTIONS,
                      MHD_OPTION_CONNECTION_TIMEOUT, HTTP_TIMEOUT,
                      MHD_OPTION_THREAD_STACK_SIZE, (size_t) HTTP_STACK,
                      MHD_OPTION_URI_LOG_CALLBACK, http_target, NULL,
                      MHD_OPTION_UNESCAPE_CALLBACK, http_unescape, NULL,
                      MHD_OPTION_NOTIFY_COMPLETED, http_completed, NULL,
                      MHD_OPTION_END);

    if (http.daemon == NULL) {
        (void) close(http.listener.fd);
        return hatch_err_set(err, HATCH_ERR_SYSTEM,
                             "cannot start the HTTP server");
    }

    return 0;
}


void
http_stop(void)
{
    if (http.daemon != NULL) {
        listen_remove(&http.listener);
        MHD_stop_daemon(http.daemon);
        http.daemon = NULL;
    }
}
