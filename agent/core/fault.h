/*
 * Fault points, for tests of crash consistency: places at which the agent can
 * be made to die or to fail.
 *
 *   HATCH_FAULT=POINT        kill -9 of the process when it gets there
 *   HATCH_FAULT=POINT:fail   the step there fails with "fault POINT"
 *
 * A point is OPERATION.STEP and stands right behind what its step names:
 * HATCH_FAULT=create.defined is after the definition.  Without the variable a
 * point costs one comparison with NULL.  docs/development.md lists them.
 */

#ifndef HATCH_AGENT_FAULT_H_INCLUDED
#define HATCH_AGENT_FAULT_H_INCLUDED

#include "hatch_err.h"


/* 0, or HATCH_ERR_SYSTEM if the point is asked to fail.  Any thread. */
int fault(const char *point, hatch_err_t *err);

#endif /* HATCH_AGENT_FAULT_H_INCLUDED */
