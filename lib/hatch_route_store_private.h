/*
 * What the store's files share; nobody else.  Each may call only those before
 * it: base (records and errors), index (the copy, in each transaction), list,
 * write (transactions), build (of the index); hatch_route_store.c opens, looks
 * up and closes.
 */

#ifndef HATCH_ROUTE_STORE_PRIVATE_H_INCLUDED
#define HATCH_ROUTE_STORE_PRIVATE_H_INCLUDED

#include <lmdb.h>
#include <pthread.h>

#include "hatch_route_index.h"
#include "hatch_route_store.h"


#define HATCH_STORE_SCHEMA   1
#define HATCH_STORE_READERS  1024   /* processes that may read at once */
#define HATCH_STORE_BOOT_ID  "/proc/sys/kernel/random/boot_id"


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


/* What a transaction did to a route; the index hears of it afterwards. */
typedef struct {
    hatch_route_t  route;
    unsigned       removed:1;   /* the route was there before */
    unsigned       inserted:1;  /* and is there now */
} hatch_store_change_t;


struct hatch_store_s {
    MDB_env  *env;
    MDB_dbi   routes;
    MDB_dbi   ids;
    MDB_dbi   vms;
    MDB_txn  *reader;           /* reset between look-ups */

    hatch_index_t  index;       /* of the thread that reads */
    int       index_wanted;

    uint64_t  count;            /* of routes, in the snapshot `counted` */
    uint64_t  counted;          /* its transaction; 0: not counted yet */

    /* held by a write transaction: the map must not move under it */
    pthread_mutex_t  writing;
    int              dir_fd;    /* the same between processes, by flock() */

    /* of the thread that writes, while it does */
    hatch_index_t          windex;
    hatch_store_change_t  *changes;
    unsigned               changed;     /* of them are in use */
    unsigned               changes_size;
    int                    forgot;      /* there was no memory for one */

    char      dir[256];
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

/* The number of the last commit, by whatever process. */
static inline uint64_t
hatch_store_last(const hatch_store_t *store)
{
    MDB_envinfo  info;

    return mdb_env_info(store->env, &info) == 0 ? info.me_last_txnid : 0;
}

/* LMDB's own order. */
int hatch_store_compare(const MDB_val *a, const MDB_val *b);


/* --- hatch_route_store_index.c: with the writer's lock held --- */

/* The transaction has begun: opens the index, and spoils one that is wrong. */
void hatch_store_index_begin(hatch_store_t *store, uint64_t last);

/* It has removed or inserted (or both) a route. */
void hatch_store_index_note(hatch_store_t *store, const hatch_route_t *route,
    int removed, int inserted);

/* It was committed as number txn. */
void hatch_store_index_commit(hatch_store_t *store, uint64_t txn);

/* Its file is this one; path has room for PATH_MAX. */
void hatch_store_index_path(const hatch_store_t *store, char *path);

/* What data.mdb is now; -1 if it cannot be known. */
int hatch_store_origin(const hatch_store_t *store,
    hatch_index_origin_t *origin);

/* Notes that the table is the store's, as of commit txn. */
void hatch_store_index_sign(hatch_store_t *store, uint64_t txn);

void hatch_store_index_close(hatch_store_t *store);

#endif /* HATCH_ROUTE_STORE_PRIVATE_H_INCLUDED */
