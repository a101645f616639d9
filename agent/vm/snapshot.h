/*
 * Snapshots: memory, devices and disk of a VM at one instant.
 *
 * state_dir/snapshots/ID/ has the memory with the devices (libvirt's save
 * format) and a copy of the disk, ID.json the record.  The record is written
 * last and removed first: a snapshot is whole or not there.  Nothing in it is
 * ever changed; a restore takes copies.
 */

#ifndef HATCH_AGENT_SNAPSHOT_H_INCLUDED
#define HATCH_AGENT_SNAPSHOT_H_INCLUDED

#include <json-c/json.h>

#include "core/config.h"
#include "hatch_err.h"
#include "table/table.h"


#define SNAPSHOT_NAME_MAX  128      /* bytes */


/* Loads the records.  Once, before any other call. */
int snapshot_open(const config_t *config, hatch_err_t *err);

/* Goes on with deletions that an agent was killed in.  Once, after it. */
void snapshot_tidy(const config_t *config);

/*
 * Says of which snapshots there are files and no record that can be read; they
 * are kept.  Once, when pending.h is loaded, too.
 */
void snapshot_report(const config_t *config);

/* Is anything there, recorded or not? */
int snapshot_has_files(const config_t *config);

/* Has it a record, if only one that cannot be read?  Then it is whole. */
int snapshot_is_recorded(const config_t *config, const char *id);

/*
 * Takes a snapshot of a VM that is running or paused.  Then the VM goes on as
 * before (keep_running) or sleeps, snapshotted.  On success the caller owns
 * *record.  HATCH_ERR_LIMIT; a failure leaves the VM as it was, and no files.
 */
int snapshot_take(const config_t *config, const char *vm, const char *name,
    int keep_running, json_object **record, hatch_err_t *err);

/*
 * Brings a VM that has no process back to a snapshot, and lets it run.  id
 * NULL: to its latest memory, which is the saved one of a VM that is
 * snapshotted, else its newest snapshot.  HATCH_ERR_NOT_FOUND if it has no
 * such snapshot, HATCH_ERR_CONFLICT in another state.  After a failure the VM
 * is as it was.
 */
int snapshot_restore(const config_t *config, const char *vm, const char *id,
    vm_t *restored, hatch_err_t *err);

/* A record of the caller's own, or NULL; those of a VM, newest first. */
json_object *snapshot_get(const char *id);
json_object *snapshot_list(const char *vm);

/*
 * Are a record's files there, and as large as they were?  Nobody writes them.
 * HATCH_ERR_ABSENT and the like, HATCH_ERR_TRUNCATED.
 */
int snapshot_check(const config_t *config, json_object *record,
    hatch_err_t *err);

int snapshot_delete(const config_t *config, const char *id,
    hatch_err_t *err);

/* All of one VM, which is gone; and one that is not whole, in recovery. */
void snapshot_delete_vm(const config_t *config, const char *vm);
void snapshot_delete_files(const config_t *config, const char *id);

/* Adds the VMs that have snapshots to an object, as keys. */
void snapshot_note_vms(json_object *ids);

/* Where its memory or disk is, into path[STATEDIR_PATH]. */
void snapshot_path(const config_t *config, const char *id, const char *file,
    char *path);

#define SNAPSHOT_MEMORY  "/memory"
#define SNAPSHOT_DISK    "/disk.qcow2"

#endif /* HATCH_AGENT_SNAPSHOT_H_INCLUDED */
