/*
 * What belongs to VMs that libvirt does not have any more, and what else no
 * call of the API would reach: it is kept, listed and deleted here.
 *
 *   vm            files, snapshots, routes and address of a VM that is gone:
 *                 renamed or undefined.  It is no orphan any more when a domain
 *                 of that id is back
 *   saved_memory  of a VM that is there: memory that could not be restored and
 *                 was put aside (saved.h)
 *   snapshot      files of one whose record cannot be read, unless they are
 *                 known to be of a VM that is gone
 *
 * state_dir/vms/VM.json has what was last known of each VM: its name, address
 * and size, for when nobody else knows them.  A copy, made by the tidy thread.
 */

#ifndef HATCH_AGENT_ORPHAN_H_INCLUDED
#define HATCH_AGENT_ORPHAN_H_INCLUDED

#include <json-c/json.h>

#include "core/config.h"
#include "hatch_err.h"


#define ORPHAN_VM        "vm"
#define ORPHAN_MEMORY    "saved_memory"
#define ORPHAN_SNAPSHOT  "snapshot"

/* The folder of the copies. */
#define ORPHAN_FOLDER    "vms"


/*
 * All that there is now: a new object, id to { id, kind, vm_id, name, files,
 * size_bytes, disk_mib, snapshots, routes, guest_ip, guest_mac, since }, where
 * since is ms and files { kind: { count, bytes } }.  Reads the disk.  err is
 * filled, and the routes are not in it, if those cannot be read.  Any thread.
 */
json_object *orphan_scan(const config_t *config, hatch_err_t *err);

/* Is the VM in neither table nor hands, so that this is what is left of it? */
int orphan_is_missing(const char *vm);

/*
 * Deletes one.  HATCH_ERR_NOT_FOUND; HATCH_ERR_CONFLICT while the VM is there,
 * an operation on it has not ended, or any domain on the host names one of the
 * files.  After any other error what is left is still an orphan.
 */
int orphan_delete(const config_t *config, const char *id, hatch_err_t *err);

/*
 * Writes down what is new of the VMs in the table.  The tidy thread; an error
 * is logged.
 */
void orphan_note_vms(const config_t *config);

/* The same of one that is gone: since when (ms).  The tidy thread. */
void orphan_note_gone(const config_t *config, const char *vm, int64_t since);

/* Deletes what snapshots without a record a VM has, which is deleted itself. */
void orphan_delete_snapshots(const config_t *config, const char *vm);

/* Removes the copy, of a VM that is deleted. */
void orphan_forget(const config_t *config, const char *vm);

#endif /* HATCH_AGENT_ORPHAN_H_INCLUDED */
