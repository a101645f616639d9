/* The route store: opening and looking up.  The theory is in the header. */

#define _GNU_SOURCE

#include "hatch_route_store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


/* Root opens the store on behalf of the directory's owner. */
static void
hatch_store_give(const char *dir)
{
    int          i;
    char         path[PATH_MAX];
    struct stat  st;

    static const char *const  files[] = { "data.mdb", "lock.mdb" };

    if (geteuid() != 0 || stat(dir, &st) == -1 || st.st_uid == 0) {
        return;
    }

    for (i = 0; i < 2; i++) {
        if (snprintf(path, sizeof(path), "%s/%s", dir, files[i])
            < (int) sizeof(path))
        {
            (void) !lchown(path, st.st_uid, st.st_gid);
        }
    }
}


static int
hatch_store_open_dbs(hatch_store_t *store, MDB_txn *txn, unsigned create,
    hatch_err_t *err)
{
    int       rc;
    MDB_dbi   meta;
    MDB_val   key, value;
    uint32_t  schema = HATCH_STORE_SCHEMA;

    key = hatch_store_key("schema", 6);

    rc = mdb_dbi_open(txn, "meta", create, &meta);
    if (rc != 0) {
        return hatch_store_error(store, rc, "cannot open", err);
    }

    rc = mdb_get(txn, meta, &key, &value);

    if (rc == MDB_NOTFOUND && create) {
        value.mv_size = sizeof(schema);
        value.mv_data = &schema;
        rc = mdb_put(txn, meta, &key, &value, 0);

    } else if (rc == 0) {
        if (value.mv_size == sizeof(schema)) {
            memcpy(&schema, value.mv_data, sizeof(schema));
        }

        if (value.mv_size != sizeof(schema) || schema != HATCH_STORE_SCHEMA) {
            return hatch_err_set(err, HATCH_ERR_VERSION, "route store \"%s\" "
                                 "has schema %u, this build speaks %u",
                                 store->dir, (unsigned) schema,
                                 (unsigned) HATCH_STORE_SCHEMA);
        }
    }

    if (rc == 0) {
        rc = mdb_dbi_open(txn, "routes", create, &store->routes);
    }

    if (rc == 0) {
        rc = mdb_set_compare(txn, store->routes, hatch_store_compare);
    }

    if (rc == 0) {
        rc = mdb_dbi_open(txn, "ids", create, &store->ids);
    }

    if (rc == 0) {
        rc = mdb_dbi_open(txn, "vms", create | MDB_DUPSORT, &store->vms);
    }

    return rc == 0 ? 0 : hatch_store_error(store, rc, "cannot open", err);
}


/* Opens the databases; a write transaction only where they are not there. */
static int
hatch_store_setup(hatch_store_t *store, int may_create, hatch_err_t *err)
{
    int          rc;
    MDB_txn     *txn;
    hatch_err_t  why;

    rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0) {
        return hatch_store_error(store, rc, "cannot read", err);
    }

    rc = hatch_store_open_dbs(store, txn, 0, &why);

    if (rc == 0) {
        /* keeps the handles for the whole process */
        rc = mdb_txn_commit(txn);
        return rc == 0 ? 0 : hatch_store_error(store, rc, "cannot read", err);
    }

    mdb_txn_abort(txn);

    if (rc != HATCH_ERR_NOT_FOUND || !may_create) {
        *err = why;
        return rc;
    }

    rc = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (rc != 0) {
        return hatch_store_error(store, rc, "cannot write", err);
    }

    rc = hatch_store_open_dbs(store, txn, MDB_CREATE, err);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }

    rc = mdb_txn_commit(txn);

    return rc == 0 ? 0 : hatch_store_error(store, rc, "cannot write", err);
}


static int
hatch_store_open_env(hatch_store_t *store, const char *dir, size_t size,
    hatch_err_t *err)
{
    int  rc, dead;

    rc = mdb_env_create(&store->env);

    if (rc == 0) {
        rc = mdb_env_set_maxdbs(store->env, 8);
    }

    if (rc == 0) {
        rc = mdb_env_set_maxreaders(store->env, HATCH_STORE_READERS);
    }

    if (rc == 0 && size != 0) {
        rc = mdb_env_set_mapsize(store->env, size);
    }

    if (rc == 0) {
        rc = mdb_env_open(store->env, dir, MDB_NOTLS, 0600);
    }

    if (rc != 0) {
        return hatch_store_error(store, rc, "cannot open", err);
    }

    hatch_store_give(dir);

    /* slots of readers that were killed keep old pages from being reused */
    (void) mdb_reader_check(store->env, &dead);

    rc = hatch_store_setup(store, size != 0, err);
    if (rc != 0) {
        return rc;
    }

    rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &store->reader);
    if (rc != 0) {
        return hatch_store_error(store, rc, "cannot read", err);
    }

    mdb_txn_reset(store->reader);

    return 0;
}


int
hatch_store_open(hatch_store_t **ret, const char *dir, size_t size,
    hatch_err_t *err)
{
    int             rc;
    char            path[PATH_MAX];
    hatch_store_t  *store;

    if (size == 0) {
        (void) snprintf(path, sizeof(path), "%s/data.mdb", dir);

        if (access(path, F_OK) == -1) {
            return hatch_err_errno(err, errno, "no route store in \"%s\"",
                                   dir);
        }
    }

    store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return hatch_err_errno(err, errno, "cannot open route store");
    }

    (void) snprintf(store->dir, sizeof(store->dir), "%s", dir);
    (void) pthread_mutex_init(&store->writing, NULL);

    store->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    rc = store->dir_fd == -1
         ? hatch_err_errno(err, errno, "cannot open route store \"%s\"", dir)
         : hatch_store_open_env(store, dir, size, err);

    if (rc != 0) {
        hatch_store_close(store);
        return rc;
    }

    *ret = store;

    return 0;
}


void
hatch_store_close(hatch_store_t *store)
{
    if (store == NULL) {
        return;
    }

    if (store->reader != NULL) {
        mdb_txn_abort(store->reader);
    }

    if (store->env != NULL) {
        mdb_env_close(store->env);
    }

    (void) pthread_mutex_destroy(&store->writing);
    hatch_store_index_close(store);

    if (store->dir_fd != -1) {
        (void) close(store->dir_fd);
    }

    free(store);
}


int
hatch_store_remap(hatch_store_t *store, hatch_err_t *err)
{
    int  rc;

    if (pthread_mutex_trylock(&store->writing) != 0) {
        return hatch_err_set(err, HATCH_ERR_BUSY, "route store \"%s\" is being "
                             "written", store->dir);
    }

    rc = mdb_env_set_mapsize(store->env, 0);
    (void) pthread_mutex_unlock(&store->writing);

    return rc == 0 ? 0 : hatch_store_error(store, rc, "cannot map", err);
}


/* From the store itself. */
static int
hatch_store_search(hatch_store_t *store, const char *subdomain, size_t len,
    hatch_target_t *target, hatch_err_t *err)
{
    int            rc;
    MDB_val        key, value;
    hatch_route_t  route;

    rc = hatch_store_renew(store, err);
    if (rc != 0) {
        return rc;
    }

    key = hatch_store_key(subdomain, len);
    rc = mdb_get(store->reader, store->routes, &key, &value);

    if (rc == 0) {
        rc = hatch_store_unpack(store, &key, &value, &route, err);

        if (rc == 0) {
            memcpy(target->vm, route.vm, HATCH_ID_SIZE);
            memcpy(target->id, route.id, HATCH_ID_SIZE);
            target->target_port = route.target_port;
            target->auto_wake = route.auto_wake;
        }

    } else {
        rc = hatch_store_error(store, rc, "cannot read", err);
    }

    mdb_txn_reset(store->reader);

    return rc;
}


int
hatch_store_lookup(hatch_store_t *store, const char *subdomain, size_t len,
    hatch_target_t *target, hatch_err_t *err)
{
    int       rc;
    uint64_t  txn;

    if (len == 0 || len > HATCH_INDEX_LABEL) {
        return hatch_store_search(store, subdomain, len, target, err);
    }

    store->index_wanted = 1;

    if (store->index.head == NULL) {
        return hatch_store_search(store, subdomain, len, target, err);
    }

    txn = hatch_index_txn(&store->index);
    rc = hatch_index_find(&store->index, subdomain, len, target);

    __atomic_thread_fence(__ATOMIC_ACQUIRE);

    if (txn != hatch_store_last(store)
        || txn != hatch_index_txn(&store->index))
    {
        return hatch_store_search(store, subdomain, len, target, err);
    }

    store->index_wanted = 0;

    return rc == 0 ? 0
                   : hatch_store_search(store, subdomain, len, target, err);
}


int
hatch_store_get(hatch_store_t *store, const char *id, hatch_route_t *route,
    hatch_err_t *err)
{
    int  rc;

    rc = hatch_store_renew(store, err);

    if (rc == 0) {
        rc = hatch_store_find(store, store->reader, id, route, err);
        mdb_txn_reset(store->reader);
    }

    return rc;
}


int
hatch_store_count(hatch_store_t *store, uint64_t *count, hatch_err_t *err)
{
    int       rc;
    MDB_stat  stat;

    if (store->counted != 0 && store->counted == hatch_store_last(store)) {
        *count = store->count;
        return 0;
    }

    rc = hatch_store_renew(store, err);
    if (rc != 0) {
        return rc;
    }

    rc = mdb_stat(store->reader, store->routes, &stat);

    if (rc == 0) {
        store->count = stat.ms_entries;
        store->counted = mdb_txn_id(store->reader);
    }

    mdb_txn_reset(store->reader);

    if (rc != 0) {
        return hatch_store_error(store, rc, "cannot read", err);
    }

    *count = store->count;

    return 0;
}


int
hatch_store_usage(hatch_store_t *store, uint64_t *used, uint64_t *size,
    hatch_err_t *err)
{
    int          rc;
    size_t       i;
    MDB_stat     stat;
    MDB_envinfo  info;

    /* 0 and 1 are LMDB's own: its free pages and the names of the others */
    const MDB_dbi  dbis[] = { 0, 1, store->routes, store->ids, store->vms };

    rc = hatch_store_renew(store, err);
    if (rc != 0) {
        return rc;
    }

    *used = 0;
    rc = mdb_env_info(store->env, &info);

    for (i = 0; rc == 0 && i < sizeof(dbis) / sizeof(dbis[0]); i++) {
        rc = mdb_stat(store->reader, dbis[i], &stat);

        if (rc == 0) {
            *used += (uint64_t) stat.ms_psize
                     * (stat.ms_branch_pages + stat.ms_leaf_pages
                        + stat.ms_overflow_pages);
        }
    }

    mdb_txn_reset(store->reader);

    if (rc != 0) {
        return hatch_store_error(store, rc, "cannot read", err);
    }

    *size = info.me_mapsize;

    return 0;
}
