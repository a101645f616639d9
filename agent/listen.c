#define _GNU_SOURCE

#include "listen.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>


#define LISTEN_BACKLOG  128


int
listen_unix(const config_t *config, const char *path, int flags,
    hatch_err_t *err)
{
    int                 fd, rc;
    mode_t              mask;
    struct sockaddr_un  address;

    /* config_check() has checked the length */
    memset(&address, 0, sizeof(address));
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path, strlen(path));

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
