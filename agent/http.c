#define _GNU_SOURCE

#include "http.h"
#include "api.h"
#include "listen.h"
#include "log.h"

#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


#define HTTP_CONNECTIONS  1024
#define HTTP_TIMEOUT      75        /* s without a byte */
#define HTTP_STACK        (512 * 1024)


/* A request while its body comes in. */
typedef struct {
    char    *text;
    size_t   len;
    int      too_large;
} http_body_t;


static struct {
    const config_t     *config;
    struct MHD_Daemon  *daemon;
} http;


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

    mhd = MHD_create_response_from_buffer(len, (void *) text,
                                          MHD_RESPMEM_MUST_COPY);
    json_object_put(response->body);

    if (mhd == NULL) {
        return MHD_NO;
    }

    (void) MHD_add_response_header(mhd, "Content-Type", "application/json");
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
http_collect(http_body_t *body, const char *data, size_t size)
{
    char  *text;

    if (body->too_large || size > API_BODY_MAX - body->len) {
        body->too_large = 1;
        return;
    }

    text = realloc(body->text, body->len + size);

    if (text == NULL) {
        body->too_large = 1;
        return;
    }

    memcpy(text + body->len, data, size);
    body->text = text;
    body->len += size;
}


/* One argument of the query; one that comes twice loses its value. */
static enum MHD_Result
http_argument(void *cls, enum MHD_ValueKind kind, const char *name,
    const char *value)
{
    json_object  *query = cls;

    (void) kind;

    (void) json_object_object_add(query, name,
                 value != NULL && !json_object_object_get_ex(query, name, NULL)
                 ? json_object_new_string(value) : NULL);

    return MHD_YES;
}


static enum MHD_Result
http_handle(void *cls, struct MHD_Connection *connection, const char *url,
    const char *method, const char *version, const char *data, size_t *size,
    void **state)
{
    http_body_t     *body = *state;
    json_object     *query;
    api_response_t   response;

    (void) cls;
    (void) version;

    if (body == NULL) {
        /* the headers are there, the body is not */
        *state = calloc(1, sizeof(*body));
        return *state != NULL ? MHD_YES : MHD_NO;
    }

    if (*size != 0) {
        http_collect(body, data, *size);
        *size = 0;
        return MHD_YES;
    }

    memset(&response, 0, sizeof(response));

    if (body->too_large) {
        api_error(&response, 413, "payload_too_large",
                  "the body is larger than 1048576 bytes");
    } else {
        query = json_object_new_object();
        (void) MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND,
                                         http_argument, query);
        api_handle(http.config, method, url, query, body->text, body->len,
                   &response);
    }

    if (response.status >= 500) {
        log_event(LOG_WARN, "%s %.100s: %u %s", method, url, response.status,
                  json_object_to_json_string(response.body));
    } else {
        log_event(LOG_DEBUG, "%s %.100s: %u", method, url, response.status);
    }

    return http_send(connection, &response);
}


static void
http_completed(void *cls, struct MHD_Connection *connection, void **state,
    enum MHD_RequestTerminationCode code)
{
    http_body_t  *body = *state;

    (void) cls;
    (void) connection;
    (void) code;

    if (body != NULL) {
        free(body->text);
        free(body);
        *state = NULL;
    }
}


static void http_log(void *cls, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));


static void
http_log(void *cls, const char *format, va_list args)
{
    char  text[256];

    (void) cls;

    (void) vsnprintf(text, sizeof(text), format, args);
    text[strcspn(text, "\n")] = '\0';
    log_event(LOG_DEBUG, "http: %s", text);
}


int
http_start(const config_t *config, hatch_err_t *err)
{
    int  fd;

    http.config = config;

    fd = listen_unix(config, "socket", config->socket, 0, err);
    if (fd < 0) {
        return fd;
    }

    http.daemon = MHD_start_daemon(
                      MHD_USE_THREAD_PER_CONNECTION
                      | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL
                      | MHD_USE_ERROR_LOG,
                      0, NULL, NULL, http_handle, NULL,
                      MHD_OPTION_EXTERNAL_LOGGER, http_log, NULL,
                      MHD_OPTION_LISTEN_SOCKET, fd,
                      MHD_OPTION_CONNECTION_LIMIT, HTTP_CONNECTIONS,
                      MHD_OPTION_CONNECTION_TIMEOUT, HTTP_TIMEOUT,
                      MHD_OPTION_THREAD_STACK_SIZE, (size_t) HTTP_STACK,
                      MHD_OPTION_NOTIFY_COMPLETED, http_completed, NULL,
                      MHD_OPTION_END);

    if (http.daemon == NULL) {
        (void) close(fd);
        return hatch_err_set(err, HATCH_ERR_SYSTEM,
                             "cannot start the HTTP server");
    }

    return 0;
}


void
http_stop(void)
{
    if (http.daemon != NULL) {
        MHD_stop_daemon(http.daemon);
        http.daemon = NULL;
        (void) unlink(http.config->socket);
    }
}
