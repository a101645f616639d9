#define _GNU_SOURCE

#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>


/* What is asked for first; most files have less. */
#define TEXT_FIRST  4096


static int
text_resize(char **text, size_t size)
{
    char  *resized = realloc(*text, size);

    if (resized == NULL) {
        return -1;
    }

    *text = resized;

    return 0;
}


/*
 * To the end or, if it has more, max + 1 bytes: a pipe comes in pieces, and
 * a file of /proc does not say how long it is.  -1 with errno.
 */
static ssize_t
text_read_all(int fd, size_t max, char **text)
{
    size_t   size = 0, len = 0;
    ssize_t  n;

    do {
        if (len == size) {
            size = size == 0 ? TEXT_FIRST : 2 * size;
            size = size <= max ? size : max + 1;

            if (text_resize(text, size) == -1) {
                return -1;
            }
        }

        n = read(fd, *text + len, size - len);
        len += n > 0 ? (size_t) n : 0;
    } while (n > 0 && len <= max);

    /* nothing behind it, so that a sanitizer sees who reads on */
    return n < 0 || text_resize(text, len + 1) == -1 ? -1 : (ssize_t) len;
}


int
text_read(const char *path, size_t max, char **text, size_t *len,
    hatch_err_t *err)
{
    int      fd, rc = 0;
    ssize_t  n;

    *text = NULL;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd != -1 ? text_read_all(fd, max, text) : -1;

    if (n < 0) {
        rc = hatch_err_errno(err, errno, "cannot read \"%s\"", path);

    } else if ((size_t) n > max) {
        rc = hatch_err_set(err, HATCH_ERR_INVALID,
                           "\"%s\" is larger than %zu bytes", path, max);

    } else {
        (*text)[n] = '\0';
        *len = (size_t) n;
    }

    if (fd != -1) {
        (void) close(fd);
    }

    if (rc != 0) {
        free(*text);
        *text = NULL;
    }

    return rc;
}
