/* A listening unix socket, for the config's group and nobody else. */

#ifndef HATCH_AGENT_LISTEN_H_INCLUDED
#define HATCH_AGENT_LISTEN_H_INCLUDED

#include <sys/types.h>

#include "config.h"
#include "hatch_err.h"


/* A socket that listens, and the name by which others find it. */
typedef struct {
    int          fd;                /* close-on-exec; -1: none */
    const char  *path;              /* the caller's */
    dev_t        device;            /* what stands there is ours if it is */
    ino_t        inode;             /* this one */
} listen_t;


/*
 * May a socket be made at path?  If nothing is there, or a socket on which
 * nobody listens any more.  HATCH_ERR_FOREIGN for any other file and
 * HATCH_ERR_BUSY for a socket that is in use; key is the name of the setting.
 */
int listen_check(const char *key, const char *path, hatch_err_t *err);

/*
 * Takes the place of a socket that an agent before left at path, and of
 * nothing else (listen_check()); mode 0660, whatever the umask is.  flags are
 * added to the socket's type, as in SOCK_NONBLOCK.  Fills listener.
 */
int listen_unix(listen_t *listener, const config_t *config, const char *key,
    const char *path, int flags, hatch_err_t *err);

/*
 * May the process at the other end of this connection wake VMs?  The agent's
 * own user and root may, and who is in the group of nginx's workers or in that
 * of the sockets.  The mode of the socket says the same, unless somebody has
 * changed it, or handed the socket on.  Fills *uid with who it is.
 */
int listen_trusts(int fd, const config_t *config, uid_t *uid);

/*
 * Removes the name, unless somebody else's socket stands there by now.  Before
 * the socket is closed: until then its inode's number is given to no other.
 */
void listen_remove(const listen_t *listener);

#endif /* HATCH_AGENT_LISTEN_H_INCLUDED */
