/* What there is of orphans. */

#define _GNU_SOURCE

#include "orphan.h"
#include "orphan_private.h"
#include "routes.h"
#include "core/cleanup.h"
#include "store/pending.h"
#include "table/table.h"

#include "hatch_clock.h"
#include "hatch_json.h"

#include <string.h>
#include <sys/stat.h>


typedef struct {
    const config_t  *config;
    json_object     *found;
} scan_t;


static void
scan_add(json_object *object, const char *field, int64_t n)
{
    int64_t  before = hatch_json_integer(object, field, 0);

    (void) json_object_object_add(object, field,
                                  json_object_new_int64(before + n));
}


static json_object *
scan_child(json_object *object, const char *field)
{
    json_object  *child;

    if (!json_object_object_get_ex(object, field, &child)) {
        child = json_object_new_object();
        (void) json_object_object_add(object, field, child);
    }

    return child;
}


/* Of a VM that is gone, what was noted of it while it was there. */
static void
scan_known(const scan_t *scan, json_object *entry, const char *id)
{
    size_t                     i;
    json_object               *value;
    cleanup_json json_object  *note = orphan_note(scan->config, id);

    static const char *const  fields[] = { "name", "guest_ip", "guest_mac" };

    for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (json_object_object_get_ex(note, fields[i], &value)) {
            (void) json_object_object_add(entry, fields[i],
                                          json_object_get(value));
        }
    }

    scan_add(entry, "disk_mib", 0);
    scan_add(entry, "snapshots", 0);
    scan_add(entry, "routes", 0);
    scan_add(entry, "since", hatch_json_integer(note, "gone", 0));
}


/* The entry of an orphan, a new one if need be. */
static json_object *
scan_entry(const scan_t *scan, const char *id, const char *kind,
    const char *vm)
{
    json_object  *entry;

    if (json_object_object_get_ex(scan->found, id, &entry)) {
        return entry;
    }

    entry = json_object_new_object();
    (void) json_object_object_add(scan->found, id, entry);
    (void) json_object_object_add(entry, "id", json_object_new_string(id));
    (void) json_object_object_add(entry, "kind",
                                  json_object_new_string(kind));
    (void) scan_child(entry, "files");
    scan_add(entry, "size_bytes", 0);

    if (strcmp(kind, ORPHAN_VM) == 0) {
        scan_known(scan, entry, id);

    } else if (vm[0] != '\0') {
        (void) json_object_object_add(entry, "vm_id",
                                      json_object_new_string(vm));
    }

    return entry;
}


static void
scan_file(void *ctx, const orphan_file_t *file)
{
    scan_t       *scan = ctx;
    const char   *id = orphan_owner(file), *kind;
    struct stat   st;
    json_object  *entry, *files;

    if (id[0] == '\0' || stat(file->path, &st) == -1) {
        return;
    }

    kind = id == file->snapshot ? ORPHAN_SNAPSHOT
           : table_has(id) ? ORPHAN_MEMORY : ORPHAN_VM;
    entry = scan_entry(scan, id, kind, file->vm);
    files = scan_child(scan_child(entry, "files"), file->what);
    scan_add(files, "count", 1);
    scan_add(files, "bytes", st.st_size);
    scan_add(entry, "size_bytes", st.st_size);

    if (hatch_json_integer(entry, "changed", 0) < st.st_ctime) {
        (void) json_object_object_add(entry, "changed",
                                      json_object_new_int64(st.st_ctime));
    }

    if (strcmp(kind, ORPHAN_VM) != 0) {
        return;
    }

    if (strcmp(file->what, "disk") == 0
               && strcmp(strrchr(file->path, '.'), ".qcow2") == 0)
    {
        scan_add(entry, "disk_mib", orphan_disk_mib(file->path));

    } else if (file->snapshot[0] != '\0'
               && !json_object_object_get_ex(scan_child(entry, "seen"),
                                             file->snapshot, NULL))
    {
        (void) json_object_object_add(scan_child(entry, "seen"),
                                      file->snapshot, NULL);
        scan_add(entry, "snapshots", 1);
    }
}


/* Where nobody noted since when: since its files stand still, or this. */
static void
scan_finish(json_object *entry)
{
    int64_t  since = hatch_json_integer(entry, "since", 0);

    static _Atomic int64_t  first;

    if (first == 0) {
        first = (int64_t) hatch_clock_wall_ms();
    }

    if (since == 0) {
        since = hatch_json_integer(entry, "changed", 0) * 1000;
    }

    json_object_object_del(entry, "seen");
    json_object_object_del(entry, "changed");
    (void) json_object_object_add(entry, "since", json_object_new_int64(
                                      since != 0 ? since : first));
}


json_object *
orphan_scan(const config_t *config, hatch_err_t *err)
{
    scan_t                     scan = { config, json_object_new_object() };
    json_object               *entry;
    cleanup_json json_object  *routes = json_object_new_object();

    orphan_walk(config, scan_file, &scan);

    if (routes_note_vms(config, routes, err) == 0) {
        err->code = HATCH_OK;           /* also if there is no store yet */
    }

    json_object_object_foreach(routes, vm, n) {
        if (orphan_is_missing(vm)) {
            entry = scan_entry(&scan, vm, ORPHAN_VM, "");
            scan_add(entry, "routes", json_object_get_int64(n));
        }
    }

    json_object_object_foreach(scan.found, id, found) {
        (void) id;
        scan_finish(found);
    }

    return scan.found;
}
