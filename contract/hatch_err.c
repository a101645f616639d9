#define _GNU_SOURCE

#include "hatch_err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>


int
hatch_err_set(hatch_err_t *err, hatch_err_code_t code, const char *format, ...)
{
    va_list  args;

    if (err != NULL) {
        err->code = code;

        va_start(args, format);
        (void) vsnprintf(err->text, sizeof(err->text), format, args);
        va_end(args);
    }

    return code;
}


static hatch_err_code_t
hatch_err_code(int errnum)
{
    switch (errnum) {

    case ENOENT:
        return HATCH_ERR_ABSENT;

    case EACCES:
    case EPERM:
        return HATCH_ERR_DENIED;

    case ENOSPC:
        return HATCH_ERR_FULL;

    default:
        return HATCH_ERR_SYSTEM;
    }
}


int
hatch_err_errno(hatch_err_t *err, int errnum, const char *format, ...)
{
    size_t   used;
    va_list  args;

    if (err == NULL) {
        return hatch_err_code(errnum);
    }

    err->code = hatch_err_code(errnum);

    va_start(args, format);
    (void) vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);

    used = strlen(err->text);
    (void) snprintf(err->text + used, sizeof(err->text) - used, ": %s",
                    strerror(errnum));

    return err->code;
}
