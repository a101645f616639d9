/* The route store: lists.  The theory is in the header. */

#define _GNU_SOURCE

#include "hatch_route_store_private.h"

#include <string.h>


/* Moves to the first entry to list and sets id to its route id. */
static int
hatch_store_seek(MDB_cursor *cursor, const char *vm, const char *after,
    MDB_val *id)
{
    int      rc;
    MDB_val  key, value;

    if (vm == NULL) {
        if (after == NULL) {
            return mdb_cursor_get(cursor, id, &value, MDB_FIRST);
        }

        *id = hatch_store_key(after, strlen(after));
        rc = mdb_cursor_get(cursor, id, &value, MDB_SET_RANGE);

    } else {
        key = hatch_store_key(vm, strlen(vm));

        if (after == NULL) {
            return mdb_cursor_get(cursor, &key, id, MDB_SET_KEY);
        }

        *id = hatch_store_key(after, strlen(after));
        rc = mdb_cursor_get(cursor, &key, id, MDB_GET_BOTH_RANGE);
    }

    if (rc == 0 && id->mv_size == strlen(after)
        && memcmp(id->mv_data, after, id->mv_size) == 0)
    {
        rc = vm == NULL ? mdb_cursor_get(cursor, id, &value, MDB_NEXT)
                        : mdb_cursor_get(cursor, &key, id, MDB_NEXT_DUP);
    }

    return rc;
}


static int
hatch_store_list_txn(hatch_store_t *store, MDB_cursor *cursor,
    const char *vm, const char *after, hatch_route_t *routes, unsigned limit,
    unsigned *n, int *more, hatch_err_t *err)
{
    int      rc;
    char     id[HATCH_ID_SIZE];
    MDB_val  val, other;

    *n = 0;
    *more = 0;

    rc = hatch_store_seek(cursor, vm, after, &val);

    while (rc == 0) {
        if (*n == limit) {
            *more = 1;
            return 0;
        }

        if (val.mv_size >= sizeof(id)) {
            return hatch_err_set(err, HATCH_ERR_CORRUPT, "route store \"%s\" "
                                 "holds a key that is not an id", store->dir);
        }

        memcpy(id, val.mv_data, val.mv_size);
        id[val.mv_size] = '\0';

        rc = hatch_store_find(store, mdb_cursor_txn(cursor), id, &routes[*n],
                              err);
        if (rc != 0) {
            return rc;
        }

        (*n)++;

        rc = vm == NULL ? mdb_cursor_get(cursor, &val, &other, MDB_NEXT)
                        : mdb_cursor_get(cursor, &other, &val, MDB_NEXT_DUP);
    }

    return rc == MDB_NOTFOUND ? 0
                              : hatch_store_error(store, rc, "cannot read",
                                                  err);
}


int
hatch_store_list(hatch_store_t *store, const char *vm, const char *after,
    hatch_route_t *routes, unsigned limit, unsigned *n, int *more,
    hatch_err_t *err)
{
    int          rc;
    MDB_cursor  *cursor;

    rc = hatch_store_renew(store, err);
    if (rc != 0) {
        return rc;
    }

    rc = mdb_cursor_open(store->reader, vm == NULL ? store->ids : store->vms,
                         &cursor);

    if (rc == 0) {
        rc = hatch_store_list_txn(store, cursor, vm, after, routes, limit, n,
                                  more, err);
        mdb_cursor_close(cursor);

    } else {
        rc = hatch_store_error(store, rc, "cannot read", err);
    }

    mdb_txn_reset(store->reader);

    return rc;
}


int
hatch_store_each_vm(hatch_store_t *store,
    int (*each)(void *ctx, const char *vm), void *ctx, hatch_err_t *err)
{
    int          rc;
    char         vm[HATCH_ID_SIZE];
    MDB_val      key, value;
    MDB_cursor  *cursor;

    rc = hatch_store_renew(store, err);
    if (rc != 0) {
        return rc;
    }

    rc = mdb_cursor_open(store->reader, store->vms, &cursor);

    if (rc == 0) {
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);

        while (rc == 0) {
            if (key.mv_size < sizeof(vm)) {
                memcpy(vm, key.mv_data, key.mv_size);
                vm[key.mv_size] = '\0';

                if (each(ctx, vm) != 0) {
                    break;
                }
            }

            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT_NODUP);
        }

        mdb_cursor_close(cursor);
    }

    mdb_txn_reset(store->reader);

    return rc == 0 || rc == MDB_NOTFOUND
           ? 0 : hatch_store_error(store, rc, "cannot read", err);
}
