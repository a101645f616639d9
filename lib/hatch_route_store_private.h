/* What the reading and the writing half of the store share; nobody else. */

#ifndef HATCH_ROUTE_STORE_PRIVATE_H_INCLUDED
#define HATCH_ROUTE_STORE_PRIVATE_H_INCLUDED

#include <lmdb.h>
#include <pthread.h>

#include "hatch_route_store.h"


#define HATCH_STORE_SCHEMA   1
#define HATCH_STORE_READERS  1024   /* processes that may read at once */


/* The value in "routes".  A change raises HATCH_STORE_SCHEMA. */
typedef struct {
    uint16_t  target_port;
    uint8_t   auto_wake;
    uint8_t   reserved[5];
    uint64_t  created;
    uint64_t  updated;
    char      id[HATCH_ID_SIZE];
    char      vm[HATCH_ID_SIZE];
} hatch_store_record_t;

_Static_assert(sizeof(hatch_store_record_t) == 72, "record size");


/*
 * Routes that were looked up lately, each valid as long as nothing has been
 * committed since: a B-tree is searched only after a change, or for a route
 * that was not asked for in a while.  Direct-mapped; 0.3 MB for a process that
 * looks up routes.
 */
#define HATCH_STORE_CACHE    2048

typedef struct {
    uint64_t       txn;         /* the snapshot it is of; 0: empty */
    hatch_route_t  route;
} hatch_store_cached_t;


struct hatch_store_s {
    MDB_env  *env;
    MDB_dbi   routes;
    MDB_dbi   ids;
    MDB_dbi   vms;
    MDB_txn  *reader;           /* reset between look-ups */

    hatch_store_cached_t  *cache;   /* NULL: nothing was looked up yet */
    uint64_t  count;            /* of routes, in the snapshot `counted` */
    uint64_t  counted;          /* its transaction; 0: not counted yet */

    /* held by a write transaction: the map must not move under it */
    pthread_mutex_t  writing;
    char      dir[256];         /* for error texts */
};


/* The hatch_err_t of an LMDB return code. */
int hatch_store_error(const hatch_store_t *store, int rc, const char *doing,
    hatch_err_t *err);

/* Begins a look-up in the snapshot of this moment; mdb_txn_reset() ends it. */
int hatch_store_renew(hatch_store_t *store, hatch_err_t *err);

/* Ids and subdomains are keys without their NUL. */
MDB_val hatch_store_key(const char *s, size_t len);

/* Unpacks and checks a record; HATCH_ERR_CORRUPT if it cannot be one. */
int hatch_store_unpack(const hatch_store_t *store, const MDB_val *subdomain,
    const MDB_val *value, hatch_route_t *route, hatch_err_t *err);

/* The route of an id, inside a transaction. */
int hatch_store_find(const hatch_store_t *store, MDB_txn *txn, const char *id,
    hatch_route_t *route, hatch_err_t *err);

#endif /* HATCH_ROUTE_STORE_PRIVATE_H_INCLUDED */
