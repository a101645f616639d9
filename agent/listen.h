/* A listening unix socket, for the config's group and nobody else. */

#ifndef HATCH_AGENT_LISTEN_H_INCLUDED
#define HATCH_AGENT_LISTEN_H_INCLUDED

#include "config.h"
#include "hatch_err.h"


/*
 * Takes the place of a socket that an agent before left at path; mode 0660.
 * flags are added to the socket's type, as in SOCK_NONBLOCK.  Returns the
 * descriptor, close-on-exec, or an error.
 */
int listen_unix(const config_t *config, const char *path, int flags,
    hatch_err_t *err);

#endif /* HATCH_AGENT_LISTEN_H_INCLUDED */
