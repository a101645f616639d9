/*
 * Fault points, for tests of crash consistency: places at which the agent can
 * be made to die or to fail.
 *
 *   HATCH_FAULT=OPERATION.STEP        kill -9 of the process when it is there
 *   HATCH_FAULT=OPERATION.STEP:fail   it fails with "fault OPERATION.STEP"
 *   HATCH_FAULT=OPERATION.STEP:hang   it waits there while the file exists
 *                                     that HATCH_FAULT_FILE names
 *   HATCH_FAULT=list                  prints all there are, and exits
 *
 * A point stands right behind what its step does: HATCH_FAULT=create.defined
 * is after the definition.  Each step of each operation (vm/operation.h) has
 * one.  Without the variable a point costs one comparison with NULL.
 */

#ifndef HATCH_AGENT_FAULT_H_INCLUDED
#define HATCH_AGENT_FAULT_H_INCLUDED

#include "hatch_err.h"


/* 0, or HATCH_ERR_SYSTEM if the point is asked to fail.  Any thread. */
int fault(const char *operation, const char *step, hatch_err_t *err);

/* Was "list" asked for? */
int fault_list_wanted(void);

#endif /* HATCH_AGENT_FAULT_H_INCLUDED */
