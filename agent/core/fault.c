#define _GNU_SOURCE

#include "fault.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>


static void
fault_hang(void)
{
    const char            *file = getenv("HATCH_FAULT_FILE");
    const struct timespec  step = { 0, 10000000 };

    while (file != NULL && access(file, F_OK) == 0) {
        (void) nanosleep(&step, NULL);
    }
}


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

    if (strcmp(wanted + len, ":hang") == 0) {
        fault_hang();
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
