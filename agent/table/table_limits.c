/* What all VMs together may have: the configured limits, and the host's. */

#define _GNU_SOURCE

#include "table_private.h"

#include <stdio.h>
#include <string.h>


/* Of the disks that are kept of others, MiB. */
static int64_t
table_orphan_disk(const vm_t *vm)
{
    size_t   i;
    int64_t  sum = 0;

    for (i = 0; i < table.n_orphans; i++) {
        if (strcmp(table.orphans[i].id, vm->id) != 0
            && *table_find(table.orphans[i].id) == NULL)
        {
            sum += table.orphans[i].disk_mib;
        }
    }

    return sum;
}


int
table_check_limits(const vm_t *vm, hatch_err_t *err)
{
    int       i;
    size_t    l;
    entry_t  *e;
    int64_t   vms = 0, vcpus = 0, mem = 0, disk = 0;

    for (i = 0; i < TABLE_BUCKETS; i++) {
        for (e = table.buckets[i]; e != NULL; e = e->next) {
            if (strcmp(e->vm.id, vm->id) != 0) {
                vms++;
                vcpus += e->vm.vcpu_count;
                mem += e->vm.mem_mib;
                disk += e->vm.disk_mib;
            }
        }
    }

    disk += table_orphan_disk(vm);

    const struct {
        const char  *name;
        int64_t      used;
        int64_t      wanted;
        int64_t      max;
    } limits[] = {
        { "vm", vms, 1, table.config->max_vms },
        { "vcpu", vcpus, vm->vcpu_count, table.config->max_vcpus },
        { "memory", mem, vm->mem_mib, table.config->max_mem_mib },
        { "disk", disk, vm->disk_mib, table.config->max_disk_mib }
    };

    for (l = 0; l < sizeof(limits) / sizeof(limits[0]); l++) {
        if (limits[l].max == 0 || limits[l].wanted == 0
            || limits[l].used + limits[l].wanted <= limits[l].max)
        {
            continue;
        }

        return limits[l].wanted == 1
               ? hatch_err_set(err, HATCH_ERR_LIMIT, "%s limit reached "
                               "(%lld/%lld)", limits[l].name,
                               (long long) limits[l].used,
                               (long long) limits[l].max)
               : hatch_err_set(err, HATCH_ERR_LIMIT, "%s limit reached "
                               "(%lld/%lld, %lld more asked for)",
                               limits[l].name, (long long) limits[l].used,
                               (long long) limits[l].max,
                               (long long) limits[l].wanted);
    }

    return 0;
}


/* A line of /proc/meminfo, in MiB. */
static int64_t
table_meminfo(const char *name)
{
    char       line[128];
    FILE      *file = fopen("/proc/meminfo", "re");
    long long  kib = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0
            && sscanf(line + strlen(name), ": %lld", &kib) == 1)
        {
            break;
        }
    }

    if (file != NULL) {
        (void) fclose(file);
    }

    return kib / 1024;
}


int
table_check_memory(const char *id, unsigned mem_mib, hatch_err_t *err)
{
    int       i;
    entry_t  *e;
    int64_t   total, available, up = 0, starting = 0;

    total = table_meminfo("MemTotal") - table.config->host_memory_reserve_mib;
    available = table_meminfo("MemAvailable")
                - table.config->host_memory_reserve_mib;

    pthread_mutex_lock(&table.lock);

    for (i = 0; i < TABLE_BUCKETS; i++) {
        for (e = table.buckets[i]; e != NULL; e = e->next) {
            if (strcmp(e->vm.id, id) == 0) {
                continue;
            }

            if (e->booted != 0) {
                up += e->vm.mem_mib;

            } else if (e->busy && (e->observed == HATCH_STATE_NONE
                                   || e->doing == HATCH_STATE_STARTING
                                   || e->doing == HATCH_STATE_RESTORING))
            {
                starting += e->vm.mem_mib;
            }
        }
    }

    pthread_mutex_unlock(&table.lock);

    if (up + starting + mem_mib <= total && starting + mem_mib <= available) {
        return 0;
    }

    total -= up + starting;
    available -= starting;
    available = available < total ? available : total;

    return hatch_err_set(err, HATCH_ERR_MEMORY, "the host has not enough "
                         "memory: the VM needs %u MiB, %lld MiB are free for "
                         "VMs", mem_mib,
                         (long long) (available > 0 ? available : 0));
}


unsigned
table_count_image(const char *image_id)
{
    int        i;
    entry_t   *e;
    unsigned   n = 0;

    pthread_mutex_lock(&table.lock);

    for (i = 0; i < TABLE_BUCKETS; i++) {
        for (e = table.buckets[i]; e != NULL; e = e->next) {
            n += strcmp(e->vm.image_id, image_id) == 0;
        }
    }

    pthread_mutex_unlock(&table.lock);

    return n;
}
