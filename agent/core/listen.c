#define _GNU_SOURCE

#include "listen.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>


#define LISTEN_BACKLOG  128

/* More groups than that nobody has whom we know. */
#define LISTEN_GROUPS   1024


/* config_check() has checked the length. */
static struct sockaddr_un
listen_address(const char *path)
{
    struct sockaddr_un  address;

    memset(&address, 0, sizeof(address));
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path, strlen(path));

    return address;
}


/* Is it a socket on which nobody listens?  Else 0, or an error. */
static int
listen_is_left(const char *key, const char *path, hatch_err_t *err)
{
    int                 fd, rc;
    struct sockaddr_un  address = listen_address(path);

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd == -1) {
        return hatch_err_errno(err, errno, "cannot make a socket");
    }

    rc = connect(fd, (struct sockaddr *) &address, sizeof(address));

    /* EAGAIN: somebody listens, and many wait for him; or of another type */
    rc = rc == -1 && (errno == ECONNREFUSED || errno == ENOENT)
         ? 0 : hatch_err_set(err, HATCH_ERR_BUSY, "\"%s\": \"%s\" is in use by "
                             "another process; stop it or name another file",
                             key, path);
    (void) close(fd);

    return rc;
}


int
listen_check(const char *key, const char *path, hatch_err_t *err)
{
    struct stat  st;

    if (lstat(path, &st) == -1) {
        return errno == ENOENT
               ? 0 : hatch_err_errno(err, errno, "\"%s\": \"%s\"", key, path);
    }

    if (!S_ISSOCK(st.st_mode)) {
        return hatch_err_set(err, HATCH_ERR_FOREIGN, "\"%s\": \"%s\" is not a "
                             "socket; remove it or name another file", key,
                             path);
    }

    return listen_is_left(key, path, err);
}


/*
 * A socket's name gets the socket's own mode, less the umask: so it is never
 * open to others, not even between bind() and chmod(), and no other thread
 * has to do with another umask meanwhile.
 */
static int
listen_bind(const listen_t *listener, gid_t gid)
{
    struct sockaddr_un  address = listen_address(listener->path);

    return fchmod(listener->fd, 0600) == -1
           || bind(listener->fd, (struct sockaddr *) &address,
                   sizeof(address)) == -1
           || chown(listener->path, (uid_t) -1, gid) == -1
           || chmod(listener->path, 0660) == -1
           || listen(listener->fd, LISTEN_BACKLOG) == -1
           ? -1 : 0;
}


int
listen_unix(listen_t *listener, const config_t *config, const char *key,
    const char *path, int flags, hatch_err_t *err)
{
    int          rc;
    struct stat  st;

    listener->path = path;
    listener->fd = -1;

    rc = listen_check(key, path, err);
    if (rc != 0) {
        return rc;
    }

    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (listener->fd == -1) {
        return hatch_err_errno(err, errno, "cannot make a socket");
    }

    (void) unlink(path);

    if (listen_bind(listener, config->socket_gid) == -1
        || lstat(path, &st) == -1)
    {
        rc = hatch_err_errno(err, errno, "cannot listen on \"%s\"", path);
        (void) close(listener->fd);
        listener->fd = -1;
        return rc;
    }

    listener->device = st.st_dev;
    listener->inode = st.st_ino;

    return 0;
}


/* Has the peer this group, besides the one that SO_PEERCRED tells? */
static int
listen_peer_in(int fd, gid_t gid)
{
    gid_t      groups[LISTEN_GROUPS];
    size_t     i;
    socklen_t  len = sizeof(groups);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) == -1) {
        return 0;
    }

    for (i = 0; i < len / sizeof(groups[0]); i++) {
        if (groups[i] == gid) {
            return 1;
        }
    }

    return 0;
}


static int
listen_peer_has(int fd, const struct ucred *peer, gid_t gid)
{
    return gid != (gid_t) -1
           && (peer->gid == gid || listen_peer_in(fd, gid));
}


int
listen_trusts(int fd, const config_t *config, uid_t *uid)
{
    socklen_t     len = sizeof(struct ucred);
    struct ucred  peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1) {
        *uid = (uid_t) -1;
        return 0;
    }

    *uid = peer.uid;

    return peer.uid == 0 || peer.uid == geteuid()
           || listen_peer_has(fd, &peer, config->gid)
           || listen_peer_has(fd, &peer, config->socket_gid);
}


void
listen_remove(const listen_t *listener)
{
    struct stat  st;

    if (listener->fd != -1 && lstat(listener->path, &st) == 0
        && st.st_dev == listener->device && st.st_ino == listener->inode)
    {
        (void) unlink(listener->path);
    }
}
