#define _GNU_SOURCE

#include "files.h"
#include "routes.h"
#include "saved.h"
#include "snapshot.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "store/disk.h"
#include "store/pending.h"
#include "store/seed.h"
#include "store/statedir.h"
#include "table/table.h"

#include "hatch_id.h"
#include "hatch_json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


/* Has an empty file for each VM made with the test driver. */
#define FILES_TEST_FOLDER  "test"


/* What files_tidy() found of VMs that are not in the table: ids as keys. */
typedef struct {
    json_object  *files;
    json_object  *routes;
} files_found_t;


static struct {
    int  test;                  /* all that is here is the test driver's */
} files;


/* state_dir/test, or a file in it. */
static int
files_test_path(const config_t *config, const char *vm, char *path)
{
    statedir_path(config, FILES_TEST_FOLDER, vm, "", path);

    if (vm[0] == '\0') {
        path[strlen(path) - 1] = '\0';
    }

    return access(path, F_OK) == 0;
}


void
files_delete(const config_t *config, const char *vm)
{
    char         path[STATEDIR_PATH];
    hatch_err_t  err;

    seed_delete(config, vm);
    disk_delete(config, vm);
    snapshot_delete_vm(config, vm);
    saved_forget(config, vm);

    /* last: it says that the rest may go */
    if (files_test_path(config, vm, path)) {
        (void) statedir_unlink(path, &err);
    }
}


int
files_mark_test(const config_t *config, const char *vm, hatch_err_t *err)
{
    char  path[STATEDIR_PATH];

    if (!files_test_path(config, "", path)) {
        return 0;
    }

    (void) files_test_path(config, vm, path);

    return statedir_write(path, "", 0, err);
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

        if (!table_has(id)) {
            (void) json_object_object_add(ids, id, NULL);
        }
    }
}


static void
files_unmark(void *ctx, const char *name)
{
    char         path[STATEDIR_PATH];
    hatch_err_t  err;

    if (hatch_id_valid(HATCH_ID_VM, name, strlen(name))) {
        (void) files_test_path(ctx, name, path);
        (void) statedir_unlink(path, &err);
    }
}


/* Is anything of a VM there, or of an operation on one? */
static int
files_has_vms(const config_t *config)
{
    int                        unread;
    cleanup_json json_object  *ids = json_object_new_object();

    unread = statedir_each(config, "seeds", files_note, ids)
             | statedir_each(config, "disks", files_note, ids)
             | statedir_each(config, "pending", files_note, ids)
             | statedir_each(config, "saved", files_note, ids);
    snapshot_note_vms(ids);

    /* in doubt there is */
    return unread != 0 || json_object_object_length(ids) != 0
           || snapshot_has_files(config);
}


int
files_open(const config_t *config, int test, hatch_err_t *err)
{
    int   there;
    char  path[STATEDIR_PATH];

    there = files_test_path(config, "", path);

    if (test && !there && !files_has_vms(config)
        && mkdir(path, 0700) == -1)
    {
        return hatch_err_errno(err, errno, "cannot create \"%s\"", path);
    }

    if (!test && there) {
        (void) statedir_each(config, FILES_TEST_FOLDER, files_unmark,
                          (void *) config);

        if (rmdir(path) == -1) {
            return hatch_err_errno(err, errno, "cannot remove \"%s\", which "
                                   "says that all VMs here are libvirt's test "
                                   "driver's", path);
        }
    }

    files.test = test && (there || access(path, F_OK) == 0);

    return 0;
}


static void
files_find(const config_t *config, files_found_t *found)
{
    hatch_err_t  err;

    found->files = json_object_new_object();
    found->routes = json_object_new_object();

    (void) statedir_each(config, "seeds", files_note, found->files);
    (void) statedir_each(config, "disks", files_note, found->files);
    snapshot_note_vms(found->files);

    if (files.test) {
        (void) statedir_each(config, FILES_TEST_FOLDER, files_note,
                             found->files);
    }

    if (routes_note_vms(config, found->routes, &err) != 0) {
        log_event(LOG_WARN, "cannot look for routes of VMs that libvirt does "
                  "not have: %s", err.text);
    }
}


/*
 * Is it so, and not only on its way in or out?  An operation is in one of the
 * two until nothing of the VM is left, or all of it is there.
 */
static int
files_is_missing(const char *id)
{
    return !pending_known(id) && !table_has(id);
}


static void
files_discard(const config_t *config, const char *id)
{
    unsigned     n;
    hatch_err_t  err;

    if (routes_delete(config, id, &n, &err) != 0) {
        log_event(LOG_WARN, "%s: its routes remain: %s", id, err.text);
        return;
    }

    files_delete(config, id);
    log_event(LOG_INFO, "%s: deleted its files and %u routes; it was one of "
              "libvirt's test driver, which has forgotten it", id, n);
}


/* Once for each time that it goes; only the tidy thread is here. */
static void
files_tell(const config_t *config, const char *id, int has_files)
{
    if (has_files) {
        log_event(LOG_WARN, "%s: libvirt has no such VM; its files in %s, "
                  "routes and address are kept until it is back", id,
                  config->state_dir);
    } else {
        log_event(LOG_WARN, "%s: libvirt has no such VM; its routes and "
                  "address are kept until it is back", id);
    }
}


/* Those of which it was told, and that are here again. */
static void
files_tell_back(json_object *told)
{
    cleanup_json json_object  *back = json_object_new_object();

    json_object_object_foreach(told, id, none) {
        (void) none;

        if (table_has(id)) {
            (void) json_object_object_add(back, id, NULL);
            log_event(LOG_INFO, "%s: is back, with what was kept of it", id);
        }
    }

    json_object_object_foreach(back, again, also_none) {
        (void) also_none;
        json_object_object_del(told, again);
    }
}


static void
files_tidy_one(const config_t *config, json_object *told, const char *id,
    int has_files)
{
    if (!files_is_missing(id)) {
        return;
    }

    if (files.test) {
        files_discard(config, id);

    } else if (!json_object_object_get_ex(told, id, NULL)) {
        files_tell(config, id, has_files);
        (void) json_object_object_add(told, id, NULL);
    }
}


/* Is there anything new?  The route store may be another agent's, too. */
static int
files_is_news(const files_found_t *found, json_object *told)
{
    json_object_object_foreach(found->files, id, none) {
        (void) none;

        if (files_is_missing(id)
            && !json_object_object_get_ex(told, id, NULL))
        {
            return 1;
        }
    }

    json_object_object_foreach(found->routes, routed, nothing) {
        (void) nothing;

        if (!files.test && files_is_missing(routed)
            && !json_object_object_get_ex(told, routed, NULL))
        {
            return 1;
        }
    }

    return 0;
}


/*
 * A VM that was just being deleted may have been seen, and have gone since: it
 * is not found again.
 */
static void
files_tidy_found(const config_t *config, const files_found_t *found,
    json_object *told)
{
    files_found_t  again;

    files_find(config, &again);

    json_object_object_foreach(found->files, id, none) {
        (void) none;

        if (json_object_object_get_ex(again.files, id, NULL)) {
            files_tidy_one(config, told, id, 1);
        }
    }

    json_object_object_foreach(found->routes, routed, nothing) {
        (void) nothing;

        if (!files.test
            && json_object_object_get_ex(again.routes, routed, NULL)
            && !json_object_object_get_ex(again.files, routed, NULL))
        {
            files_tidy_one(config, told, routed, 0);
        }
    }

    json_object_put(again.files);
    json_object_put(again.routes);
}


void
files_tidy(const config_t *config)
{
    files_found_t  found;

    static json_object  *told;

    if (told == NULL) {
        told = json_object_new_object();
    }

    files_tell_back(told);
    files_find(config, &found);

    if (files_is_news(&found, told)) {
        files_tidy_found(config, &found, told);
    }

    json_object_put(found.files);
    json_object_put(found.routes);
}
