/* The route store: building its index, a part in each transaction. */

#define _GNU_SOURCE

#include "hatch_route_store_private.h"

#include <dirent.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


/* What a writer that was killed while it made a new one has left. */
static void
hatch_store_index_sweep(const hatch_store_t *store)
{
    DIR            *dir;
    struct dirent  *entry;

    dir = opendir(store->dir);
    if (dir == NULL) {
        return;
    }

    while ((entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, "index.", 6) == 0) {
            (void) unlinkat(dirfd(dir), entry->d_name, 0);
        }
    }

    (void) closedir(dir);
}


/* A new table; readers of the old one find that it is spoilt. */
static int
hatch_store_index_create(hatch_store_t *store, MDB_txn *txn, hatch_err_t *err)
{
    int                    rc;
    char                   path[PATH_MAX];
    MDB_stat               stat;
    struct stat            st;
    hatch_index_origin_t   origin;

    if (hatch_store_origin(store, &origin) != 0) {
        return hatch_err_set(err, HATCH_ERR_SYSTEM, "no route index: cannot "
                             "read " HATCH_STORE_BOOT_ID);
    }

    rc = mdb_stat(txn, store->routes, &stat);
    if (rc != 0) {
        return hatch_store_error(store, rc, "cannot read", err);
    }

    if (store->windex.head != NULL) {
        hatch_index_spoil(&store->windex);
    }

    hatch_store_index_sweep(store);
    hatch_store_index_path(store, path);

    /* root's go to the owner of the directory, as the store itself does */
    if (geteuid() != 0 || lstat(store->dir, &st) == -1) {
        st.st_uid = (uid_t) -1;
        st.st_gid = (gid_t) -1;
    }

    rc = hatch_index_create(&store->windex, path, stat.ms_entries, st.st_uid,
                            st.st_gid, err);

    if (rc == 0) {
        hatch_store_index_sign(store, mdb_txn_id(txn) - 1);
    }

    return rc;
}


/* The next routes, in the order of their names. */
static int
hatch_store_index_more(hatch_store_t *store, MDB_cursor *cursor,
    unsigned routes, hatch_err_t *err)
{
    int                  rc;
    MDB_val              key, value;
    unsigned             n;
    hatch_route_t        route;
    hatch_index_head_t  *head = store->windex.head;

    key = hatch_store_key(head->built, head->built_len);
    rc = mdb_cursor_get(cursor, &key, &value,
                        head->built_len != 0 ? MDB_SET_RANGE : MDB_FIRST);

    /* the last one of the part before may be there still */
    if (rc == 0 && key.mv_size == head->built_len
        && memcmp(key.mv_data, head->built, head->built_len) == 0)
    {
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }

    for (n = 0; rc == 0 && n < routes; n++) {
        rc = hatch_store_unpack(store, &key, &value, &route, err);
        if (rc != 0) {
            return rc;
        }

        if (hatch_index_insert(&store->windex, &route) != 0) {
            hatch_index_spoil(&store->windex);
            return 0;
        }

        memcpy(head->built, key.mv_data, key.mv_size);
        head->built_len = (uint32_t) key.mv_size;

        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }

    if (rc == MDB_NOTFOUND) {
        head->complete = 1;
        hatch_store_index_sign(store, head->held);
        return 0;
    }

    return rc == 0 ? 0 : hatch_store_error(store, rc, "cannot read", err);
}


int
hatch_store_index_build(hatch_store_t *store, unsigned routes, int *more,
    hatch_err_t *err)
{
    int                 rc;
    MDB_cursor         *cursor;
    hatch_store_txn_t   txn;

    *more = 0;

    rc = hatch_store_begin(store, &txn, err);
    if (rc != 0) {
        return rc;
    }

    if (store->windex.head == NULL || store->windex.head->held == 0) {
        rc = hatch_store_index_create(store, txn.txn, err);
    }

    if (rc == 0 && !store->windex.head->complete) {
        rc = mdb_cursor_open(txn.txn, store->routes, &cursor);

        if (rc != 0) {
            rc = hatch_store_error(store, rc, "cannot read", err);

        } else {
            rc = hatch_store_index_more(store, cursor, routes, err);
            mdb_cursor_close(cursor);
        }
    }

    *more = rc == 0 && hatch_index_txn(&store->windex) == 0;

    /* the whole of it was written: this process need not keep it mapped */
    if (!*more) {
        hatch_index_close(&store->windex);
    }

    hatch_store_abort(&txn);

    return rc;
}
