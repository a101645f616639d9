#include "hatch_uri.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


static int
hatch_uri_hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c |= 0x20;

    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}


/*
 * Decodes len bytes to `to`, which may be `from`, and ends them by a NUL.  -1:
 * an escape is none, or of a NUL.
 */
static int
hatch_uri_decode(char *to, const char *from, size_t len)
{
    int          high, low;
    const char  *end = from + len;

    while (from < end) {
        if (*from != '%') {
            *to++ = *from++;
            continue;
        }

        high = end - from > 2 ? hatch_uri_hex(from[1]) : -1;
        low = high != -1 ? hatch_uri_hex(from[2]) : -1;

        if (low == -1 || (high == 0 && low == 0)) {
            return -1;
        }

        *to++ = (char) (high << 4 | low);
        from += 3;
    }

    *to = '\0';

    return 0;
}


/* Merges slashes and resolves dots, in place; -1: above "/". */
static int
hatch_uri_normalize(char *path)
{
    int          directory = 0;
    char        *to = path;
    size_t       n;
    const char  *from = path;

    while (*from == '/') {
        from += strspn(from, "/");
        n = strcspn(from, "/");

        /* nothing, "." or ".." at the end leaves a slash there */
        directory = 1;

        if (n == 2 && memcmp(from, "..", 2) == 0) {
            if (to == path) {
                return -1;
            }

            while (*--to != '/') { /* void */ }

        } else if (n != 0 && !(n == 1 && *from == '.')) {
            *to++ = '/';
            memmove(to, from, n);
            to += n;
            directory = 0;
        }

        from += n;
    }

    if (directory) {
        *to++ = '/';
    }

    *to = '\0';

    return 0;
}


int
hatch_uri_split(char *target, char **path, const char **query,
    hatch_err_t *err)
{
    char  *p = target, *mark;

    p[strcspn(p, "#")] = '\0';

    mark = p + strcspn(p, "?");
    *query = *mark == '?' ? mark + 1 : "";
    *mark = '\0';

    /* http://host/path is as good as /path */
    if (*p != '/' && (mark = strstr(p, "://")) != NULL) {
        mark += 3;
        p = mark + strcspn(mark, "/");

        if (*p == '\0') {
            p = mark - 1;           /* the last of the slashes */
            p[1] = '\0';
        }
    }

    if (hatch_uri_decode(p, p, strlen(p)) != 0) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "in the path a \"%%\" "
                             "must be followed by two hexadecimal digits, not "
                             "both 0");
    }

    if (*p == '/' && hatch_uri_normalize(p) != 0) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "the path leads above "
                             "\"/\"");
    }

    *path = p;

    return 0;
}


/* The error that no argument has this name. */
static int
hatch_uri_unknown(const char *name, const char *const *names,
    hatch_err_t *err)
{
    int     n = 0;
    char    known[128] = "none";

    for ( /* void */ ; names != NULL && *names != NULL; names++) {
        n += snprintf(known + n, sizeof(known) - (size_t) n, "%s%s",
                      n != 0 ? ", " : "", *names);

        if ((size_t) n >= sizeof(known)) {
            break;
        }
    }

    return hatch_err_set(err, HATCH_ERR_INVALID, "unknown query argument "
                         "\"%.40s\", there may be %s", name, known);
}


/* One argument; room has len + 2 bytes, for both of its parts. */
static int
hatch_uri_argument(const char *text, size_t len, char *room,
    const char *const *names, json_object *query, hatch_err_t *err)
{
    int                 bad;
    char               *value = NULL;
    size_t              n;
    const char         *equals = memchr(text, '=', len);
    const char *const  *name;

    n = equals != NULL ? (size_t) (equals - text) : len;
    bad = hatch_uri_decode(room, text, n) != 0;

    if (!bad && equals != NULL) {
        value = room + n + 1;
        bad = hatch_uri_decode(value, equals + 1, len - n - 1) != 0;
    }

    if (bad) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "in the query argument "
                             "\"%.*s\" a \"%%\" must be followed by two "
                             "hexadecimal digits, not both 0",
                             n < 40 ? (int) n : 40, text);
    }

    for (name = names; name != NULL && *name != NULL; name++) {
        if (strcmp(*name, room) == 0) {
            break;
        }
    }

    if (name == NULL || *name == NULL) {
        return hatch_uri_unknown(room, names, err);
    }

    if (value == NULL) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "query argument \"%s\" "
                             "has no value", room);
    }

    if (json_object_object_get_ex(query, room, NULL)) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "query argument \"%s\" is "
                             "given twice", room);
    }

    return json_object_object_add(query, room, json_object_new_string(value))
           == 0 ? 0 : hatch_err_set(err, HATCH_ERR_SYSTEM, "out of memory");
}


int
hatch_uri_query(const char *text, size_t len, const char *const *names,
    json_object **query, hatch_err_t *err)
{
    int           rc = 0;
    char         *room;
    const char   *end = text + len, *next;
    json_object  *object;

    room = malloc(len + 2);
    object = json_object_new_object();

    if (room == NULL || object == NULL) {
        rc = hatch_err_set(err, HATCH_ERR_SYSTEM, "out of memory");
    }

    while (rc == 0 && text < end) {
        next = memchr(text, '&', (size_t) (end - text));
        next = next != NULL ? next : end;

        if (next != text) {
            rc = hatch_uri_argument(text, (size_t) (next - text), room, names,
                                    object, err);
        }

        text = next < end ? next + 1 : end;
    }

    free(room);

    if (rc != 0 || query == NULL) {
        json_object_put(object);
        object = NULL;
    }

    if (query != NULL) {
        *query = object;
    }

    return rc;
}
