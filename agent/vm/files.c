#define _GNU_SOURCE

#include "files.h"
#include "again.h"
#include "memory.h"
#include "orphan.h"
#include "routes.h"
#include "saved.h"
#include "snapshot.h"
#include "core/log.h"
#include "store/disk.h"
#include "store/memory_record.h"
#include "store/pending.h"
#include "store/seed.h"
#include "store/statedir.h"
#include "store/statedir_owner.h"
#include "table/table.h"
#include "virt/virt.h"
#include "virt/virt_cleanup.h"

#include "hatch_clock.h"
#include "hatch_id.h"
#include "hatch_json.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


/* Has an empty file for each VM made with the test driver. */
#define FILES_TEST_FOLDER  "test"


static struct {
    int  test;                  /* all that is here is the test driver's */
    int  opened;
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
files_delete_data(const config_t *config, const char *vm)
{
    seed_delete(config, vm);
    disk_delete(config, vm);
    memory_purge(config, vm);
    snapshot_delete_vm(config, vm);
    orphan_delete_snapshots(config, vm);
}


void
files_delete(const config_t *config, const char *vm)
{
    char         path[STATEDIR_PATH];
    hatch_err_t  err;

    files_delete_data(config, vm);
    saved_forget(config, vm);
    again_forget(config, vm);
    orphan_forget(config, vm);

    /* last: it says that the rest may go */
    if (files_test_path(config, vm, path)) {
        (void) statedir_unlink(path, &err);
    }
}


int
files_check_deleted(const config_t *config, const char *vm, hatch_err_t *err)
{
    char                       path[STATEDIR_PATH];
    const char                *id;
    cleanup_json json_object  *left = snapshot_list(vm);

    if (json_object_array_length(left) != 0) {
        id = hatch_json_string(json_object_array_get_idx(left, 0), "id", "");
        snapshot_path(config, id, ".json", path);
        return hatch_err_set(err, HATCH_ERR_HOST, "\"%s\" cannot be removed",
                             path);
    }

    disk_path(config, vm, path);

    if (access(path, F_OK) == -1) {
        seed_path(config, vm, path);
    }

    return access(path, F_OK) == -1
           ? 0 : hatch_err_set(err, HATCH_ERR_HOST, "\"%s\" cannot be removed",
                               path);
}


int
files_mark_test(const config_t *config, const char *vm, hatch_err_t *err)
{
    char  path[STATEDIR_PATH];

    (void) files_test_path(config, vm, path);

    return statedir_write(path, "", 0, err);
}


/* --- whose they are --- */

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


/* All VMs that there is something of.  -1: that cannot be read. */
static int
files_find_vms(const config_t *config, json_object *ids)
{
    int     unread = 0;
    size_t  i;

    static const char *const  folders[] = {
        "seeds", "disks", "pending", "saved", MEMORY_FOLDER, ORPHAN_FOLDER,
        FILES_TEST_FOLDER
    };

    for (i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        unread |= statedir_each(config, folders[i], files_note, ids);
    }

    snapshot_note_vms(ids);

    return unread;
}


int
files_judge(const config_t *config, virConnectPtr conn, hatch_err_t *err)
{
    int                        unread;
    char                       libvirt[128];
    cleanup_json json_object  *ids = json_object_new_object();

    /* in doubt there are some */
    unread = files_find_vms(config, ids);

    if (unread == 0 && json_object_object_length(ids) == 0
        && !snapshot_has_files(config))
    {
        return 0;
    }

    json_object_object_foreach(ids, id, none) {
        cleanup_domain virDomainPtr  domain = virDomainLookupByName(conn, id);

        (void) none;

        if (domain != NULL) {
            return 0;
        }

        if (virt_last_class() != VIRT_GONE) {
            return virt_error(err, "cannot look for the VMs");
        }
    }

    statedir_owner_libvirt(config, libvirt, sizeof(libvirt));

    return hatch_err_set(err, HATCH_ERR_FOREIGN, "\"state_dir\": \"%.80s\" "
                         "has files of %d VMs, and %.50s has none of these; "
                         "if they are to be its, " STATEDIR_HOWTO,
                         config->state_dir, json_object_object_length(ids),
                         libvirt);
}


static int
files_own(const config_t *config, virConnectPtr conn, hatch_err_t *err)
{
    int   rc;
    char  libvirt[128];

    if (statedir_owner_judged()) {
        return 0;
    }

    rc = files_judge(config, conn, err);

    if (rc == 0) {
        rc = statedir_owner_mark(config, err);
    }

    if (rc == 0) {
        statedir_owner_libvirt(config, libvirt, sizeof(libvirt));
        log_event(LOG_INFO, "\"%s\" belongs to %s from now on",
                  config->state_dir, libvirt);
    }

    return rc;
}


int
files_open(const config_t *config, virConnectPtr conn, hatch_err_t *err)
{
    int   rc;
    char  path[STATEDIR_PATH];

    rc = files_own(config, conn, err);

    if (rc != 0 || files.opened) {
        return rc;
    }

    files.test = virt_driver(conn)->forgets;

    if (files.test && !files_test_path(config, "", path)
        && mkdir(path, 0700) == -1)
    {
        return hatch_err_errno(err, errno, "cannot create \"%s\"", path);
    }

    memory_recover(config, conn);
    snapshot_tidy(config);
    pending_tidy(config);
    files.opened = 1;

    return 0;
}


/* --- what is left of those that are gone --- */

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


/* The test driver's, which are never back. */
static void
files_tidy_test(const config_t *config)
{
    cleanup_json json_object  *ids = json_object_new_object();

    (void) files_find_vms(config, ids);

    json_object_object_foreach(ids, id, none) {
        (void) none;

        if (files_is_missing(id)) {
            files_discard(config, id);
        }
    }
}


static int
files_has_any(json_object *entry)
{
    json_object  *kinds;

    return json_object_object_get_ex(entry, "files", &kinds)
           && json_object_object_length(kinds) != 0;
}


static int
files_is_vm(json_object *entry)
{
    return strcmp(hatch_json_string(entry, "kind", ""), ORPHAN_VM) == 0;
}


/* Once for each time that it goes; only the tidy thread is here. */
static void
files_tell(const config_t *config, const char *id, json_object *entry)
{
    if (files_has_any(entry)) {
        log_event(LOG_WARN, "%s: libvirt has no such VM; its files in %s, "
                  "routes and address are kept until it is back, or "
                  "DELETE /orphans/%s", id, config->state_dir, id);
    } else {
        log_event(LOG_WARN, "%s: libvirt has no such VM; its routes and "
                  "address are kept until it is back, or DELETE /orphans/%s",
                  id, id);
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


/* Is there one that has not been told of? */
static int
files_is_news(json_object *found, json_object *told)
{
    json_object_object_foreach(found, id, entry) {
        if (files_is_vm(entry) && files_is_missing(id)
            && !json_object_object_get_ex(told, id, NULL))
        {
            return 1;
        }
    }

    return 0;
}


static void
files_tell_news(const config_t *config, json_object *found, json_object *told)
{
    json_object_object_foreach(found, id, entry) {
        if (files_is_vm(entry) && files_is_missing(id)
            && !json_object_object_get_ex(told, id, NULL))
        {
            files_tell(config, id, entry);
            orphan_note_gone(config, id, (int64_t) hatch_clock_wall_ms());
            (void) json_object_object_add(told, id, NULL);
        }
    }
}


/* For the limits, the addresses and the metric. */
static void
files_count(json_object *found, uint64_t began)
{
    size_t           n = 0, listed;
    table_orphan_t  *orphans;

    listed = (size_t) json_object_object_length(found);
    orphans = calloc(listed + 1, sizeof(*orphans));

    if (orphans == NULL) {
        return;
    }

    json_object_object_foreach(found, id, entry) {
        if (!files_is_vm(entry)) {
            continue;
        }

        (void) snprintf(orphans[n].id, sizeof(orphans[n].id), "%s", id);
        (void) snprintf(orphans[n].name, sizeof(orphans[n].name), "%s",
                        hatch_json_string(entry, "name", ""));
        (void) snprintf(orphans[n].address.mac, VM_MAC_SIZE, "%s",
                        hatch_json_string(entry, "guest_mac", ""));
        (void) inet_pton(AF_INET, hatch_json_string(entry, "guest_ip", ""),
                         &orphans[n].address.ip);
        orphans[n].disk_mib = (unsigned) hatch_json_integer(entry, "disk_mib",
                                                            0);
        n++;
    }

    table_set_orphans(orphans, n, (unsigned) listed, began);
}


/*
 * A VM that was just being deleted may have been seen, and have gone since: it
 * is not found again.
 */
void
files_tidy(const config_t *config)
{
    uint64_t                   began;
    hatch_err_t                err;
    cleanup_json json_object  *found = NULL;

    static json_object  *told;

    if (told == NULL) {
        told = json_object_new_object();
    }

    if (files.test) {
        files_tidy_test(config);

    } else {
        orphan_note_vms(config);
    }

    files_tell_back(told);
    began = table_orphans_epoch();
    found = orphan_scan(config, &err);

    if (files_is_news(found, told)) {
        json_object_put(found);
        began = table_orphans_epoch();
        found = orphan_scan(config, &err);
        files_tell_news(config, found, told);
    }

    if (err.code != HATCH_OK) {
        log_event(LOG_WARN, "cannot look for routes of VMs that libvirt does "
                  "not have: %s", err.text);
    }

    files_count(found, began);
}
