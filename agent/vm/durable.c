#define _GNU_SOURCE

#include "durable.h"
#include "saved_file.h"
#include "core/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>


/* A file, or the names in a folder; nothing if it is out of reach. */
static int
durable_sync(const char *path, hatch_err_t *err)
{
    int  fd, rc = 0;

    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd == -1) {
        return 0;
    }

    if (fsync(fd) == -1) {
        rc = hatch_err_errno(err, errno, "cannot sync \"%s\"", path);
    }

    (void) close(fd);

    return rc;
}


int
durable_definition(const vm_op_t *op, hatch_err_t *err)
{
    char                path[STATEDIR_PATH];
    cleanup_free char  *uri = virConnectGetURI(op->lease.conn);

    return uri != NULL && saved_definitions(uri, path) == 0
           ? durable_sync(path, err) : 0;
}


int
durable_memory(const vm_op_t *op, hatch_err_t *err)
{
    int   rc;
    char  path[STATEDIR_PATH];

    if (saved_path(op, path) != 0) {
        return 0;
    }

    rc = durable_sync(path, err);
    *strrchr(path, '/') = '\0';

    return rc == 0 ? durable_sync(path, err) : rc;
}
