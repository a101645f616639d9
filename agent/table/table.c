#define _GNU_SOURCE

#include "table_private.h"

#include "hatch_clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>


table_t  table;


entry_t **
table_find(const char *id)
{
    entry_t    **e;
    uint32_t     hash = 2166136261u;
    const char  *p;

    for (p = id; *p != '\0'; p++) {
        hash = (hash ^ (unsigned char) *p) * 16777619u;
    }

    for (e = &table.buckets[hash % TABLE_BUCKETS]; *e != NULL;
         e = &(*e)->next)
    {
        if (strcmp((*e)->vm.id, id) == 0) {
            break;
        }
    }

    return e;
}


hatch_state_t
table_state(const entry_t *e)
{
    return e->doing != HATCH_STATE_NONE ? e->doing : e->observed;
}


void
table_publish_entry(entry_t *e)
{
    int64_t          slot;
    unsigned         slotless;
    hatch_zone_vm_t  vm;

    e->vm.state = table_state(e);
    e->due_from = 0;

    if (e->vm.state == HATCH_STATE_NONE) {
        return;
    }

    memset(&vm, 0, sizeof(vm));
    memcpy(vm.id, e->vm.id, sizeof(vm.id));
    memcpy(vm.name, e->vm.name, sizeof(vm.name));
    vm.created = e->vm.created;
    vm.vcpus = e->vm.vcpu_count;
    vm.memory = (uint64_t) e->vm.mem_mib << 20;
    vm.incarnation = e->incarnation;
    vm.used = e->used;
    vm.wakes = e->wakes;
    vm.wake_failures = e->wake_failures;
    vm.idle_timeout = e->vm.idle_timeout == VM_NEVER
                      ? 0 : (uint64_t) e->vm.idle_timeout;

    if (e->vm.guest_ip.s_addr != 0) {
        vm.family = 4;
        memcpy(vm.address, &e->vm.guest_ip, 4);
    }

    slot = hatch_zone_put(&table.writer, &vm, e->vm.state, hatch_clock_ms());

    slotless = slot < 0;
    table.slotless += slotless - e->slotless;
    e->slotless = slotless & 1;
    e->slot = slotless ? 0 : (uint32_t) slot;
    e->generation = vm.generation;

    hatch_zone_set_overflow(&table.writer, table.slotless);
}


int
table_open(const config_t *config, hatch_err_t *err)
{
    int  rc;

    table.config = config;
    (void) pthread_mutex_init(&table.lock, NULL);
    cond_init(&table.changed);

    rc = hatch_zone_own(&table.writer, config->zone,
                        (uint32_t) config->zone_vms, config->gid, err);

    /* an agent that was killed left "connected" behind; we are not yet */
    if (rc == 0) {
        if (hatch_zone_counters(&table.writer.zone, &table.counters) != 0) {
            memset(&table.counters, 0, sizeof(table.counters));
        }

        hatch_zone_set_notice(&table.writer, HATCH_NOTICE_NONE, 0);
        hatch_zone_set_libvirt(&table.writer, HATCH_LIBVIRT_DISCONNECTED,
                               hatch_clock_ms());
    }

    return rc;
}


void
table_close(void)
{
    pthread_mutex_lock(&table.lock);
    hatch_zone_set_libvirt(&table.writer, HATCH_LIBVIRT_DISCONNECTED,
                           hatch_clock_ms());
    pthread_mutex_unlock(&table.lock);
}


uint64_t
table_epoch(const char *id)
{
    entry_t   *e;
    uint64_t   epoch;

    pthread_mutex_lock(&table.lock);
    e = *table_find(id);
    epoch = e != NULL ? e->epoch : 0;
    pthread_mutex_unlock(&table.lock);

    return epoch;
}


/* Has a VM in this state a process?  One in error may, or not. */
static int
table_is_active(hatch_state_t state)
{
    return state != HATCH_STATE_NONE && state != HATCH_STATE_STOPPED
           && state != HATCH_STATE_SNAPSHOTTED && state != HATCH_STATE_ERROR;
}


/*
 * Keeps the time since when a VM is up.  One that was up before this agent
 * was counts from its last change of state, which the zone remembers.
 */
static void
table_note_boot(entry_t *e, hatch_state_t state)
{
    uint32_t         slot;
    uint64_t         now = hatch_clock_ms();
    hatch_zone_vm_t  vm;

    if (!table_is_active(state)) {
        e->booted = 0;

    } else if (e->booted == 0) {
        e->booted = now;

        if (e->observed == HATCH_STATE_NONE
            && hatch_zone_find(&table.writer.zone, e->vm.id, &slot, &vm) == 0
            && hatch_zone_state(&table.writer.zone, slot) == state
            && vm.state_since != 0 && vm.state_since < now)
        {
            e->booted = vm.state_since;
        }
    }
}


int
table_observe(const vm_t *vm, hatch_state_t state, uint64_t epoch)
{
    int        applied = 0;
    entry_t  **e;

    pthread_mutex_lock(&table.lock);

    e = table_find(vm->id);

    if (*e == NULL && epoch == 0) {
        *e = calloc(1, sizeof(**e));

        if (*e != NULL) {
            memcpy((*e)->vm.id, vm->id, sizeof(vm->id));
            (*e)->domain_id = TABLE_NOT_LOOKED;
            table.count++;
        }
    }

    if (*e != NULL && (*e)->epoch == epoch) {
        table_note_boot(*e, state);
        table_note_run(*e, vm, state);
        (*e)->vm = *vm;
        (*e)->observed = state;
        (*e)->epoch = ++table.epoch;
        table_publish_entry(*e);

        if (vm->domain_id == -1) {
            table_note_end(*e);
        }

        pthread_cond_broadcast(&table.changed);
        applied = 1;
    }

    pthread_mutex_unlock(&table.lock);

    return applied;
}


int
table_forget(const char *id)
{
    entry_t  **link, *e;

    pthread_mutex_lock(&table.lock);

    link = table_find(id);
    e = *link;

    if (e != NULL) {
        *link = e->next;
        table.count--;
        table.slotless -= e->slotless;

        (void) hatch_zone_drop(&table.writer, id);
        hatch_zone_set_overflow(&table.writer, table.slotless);

        pthread_cond_broadcast(&table.changed);
        free(e->sample.raw);
        free(e);
    }

    pthread_mutex_unlock(&table.lock);

    return e != NULL;
}


void
table_publish(void)
{
    uint32_t         slot;
    hatch_zone_t    *zone = &table.writer.zone;
    hatch_zone_vm_t  vm;

    pthread_mutex_lock(&table.lock);

    /* what an agent before us published and libvirt no longer has */
    for (slot = 0; slot < zone->file.slots; slot++) {
        if (hatch_zone_read(zone, slot, &vm) == 0
            && *table_find(vm.id) == NULL)
        {
            (void) hatch_zone_drop(&table.writer, vm.id);
        }
    }

    hatch_zone_publish(&table.writer, hatch_clock_ms());
    table.complete = 1;

    pthread_mutex_unlock(&table.lock);
}


int
table_is_complete(void)
{
    int  complete;

    pthread_mutex_lock(&table.lock);
    complete = table.complete;
    pthread_mutex_unlock(&table.lock);

    return complete;
}


int
table_summary(unsigned *vms, unsigned *running)
{
    int                  connected;
    hatch_zone_counts_t  counts;

    pthread_mutex_lock(&table.lock);

    if (hatch_zone_counts(&table.writer.zone, &counts) != 0) {
        memset(&counts, 0, sizeof(counts));
    }

    connected = table.writer.zone.head->libvirt == HATCH_LIBVIRT_CONNECTED;
    pthread_mutex_unlock(&table.lock);

    *vms = counts.total;
    *running = counts.by_state[HATCH_STATE_RUNNING];

    return connected;
}


void
table_set_libvirt(hatch_libvirt_t state)
{
    int       i;
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    /* whoever reboots now, nobody tells us */
    for (i = 0; i < TABLE_BUCKETS && state != HATCH_LIBVIRT_CONNECTED; i++) {
        for (e = table.buckets[i]; e != NULL; e = e->next) {
            e->domain_id = TABLE_NOT_LOOKED;
        }
    }

    hatch_zone_set_libvirt(&table.writer, state, hatch_clock_ms());
    pthread_cond_broadcast(&table.changed);
    pthread_mutex_unlock(&table.lock);
}


void
table_set_notice(hatch_notice_t notice, uint32_t ms)
{
    pthread_mutex_lock(&table.lock);
    hatch_zone_set_notice(&table.writer, notice, ms);
    pthread_mutex_unlock(&table.lock);
}


/* Somebody removed or replaced the zone's file: a new one, with everything. */
static int
table_reopen(hatch_err_t *err)
{
    int                  i, rc;
    uint32_t             libvirt, ms, orphans;
    uint64_t             published, sampled;
    entry_t             *e;
    hatch_notice_t       notice;
    hatch_zone_writer_t  writer;

    hatch_file_unlock(&table.writer.zone.file);

    rc = hatch_zone_own(&writer, table.config->zone,
                        (uint32_t) table.config->zone_vms, table.config->gid,
                        err);
    if (rc != 0) {
        hatch_file_relock(&table.writer.zone.file);
        return rc;
    }

    libvirt = table.writer.zone.head->libvirt;
    notice = hatch_zone_notice(&table.writer.zone, &ms);
    orphans = hatch_zone_orphans(&table.writer.zone);
    published = table.writer.zone.head->published;
    sampled = hatch_zone_sampled(&table.writer.zone);
    hatch_zone_disown(&table.writer);
    table.writer = writer;

    for (i = 0; i < TABLE_BUCKETS; i++) {
        for (e = table.buckets[i]; e != NULL; e = e->next) {
            table_publish_entry(e);
            table_publish_stats(e);
        }
    }

    hatch_zone_set_counters(&table.writer, &table.counters);
    hatch_zone_set_sampled(&table.writer, sampled);
    hatch_zone_set_notice(&table.writer, notice, ms);
    hatch_zone_set_orphans(&table.writer, orphans);
    hatch_zone_set_libvirt(&table.writer, libvirt, hatch_clock_ms());

    if (published != 0) {
        hatch_zone_publish(&table.writer, hatch_clock_ms());
    }

    return hatch_err_set(err, HATCH_ERR_ABSENT, "the zone \"%s\" was removed "
                         "and has been made anew", table.config->zone);
}


void
table_beat(hatch_err_t *err)
{
    pthread_mutex_lock(&table.lock);

    if (hatch_file_replaced(&table.writer.zone.file, table.config->zone)
        || !hatch_zone_intact(&table.writer.zone))
    {
        (void) table_reopen(err);
    }

    hatch_zone_beat(&table.writer, hatch_clock_ms());

    pthread_mutex_unlock(&table.lock);
}


int
table_get(const char *id, vm_t *vm)
{
    int       rc = HATCH_ERR_NOT_FOUND;
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL && table_state(e) != HATCH_STATE_NONE) {
        *vm = e->vm;
        vm->state = table_state(e);
        rc = 0;
    }

    pthread_mutex_unlock(&table.lock);

    return rc;
}


int
table_observed(const char *id, vm_t *vm, hatch_state_t *state)
{
    int       rc = HATCH_ERR_NOT_FOUND;
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL && e->observed != HATCH_STATE_NONE) {
        *vm = e->vm;
        *state = e->observed;
        rc = 0;
    }

    pthread_mutex_unlock(&table.lock);

    return rc;
}


uint64_t
table_booted(const char *id)
{
    entry_t   *e;
    uint64_t   booted;

    pthread_mutex_lock(&table.lock);
    e = *table_find(id);
    booted = e != NULL ? e->booted : 0;
    pthread_mutex_unlock(&table.lock);

    return booted;
}


int
table_has(const char *id)
{
    int  has;

    pthread_mutex_lock(&table.lock);
    has = *table_find(id) != NULL;
    pthread_mutex_unlock(&table.lock);

    return has;
}


static int
table_newer(const void *a, const void *b)
{
    const vm_t  *x = a, *y = b;

    if (x->created != y->created) {
        return x->created < y->created ? 1 : -1;
    }

    return strcmp(x->id, y->id);
}


static int
table_copy(vm_t **vms, size_t *n, int all)
{
    int       i;
    entry_t  *e;

    *n = 0;

    pthread_mutex_lock(&table.lock);

    *vms = malloc((table.count + 1) * sizeof(**vms));

    for (i = 0; *vms != NULL && i < TABLE_BUCKETS; i++) {
        for (e = table.buckets[i]; e != NULL; e = e->next) {
            if (all || table_state(e) != HATCH_STATE_NONE) {
                (*vms)[*n] = e->vm;
                (*vms)[(*n)++].state = table_state(e);
            }
        }
    }

    pthread_mutex_unlock(&table.lock);

    return *vms != NULL ? 0 : -1;
}


int
table_list(vm_t **vms, size_t *n)
{
    if (table_copy(vms, n, 0) != 0) {
        return -1;
    }

    qsort(*vms, *n, sizeof(**vms), table_newer);

    return 0;
}


int
table_list_all(vm_t **vms, size_t *n)
{
    return table_copy(vms, n, 1);
}
