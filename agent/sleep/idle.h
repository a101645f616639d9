/*
 * The idle thread: puts VMs to sleep that nobody uses.
 *
 * It sleeps until the next VM is due, at most a second, and starts what is
 * due in threads of their own, so that a VM that hangs keeps no other awake.
 */

#ifndef HATCH_AGENT_IDLE_H_INCLUDED
#define HATCH_AGENT_IDLE_H_INCLUDED

#include "core/config.h"
#include "hatch_err.h"


/* Starts the thread; after wake_start(). */
int idle_start(const config_t *config, hatch_err_t *err);

/* Ends it.  What it has started goes on. */
void idle_stop(void);

#endif /* HATCH_AGENT_IDLE_H_INCLUDED */
