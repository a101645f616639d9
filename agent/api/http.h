/*
 * The HTTP server on agent.sock (libmicrohttpd, one thread per connection).
 * An operation runs in the thread of its connection: it goes on to its end
 * when the client leaves, and a slow one holds up nobody else.
 */

#ifndef HATCH_AGENT_HTTP_H_INCLUDED
#define HATCH_AGENT_HTTP_H_INCLUDED

#include "core/config.h"
#include "hatch_err.h"


/*
 * Listens on config->socket, mode 0660 with the group of the configuration.
 * A socket file that another agent left is replaced; the zone's lock has
 * made sure that it no longer runs.
 */
int http_start(const config_t *config, hatch_err_t *err);

/* Stops accepting, waits for running operations, removes the socket. */
void http_stop(void);

#endif /* HATCH_AGENT_HTTP_H_INCLUDED */
