/* The table of the route index; the theory is in the header. */

#define _GNU_SOURCE

#include "hatch_route_index.h"
#include "hatch_hash.h"
#include "hatch_latch.h"

#include <string.h>
#include <sys/random.h>


#define HATCH_INDEX_CELLS_OFFSET  4096


static size_t
hatch_index_size(uint32_t cells)
{
    return HATCH_INDEX_CELLS_OFFSET
           + (size_t) cells * sizeof(hatch_index_cell_t);
}


static uint32_t
hatch_index_layout_word(void)
{
    const uint32_t  numbers[] = {
        sizeof(hatch_index_head_t),
        offsetof(hatch_index_head_t, txn),
        offsetof(hatch_index_head_t, built),
        offsetof(hatch_index_head_t, origin),
        sizeof(hatch_index_cell_t),
        offsetof(hatch_index_cell_t, len),
        offsetof(hatch_index_cell_t, label),
        HATCH_INDEX_CELLS_OFFSET,
        HATCH_INDEX_PROBES
    };

    return hatch_file_layout(numbers, sizeof(numbers) / sizeof(numbers[0]));
}


static const hatch_file_kind_t  hatch_index_kind = {
    "route index", HATCH_INDEX_MAGIC, HATCH_INDEX_VERSION,
    hatch_index_layout_word, hatch_index_size, HATCH_INDEX_CELLS_MAX
};


static void
hatch_index_layout(hatch_index_t *index)
{
    char  *base = index->file.base;

    index->head = index->file.base;
    index->cells = (hatch_index_cell_t *) (base + HATCH_INDEX_CELLS_OFFSET);
    index->mask = index->file.slots - 1;
}


int
hatch_index_open(hatch_index_t *index, const char *path, int writable,
    hatch_err_t *err)
{
    int  rc;

    rc = hatch_file_open(&index->file, &hatch_index_kind, path, writable, 1,
                         err);
    if (rc != 0) {
        return rc;
    }

    if ((index->file.slots & (index->file.slots - 1)) != 0) {
        hatch_index_close(index);
        return hatch_err_set(err, HATCH_ERR_CORRUPT, "route index \"%s\" is "
                             "corrupted", path);
    }

    hatch_index_layout(index);

    return 0;
}


int
hatch_index_create(hatch_index_t *index, const char *path, uint64_t routes,
    uid_t uid, gid_t gid, hatch_err_t *err)
{
    int       rc;
    uint32_t  cells = HATCH_INDEX_CELLS_MIN;

    while (cells < routes * 2 && cells < HATCH_INDEX_CELLS_MAX) {
        cells *= 2;
    }

    hatch_index_close(index);

    rc = hatch_file_create(&index->file, &hatch_index_kind, path, cells, 0600,
                           uid, gid, err);
    if (rc != 0) {
        return rc;
    }

    hatch_index_layout(index);

    /* without a random one, names that collide could be made up */
    if (getrandom(&index->head->seed, sizeof(index->head->seed), 0)
        != (ssize_t) sizeof(index->head->seed))
    {
        hatch_index_close(index);
        return hatch_err_set(err, HATCH_ERR_SYSTEM, "no random numbers");
    }

    return 0;
}


void
hatch_index_close(hatch_index_t *index)
{
    hatch_file_close(&index->file);
    index->head = NULL;
}


/*
 * In words: a label of up to seven bytes in one, which overlap, and a longer
 * one in as many as it takes, the last of which overlaps.
 */
static inline uint32_t
hatch_index_hash(const hatch_index_t *index, const char *label, size_t len)
{
    size_t    i;
    uint32_t  first, last;
    uint64_t  word, hash;

    hash = index->head->seed ^ len;

    for (i = 0; i + sizeof(word) < len; i += sizeof(word)) {
        memcpy(&word, label + i, sizeof(word));
        hash = hatch_hash_word(hash, word);
    }

    if (len >= sizeof(word)) {
        memcpy(&word, label + len - sizeof(word), sizeof(word));

    } else if (len >= sizeof(first)) {
        memcpy(&first, label, sizeof(first));
        memcpy(&last, label + len - sizeof(last), sizeof(last));
        word = (uint64_t) first << 32 | last;

    } else {
        word = (uint64_t) (unsigned char) label[0] << 16
               | (uint64_t) (unsigned char) label[len / 2] << 8
               | (unsigned char) label[len - 1];
    }

    return hatch_hash_end(hatch_hash_word(hash, word));
}


/* Of the same length, which is at most that of a cell's label, and not 0. */
static inline int
hatch_index_same(const char *a, const char *b, size_t len)
{
    size_t    i;
    uint64_t  x, y;

    if (len < sizeof(x)) {
        return memcmp(a, b, len) == 0;
    }

    for (i = 0; i + sizeof(x) < len; i += sizeof(x)) {
        memcpy(&x, a + i, sizeof(x));
        memcpy(&y, b + i, sizeof(y));

        if (x != y) {
            return 0;
        }
    }

    memcpy(&x, a + len - sizeof(x), sizeof(x));
    memcpy(&y, b + len - sizeof(y), sizeof(y));

    return x == y;
}


int
hatch_index_find(const hatch_index_t *index, const char *label, size_t len,
    hatch_target_t *target)
{
    uint32_t             n, hash;
    hatch_index_cell_t   cell;

    hash = hatch_index_hash(index, label, len);

    for (n = 0; n < HATCH_INDEX_PROBES; n++) {

        /* the first word says whose it is */
        hatch_words_load(&cell, &index->cells[(hash + n) & index->mask],
                         sizeof(uint64_t));

        if (cell.len == 0) {
            break;
        }

        if (cell.hash != hash || cell.len != len) {
            continue;
        }

        hatch_words_load(&cell, &index->cells[(hash + n) & index->mask],
                         sizeof(cell));

        /* it may be torn; the caller finds out, but only afterwards */
        if (hatch_index_same(cell.label, label, len)) {
            memcpy(target->vm, HATCH_ID_VM, sizeof(HATCH_ID_VM) - 1);
            memcpy(target->vm + sizeof(HATCH_ID_VM) - 1, cell.vm,
                   sizeof(cell.vm));
            target->vm[HATCH_ID_VM_SIZE - 1] = '\0';

            target->id[0] = '\0';
            memcpy(target->id + 1, cell.id, sizeof(cell.id));

            target->target_port = cell.target_port;
            target->auto_wake = cell.auto_wake;
            return 0;
        }
    }

    return -1;
}


static int
hatch_index_fill(const hatch_index_t *index, hatch_index_cell_t *cell,
    const hatch_route_t *route)
{
    size_t  len = strlen(route->subdomain);

    if (!hatch_id_valid(HATCH_ID_VM, route->vm, strlen(route->vm))
        || hatch_id_pack(HATCH_ID_ROUTE, route->id, cell->id) != 0)
    {
        return -1;
    }

    memcpy(cell->vm, route->vm + sizeof(HATCH_ID_VM) - 1, sizeof(cell->vm));

    cell->hash = hatch_index_hash(index, route->subdomain, len);
    cell->target_port = route->target_port;
    cell->auto_wake = route->auto_wake;
    cell->len = (uint8_t) len;
    memset(cell->label, 0, sizeof(cell->label));
    memcpy(cell->label, route->subdomain, len);

    return 0;
}


int
hatch_index_insert(hatch_index_t *index, const hatch_route_t *route)
{
    uint32_t             n;
    hatch_index_cell_t   cell, *at;

    if (strlen(route->subdomain) > HATCH_INDEX_LABEL) {
        return 0;
    }

    /* beyond seven tenths the ways get long */
    if (index->head->used >= (uint64_t) index->file.slots * 7 / 10) {
        return -1;
    }

    if (hatch_index_fill(index, &cell, route) == 0) {
        for (n = 0; n < HATCH_INDEX_PROBES; n++) {
            at = &index->cells[(cell.hash + n) & index->mask];

            if (at->len == 0) {
                hatch_words_store(at, &cell, sizeof(cell));
                index->head->used++;
                return 0;
            }
        }
    }

    return 0;
}


/* Frees a cell, and moves up the ones behind it that had to give way. */
static void
hatch_index_free(hatch_index_t *index, uint32_t free)
{
    uint32_t                  n, i, place;
    const hatch_index_cell_t  none = { .len = 0 };

    for (n = 0, i = free; n < index->mask; n++) {
        i = (i + 1) & index->mask;

        if (index->cells[i].len == 0) {
            break;
        }

        place = index->cells[i].hash & index->mask;

        /* not the ones whose place is behind the free cell */
        if (((i - place) & index->mask) < ((i - free) & index->mask)) {
            continue;
        }

        hatch_words_store(&index->cells[free], &index->cells[i],
                          sizeof(hatch_index_cell_t));
        free = i;
    }

    hatch_words_store(&index->cells[free], &none, sizeof(none));
    index->head->used--;
}


void
hatch_index_remove(hatch_index_t *index, const char *label)
{
    size_t               len = strlen(label);
    uint32_t             n, at, hash;
    hatch_index_cell_t  *cell;

    if (len > HATCH_INDEX_LABEL) {
        return;
    }

    hash = hatch_index_hash(index, label, len);

    for (n = 0; n < HATCH_INDEX_PROBES; n++) {
        at = (hash + n) & index->mask;
        cell = &index->cells[at];

        if (cell->len == 0) {
            break;
        }

        if (cell->hash == hash && cell->len == len
            && memcmp(cell->label, label, len) == 0)
        {
            hatch_index_free(index, at);
            return;
        }
    }
}


void
hatch_index_spoil(hatch_index_t *index)
{
    __atomic_store_n(&index->head->txn, 0, __ATOMIC_RELEASE);
    index->head->held = 0;
}
