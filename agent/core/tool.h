/* Running a tool: qemu-img, xorriso. */

#ifndef HATCH_AGENT_TOOL_H_INCLUDED
#define HATCH_AGENT_TOOL_H_INCLUDED

#include <stddef.h>

#include "hatch_err.h"


/*
 * Runs argv[0], found by PATH, without a shell and waits for it.  Its standard
 * output and error, up to size - 1 bytes, are in out, NUL-terminated.  Returns
 * 0; HATCH_ERR_INVALID if its exit status is not 0, with "DOING: " and the
 * last line that it printed; HATCH_ERR_SYSTEM if it could not be run or was
 * killed, which says nothing of what it was given.  Any thread.
 */
int tool_run(const char *const *argv, const char *doing, char *out,
    size_t size, hatch_err_t *err);

/* The package of Debian's that has it, or NULL. */
const char *tool_package(const char *name);

/* Does PATH have it?  --check asks; any thread. */
int tool_is_there(const char *name);

#endif /* HATCH_AGENT_TOOL_H_INCLUDED */
