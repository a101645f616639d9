#define _GNU_SOURCE

#include "files.h"
#include "cleanup.h"
#include "disk.h"
#include "log.h"
#include "pending.h"
#include "seed.h"
#include "snapshot.h"
#include "state.h"
#include "table.h"

#include "hatch_id.h"
#include "hatch_json.h"

#include <stdio.h>
#include <string.h>


void
files_delete(const config_t *config, const char *vm)
{
    seed_delete(config, vm);
    disk_delete(config, vm);
    snapshot_delete_vm(config, vm);
}


/* Collects the ids of VMs that files are named after. */
static void
files_note(void *ctx, const char *name)
{
    char          id[HATCH_ID_SIZE];
    size_t        n = strcspn(name, ".");
    json_object  *ids = ctx;

    if (hatch_id_valid(HATCH_ID_VM, name, n)) {
        (void) snprintf(id, sizeof(id), "%.*s", (int) n, name);
        (void) json_object_object_add(ids, id, NULL);
    }
}


void
files_tidy(const config_t *config, int discard)
{
    cleanup_json json_object  *ids = json_object_new_object();

    /* told once; only the tidy thread is here */
    static json_object  *told;

    if (told == NULL) {
        told = json_object_new_object();
    }

    state_each(config, "seeds", files_note, ids);
    state_each(config, "disks", files_note, ids);
    snapshot_note_vms(ids);

    json_object_object_foreach(ids, id, none) {
        (void) none;

        /* an operation is in the one before it is in the other */
        if (pending_known(id) || table_has(id)) {
            json_object_object_del(told, id);

        } else if (discard) {
            files_delete(config, id);
            log_event(LOG_INFO, "%s: deleted its files; the VM is gone", id);

        } else if (hatch_json_integer(told, id, 0) == 0) {
            /* perhaps just being deleted: told if it is so next time, too */
            (void) json_object_object_add(told, id, json_object_new_int(1));

        } else if (hatch_json_integer(told, id, 0) == 1) {
            (void) json_object_object_add(told, id, json_object_new_int(2));
            log_event(LOG_WARN, "%s: libvirt has no such VM; its files in %s "
                      "are kept", id, config->state_dir);
        }
    }
}
