/* Operations on VMs take turns: who has one, who waits, who pulls the plug. */

#define _GNU_SOURCE

#include "table_private.h"

#include "hatch_clock.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>


void
table_defined(const char *id, hatch_state_t doing)
{
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL) {
        e->doing = doing;

        if (e->observed == HATCH_STATE_NONE) {
            e->observed = HATCH_STATE_STOPPED;
        }

        table_publish_entry(e);
    }

    pthread_mutex_unlock(&table.lock);
}


/* Waits for any change, counted as a waiter of this VM.  Locked. */
static int
table_wait_changed(const char *id, const struct timespec *deadline)
{
    int       rc;
    entry_t  *e;

    (*table_find(id))->waiting++;

    rc = pthread_cond_timedwait(&table.changed, &table.lock, deadline);

    e = *table_find(id);

    if (e != NULL && e->waiting != 0) {
        e->waiting--;
    }

    return rc;
}


static const char *
table_state_name(const char *id)
{
    entry_t  *e = *table_find(id);

    return hatch_state_name(e != NULL ? table_state(e) : HATCH_STATE_NONE);
}


int
table_begin(const char *id, int urgent, unsigned timeout, vm_t *vm,
    hatch_err_t *err)
{
    int              rc = 0;
    entry_t         *e;
    struct timespec  deadline = cond_deadline(timeout);

    pthread_mutex_lock(&table.lock);

    for ( ;; ) {
        e = *table_find(id);

        if (e == NULL || (!e->busy && e->observed == HATCH_STATE_NONE)) {
            rc = hatch_err_set(err, HATCH_ERR_NOT_FOUND, "no VM \"%s\"", id);
            break;
        }

        if (!e->busy) {
            e->busy = 1;
            e->forced = 0;
            *vm = e->vm;
            vm->state = table_state(e);
            break;
        }

        if (e->waiting >= TABLE_WAITING && !urgent) {
            rc = hatch_err_set(err, HATCH_ERR_BUSY, "VM \"%s\" is %s, and %u "
                               "others wait for it", id,
                               hatch_state_name(table_state(e)), e->waiting);
            break;
        }

        if (table_wait_changed(id, &deadline) == ETIMEDOUT) {
            rc = hatch_err_set(err, HATCH_ERR_TIMEOUT, "VM \"%s\" is still "
                               "busy (%s)", id, table_state_name(id));
            break;
        }
    }

    pthread_mutex_unlock(&table.lock);

    return rc;
}


void
table_doing(const char *id, hatch_state_t doing)
{
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL) {
        e->doing = doing;
        table_publish_entry(e);
    }

    pthread_mutex_unlock(&table.lock);
}


void
table_force(const char *id)
{
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL) {
        e->forced = 1;
    }

    pthread_mutex_unlock(&table.lock);
}


int
table_forced(const char *id)
{
    int       forced;
    entry_t  *e;

    pthread_mutex_lock(&table.lock);
    e = *table_find(id);
    forced = e != NULL && e->forced;
    pthread_mutex_unlock(&table.lock);

    return forced;
}


int
table_is_taken(const char *id)
{
    int       taken;
    entry_t  *e;

    pthread_mutex_lock(&table.lock);
    e = *table_find(id);
    taken = e != NULL && e->busy && !e->saving;
    pthread_mutex_unlock(&table.lock);

    return taken;
}


void
table_set_freed(void (*freed)(const char *id))
{
    pthread_mutex_lock(&table.lock);
    table.freed = freed;
    pthread_mutex_unlock(&table.lock);
}


void
table_end(const char *id)
{
    entry_t   *e;
    void     (*freed)(const char *id) = NULL;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e == NULL || e->wanted != 0) {
        freed = table.freed;
    }

    if (e != NULL) {
        e->busy = 0;
        e->doing = HATCH_STATE_NONE;
        table_publish_entry(e);
        pthread_cond_broadcast(&table.changed);
    }

    pthread_mutex_unlock(&table.lock);

    if (freed != NULL) {
        freed(id);
    }
}


int
table_wait(const char *id, hatch_state_t state, unsigned timeout)
{
    int              rc = 0;
    entry_t         *e;
    struct timespec  deadline = cond_deadline(timeout);

    pthread_mutex_lock(&table.lock);

    while ((e = *table_find(id)) != NULL && e->observed != state) {
        if (pthread_cond_timedwait(&table.changed, &table.lock, &deadline)
            == ETIMEDOUT)
        {
            rc = HATCH_ERR_TIMEOUT;
            break;
        }
    }

    pthread_mutex_unlock(&table.lock);

    return rc;
}
