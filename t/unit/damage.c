/*
 * What is on the disk is not what we wrote: keys and records of the route
 * store, its schema, its place; files that cannot be made; hostile ids.
 */

#define _GNU_SOURCE

#include "hatch_notice.h"
#include "hatch_route_store.h"
#include "hatch_route_store_private.h"
#include "hatch_zone.h"

#include "tap.h"

#include <limits.h>
#include <lmdb.h>
#include <sys/stat.h>
#include <unistd.h>


static hatch_store_t  *store;
static hatch_err_t     err;
static char            dir[256];


/* Puts a value into one of the store's databases, behind the store's back. */
static void
put(const char *db, unsigned flags, const char *key, size_t key_len,
    const void *data, size_t len)
{
    int       rc;
    MDB_env  *env;
    MDB_txn  *txn;
    MDB_dbi   dbi;
    MDB_val   k = { key_len, (void *) key }, v = { len, (void *) data };

    (void) mdb_env_create(&env);
    (void) mdb_env_set_maxdbs(env, 8);
    rc = mdb_env_open(env, dir, MDB_NOTLS, 0600);
    rc = rc != 0 ? rc : mdb_txn_begin(env, NULL, 0, &txn);
    rc = rc != 0 ? rc : mdb_dbi_open(txn, db, flags, &dbi);

    if (rc == 0 && strcmp(db, "routes") == 0) {
        rc = mdb_set_compare(txn, dbi, hatch_store_compare);
    }

    rc = rc != 0 ? rc : mdb_put(txn, dbi, &k, &v, 0);
    rc = rc != 0 ? rc : mdb_txn_commit(txn);
    mdb_env_close(env);

    if (rc != 0) {
        printf("Bail out! cannot write %s: %s\n", db, mdb_strerror(rc));
        exit(1);
    }
}


/* A new store; it is closed, since a process opens it once at a time. */
static void
fresh(const char *name)
{
    (void) snprintf(dir, sizeof(dir), "%s/%s", tap_dir(), name);
    (void) mkdir(dir, 0700);
    is_int(hatch_store_open(&store, dir, 4 << 20, &err), 0, "%s: a store",
           name);
    hatch_store_close(store);
}


static int
list(const char *vm)
{
    int            rc, more;
    unsigned       n;
    hatch_route_t  routes[8];

    rc = hatch_store_open(&store, dir, 0, &err);

    if (rc == 0) {
        rc = hatch_store_list(store, vm, NULL, routes, 8, &n, &more, &err);
        hatch_store_close(store);
    }

    return rc;
}


static void
test_records(void)
{
    size_t                i;
    hatch_store_record_t  record;

    static const struct {
        const char  *what;
        size_t       size;
        uint16_t     port;
        char         end;
    } rows[] = {
        { "a record that is short", 8, 80, '\0' },
        { "a record without a port", sizeof(record), 0, '\0' },
        { "a record with an endless id", sizeof(record), 80, 'x' }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        fresh(rows[i].what);
        memset(&record, 'x', sizeof(record));
        record.target_port = rows[i].port;
        record.id[HATCH_ID_SIZE - 1] = rows[i].end;
        record.vm[HATCH_ID_SIZE - 1] = '\0';
        put("routes", 0, "sub", 3, &record, rows[i].size);
        put("ids", 0, "rt_a", 4, "sub", 3);
        is_int(list(NULL), HATCH_ERR_CORRUPT, "%s is none", rows[i].what);
        like(err.text, "a record that is not a route", "and it is said");
    }
}


static void
test_keys(void)
{
    char  id[HATCH_ID_SIZE + 8];

    memset(id, 'r', sizeof(id));
    fresh("a long id");
    put("ids", 0, id, sizeof(id), "sub", 3);
    is_int(list(NULL), HATCH_ERR_CORRUPT, "a key that is too long is no id");
    like(err.text, "a key that is not an id", "and it is said");

    fresh("a VM's long id");
    put("vms", MDB_DUPSORT, "vm_a", 4, id, sizeof(id));
    is_int(list("vm_a"), HATCH_ERR_CORRUPT, "nor is it one of a VM's");
}


static void
test_schema(void)
{
    uint32_t  schema = 77;

    fresh("schema");
    put("meta", 0, "schema", 6, &schema, sizeof(schema));
    is_int(list(NULL), HATCH_ERR_VERSION, "another schema");
    like(err.text, "has schema 77", "and which");

    put("meta", 0, "schema", 6, "x", 1);
    is_int(hatch_store_open(&store, dir, 4 << 20, &err), HATCH_ERR_VERSION,
           "nor one that is no number");
}


static void
test_usage(void)
{
    uint64_t  used = 0, size = 0;

    fresh("usage");
    is_int(hatch_store_open(&store, dir, 0, &err), 0, "open");
    is_int(hatch_store_usage(store, &used, &size, &err), 0, "its usage");
    ok(used > 0 && used < size && size == 4 << 20, "is less than its size");
    is_int(hatch_store_remap(store, &err), 0, "and it can be mapped anew");
    hatch_store_close(store);

    is_int(hatch_store_open(&store, "/proc/self/none", 4 << 20, &err),
           HATCH_ERR_ABSENT, "no such folder");
    (void) snprintf(dir, sizeof(dir), "%s/foreign", tap_dir());
    (void) mkdir(dir, 0700);
    (void) snprintf(dir, sizeof(dir), "%s/foreign/data.mdb", tap_dir());
    (void) mkdir(dir, 0700);
    *strrchr(dir, '/') = '\0';
    ok(hatch_store_open(&store, dir, 0, &err) < 0, "a folder in its place");
}


static void
test_files(void)
{
    char                  path[PATH_MAX + 8], link[256];
    hatch_zone_writer_t   writer;

    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[PATH_MAX - 4] = '\0';
    ok(hatch_zone_own(&writer, path, 8, (gid_t) -1, &err) < 0,
       "a zone whose path is too long");
    ok(hatch_zone_own(&writer, "/proc/none/zone", 8, (gid_t) -1, &err) < 0,
       "a zone where there is no folder");

    (void) snprintf(link, sizeof(link), "%s/link", tap_dir());
    is_int(symlink("/nowhere/at/all", link), 0, "a link");
    is_int(hatch_zone_own(&writer, link, 8, (gid_t) -1, &err),
           HATCH_ERR_FOREIGN, "a link to nothing is not ours");
    like(err.text, "symbolic link to nothing", "and it is said");
}


static void
test_notices(void)
{
    char  text[HATCH_NOTICE_TEXT];

    hatch_notice_text(HATCH_NOTICE_KVM_ABSENT, 1234, text);
    like(text, "takes 1.23 s", "a notice has its figure");
    like(text, "no KVM behind it", "and its cause");
    hatch_notice_text((hatch_notice_t) 99, 0, text);
    like(text, "libvirt's log may say why", "one of a newer agent has none");
}


int
main(void)
{
    test_records();
    test_keys();
    test_schema();
    test_usage();
    test_files();
    test_notices();
    tap_cleanup();

    return tap_done();
}
