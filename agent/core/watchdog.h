/*
 * Signs of life for a service manager (WatchdogSec=), as long as the agent's
 * own loops go on.
 *
 * Each loop says when it begins to work and when it begins to wait again.  One
 * that works for longer than half of what the manager waits hangs: then no sign
 * is sent, and the manager ends the agent and starts another one.  Only loops
 * count that never wait for libvirt or a disk.  A libvirt that hangs is no
 * fault that another agent would mend.
 */

#ifndef HATCH_AGENT_WATCHDOG_H_INCLUDED
#define HATCH_AGENT_WATCHDOG_H_INCLUDED

#include "hatch_err.h"


typedef enum {
    WATCHDOG_MAIN,          /* the heartbeat: table and zone */
    WATCHDOG_WAKE,          /* the wake socket */
    WATCHDOG_IDLE,          /* who falls asleep */
    WATCHDOG_LOOPS
} watchdog_loop_t;


/* The loop works from now on.  Its own thread. */
void watchdog_works(watchdog_loop_t loop);

/* It has done all that there was, and waits for more. */
void watchdog_waits(watchdog_loop_t loop);

/* Starts the thread that sends the signs, if somebody wants them. */
int watchdog_start(hatch_err_t *err);

#endif /* HATCH_AGENT_WATCHDOG_H_INCLUDED */
