/*
 * Pending operations: a note on disk for as long as an operation is between
 * its first and its last step, so that the next agent knows what this one was
 * doing when it was killed, and brings the VM back to a whole state
 * (recover.c).  One per VM: operations on a VM are serial.  Only a deletion is
 * begun over one that has not ended, and has a note beside that one's.
 */

#ifndef HATCH_AGENT_PENDING_H_INCLUDED
#define HATCH_AGENT_PENDING_H_INCLUDED

#include <json-c/json.h>

#include "core/config.h"
#include "hatch_err.h"


/* Loads what was left by an agent before us.  Once, at the start. */
int pending_open(const config_t *config, hatch_err_t *err);

/* Removes what is left of notes that were never written to their end. */
void pending_tidy(const config_t *config);

/*
 * Notes an operation; it is on disk when this returns.  details (or NULL) is
 * an object of its own making, given to the recovery; it is taken over.
 */
int pending_begin(const config_t *config, const char *vm,
    const char *operation, json_object *details, hatch_err_t *err);

/*
 * The same for one that goes on without a note on a disk that has no room: it
 * deletes.  Should the agent be killed in it, the rest of the VM stays.
 */
int pending_begin_anyway(const config_t *config, const char *vm,
    const char *operation, json_object *details, hatch_err_t *err);

/*
 * The operation has ended, one way or the other; nothing is left to do.  The
 * note is off the disk when this returns 0; an error has been logged.
 */
int pending_end(const config_t *config, const char *vm);

/*
 * The operation has failed, and all is as it was before it: so is an older one
 * that has not ended, over which this one was begun; its note stays.
 */
int pending_undone(const config_t *config, const char *vm);

/*
 * The operation failed, and so did undoing it (libvirt is gone, for
 * example): the note stays, and recovery takes it over.
 */
void pending_abandon(const char *vm);

/* Is there a note of this VM, an operation's or an abandoned one? */
int pending_known(const char *vm);

/*
 * Has the VM a note only of an operation that is not recovered without its
 * domain: a restore, or what the note cannot tell?
 */
int pending_waits(const char *vm);

/* Has the note of any operation this text in that field? */
int pending_mentions(const char *field, const char *value);

/* Must this VM be recovered before anything else is done to it? */
int pending_abandoned(const char *vm);

/*
 * The ids of all VMs to be recovered, as an object { id: details }, where
 * details have the field "operation" added.
 */
json_object *pending_list(void);

#endif /* HATCH_AGENT_PENDING_H_INCLUDED */
