/* Deleting an orphan, and when that must not be. */

#define _GNU_SOURCE

#include "orphan.h"
#include "orphan_private.h"
#include "files.h"
#include "routes.h"
#include "snapshot.h"
#include "tidy.h"
#include "core/log.h"
#include "core/work.h"
#include "store/pending.h"
#include "table/table.h"
#include "virt/host.h"
#include "virt/net.h"
#include "virt/virt.h"
#include "virt/virt_cleanup.h"
#include "virt/xml.h"

#include "hatch_json.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


/* A chain of disks is no longer than this; or it is a circle. */
#define DELETE_CHAIN  32


typedef struct {
    const config_t  *config;
    const char      *id;
    json_object     *files;         /* the orphan's: path to "DEV:INODE" */
    hatch_err_t     *err;
    int              rc;
} delete_t;


static void
delete_identify(const char *path, char *text, size_t size)
{
    struct stat  st;

    text[0] = '\0';

    if (stat(path, &st) == 0) {
        (void) snprintf(text, size, "%ju:%ju", (uintmax_t) st.st_dev,
                        (uintmax_t) st.st_ino);
    }
}


/* --- who uses it --- */

static void
delete_collect(void *ctx, const orphan_file_t *file)
{
    char       which[64];
    delete_t  *delete = ctx;

    if (strcmp(orphan_owner(file), delete->id) == 0) {
        delete_identify(file->path, which, sizeof(which));
        (void) json_object_object_add(delete->files, file->path,
                                      json_object_new_string(which));
    }
}


/* By its name, or as the same file by another one. */
static int
delete_is_its(const delete_t *delete, const char *path)
{
    char  which[64];

    if (json_object_object_get_ex(delete->files, path, NULL)) {
        return 1;
    }

    delete_identify(path, which, sizeof(which));

    json_object_object_foreach(delete->files, name, value) {
        (void) name;

        if (which[0] != '\0'
            && strcmp(json_object_get_string(value), which) == 0)
        {
            return 1;
        }
    }

    return 0;
}


/* For xml_each_file(): the file, or a disk below it, is the orphan's. */
static int
delete_file_is_its(void *ctx, const char *path)
{
    int   i;
    char  below[STATEDIR_PATH], next[STATEDIR_PATH];

    (void) snprintf(below, sizeof(below), "%s", path);

    for (i = 0; i < DELETE_CHAIN; i++) {
        if (delete_is_its(ctx, below)) {
            return 1;
        }

        if (orphan_disk_below(below, next) != 0) {
            return 0;
        }

        memcpy(below, next, sizeof(below));
    }

    return 0;
}


/* As it is defined, and as it runs.  1, 0, or an error. */
static int
delete_domain_uses(delete_t *delete, virDomainPtr domain)
{
    int       rc = 0;
    size_t    i;

    static const unsigned  flags[] = { VIR_DOMAIN_XML_INACTIVE, 0 };

    for (i = 0; rc == 0 && i < sizeof(flags) / sizeof(flags[0]); i++) {
        cleanup_free char  *xml = virDomainGetXMLDesc(domain, flags[i]);

        if (xml == NULL) {
            return virt_last_class() == VIRT_GONE
                   ? 0 : virt_error(delete->err, "cannot read a domain");
        }

        rc = xml_each_file(xml, delete_file_is_its, delete);
    }

    return rc < 0 ? hatch_err_set(delete->err, HATCH_ERR_LIBVIRT, "cannot "
                                  "read the XML of domain \"%.64s\"",
                                  virDomainGetName(domain))
                  : rc;
}


static int
delete_check_use(delete_t *delete, virConnectPtr conn)
{
    int            i, n, rc = 0;
    int64_t        timeout = host_call_timeout(delete->config);
    virDomainPtr  *domains = NULL;

    work_step("asking libvirt who uses the files", timeout);
    n = virConnectListAllDomains(conn, &domains, 0);

    if (n < 0) {
        return virt_error(delete->err, "cannot list the domains");
    }

    for (i = 0; i < n; i++) {
        work_step("asking libvirt who uses the files", timeout);
        rc = rc == 0 ? delete_domain_uses(delete, domains[i]) : rc;

        if (rc == 1) {
            rc = hatch_err_set(delete->err, HATCH_ERR_CONFLICT, "cannot "
                               "delete orphan %s: domain \"%.64s\" uses its "
                               "files", delete->id,
                               virDomainGetName(domains[i]));
        }

        (void) virDomainFree(domains[i]);
    }

    free(domains);

    return rc;
}


/* --- a snapshot without a record --- */

static int
delete_snapshot(const delete_t *delete, const char *id)
{
    char  path[STATEDIR_PATH];
    int   rc;

    /* the record that cannot be read first: it keeps the files */
    snapshot_path(delete->config, id, ".json", path);
    rc = statedir_unlink(path, delete->err);

    if (rc == 0) {
        snapshot_delete_files(delete->config, id);
    }

    return rc;
}


static void
delete_snapshot_of(void *ctx, const orphan_file_t *file)
{
    delete_t  *delete = ctx;

    if (delete->rc == 0 && file->snapshot[0] != '\0' && !file->recorded
        && strcmp(file->vm, delete->id) == 0)
    {
        delete->rc = delete_snapshot(delete, file->snapshot);
    }
}


void
orphan_delete_snapshots(const config_t *config, const char *vm)
{
    hatch_err_t  err;
    delete_t     delete = { config, vm, NULL, &err, 0 };

    orphan_walk(config, delete_snapshot_of, &delete);

    if (delete.rc != 0) {
        log_event(LOG_ERROR, "%s: a snapshot remains: %s", vm, err.text);
    }
}


/* --- saved memory --- */

/* All of it, if the VM is gone; else what was put aside. */
static void
delete_memory(void *ctx, const orphan_file_t *file)
{
    delete_t  *delete = ctx;

    if (strcmp(file->what, "saved_memory") == 0
        && strcmp(orphan_owner(file), delete->id) == 0
        && unlink(file->path) == -1 && errno != ENOENT && delete->rc == 0)
    {
        delete->rc = hatch_err_errno(delete->err, errno, "cannot remove "
                                     "\"%s\"", file->path);
    }
}


/* --- all of a VM --- */

static int
delete_address(const delete_t *delete, virConnectPtr conn,
    json_object *entry)
{
    struct in_addr  ip;
    const char     *mac = hatch_json_string(entry, "guest_mac", "");

    if (inet_pton(AF_INET, hatch_json_string(entry, "guest_ip", ""), &ip)
        != 1 || mac[0] == '\0')
    {
        return 0;
    }

    work_step("releasing the address", host_call_timeout(delete->config));

    return net_release(conn, delete->config, mac, ip, delete->err);
}


/*
 * First what may be what fills the disk: to delete a route takes room.  What
 * knows its address last: should that fail, DELETE may be tried again.
 */
static int
delete_vm(delete_t *delete, virConnectPtr conn, json_object *entry)
{
    int       rc;
    unsigned  n;

    orphan_walk(delete->config, delete_memory, delete);

    if (delete->rc != 0) {
        return delete->rc;
    }

    files_delete_data(delete->config, delete->id);
    rc = routes_delete(delete->config, delete->id, &n, delete->err);

    if (rc == 0) {
        rc = delete_address(delete, conn, entry);
    }

    if (rc != 0) {
        return rc;
    }

    files_delete(delete->config, delete->id);

    return pending_known(delete->id)
           && pending_end(delete->config, delete->id) != 0
           ? hatch_err_set(delete->err, HATCH_ERR_SYSTEM, "cannot remove the "
                           "note of an operation") : 0;
}


/* Is it all gone?  Of what could not be removed the log knows why. */
static int
delete_look(const delete_t *delete)
{
    hatch_err_t                ignored;
    cleanup_json json_object  *left = orphan_scan(delete->config, &ignored);

    return json_object_object_get_ex(left, delete->id, NULL)
           ? hatch_err_set(delete->err, HATCH_ERR_SYSTEM, "not all of orphan "
                           "%s could be removed", delete->id) : 0;
}


/* Has libvirt a domain of this name, whoever's? */
static int
delete_check_gone(const delete_t *delete, virConnectPtr conn)
{
    int                          rc;
    cleanup_domain virDomainPtr  domain = NULL;

    work_step("looking up the VM", host_call_timeout(delete->config));
    domain = virDomainLookupByName(conn, delete->id);

    if (domain != NULL || table_has(delete->id)) {
        return hatch_err_set(delete->err, HATCH_ERR_CONFLICT, "cannot delete "
                             "orphan %s: domain \"%s\" is there", delete->id,
                             delete->id);
    }

    rc = virt_error(delete->err, "cannot look up the VM");

    return rc == HATCH_ERR_NOT_FOUND ? 0 : rc;
}


static int
delete_entry(delete_t *delete, json_object *entry)
{
    int           rc;
    const char   *kind = hatch_json_string(entry, "kind", "");
    virt_lease_t  lease = { NULL, 0 };

    if (strcmp(kind, ORPHAN_MEMORY) == 0) {
        orphan_walk(delete->config, delete_memory, delete);
        return delete->rc;
    }

    work_step("connecting", host_call_timeout(delete->config));
    rc = virt_lease(&lease, delete->err);

    if (rc == 0) {
        orphan_walk(delete->config, delete_collect, delete);
        rc = delete_check_use(delete, lease.conn);
    }

    if (rc == 0 && strcmp(kind, ORPHAN_VM) == 0) {
        rc = delete_check_gone(delete, lease.conn);
        rc = rc == 0 ? delete_vm(delete, lease.conn, entry) : rc;

    } else if (rc == 0) {
        rc = delete_snapshot(delete, delete->id);
    }

    virt_release(&lease);

    return rc;
}


/* Why there is no such orphan. */
static int
delete_none(const char *id, hatch_err_t *err)
{
    if (table_has(id)) {
        return hatch_err_set(err, HATCH_ERR_CONFLICT, "VM \"%s\" is there, "
                             "and no orphan; DELETE /vms/%s deletes it", id,
                             id);
    }

    if (pending_known(id)) {
        return hatch_err_set(err, HATCH_ERR_CONFLICT, "an operation on VM "
                             "\"%s\" has not ended", id);
    }

    return hatch_err_set(err, HATCH_ERR_NOT_FOUND, "no orphan \"%.40s\"", id);
}


int
orphan_delete(const config_t *config, const char *id, hatch_err_t *err)
{
    int                        rc;
    delete_t                   delete = { config, id, NULL, NULL, 0 };
    hatch_err_t                ignored;
    json_object               *entry;
    cleanup_json json_object  *found = NULL, *files = NULL;

    work_step("looking for orphans", host_call_timeout(config));
    found = orphan_scan(config, &ignored);
    files = json_object_new_object();
    delete.files = files;
    delete.err = err;

    if (!json_object_object_get_ex(found, id, &entry)) {
        return delete_none(id, err);
    }

    rc = delete_entry(&delete, entry);
    rc = rc == 0 ? delete_look(&delete) : rc;

    if (rc == 0) {
        table_forget_orphan(id);
        log_event(LOG_INFO, "%s: its orphaned files are deleted", id);
        tidy_request();
    }

    return rc;
}
