/* The route store: write transactions.  The theory is in the header. */

#define _GNU_SOURCE

#include "hatch_route_store_private.h"

#include <errno.h>
#include <string.h>
#include <sys/file.h>


/*
 * LMDB gives up its lock in the middle of a commit, and the index is changed
 * after it: so writers are ordered by a lock on the directory, too.  The
 * kernel takes it from one that dies.
 */
static void
hatch_store_lock(hatch_store_t *store)
{
    (void) pthread_mutex_lock(&store->writing);

    while (flock(store->dir_fd, LOCK_EX) == -1 && errno == EINTR) {
        /* void */
    }
}


static void
hatch_store_unlock(hatch_store_t *store)
{
    (void) flock(store->dir_fd, LOCK_UN);
    (void) pthread_mutex_unlock(&store->writing);
}


int
hatch_store_begin(hatch_store_t *store, hatch_store_txn_t *txn,
    hatch_err_t *err)
{
    int       rc;
    MDB_txn  *mdb;

    hatch_store_lock(store);

    rc = mdb_txn_begin(store->env, NULL, 0, &mdb);

    if (rc != 0) {
        hatch_store_unlock(store);
        return hatch_store_error(store, rc, "cannot write", err);
    }

    txn->store = store;
    txn->txn = mdb;

    /* LMDB numbers them without gaps */
    hatch_store_index_begin(store, mdb_txn_id(mdb) - 1);

    return 0;
}


int
hatch_store_commit(hatch_store_txn_t *txn, hatch_err_t *err)
{
    int       rc;
    uint64_t  id = mdb_txn_id(txn->txn);

    rc = mdb_txn_commit(txn->txn);
    txn->txn = NULL;

    if (rc == 0) {
        hatch_store_index_commit(txn->store, id);
    }

    hatch_store_unlock(txn->store);

    return rc == 0 ? 0
                   : hatch_store_error(txn->store, rc, "cannot write", err);
}


void
hatch_store_abort(hatch_store_txn_t *txn)
{
    if (txn->txn != NULL) {
        mdb_txn_abort(txn->txn);
        txn->txn = NULL;
        hatch_store_unlock(txn->store);
    }
}


static int
hatch_store_put(hatch_store_txn_t *txn, const hatch_route_t *route,
    unsigned flags)
{
    MDB_val               key, value;
    hatch_store_record_t  record;

    memset(&record, 0, sizeof(record));
    record.target_port = route->target_port;
    record.auto_wake = route->auto_wake;
    record.created = route->created;
    record.updated = route->updated;
    memcpy(record.id, route->id, HATCH_ID_SIZE);
    memcpy(record.vm, route->vm, HATCH_ID_SIZE);

    key = hatch_store_key(route->subdomain, strlen(route->subdomain));
    value.mv_size = sizeof(record);
    value.mv_data = &record;

    return mdb_put(txn->txn, txn->store->routes, &key, &value, flags);
}


int
hatch_store_holder(hatch_store_txn_t *txn, const char *subdomain,
    char vm[HATCH_ID_SIZE])
{
    MDB_val               key, value;
    hatch_store_record_t  record;

    key = hatch_store_key(subdomain, strlen(subdomain));

    if (mdb_get(txn->txn, txn->store->routes, &key, &value) != 0
        || value.mv_size != sizeof(record))
    {
        return HATCH_ERR_NOT_FOUND;
    }

    /* values of LMDB lie anywhere */
    memcpy(&record, value.mv_data, sizeof(record));

    memcpy(vm, record.vm, HATCH_ID_SIZE);
    vm[HATCH_ID_SIZE - 1] = '\0';

    return 0;
}


int
hatch_store_create(hatch_store_txn_t *txn, const hatch_route_t *route,
    hatch_err_t *err)
{
    int      rc;
    MDB_val  id, vm, subdomain;

    rc = hatch_store_put(txn, route, MDB_NOOVERWRITE);

    if (rc == MDB_KEYEXIST) {
        return hatch_err_set(err, HATCH_ERR_EXISTS,
                             "subdomain \"%s\" is already in use",
                             route->subdomain);
    }

    id = hatch_store_key(route->id, strlen(route->id));
    vm = hatch_store_key(route->vm, strlen(route->vm));
    subdomain = hatch_store_key(route->subdomain, strlen(route->subdomain));

    if (rc == 0) {
        rc = mdb_put(txn->txn, txn->store->ids, &id, &subdomain,
                     MDB_NOOVERWRITE);
    }

    if (rc == 0) {
        rc = mdb_put(txn->txn, txn->store->vms, &vm, &id, 0);
    }

    if (rc == 0) {
        hatch_store_index_note(txn->store, route, 0, 1);
    }

    return rc == 0 ? 0
                   : hatch_store_error(txn->store, rc, "cannot write", err);
}


int
hatch_store_update(hatch_store_txn_t *txn, const char *id, uint16_t port,
    int auto_wake, uint64_t now, hatch_route_t *route, hatch_err_t *err)
{
    int  rc;

    rc = hatch_store_find(txn->store, txn->txn, id, route, err);
    if (rc != 0) {
        return rc;
    }

    if (port == 0 && auto_wake < 0) {
        return 0;
    }

    if (port != 0) {
        route->target_port = port;
    }

    if (auto_wake >= 0) {
        route->auto_wake = auto_wake != 0;
    }

    /* a clock that was set back does not take updated_at before created_at */
    route->updated = now > route->updated ? now : route->updated;

    rc = hatch_store_put(txn, route, 0);

    if (rc == 0) {
        hatch_store_index_note(txn->store, route, 1, 1);
    }

    return rc == 0 ? 0
                   : hatch_store_error(txn->store, rc, "cannot write", err);
}


static int
hatch_store_remove(hatch_store_txn_t *txn, const hatch_route_t *route,
    hatch_err_t *err)
{
    int      rc;
    MDB_val  id, vm, subdomain;

    id = hatch_store_key(route->id, strlen(route->id));
    vm = hatch_store_key(route->vm, strlen(route->vm));
    subdomain = hatch_store_key(route->subdomain, strlen(route->subdomain));

    rc = mdb_del(txn->txn, txn->store->routes, &subdomain, NULL);

    if (rc == 0) {
        rc = mdb_del(txn->txn, txn->store->ids, &id, NULL);
    }

    if (rc == 0) {
        rc = mdb_del(txn->txn, txn->store->vms, &vm, &id);
    }

    if (rc == 0) {
        hatch_store_index_note(txn->store, route, 1, 0);
    }

    if (rc == MDB_NOTFOUND) {
        return hatch_err_set(err, HATCH_ERR_CORRUPT, "the indexes of route "
                             "store \"%s\" disagree on %s", txn->store->dir,
                             route->id);
    }

    return rc == 0 ? 0
                   : hatch_store_error(txn->store, rc, "cannot write", err);
}


int
hatch_store_delete(hatch_store_txn_t *txn, const char *id, hatch_err_t *err)
{
    int            rc;
    hatch_route_t  route;

    rc = hatch_store_find(txn->store, txn->txn, id, &route, err);

    return rc == 0 ? hatch_store_remove(txn, &route, err) : rc;
}


/* The id of any one route of the VM. */
static int
hatch_store_first(hatch_store_txn_t *txn, const char *vm, char *id)
{
    int      rc;
    MDB_val  key, value;

    key = hatch_store_key(vm, strlen(vm));
    rc = mdb_get(txn->txn, txn->store->vms, &key, &value);

    if (rc == 0) {
        if (value.mv_size >= HATCH_ID_SIZE) {
            return MDB_CORRUPTED;
        }

        memcpy(id, value.mv_data, value.mv_size);
        id[value.mv_size] = '\0';
    }

    return rc;
}


int
hatch_store_delete_vm(hatch_store_txn_t *txn, const char *vm, unsigned *n,
    hatch_err_t *err)
{
    int   rc;
    char  id[HATCH_ID_SIZE];

    *n = 0;

    for ( ;; ) {
        rc = hatch_store_first(txn, vm, id);

        if (rc == MDB_NOTFOUND) {
            return 0;
        }

        if (rc != 0) {
            return hatch_store_error(txn->store, rc, "cannot read", err);
        }

        rc = hatch_store_delete(txn, id, err);
        if (rc != 0) {
            return rc;
        }

        (*n)++;
    }
}
