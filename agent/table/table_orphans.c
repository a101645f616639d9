/* What is left of VMs that are gone, as the tidy thread found it. */

#define _GNU_SOURCE

#include "table_private.h"

#include <stdlib.h>
#include <string.h>


uint64_t
table_orphans_epoch(void)
{
    uint64_t  epoch;

    pthread_mutex_lock(&table.lock);
    epoch = table.deleted;
    pthread_mutex_unlock(&table.lock);

    return epoch;
}


/* Locked.  Was it deleted since then?  Too long ago is yes. */
static int
orphans_is_deleted(const char *id, uint64_t since)
{
    uint64_t  n;

    if (table.deleted - since > TABLE_DELETED) {
        return 1;
    }

    for (n = since; n < table.deleted; n++) {
        if (strcmp(table.deleted_id[n % TABLE_DELETED], id) == 0) {
            return 1;
        }
    }

    return 0;
}


void
table_set_orphans(table_orphan_t *orphans, size_t n, unsigned listed,
    uint64_t began)
{
    size_t           i, kept = 0;
    table_orphan_t  *before;

    pthread_mutex_lock(&table.lock);

    for (i = 0; i < n; i++) {
        if (!orphans_is_deleted(orphans[i].id, began)) {
            orphans[kept++] = orphans[i];
        }
    }

    before = table.orphans;
    table.orphans = orphans;
    table.n_orphans = kept;
    table.listed = listed - (unsigned) (n - kept);
    hatch_zone_set_orphans(&table.writer, table.listed);

    pthread_mutex_unlock(&table.lock);

    free(before);
}


void
table_forget_orphan(const char *id)
{
    size_t  i, kept = 0;

    pthread_mutex_lock(&table.lock);

    memcpy(table.deleted_id[table.deleted % TABLE_DELETED], id,
           strlen(id) + 1);
    table.deleted++;

    for (i = 0; i < table.n_orphans; i++) {
        if (strcmp(table.orphans[i].id, id) != 0) {
            table.orphans[kept++] = table.orphans[i];
        }
    }

    if (kept != table.n_orphans) {
        table.n_orphans = kept;
        table.listed--;
        hatch_zone_set_orphans(&table.writer, table.listed);
    }

    pthread_mutex_unlock(&table.lock);
}
