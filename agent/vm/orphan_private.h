/* What orphan*.c share; nobody else. */

#ifndef HATCH_AGENT_ORPHAN_PRIVATE_H_INCLUDED
#define HATCH_AGENT_ORPHAN_PRIVATE_H_INCLUDED

#include <json-c/json.h>

#include "core/config.h"
#include "hatch_err.h"
#include "hatch_id.h"
#include "store/statedir.h"


/* A file that belongs to a VM. */
typedef struct {
    char         vm[HATCH_ID_SIZE];         /* "": not known */
    char         snapshot[HATCH_ID_SIZE];   /* it is of this one, or "" */
    char         path[STATEDIR_PATH];
    const char  *what;          /* disk, seed, snapshot, saved_memory, note */
    unsigned     recorded:1;    /* the snapshot has a record */
    unsigned     aside:1;       /* the memory was put aside */
} orphan_file_t;


/*
 * Calls visit(ctx, file) for every file of any VM, in the state directory and
 * beside libvirt's saved memory, but for snapshots that are being taken or
 * deleted.  It may delete the file.
 */
void orphan_walk(const config_t *config,
    void (*visit)(void *ctx, const orphan_file_t *file), void *ctx);

/* Of which orphan the file is a part: an id, or "" if it is of none. */
const char *orphan_owner(const orphan_file_t *file);

/* The size of a qcow2 disk as its guest sees it, MiB; 0: it is none. */
unsigned orphan_disk_mib(const char *path);

/* What lies below a qcow2 file, into path[STATEDIR_PATH]; -1: nothing. */
int orphan_disk_below(const char *file, char *path);

/* What is in state_dir/vms of a VM, or an empty object. */
json_object *orphan_note(const config_t *config, const char *vm);

#endif /* HATCH_AGENT_ORPHAN_PRIVATE_H_INCLUDED */
