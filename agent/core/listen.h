/* A listening unix socket, for the config's group and nobody else. */

#ifndef HATCH_AGENT_LISTEN_H_INCLUDED
#define HATCH_AGENT_LISTEN_H_INCLUDED

#include "config.h"
#include "hatch_err.h"


/*
 * May a socket be made at path?  If nothing is there, or a socket on which
 * nobody listens any more.  HATCH_ERR_FOREIGN for any other file and
 * HATCH_ERR_BUSY for a socket that is in use; key is the name of the setting.
 */
int listen_check(const char *key, const char *path, hatch_err_t *err);

/*
 * Takes the place of a socket that an agent before left at path, and of
 * nothing else (listen_check()); mode 0660.  flags are added to the socket's
 * type, as in SOCK_NONBLOCK.  Returns the descriptor, close-on-exec, or an
 * error.
 */
int listen_unix(const config_t *config, const char *key, const char *path,
    int flags, hatch_err_t *err);

#endif /* HATCH_AGENT_LISTEN_H_INCLUDED */
