/*
 * Work: an operation in a thread of its own, with a deadline for each step.
 *
 * A call to libvirt has no deadline; with a QEMU that hangs it may never come
 * back.  So an operation runs in its own thread and says before each call
 * what it does and how long that may take (work_step()).  Who asked for the
 * operation waits outside; when a step is overdue it gets HATCH_ERR_TIMEOUT
 * and goes.  The operation itself is not cut off: when libvirt answers after
 * all, it goes on to its end, so nothing is ever left half done.
 */

#ifndef HATCH_AGENT_WORK_H_INCLUDED
#define HATCH_AGENT_WORK_H_INCLUDED

#include "config.h"
#include "hatch_err.h"


/*
 * Runs run(arg) and waits for it.  Returns 0 once it has ended, and arg is
 * the caller's again; or HATCH_ERR_TIMEOUT (a step is overdue) or
 * HATCH_ERR_SYSTEM (no thread): then release(arg) is called when it ends, and
 * the caller must not touch arg any more.
 */
int work_run(void (*run)(void *arg), void (*release)(void *arg), void *arg,
    hatch_err_t *err);

/* Starts a thread that nobody joins.  0, or an errno. */
int work_detach(void *(*run)(void *arg), void *arg);

/*
 * The calling operation's next step may take that many seconds; what is a
 * literal, as in "pausing the VM".  Nothing happens in other threads.
 */
void work_step(const char *what, int64_t seconds);

/*
 * Waits for one of config's max_starts turns, `seconds` at most for whoever
 * waits for the operation: starting and restoring guests takes processors and
 * disk, too many at once would help none of them.  One that has had its turn
 * for longer than `seconds` hangs, and keeps nobody else waiting; but no more
 * than WORK_HUNG do.  The thread that began ends it.
 */
#define WORK_HUNG  64

void work_start_begin(const config_t *config, int64_t seconds);
void work_start_end(void);

/* max_starts may be another one. */
void work_reload(void);

#endif /* HATCH_AGENT_WORK_H_INCLUDED */
