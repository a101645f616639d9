/*
 * The wake socket: nginx workers ask for VMs (hatch_wake.h), this answers.
 *
 *   wake.c         the thread: what was asked for, timers
 *   wake_worker.c  connections and messages
 *   wake_vm.c      one wake per VM, however many ask; threads and turns
 *   wake_entry.c   what is remembered of a VM: back-off
 *   wake_probe.c   does the guest accept connections on a port?
 *
 * One thread runs it all and never blocks; a wake itself runs in a thread of
 * its own (vm_sleep.h), so that a VM that hangs delays no other.
 */

#ifndef HATCH_AGENT_WAKE_H_INCLUDED
#define HATCH_AGENT_WAKE_H_INCLUDED

#include "core/config.h"
#include "hatch_err.h"


/* Listens and starts the thread. */
int wake_start(const config_t *config, hatch_err_t *err);

/* Ends it and removes the socket.  Wakes that are under way go on. */
void wake_stop(void);

/* Wakes a VM for requests that are in flight; nobody waits.  Any thread. */
void wake_request(const char *id);

/* 1 if a worker is connected.  Any thread. */
int wake_connected(void);

#endif /* HATCH_AGENT_WAKE_H_INCLUDED */
