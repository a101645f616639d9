/* The route store: keeping its index true (hatch_route_index.h). */

#define _GNU_SOURCE

#include "hatch_route_store_private.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


void
hatch_store_index_path(const hatch_store_t *store, char *path)
{
    (void) snprintf(path, PATH_MAX, "%s/index", store->dir);
}


int
hatch_store_origin(const hatch_store_t *store, hatch_index_origin_t *origin)
{
    int          fd;
    ssize_t      n;
    struct stat  st;

    memset(origin, 0, sizeof(*origin));

    fd = open(HATCH_STORE_BOOT_ID, O_RDONLY | O_CLOEXEC);
    if (fd == -1) {
        return -1;
    }

    n = read(fd, origin->boot, sizeof(origin->boot) - 1);
    (void) close(fd);

    if (n <= 0 || mdb_env_get_fd(store->env, &fd) != 0 || fstat(fd, &st) == -1)
    {
        return -1;
    }

    origin->dev = st.st_dev;
    origin->ino = st.st_ino;
    origin->sec = (uint64_t) st.st_mtim.tv_sec;
    origin->nsec = (uint64_t) st.st_mtim.tv_nsec;

    return 0;
}


void
hatch_store_index_sign(hatch_store_t *store, uint64_t txn)
{
    hatch_index_origin_t   origin;
    hatch_index_head_t    *head = store->windex.head;

    if (hatch_store_origin(store, &origin) != 0) {
        hatch_index_spoil(&store->windex);
        return;
    }

    head->origin = origin;
    head->held = txn;

    if (head->complete) {
        __atomic_store_n(&head->txn, txn, __ATOMIC_RELEASE);
    }
}


void
hatch_store_index_begin(hatch_store_t *store, uint64_t last)
{
    char                   path[PATH_MAX];
    hatch_index_origin_t   origin;
    hatch_index_head_t    *head;

    store->changed = 0;
    store->forgot = 0;

    hatch_store_index_path(store, path);

    if (store->windex.head != NULL
        && hatch_file_replaced(&store->windex.file, path))
    {
        hatch_index_close(&store->windex);
    }

    if (store->windex.head == NULL
        && hatch_index_open(&store->windex, path, 1, NULL) != 0)
    {
        return;
    }

    head = store->windex.head;

    if (head->held == 0
        || (head->held == last && head->built_len <= HATCH_LABEL_MAX
            && hatch_store_origin(store, &origin) == 0
            && memcmp(&origin, &head->origin, sizeof(origin)) == 0))
    {
        return;
    }

    hatch_index_spoil(&store->windex);
}


void
hatch_store_index_note(hatch_store_t *store, const hatch_route_t *route,
    int removed, int inserted)
{
    unsigned               size;
    hatch_store_change_t  *change, *changes;

    if (store->windex.head == NULL || store->windex.head->held == 0) {
        return;
    }

    if (store->changed == store->changes_size) {
        size = store->changes_size != 0 ? store->changes_size * 2 : 16;
        changes = realloc(store->changes, size * sizeof(*changes));

        if (changes == NULL) {
            store->forgot = 1;
            return;
        }

        store->changes = changes;
        store->changes_size = size;
    }

    change = &store->changes[store->changed++];
    change->route = *route;
    change->removed = removed != 0;
    change->inserted = inserted != 0;
}


/* Is the route in the part that has been built? */
static int
hatch_store_index_covers(const hatch_store_t *store, const char *subdomain)
{
    MDB_val                    a, b;
    const hatch_index_head_t  *head = store->windex.head;

    if (head->complete) {
        return 1;
    }

    a = hatch_store_key(subdomain, strlen(subdomain));
    b = hatch_store_key(head->built, head->built_len);

    return head->built_len != 0 && hatch_store_compare(&a, &b) <= 0;
}


void
hatch_store_index_commit(hatch_store_t *store, uint64_t txn)
{
    unsigned                     i;
    const hatch_store_change_t  *change;

    if (store->windex.head == NULL || store->windex.head->held == 0
        || hatch_store_last(store) != txn)
    {
        /* none, or nothing was written: LMDB then keeps its number */
        return;
    }

    /* readers see the commit by now, so none believes what we change */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);

    for (i = 0; i < store->changed && !store->forgot; i++) {
        change = &store->changes[i];

        if (!hatch_store_index_covers(store, change->route.subdomain)) {
            continue;
        }

        if (change->removed) {
            hatch_index_remove(&store->windex, change->route.subdomain);
        }

        if (change->inserted
            && hatch_index_insert(&store->windex, &change->route) != 0)
        {
            store->forgot = 1;
        }
    }

    if (store->forgot) {
        hatch_index_spoil(&store->windex);

    } else {
        hatch_store_index_sign(store, txn);
    }
}


void
hatch_store_index_use(hatch_store_t *store)
{
    char  path[PATH_MAX];

    hatch_store_index_path(store, path);

    if (store->index.head != NULL
        && hatch_file_replaced(&store->index.file, path))
    {
        hatch_index_close(&store->index);
    }

    if (store->index.head == NULL) {
        (void) hatch_index_open(&store->index, path, 0, NULL);
    }
}


int
hatch_store_index_wanted(const hatch_store_t *store)
{
    return store->index_wanted;
}


void
hatch_store_index_close(hatch_store_t *store)
{
    hatch_index_close(&store->windex);
    hatch_index_close(&store->index);
    free(store->changes);
}
