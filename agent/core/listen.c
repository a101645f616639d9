#define _GNU_SOURCE

#include "listen.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>


#define LISTEN_BACKLOG  128


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


int
listen_unix(const config_t *config, const char *key, const char *path,
    int flags, hatch_err_t *err)
{
    int                 fd, rc;
    mode_t              mask;
    struct sockaddr_un  address = listen_address(path);

    rc = listen_check(key, path, err);
    if (rc != 0) {
        return rc;
    }

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd == -1) {
        return hatch_err_errno(err, errno, "cannot make a socket");
    }

    (void) unlink(path);

    /* never open to others, not even between bind() and chmod() */
    mask = umask(0177);
    rc = bind(fd, (struct sockaddr *) &address, sizeof(address));
    (void) umask(mask);

    if (rc == 0) {
        rc = chown(path, (uid_t) -1, config->gid);
    }

    if (rc == 0) {
        rc = chmod(path, 0660);
    }

    if (rc == 0) {
        rc = listen(fd, LISTEN_BACKLOG);
    }

    if (rc == -1) {
        rc = hatch_err_errno(err, errno, "cannot listen on \"%s\"", path);
        (void) close(fd);
        return rc;
    }

    return fd;
}
