/* libFuzzer: any bytes as the target of a request.  Run by `make fuzz`. */

#include "hatch_uri.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static const char *const  names[] = { "a", "limit", NULL };


/* A text stays as it is if it is valid UTF-8. */
static void
check_text(const char *text)
{
    char  copy[sizeof(((hatch_err_t *) NULL)->text)];

    memcpy(copy, text, strlen(text) + 1);
    hatch_err_utf8(copy);

    if (strcmp(copy, text) != 0) {
        abort();
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char         *target = malloc(size + 1), *path;
    hatch_err_t   err = { HATCH_OK, "" };
    const char   *query;
    json_object  *object;

    memcpy(target, data, size);
    target[size] = '\0';

    if (hatch_uri_split(target, &path, &query, &err) == 0) {
        if (path[0] == '/'
            && (strstr(path, "//") != NULL || strstr(path, "/./") != NULL
                || strstr(path, "/../") != NULL))
        {
            abort();
        }

        (void) hatch_uri_query(query, strlen(query), names, &object, &err);
        json_object_put(object);
    }

    check_text(err.text);

    /* not ended by a NUL */
    if (hatch_uri_query((const char *) data, size, names, NULL, &err) != 0) {
        check_text(err.text);
    }

    free(target);

    return 0;
}
