/* Running a tool: qemu-img, xorriso. */

#ifndef HATCH_AGENT_TOOL_H_INCLUDED
#define HATCH_AGENT_TOOL_H_INCLUDED

#include <stddef.h>

#include "hatch_err.h"


/*
 * Runs argv[0], found by PATH, without a shell and waits for it.  Its standard
 * output and error, up to size - 1 bytes, are in out, NUL-terminated.  Returns
 * 0, or HATCH_ERR_SYSTEM if it could not be run or its exit status is not 0;
 * the error then says "DOING: " and the last line that it printed.
 */
int tool_run(const char *const *argv, const char *doing, char *out,
    size_t size, hatch_err_t *err);

#endif /* HATCH_AGENT_TOOL_H_INCLUDED */
