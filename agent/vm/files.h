/*
 * All that belongs to one VM in the state directory, and its routes: what goes
 * with it when a user deletes it, and stays when libvirt has it no more.
 */

#ifndef HATCH_AGENT_FILES_H_INCLUDED
#define HATCH_AGENT_FILES_H_INCLUDED

#include <libvirt/libvirt.h>

#include "core/config.h"
#include "hatch_err.h"


/*
 * Deletes a VM's files: seed, disk, snapshots, notes.  Only for a VM or an
 * orphan that a user deleted, whose creation is being undone, or that is of the
 * test driver (below).  Any thread.
 */
void files_delete(const config_t *config, const char *vm);

/*
 * 0 if it has none of them any more; HATCH_ERR_HOST names one that could not be
 * removed.
 */
int files_check_deleted(const config_t *config, const char *vm,
    hatch_err_t *err);

/* Of these, what takes room and nothing else needs. */
void files_delete_data(const config_t *config, const char *vm);

/*
 * May an agent with this connection use a directory that says of no libvirt
 * that it belongs to (statedir_owner.h)?  If there are no files of VMs, or
 * libvirt has one of those VMs.  HATCH_ERR_FOREIGN.  Reads only.
 */
int files_judge(const config_t *config, virConnectPtr conn, hatch_err_t *err);

/*
 * On each connection, before anything else is made or deleted: judges the
 * directory, if need be, and marks it; then goes on with what the agent before
 * was killed in.  The sync thread.
 */
int files_open(const config_t *config, virConnectPtr conn, hatch_err_t *err);

/*
 * Domains of libvirt's test driver end with the agent and never come back, so
 * the next agent on a directory of that driver deletes what is left of them.
 * Notes one: it may have routes, and no files.
 */
int files_mark_test(const config_t *config, const char *vm, hatch_err_t *err);

/*
 * Looks for what is left of VMs that are not in the table, and counts it.  It
 * stays, for when the VM is back, and is logged once.  Only that of the test
 * driver is deleted.  The tidy thread, once the table is complete.
 */
void files_tidy(const config_t *config);

#endif /* HATCH_AGENT_FILES_H_INCLUDED */
