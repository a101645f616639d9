/*
 * hatch_err: what went wrong, for code that cannot log.
 *
 * A function that takes a hatch_err_t returns 0 on success and leaves the
 * struct untouched, or returns a negative hatch_err_code_t and fills it.  The
 * text is one line without a period, fit for a log or an API answer.  Nobody
 * logs and returns: the caller at the edge (main, a directive, a handler)
 * decides where the text goes.
 */

#ifndef HATCH_ERR_H_INCLUDED
#define HATCH_ERR_H_INCLUDED

#include <stdarg.h>
#include <stddef.h>


typedef enum {
    HATCH_OK = 0,
    HATCH_ERR_SYSTEM = -1,      /* a system call failed; text has its errno */
    HATCH_ERR_ABSENT = -2,      /* the file is not there (yet) */
    HATCH_ERR_DENIED = -3,      /* no permission */
    HATCH_ERR_EMPTY = -4,       /* a file of no bytes */
    HATCH_ERR_TRUNCATED = -5,   /* shorter than its header says */
    HATCH_ERR_FOREIGN = -6,     /* not a file of ours */
    HATCH_ERR_VERSION = -7,     /* written by another version of Hatch */
    HATCH_ERR_LAYOUT = -8,      /* written by a build with another layout */
    HATCH_ERR_SLOTS = -9,       /* fewer slots than asked for */
    HATCH_ERR_BUSY = -10,       /* somebody else owns it, or it would wait */
    HATCH_ERR_CORRUPT = -11,    /* its content contradicts itself */
    HATCH_ERR_FULL = -12,       /* no room left */
    HATCH_ERR_EXISTS = -13,     /* the name is taken */
    HATCH_ERR_NOT_FOUND = -14,  /* no such record */
    HATCH_ERR_INVALID = -15,    /* the caller's input breaks a rule */
    HATCH_ERR_CONFLICT = -16,   /* not possible in the present state */
    HATCH_ERR_UNAVAILABLE = -17,/* a peer that is needed does not answer */
    HATCH_ERR_LIBVIRT = -18,    /* libvirt refused; text says what it said */
    HATCH_ERR_TIMEOUT = -19,    /* the deadline passed */
    HATCH_ERR_LIMIT = -20,      /* a configured limit is reached */
    HATCH_ERR_MEMORY = -21,     /* the host has not enough memory */
    HATCH_ERR_KEPT = -22,       /* saved memory cannot be used now, and stays */
    HATCH_ERR_BRIDGE = -23,     /* the bridge has no port for a VM */
    HATCH_ERR_HOST = -24        /* the host is in trouble: a file, a disk, a
                                   program; it may pass */
} hatch_err_code_t;


typedef struct {
    hatch_err_code_t  code;
    char              text[512];
} hatch_err_t;


/*
 * Fills err (which may be NULL) and returns code.  The text is valid UTF-8
 * whatever its arguments are (hatch_err_utf8()), so "%.40s" may be used for
 * what a client sent.
 */
int hatch_err_set(hatch_err_t *err, hatch_err_code_t code,
    const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * The same with ": strerror(errnum)" at the end.  ENOENT becomes
 * HATCH_ERR_ABSENT, EACCES, EPERM and EROFS HATCH_ERR_DENIED, ENOSPC and
 * EDQUOT HATCH_ERR_FULL, all others HATCH_ERR_SYSTEM.
 */
int hatch_err_errno(hatch_err_t *err, int errnum, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Copies text to to[size], 5 at least; of one that does not fit its end, after
 * "...": each who hands an error on says his part in front of it, so the cause
 * comes last.  Returns to.
 */
char *hatch_err_end(const char *text, char *to, size_t size);

/*
 * Makes a text valid UTF-8, in place: a character that was cut goes, every
 * other byte that belongs to none becomes '?'.
 */
void hatch_err_utf8(char *text);

/*
 * The length of the UTF-8 character that a text of at least one byte begins
 * with, 1 to 4 (RFC 3629; none overlong, no surrogates); 0: the byte begins
 * none; -n: there are only the first n bytes of one.
 */
int hatch_err_character(const char *text, size_t len);

#endif /* HATCH_ERR_H_INCLUDED */
