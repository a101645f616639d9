#define _GNU_SOURCE

#include "wake_entry.h"
#include "core/log.h"
#include "table/table_stats.h"

#include <stdlib.h>
#include <string.h>


#define WAKE_SWEEP    1000          /* ms between two looks */
#define WAKE_BUCKETS  1024


static struct {
    wake_vm_t  *buckets[WAKE_BUCKETS];
    uint64_t    sweep;              /* when to look what can be freed */
} entries;


static wake_vm_t **
entry_link(const char *id)
{
    uint32_t     hash = 2166136261u;
    wake_vm_t  **vm;
    const char  *p;

    for (p = id; *p != '\0'; p++) {
        hash = (hash ^ (unsigned char) *p) * 16777619u;
    }

    for (vm = &entries.buckets[hash % WAKE_BUCKETS];
         *vm != NULL && strcmp((*vm)->id, id) != 0; vm = &(*vm)->next)
    {
        /* void */
    }

    return vm;
}


uint64_t
wake_vm_retry(const wake_vm_t *vm, uint64_t now)
{
    return vm->not_before > now ? vm->not_before - now : 0;
}


hatch_wake_failure_t
wake_vm_failure(const wake_vm_t *vm)
{
    return vm->failure == HATCH_ERR_KEPT ? HATCH_WAKE_KEPT
           : vm->failure == HATCH_ERR_FULL ? HATCH_WAKE_FULL
           : HATCH_WAKE_NOT_WOKEN;
}


wake_vm_t *
wake_vm_find(const char *id)
{
    return *entry_link(id);
}


wake_vm_t *
wake_vm_get(const char *id)
{
    wake_vm_t  **link = entry_link(id);

    if (*link == NULL) {
        *link = calloc(1, sizeof(**link));

        if (*link != NULL) {
            (void) strncpy((*link)->id, id, sizeof((*link)->id) - 1);
        }
    }

    return *link;
}


static int
entry_is_stalled(const char *id)
{
    vm_t  vm;

    return table_get(id, &vm) == 0 && vm.stalled;
}


/* Does anything have to be remembered of it? */
static int
entry_is_needed(const wake_vm_t *vm, uint64_t now)
{
    return vm->pending || vm->relapse > now
           || (vm->failures != 0 && now <= vm->not_before + WAKE_BACKOFF_MAX);
}


void
wake_vm_sweep(uint64_t now)
{
    int          i;
    wake_vm_t  **link, *vm;

    if (now < entries.sweep) {
        return;
    }

    entries.sweep = now + WAKE_SWEEP;

    for (i = 0; i < WAKE_BUCKETS; i++) {
        link = &entries.buckets[i];

        while ((vm = *link) != NULL) {
            if (entry_is_needed(vm, now)
                && (vm->pending || table_has(vm->id)))
            {
                link = &vm->next;
                continue;
            }

            *link = vm->next;
            free(vm);
        }
    }
}


void
wake_vm_fail(wake_vm_t *vm, uint64_t now)
{
    uint64_t  backoff = WAKE_BACKOFF_MAX;

    if (now > vm->not_before + WAKE_BACKOFF_MAX) {
        vm->failures = 0;               /* that was another trouble */
    }

    if (vm->failures < 5) {
        backoff = WAKE_BACKOFF_MIN << vm->failures;
    }

    vm->failures++;
    vm->not_before = now + backoff;
}


void
wake_vm_relapse(wake_vm_t *vm, uint64_t now)
{
    vm->stalled = entry_is_stalled(vm->id);

    if (vm->stalled && now < vm->relapse) {
        log_event(LOG_WARN, "%s: its disk still cannot be written", vm->id);
        table_count_failure(vm->id, HATCH_WAKE_NOT_WOKEN);
        vm->failure = HATCH_ERR_FULL;
        wake_vm_fail(vm, now);
    }

    if (vm->relapse <= now || vm->stalled) {
        vm->relapse = 0;
    }
}


void
wake_vm_failed(const char *id, uint64_t now)
{
    wake_vm_t  *vm = wake_vm_get(id);

    if (vm != NULL && wake_vm_retry(vm, now) == 0) {
        vm->failure = entry_is_stalled(id) ? HATCH_ERR_FULL : 0;
        vm->relapse = 0;
        wake_vm_fail(vm, now);
    }
}
