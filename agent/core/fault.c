#define _GNU_SOURCE

#include "fault.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


int
fault(const char *operation, const char *step, hatch_err_t *err)
{
    char         point[64];
    size_t       len;
    const char  *wanted = getenv("HATCH_FAULT");

    if (wanted == NULL) {
        return 0;
    }

    len = (size_t) snprintf(point, sizeof(point), "%s.%s", operation, step);

    if (strncmp(wanted, point, len) != 0) {
        return 0;
    }

    if (wanted[len] == '\0') {
        (void) raise(SIGKILL);
    }

    return strcmp(wanted + len, ":fail") == 0
           ? hatch_err_set(err, HATCH_ERR_SYSTEM, "fault %s", point) : 0;
}


int
fault_list_wanted(void)
{
    const char  *wanted = getenv("HATCH_FAULT");

    return wanted != NULL && strcmp(wanted, "list") == 0;
}
