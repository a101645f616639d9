#define _GNU_SOURCE

#include "routes.h"
#include "table/table.h"

#include "hatch_route_store.h"

#include <pthread.h>
#include <string.h>


/* Routes that are read at a time. */
#define ROUTES_PAGE  64


/*
 * Opened at the first need: nginx creates the store, and an agent that runs
 * before nginx ever did has no routes to delete.  The lock covers everything,
 * so a remap never meets a transaction.
 */
static struct {
    pthread_mutex_t   lock;
    hatch_store_t    *store;
} routes = { .lock = PTHREAD_MUTEX_INITIALIZER };


/* 0, 1 if there is no store yet, or an error.  The lock is held. */
static int
routes_open(const config_t *config, hatch_err_t *err)
{
    int  rc;

    if (routes.store != NULL) {
        return 0;
    }

    rc = hatch_store_open(&routes.store, config->route_store, 0, err);

    /* a store without its databases is one that nginx is just making */
    return rc == HATCH_ERR_ABSENT || rc == HATCH_ERR_NOT_FOUND ? 1 : rc;
}


static int
routes_delete_once(const char *vm, unsigned *n, hatch_err_t *err)
{
    int                rc;
    hatch_store_txn_t  txn;

    rc = hatch_store_begin(routes.store, &txn, err);
    if (rc != 0) {
        return rc;
    }

    rc = hatch_store_delete_vm(&txn, vm, n, err);

    if (rc != 0 || *n == 0) {
        hatch_store_abort(&txn);
        return rc;
    }

    return hatch_store_commit(&txn, err);
}


static int
routes_delete_locked(const char *vm, unsigned *n, hatch_err_t *err)
{
    int  rc;

    rc = routes_delete_once(vm, n, err);

    if (rc == HATCH_ERR_UNAVAILABLE) {
        rc = hatch_store_remap(routes.store, err);

        if (rc == 0) {
            rc = routes_delete_once(vm, n, err);
        }
    }

    return rc;
}


int
routes_delete(const config_t *config, const char *vm, unsigned *n,
    hatch_err_t *err)
{
    int  rc;

    *n = 0;

    pthread_mutex_lock(&routes.lock);

    rc = routes_open(config, err);

    if (rc == 0) {
        rc = routes_delete_locked(vm, n, err);
    }

    pthread_mutex_unlock(&routes.lock);

    return rc == 1 ? 0 : rc;
}


static int
routes_note(void *ctx, const char *vm)
{
    if (!table_has(vm)) {
        (void) json_object_object_add(ctx, vm, NULL);
    }

    return 0;
}


/* The lock is held. */
static int
routes_count(const char *vm, unsigned *count, hatch_err_t *err)
{
    int            rc, more = 1;
    char           after[HATCH_ID_SIZE] = "";
    unsigned       n;
    hatch_route_t  page[ROUTES_PAGE];

    *count = 0;

    while (more) {
        rc = hatch_store_list(routes.store, vm,
                              after[0] != '\0' ? after : NULL, page,
                              ROUTES_PAGE, &n, &more, err);

        if (rc != 0 || n == 0) {
            return rc;
        }

        *count += n;
        memcpy(after, page[n - 1].id, sizeof(after));
    }

    return 0;
}


/* Once all are known: hatch_store_each_vm() lets nobody else in. */
static int
routes_count_all(json_object *ids, hatch_err_t *err)
{
    int       rc = 0;
    unsigned  n;

    json_object_object_foreach(ids, vm, none) {
        (void) none;

        if (rc == 0) {
            rc = routes_count(vm, &n, err);
        }

        if (rc == 0) {
            (void) json_object_object_add(ids, vm, json_object_new_int64(n));
        }
    }

    return rc;
}


int
routes_note_vms(const config_t *config, json_object *ids, hatch_err_t *err)
{
    int  rc;

    pthread_mutex_lock(&routes.lock);

    rc = routes_open(config, err);

    if (rc == 0) {
        rc = hatch_store_each_vm(routes.store, routes_note, ids, err);
    }

    if (rc == 0) {
        rc = routes_count_all(ids, err);
    }

    pthread_mutex_unlock(&routes.lock);

    return rc == 1 ? 0 : rc;
}


void
routes_close(void)
{
    pthread_mutex_lock(&routes.lock);
    hatch_store_close(routes.store);
    routes.store = NULL;
    pthread_mutex_unlock(&routes.lock);
}
