/*
 * The route store: subdomain -> VM, in an LMDB environment.
 *
 * Ownership: nginx workers write it; the agent may only delete the routes of
 * a VM that is gone.  Each process opens it for itself (after fork, never a
 * parent's handle) and once.  Any number of processes may have it open.
 *
 *   routes   subdomain -> record          the proxy's look-up
 *   ids      route id  -> subdomain       the API's look-up, and list order
 *   vms      vm id     -> route id, ...   (sorted duplicates)
 *
 * Beside it lies an index, a hash table of the routes for the proxy
 * (hatch_route_index.h).  It may be missing or removed at any time: look-ups
 * then take longer.
 *
 * Readers take no lock and never wait.  A commit is on disk when it returns.
 * The writer's lock is a robust mutex: a writer killed with -9 blocks nobody,
 * and what it had not committed never happened.
 *
 * Threads: the read functions of one hatch_store_t belong to one thread.  A
 * write transaction may run in another thread meanwhile; it begins and ends
 * in one thread.
 */

#ifndef HATCH_ROUTE_STORE_H_INCLUDED
#define HATCH_ROUTE_STORE_H_INCLUDED

#include <stddef.h>
#include <stdint.h>

#include "hatch_err.h"
#include "hatch_id.h"


#define HATCH_STORE_PATH      "/var/lib/hatch/routes"
#define HATCH_STORE_SIZE      (1ull << 30)
#define HATCH_STORE_SIZE_MIN  (1ull << 20)


typedef struct {
    char      id[HATCH_ID_SIZE];
    char      vm[HATCH_ID_SIZE];
    char      subdomain[HATCH_LABEL_SIZE];  /* lower case */
    uint16_t  target_port;
    uint8_t   auto_wake;
    uint64_t  created;                      /* wall clock, ms since 1970 */
    uint64_t  updated;
} hatch_route_t;


/* What the proxy needs of a route. */
typedef struct {
    char      vm[HATCH_ID_SIZE];
    char      id[HATCH_ID_SIZE];    /* for hatch_target_id() */
    uint16_t  target_port;
    uint8_t   auto_wake;
} hatch_target_t;

/* The route's id, which is as the index has it until somebody asks. */
static inline const char *
hatch_target_id(hatch_target_t *target)
{
    uint8_t  packed[HATCH_ID_PACKED];

    if (target->id[0] == '\0') {
        memcpy(packed, target->id + 1, sizeof(packed));
        hatch_id_unpack(HATCH_ID_ROUTE, packed, target->id);
    }

    return target->id;
}


typedef struct hatch_store_s      hatch_store_t;
typedef struct hatch_store_txn_s  hatch_store_txn_t;


/*
 * Opens the store in dir, which must exist.  size is the most bytes it may
 * grow to; 0 takes an existing store as it is and creates nothing
 * (HATCH_ERR_ABSENT if there is none).  Run by root, it leaves the files to
 * the owner of dir.
 */
int hatch_store_open(hatch_store_t **store, const char *dir, size_t size,
    hatch_err_t *err);

void hatch_store_close(hatch_store_t *store);

/*
 * HATCH_ERR_UNAVAILABLE from hatch_store_begin() means that another process
 * let the store grow past our mapping.  Call this in the thread that reads,
 * and try again; HATCH_ERR_BUSY while another thread writes.  Reading does so
 * by itself; it is HATCH_ERR_UNAVAILABLE only while a write of this process
 * is under way.
 */
int hatch_store_remap(hatch_store_t *store, hatch_err_t *err);


/* --- reading: 0, HATCH_ERR_NOT_FOUND, _UNAVAILABLE, _CORRUPT, _SYSTEM --- */

/*
 * Where the requests for a subdomain, given in lower case, go; from the index
 * if it can be used.
 */
int hatch_store_lookup(hatch_store_t *store, const char *subdomain,
    size_t len, hatch_target_t *target, hatch_err_t *err);

int hatch_store_get(hatch_store_t *store, const char *id,
    hatch_route_t *route, hatch_err_t *err);

/* Every route that there is. */
int hatch_store_count(hatch_store_t *store, uint64_t *count,
    hatch_err_t *err);

/* Bytes in use, and the most that there can be; not of the disk. */
int hatch_store_usage(hatch_store_t *store, uint64_t *used, uint64_t *size,
    hatch_err_t *err);

/*
 * Up to limit routes in the order of their ids, beginning after the id
 * `after` (which need not exist; NULL: from the first), of one VM or of all
 * (vm NULL).  Sets n, and more if there are further ones.
 */
int hatch_store_list(hatch_store_t *store, const char *vm, const char *after,
    hatch_route_t *routes, unsigned limit, unsigned *n, int *more,
    hatch_err_t *err);


/*
 * Calls each(ctx, vm id, routes) for every VM that has routes, until it
 * returns non-zero.  It may not use the store.
 */
int hatch_store_each_vm(hatch_store_t *store,
    int (*each)(void *ctx, const char *vm), void *ctx, hatch_err_t *err);


/* --- the index of the routes --- */

/*
 * Does a part of the work until the index is whole: at most `routes` of them
 * while the writer's lock is held.  Sets more while there is something left
 * to do.  Errors as of hatch_store_begin(); also HATCH_ERR_FULL (the disk).
 * Any thread.
 */
int hatch_store_index_build(hatch_store_t *store, unsigned routes, int *more,
    hatch_err_t *err);

/*
 * Has look-ups use the index.  Only after this process has seen it whole: a
 * build that ended without more to do.  The thread that reads.
 */
void hatch_store_index_use(hatch_store_t *store);

/* Did the last look-up find an index that has to be built (anew)? */
int hatch_store_index_wanted(const hatch_store_t *store);


/* --- writing; waits for other writers and for the disk --- */

int hatch_store_begin(hatch_store_t *store, hatch_store_txn_t *txn,
    hatch_err_t *err);

/* Durable when it returns 0; on an error nothing has happened. */
int hatch_store_commit(hatch_store_txn_t *txn, hatch_err_t *err);

void hatch_store_abort(hatch_store_txn_t *txn);

/*
 * The operations.  HATCH_ERR_EXISTS (subdomain taken) and _NOT_FOUND leave
 * the transaction usable; any other error means that it must be aborted.
 */
int hatch_store_create(hatch_store_txn_t *txn, const hatch_route_t *route,
    hatch_err_t *err);

/* Whose route has a subdomain.  HATCH_ERR_NOT_FOUND; changes nothing. */
int hatch_store_holder(hatch_store_txn_t *txn, const char *subdomain,
    char vm[HATCH_ID_SIZE]);

/*
 * port 0 and auto_wake -1 leave the field as it is, both together change
 * nothing; fills route.
 */
int hatch_store_update(hatch_store_txn_t *txn, const char *id, uint16_t port,
    int auto_wake, uint64_t now, hatch_route_t *route, hatch_err_t *err);

int hatch_store_delete(hatch_store_txn_t *txn, const char *id,
    hatch_err_t *err);

/* Deletes all routes of a VM and sets n to their number. */
int hatch_store_delete_vm(hatch_store_txn_t *txn, const char *vm, unsigned *n,
    hatch_err_t *err);


/* An open write transaction; begin fills it. */
struct hatch_store_txn_s {
    hatch_store_t  *store;
    void           *txn;
};

#endif /* HATCH_ROUTE_STORE_H_INCLUDED */
