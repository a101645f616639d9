/* The route store: records, and what LMDB says, for its other files. */

#define _GNU_SOURCE

#include "hatch_route_store_private.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>


/*
 * LMDB calls a write that went only half way, as the last one on a full disk
 * does, EIO.  With less than this free, it is ENOSPC.
 */
#define HATCH_STORE_DISK_MIN  (256 * 1024)


static int
hatch_store_disk_full(const hatch_store_t *store)
{
    struct statvfs  fs;

    return statvfs(store->dir, &fs) == 0
           && (uint64_t) fs.f_bavail * fs.f_frsize < HATCH_STORE_DISK_MIN;
}


int
hatch_store_error(const hatch_store_t *store, int rc, const char *doing,
    hatch_err_t *err)
{
    if (rc == EIO && hatch_store_disk_full(store)) {
        rc = ENOSPC;
    }

    switch (rc) {

    case MDB_MAP_FULL:
        return hatch_err_set(err, HATCH_ERR_FULL, "route store \"%s\" is "
                             "full; raise \"size\" of hatch_route_store",
                             store->dir);

    case MDB_MAP_RESIZED:
        return hatch_err_set(err, HATCH_ERR_UNAVAILABLE, "route store \"%s\" "
                             "has grown", store->dir);

    case MDB_NOTFOUND:
        return hatch_err_set(err, HATCH_ERR_NOT_FOUND, "no such route");

    case MDB_INVALID:
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_PANIC:
        return hatch_err_set(err, HATCH_ERR_CORRUPT, "%s route store \"%s\": "
                             "%s; restore it from a copy or move it away",
                             doing, store->dir, mdb_strerror(rc));

    case MDB_VERSION_MISMATCH:
        return hatch_err_set(err, HATCH_ERR_VERSION, "%s route store \"%s\": "
                             "%s", doing, store->dir, mdb_strerror(rc));
    }

    if (rc > 0) {
        return hatch_err_errno(err, rc, "%s route store \"%s\"", doing,
                               store->dir);
    }

    return hatch_err_set(err, HATCH_ERR_SYSTEM, "%s route store \"%s\": %s",
                         doing, store->dir, mdb_strerror(rc));
}


MDB_val
hatch_store_key(const char *s, size_t len)
{
    MDB_val  key;

    key.mv_size = len;
    key.mv_data = (void *) s;

    return key;
}


int
hatch_store_unpack(const hatch_store_t *store, const MDB_val *subdomain,
    const MDB_val *value, hatch_route_t *route, hatch_err_t *err)
{
    hatch_store_record_t  record;

    if (value->mv_size != sizeof(record) || subdomain->mv_size == 0
        || subdomain->mv_size > HATCH_LABEL_MAX)
    {
        goto corrupt;
    }

    /* LMDB does not align values */
    memcpy(&record, value->mv_data, sizeof(record));

    if (record.target_port == 0
        || memchr(record.id, '\0', HATCH_ID_SIZE) == NULL
        || memchr(record.vm, '\0', HATCH_ID_SIZE) == NULL)
    {
        goto corrupt;
    }

    memcpy(route->id, record.id, HATCH_ID_SIZE);
    memcpy(route->vm, record.vm, HATCH_ID_SIZE);
    memcpy(route->subdomain, subdomain->mv_data, subdomain->mv_size);
    route->subdomain[subdomain->mv_size] = '\0';
    route->target_port = record.target_port;
    route->auto_wake = record.auto_wake != 0;
    route->created = record.created;
    route->updated = record.updated;

    return 0;

corrupt:

    return hatch_err_set(err, HATCH_ERR_CORRUPT, "route store \"%s\" holds a "
                         "record that is not a route", store->dir);
}


int
hatch_store_find(const hatch_store_t *store, MDB_txn *txn, const char *id,
    hatch_route_t *route, hatch_err_t *err)
{
    int      rc;
    MDB_val  key, subdomain, value;

    key = hatch_store_key(id, strlen(id));

    rc = mdb_get(txn, store->ids, &key, &subdomain);

    if (rc == 0) {
        rc = mdb_get(txn, store->routes, &subdomain, &value);
    }

    if (rc != 0) {
        return hatch_store_error(store, rc, "cannot read", err);
    }

    return hatch_store_unpack(store, &subdomain, &value, route, err);
}


/*
 * Eight bytes at a time: a look-up compares twenty keys, and nearly all
 * differ in the first eight bytes.
 */
int
hatch_store_compare(const MDB_val *a, const MDB_val *b)
{
    int       rc;
    size_t    len;
    uint64_t  x, y;

    if (a->mv_size >= sizeof(x) && b->mv_size >= sizeof(y)) {
        memcpy(&x, a->mv_data, sizeof(x));
        memcpy(&y, b->mv_data, sizeof(y));

        if (x != y) {
            return be64toh(x) < be64toh(y) ? -1 : 1;
        }
    }

    len = a->mv_size < b->mv_size ? a->mv_size : b->mv_size;
    rc = memcmp(a->mv_data, b->mv_data, len);

    return rc != 0 ? rc : (a->mv_size > b->mv_size)
                          - (a->mv_size < b->mv_size);
}


int
hatch_store_renew(hatch_store_t *store, hatch_err_t *err)
{
    int  rc;

    rc = mdb_txn_renew(store->reader);

    /* another process let the store grow past our mapping */
    if (rc == MDB_MAP_RESIZED && pthread_mutex_trylock(&store->writing) == 0) {
        rc = mdb_env_set_mapsize(store->env, 0);
        (void) pthread_mutex_unlock(&store->writing);

        if (rc == 0) {
            rc = mdb_txn_renew(store->reader);
        }
    }

    return rc == 0 ? 0 : hatch_store_error(store, rc, "cannot read", err);
}
