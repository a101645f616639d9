#define _GNU_SOURCE

#include "fault.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>


int
fault(const char *point, hatch_err_t *err)
{
    size_t       len;
    const char  *wanted = getenv("HATCH_FAULT");

    if (wanted == NULL) {
        return 0;
    }

    len = strlen(point);

    if (strncmp(wanted, point, len) != 0) {
        return 0;
    }

    if (wanted[len] == '\0') {
        (void) raise(SIGKILL);
    }

    return strcmp(wanted + len, ":fail") == 0
           ? hatch_err_set(err, HATCH_ERR_SYSTEM, "fault %s", point) : 0;
}
