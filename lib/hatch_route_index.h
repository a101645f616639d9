/*
 * The route index: the routes once more, as a hash table in a mapped file
 * beside the store ("index"), for the proxy.  A look-up costs it one cache
 * line and no more with a million routes than with one; LMDB's tree costs a
 * dozen, and ten times the instructions.
 *
 * It is a copy that may be thrown away.  The store alone is durable and right.
 *
 * Ownership: whoever holds the store's write lock (hatch_store_begin())
 * writes it, in whatever process; all others only read.
 *
 * What a reader may believe: `txn` is the number of the commit that the table
 * holds.  A writer commits first, which raises the store's own number, then
 * changes the table, then raises `txn`.  So a reader that finds `txn` the
 * same before and after it has copied a cell, and equal to the store's number
 * at the end, has copied what that commit holds.  In any other case, a writer
 * killed in between included, it asks the store.
 *
 * What a writer may believe: the table is that of the store if boot, file and
 * time of change of data.mdb and the number are what was noted last.  If not
 * (power was lost, data.mdb was put back from a copy), the table is built anew
 * in a new file, a piece at a time, while look-ups ask the store.
 *
 * lib/hatch_route_store*.c only.
 */

#ifndef HATCH_ROUTE_INDEX_H_INCLUDED
#define HATCH_ROUTE_INDEX_H_INCLUDED

#include "hatch_file.h"
#include "hatch_route_store.h"


#define HATCH_INDEX_MAGIC    0x5845444e49435448ull   /* "HTCINDEX" */
#define HATCH_INDEX_VERSION  2

/* Longer labels are looked up in the store. */
#define HATCH_INDEX_LABEL    30

#define HATCH_INDEX_CELLS_MIN  1024
#define HATCH_INDEX_CELLS_MAX  (1u << 26)

/* So far from its place a cell is looked for; a route may have none. */
#define HATCH_INDEX_PROBES   128


/* A route; a cache line. */
typedef struct {
    uint32_t  hash;
    uint16_t  target_port;
    uint8_t   auto_wake;
    uint8_t   len;              /* of the label; 0: the cell is free */
    char      vm[HATCH_ID_RANDOM];      /* of its id */
    uint8_t   id[HATCH_ID_PACKED];      /* the route's, seldom asked for */
    char      label[HATCH_INDEX_LABEL];
} hatch_index_cell_t;

_Static_assert(sizeof(hatch_index_cell_t) == 64, "a cache line");


/* The data.mdb that a table was made of. */
typedef struct {
    char      boot[40];         /* of the machine, NUL-padded */
    uint64_t  dev, ino;
    uint64_t  sec, nsec;        /* its last change */
} hatch_index_origin_t;


typedef struct {
    hatch_file_head_t     head;
    uint64_t              seed;     /* of the hash; set once */

    /* readers, too: atomic */
    uint64_t              txn;      /* 0: complete no more, or not yet */
    uint64_t              reserved[2];

    /* writers only */
    uint64_t              held;     /* as txn, also of a part */
    uint64_t              used;     /* cells */
    uint32_t              complete;
    uint32_t              built_len;
    char                  built[HATCH_LABEL_SIZE];  /* up to this label */
    hatch_index_origin_t  origin;
} hatch_index_head_t;

_Static_assert(sizeof(hatch_index_head_t) <= 4096, "head");


/* A mapping of the file; all zero: none. */
typedef struct {
    hatch_file_t         file;
    hatch_index_head_t  *head;
    hatch_index_cell_t  *cells;
    uint32_t             mask;      /* cells - 1 */
} hatch_index_t;


/* Maps the index at path. */
int hatch_index_open(hatch_index_t *index, const char *path, int writable,
    hatch_err_t *err);

/* An empty one for so many routes, twice over, in the place of any other. */
int hatch_index_create(hatch_index_t *index, const char *path,
    uint64_t routes, uid_t uid, gid_t gid, hatch_err_t *err);

void hatch_index_close(hatch_index_t *index);


/* The commit that the table holds; 0: none. */
static inline uint64_t
hatch_index_txn(const hatch_index_t *index)
{
    return __atomic_load_n(&index->head->txn, __ATOMIC_ACQUIRE);
}


/*
 * 0, or -1: only the store knows.  Some routes have no cell, and whoever cuts
 * the file short leaves zeroes in its last page, which look like free cells.
 * For labels of at most HATCH_INDEX_LABEL bytes.
 */
int hatch_index_find(const hatch_index_t *index, const char *label, size_t len,
    hatch_target_t *target);


/* --- the writer --- */

/* -1: the table is full, and has to be built anew. */
int hatch_index_insert(hatch_index_t *index, const hatch_route_t *route);

/* A route that was inserted. */
void hatch_index_remove(hatch_index_t *index, const char *label);

/* Readers ask the store from now on, writers build it anew. */
void hatch_index_spoil(hatch_index_t *index);

#endif /* HATCH_ROUTE_INDEX_H_INCLUDED */
