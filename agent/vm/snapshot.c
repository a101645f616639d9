#define _GNU_SOURCE

#include "snapshot.h"
#include "operation.h"
#include "snapshot_private.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/work.h"
#include "store/pending.h"
#include "store/statedir.h"

#include "hatch_id.h"
#include "hatch_json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


records_t  snapshots = { .folder = SNAPSHOT_FOLDER };


/* Goes on with a deletion that the agent before was killed in. */
static void
snapshot_tidy_entry(void *ctx, const char *name)
{
    char         id[HATCH_ID_SIZE], path[STATEDIR_PATH];
    size_t       n = strcspn(name, ".");
    hatch_err_t  err;

    if (!hatch_id_valid(HATCH_ID_SNAPSHOT, name, n)
        || strcmp(name + n, RECORDS_GONE) != 0)
    {
        return;
    }

    (void) snprintf(id, sizeof(id), "%.*s", (int) n, name);

    /* somebody put it back, from a copy */
    if (snapshot_is_recorded(ctx, id)) {
        snapshot_path(ctx, name, "", path);
        (void) statedir_unlink(path, &err);
        return;
    }

    snapshot_delete_files(ctx, id);
}


int
snapshot_open(const config_t *config, hatch_err_t *err)
{
    return records_open(&snapshots, config, err);
}


void
snapshot_tidy(const config_t *config)
{
    (void) statedir_each(config, SNAPSHOT_FOLDER, snapshot_tidy_entry,
                         (void *) config);
}


/* Is an operation, which recovery will end, at work on this snapshot? */
static int
snapshot_is_pending(const char *id)
{
    cleanup_json json_object  *notes = pending_list();

    json_object_object_foreach(notes, vm, details) {
        (void) vm;

        if (strcmp(hatch_json_string(details, "snapshot_id", ""), id) == 0) {
            return 1;
        }
    }

    return 0;
}


static void
snapshot_report_entry(void *ctx, const char *name)
{
    char                       path[STATEDIR_PATH];
    cleanup_json json_object  *record = records_get(&snapshots, name);

    snapshot_path(ctx, name, "", path);

    if (record == NULL
        && hatch_id_valid(HATCH_ID_SNAPSHOT, name, strlen(name))
        && !snapshot_is_pending(name))
    {
        log_event(LOG_WARN, "snapshot %s has no record that can be read, and "
                  "cannot be used; its files in \"%s\" are kept", name, path);
    }
}


void
snapshot_report(const config_t *config)
{
    (void) statedir_each(config, SNAPSHOT_FOLDER, snapshot_report_entry,
               (void *) config);
}


static void
snapshot_count_entry(void *ctx, const char *name)
{
    (void) name;
    (*(unsigned *) ctx)++;
}


int
snapshot_has_files(const config_t *config)
{
    unsigned  n = 0;

    return statedir_each(config, SNAPSHOT_FOLDER, snapshot_count_entry, &n) != 0
           || n != 0;
}


int
snapshot_is_recorded(const config_t *config, const char *id)
{
    char                       path[STATEDIR_PATH];
    cleanup_json json_object  *record = records_get(&snapshots, id);

    snapshot_path(config, id, ".json", path);

    return record != NULL || access(path, F_OK) == 0;
}


void
snapshot_path(const config_t *config, const char *id, const char *file,
    char *path)
{
    statedir_path(config, SNAPSHOT_FOLDER, id, file, path);
}


/* --- reading, deleting --- */

json_object *
snapshot_get(const char *id)
{
    return records_get(&snapshots, id);
}


json_object *
snapshot_list(const char *vm)
{
    return records_list_of(&snapshots, "vm_id", vm);
}


int
snapshot_check(const config_t *config, json_object *record, hatch_err_t *err)
{
    char         path[STATEDIR_PATH];
    size_t       i;
    int64_t      noted, size = 0;
    const char  *id = hatch_json_string(record, "id", "");
    struct stat  st;

    static const char *const  files[][2] = {
        { "memory_key", SNAPSHOT_MEMORY }, { "disk_key", SNAPSHOT_DISK }
    };

    for (i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (!json_object_object_get_ex(record, files[i][0], NULL)) {
            continue;
        }

        snapshot_path(config, id, files[i][1], path);

        if (stat(path, &st) == -1) {
            return hatch_err_errno(err, errno, "snapshot %s: \"%s\"", id, path);
        }

        size += st.st_size;
    }

    noted = hatch_json_integer(record, "size_bytes", size);

    return size == noted
           ? 0 : hatch_err_set(err, HATCH_ERR_TRUNCATED, "snapshot %s is "
                               "damaged: its files have %lld bytes, and had "
                               "%lld", id, (long long) size,
                               (long long) noted);
}


static void
snapshot_note_vm(void *ctx, json_object *record)
{
    (void) json_object_object_add(ctx, hatch_json_string(record, "vm_id", ""),
                                  NULL);
}


void
snapshot_note_vms(json_object *ids)
{
    records_each(&snapshots, snapshot_note_vm, ids);
}


void
snapshot_delete_files(const config_t *config, const char *id)
{
    char         path[STATEDIR_PATH];
    size_t       i;
    hatch_err_t  err;

    static const char *const  files[] = { SNAPSHOT_MEMORY, SNAPSHOT_DISK };

    /* notes are read from the disk: this one's must not name other folders */
    if (!hatch_id_valid(HATCH_ID_SNAPSHOT, id, strlen(id))) {
        return;
    }

    for (i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snapshot_path(config, id, files[i], path);
        (void) unlink(path);
    }

    snapshot_path(config, id, "", path);

    /* the mark says that the files may go: it stays as long as they do */
    if (rmdir(path) == -1 && errno != ENOENT) {
        return;
    }

    snapshot_path(config, id, RECORDS_GONE, path);

    if (access(path, F_OK) == 0) {
        (void) statedir_unlink(path, &err);
    }
}


void
snapshot_delete_vm(const config_t *config, const char *vm)
{
    size_t                     i, n;
    const char                *id;
    hatch_err_t                err;
    cleanup_json json_object  *list = snapshot_list(vm);

    for (i = 0, n = json_object_array_length(list); i < n; i++) {
        id = hatch_json_string(json_object_array_get_idx(list, i), "id", "");

        if (records_mark_gone(&snapshots, id, &err) == 0) {
            snapshot_delete_files(config, id);

        } else if (err.code != HATCH_ERR_NOT_FOUND) {
            log_event(LOG_ERROR, "%s: snapshot %s remains: %s", vm, id,
                      err.text);
        }
    }
}


static int
unsnap_forget(vm_op_t *op, hatch_err_t *err)
{
    return records_mark_gone(&snapshots, op->arg, err);
}


static int
unsnap_files(vm_op_t *op, hatch_err_t *err)
{
    (void) err;

    snapshot_delete_files(op->config, op->arg);

    return 0;
}


/* Its mark is the note: snapshot_open() goes on with it. */
static const step_t  unsnap_steps[] = {
    { .name = "forgotten", .run = unsnap_forget },
    { .name = "files", .run = unsnap_files },
    { .name = NULL }
};

const operation_t  unsnap_operation = {
    .name = "unsnap", .steps = unsnap_steps, .forward = 1
};


int
snapshot_delete(const config_t *config, const char *id, hatch_err_t *err)
{
    int                        rc, deleted;
    vm_op_t                    op;
    hatch_err_t                why;
    cleanup_json json_object  *record = records_get(&snapshots, id);

    if (record == NULL) {
        return hatch_err_set(err, HATCH_ERR_NOT_FOUND, "no snapshot \"%s\"",
                             id);
    }

    memset(&op, 0, sizeof(op));
    op.config = config;
    op.arg = (void *) id;
    (void) snprintf(op.vm.id, sizeof(op.vm.id), "%s",
                    hatch_json_string(record, "vm_id", ""));

    /* not under a restore that reads it */
    work_step("waiting for the operation before", 40);
    rc = table_begin(op.vm.id, 0, 30000, &op.vm, &why);

    if (rc != 0 && rc != HATCH_ERR_NOT_FOUND) {
        *err = why;
        return rc;
    }

    deleted = operation_run(&unsnap_operation, &op, err);

    if (rc == 0) {
        table_end(op.vm.id);
    }

    return deleted;
}
