/* Files that are text, read as a whole. */

#ifndef HATCH_AGENT_TEXT_H_INCLUDED
#define HATCH_AGENT_TEXT_H_INCLUDED

#include <stddef.h>

#include "hatch_err.h"


/*
 * Reads a file of at most max bytes into memory that the caller frees, with a
 * NUL behind it; *text is NULL if that fails.  HATCH_ERR_INVALID if it is
 * larger, the code of errno if it cannot be read.  Any thread.
 */
int text_read(const char *path, size_t max, char **text, size_t *len,
    hatch_err_t *err);

#endif /* HATCH_AGENT_TEXT_H_INCLUDED */
