/*
 * All that belongs to one VM in the state directory, and its routes: what goes
 * with it when a user deletes it, and stays when libvirt has it no more.
 */

#ifndef HATCH_AGENT_FILES_H_INCLUDED
#define HATCH_AGENT_FILES_H_INCLUDED

#include "core/config.h"
#include "hatch_err.h"


/*
 * Deletes a VM's files: seed, disk, snapshots, notes.  Only for a VM that a
 * user deleted, whose creation is being undone, or that is marked as below.
 * Any thread.
 */
void files_delete(const config_t *config, const char *vm);

/*
 * Domains of libvirt's test driver end with the agent and never come back, so
 * the next agent with that driver may delete what is left of them.  It may if
 * the folder "test" says that no VM of another driver was ever in this state
 * directory: it is made by the first agent, with that driver, that finds none,
 * and removed by any agent with another one.  The sync thread, on each
 * connection, before anything is made.
 */
int files_open(const config_t *config, int test, hatch_err_t *err);

/* Notes a VM of the test driver there: it may have routes, and no files. */
int files_mark_test(const config_t *config, const char *vm, hatch_err_t *err);

/*
 * Looks for files and routes of VMs that are not in the table.  They stay, for
 * when the VM is back, and are logged once.  Only what is left of the test
 * driver's VMs (files_open()) is deleted.  The tidy thread, once the table is
 * complete.
 */
void files_tidy(const config_t *config);

#endif /* HATCH_AGENT_FILES_H_INCLUDED */
