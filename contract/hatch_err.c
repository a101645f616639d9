#define _GNU_SOURCE

#include "hatch_err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>


int
hatch_err_character(const char *text, size_t len)
{
    int                   i, n;
    unsigned char         low = 0x80, high = 0xbf;
    const unsigned char  *s = (const unsigned char *) text;

    if (s[0] < 0x80) {
        return 1;
    }

    if (s[0] < 0xc2 || s[0] > 0xf4) {
        return 0;
    }

    n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

    switch (s[0]) {

    case 0xe0:
        low = 0xa0;
        break;

    case 0xed:
        high = 0x9f;
        break;

    case 0xf0:
        low = 0x90;
        break;

    case 0xf4:
        high = 0x8f;
        break;
    }

    for (i = 1; i < n; i++) {
        if ((size_t) i == len || s[i] < low || s[i] > high) {
            return -i;
        }

        low = 0x80;
        high = 0xbf;
    }

    return n;
}


void
hatch_err_utf8(char *text)
{
    int          n;
    char        *to = text;
    const char  *from = text, *end = text + strlen(text);

    while (from < end) {
        n = hatch_err_character(from, (size_t) (end - from));

        if (n == 0) {
            *to++ = '?';
            from++;

        } else if (n < 0) {
            from += -n;

        } else {
            memmove(to, from, (size_t) n);
            to += n;
            from += n;
        }
    }

    *to = '\0';
}


int
hatch_err_set(hatch_err_t *err, hatch_err_code_t code, const char *format, ...)
{
    va_list  args;

    if (err != NULL) {
        err->code = code;

        va_start(args, format);
        (void) vsnprintf(err->text, sizeof(err->text), format, args);
        va_end(args);

        hatch_err_utf8(err->text);
    }

    return code;
}


char *
hatch_err_end(const char *text, char *to, size_t size)
{
    size_t  len = strlen(text);

    if (len < size) {
        memcpy(to, text, len + 1);
        return to;
    }

    text += len - (size - 4);

    /* not from within a character */
    while (((unsigned char) *text & 0xc0) == 0x80) {
        text++;
    }

    (void) snprintf(to, size, "...%s", text);

    return to;
}


static hatch_err_code_t
hatch_err_code(int errnum)
{
    switch (errnum) {

    case ENOENT:
        return HATCH_ERR_ABSENT;

    case EACCES:
    case EPERM:
    case EROFS:
        return HATCH_ERR_DENIED;

    case ENOSPC:
    case EDQUOT:
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

    hatch_err_utf8(err->text);

    return err->code;
}
