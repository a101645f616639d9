/* One VM as libvirt has it, into the table. */

#define _GNU_SOURCE

#include "sync.h"
#include "sync_private.h"
#include "virt_cleanup.h"
#include "xml.h"
#include "core/log.h"
#include "store/memory_record.h"
#include "store/pending.h"
#include "table/table_sleep.h"

#include <string.h>


/* How often an answer may be overtaken by a newer one before we give up. */
#define SYNC_TRIES  10


/* Of one that is up. */
static void
sync_image(vm_t *vm, int stands)
{
    vm->imaged = vm->domain_id != -1 && memory_is_there(vm->id);
    vm->parked = vm->imaged && stands
                 && memory_word(vm->id) == MEMORY_VALID;
}


static int
sync_state(virDomainPtr domain, vm_t *vm, hatch_state_t *state,
    hatch_err_t *err)
{
    int  number, reason;

    if (virDomainGetState(domain, &number, &reason, 0) == -1) {
        return virt_error(err, "cannot read the state");
    }

    /* of when it was looked up: libvirt is not asked */
    vm->domain_id = (int) virDomainGetID(domain);
    vm->suspended = number == VIR_DOMAIN_PMSUSPENDED;
    vm->stalled = number == VIR_DOMAIN_PAUSED
                  && reason == VIR_DOMAIN_PAUSED_IOERROR;
    vm->restored = number == VIR_DOMAIN_PAUSED
                   ? reason != VIR_DOMAIN_PAUSED_STARTING_UP
                   : reason == VIR_DOMAIN_RUNNING_RESTORED
                     || reason == VIR_DOMAIN_RUNNING_FROM_SNAPSHOT;

    sync_image(vm, number == VIR_DOMAIN_PAUSED);

    switch (number) {

    case VIR_DOMAIN_RUNNING:
    case VIR_DOMAIN_BLOCKED:
        *state = HATCH_STATE_RUNNING;
        return 0;

    case VIR_DOMAIN_PAUSED:
        *state = reason == VIR_DOMAIN_PAUSED_SAVE
                 || reason == VIR_DOMAIN_PAUSED_SNAPSHOT
                 ? HATCH_STATE_SNAPSHOTTING
                 : reason == VIR_DOMAIN_PAUSED_STARTING_UP
                 ? HATCH_STATE_STARTING
                 : reason == VIR_DOMAIN_PAUSED_IOERROR
                   || reason == VIR_DOMAIN_PAUSED_CRASHED
                 ? HATCH_STATE_ERROR : HATCH_STATE_PAUSED;
        return 0;

    case VIR_DOMAIN_PMSUSPENDED:
        *state = HATCH_STATE_PAUSED;
        return 0;

    case VIR_DOMAIN_SHUTDOWN:
        *state = HATCH_STATE_STOPPING;
        return 0;

    case VIR_DOMAIN_SHUTOFF:
        break;

    default:
        *state = HATCH_STATE_ERROR;
        return 0;
    }

    *state = virDomainHasManagedSaveImage(domain, 0) == 1
             || memory_is_valid(vm->id) ? HATCH_STATE_SNAPSHOTTED
             : reason == VIR_DOMAIN_SHUTOFF_CRASHED
               || reason == VIR_DOMAIN_SHUTOFF_FAILED
             ? HATCH_STATE_ERROR : HATCH_STATE_STOPPED;

    return 0;
}


/*
 * The metadata of the definition.  That of the running domain may be older:
 * a saved one wakes with what it had when it was saved.  It counts only if
 * somebody undefined the domain while it runs.
 */
static char *
sync_metadata(virDomainPtr domain)
{
    char  *metadata;

    metadata = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT,
                                    XML_NAMESPACE, VIR_DOMAIN_AFFECT_CONFIG);

    /* libvirt says so of a domain that has no definition any more */
    if (metadata != NULL || virt_last_class() != VIRT_REFUSED) {
        return metadata;
    }

    return virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT,
                                XML_NAMESPACE, VIR_DOMAIN_AFFECT_CURRENT);
}


/* Reads settings and state of a domain.  NOT_FOUND: it is not ours. */
static int
sync_read(virDomainPtr domain, const char *id, vm_t *vm, hatch_state_t *state,
    hatch_err_t *err)
{
    int                 rc;
    virDomainInfo       info;
    cleanup_free char  *metadata = sync_metadata(domain);

    if (metadata == NULL) {
        return virt_error(err, "cannot read the metadata");
    }

    memset(vm, 0, sizeof(*vm));
    memcpy(vm->id, id, strlen(id));

    rc = xml_read_metadata(metadata, vm, err);
    if (rc != 0) {
        return rc;
    }

    if (virDomainGetInfo(domain, &info) == -1) {
        return virt_error(err, "cannot read the domain");
    }

    vm->vcpu_count = info.nrVirtCpu;
    vm->mem_mib = (unsigned) (info.maxMem / 1024);

    return sync_state(domain, vm, state, err);
}


int
sync_look(virDomainPtr domain, vm_t *vm, hatch_state_t *state,
    hatch_err_t *err)
{
    const char  *name = virDomainGetName(domain);

    return name != NULL && hatch_id_valid(HATCH_ID_VM, name, strlen(name))
           ? sync_read(domain, name, vm, state, err)
           : hatch_err_set(err, HATCH_ERR_NOT_FOUND, "it is no VM");
}


/*
 * libvirt has it no more: renamed, undefined, perhaps to come back.  What
 * belongs to it stays; only our own DELETE deletes (vm_erase()).
 */
static int
sync_gone(const char *id, hatch_err_t *err)
{
    /*
     * An operation that deletes it, or whose creation of it failed, sees to the
     * rest by itself, and says what it did.
     */
    if (table_forget(id) && !pending_known(id)) {
        log_event(LOG_INFO, "%s: gone", id);
        sync_settled();
    }

    return hatch_err_set(err, HATCH_ERR_NOT_FOUND, "no VM \"%s\"", id);
}


int
sync_domain(virDomainPtr domain, const char *id, hatch_err_t *err)
{
    int            rc, tries;
    vm_t           vm;
    uint64_t       epoch;
    hatch_state_t  state = HATCH_STATE_ERROR;

    for (tries = 0; tries < SYNC_TRIES; tries++) {
        epoch = table_epoch(id);
        rc = sync_read(domain, id, &vm, &state, err);

        if (rc != 0) {
            return rc;
        }

        if (table_observe(&vm, state, epoch)) {
            sync_observed(&vm, state);
            log_event(LOG_DEBUG, "%s: %s", id, hatch_state_name(state));
            return 0;
        }
    }

    return hatch_err_set(err, HATCH_ERR_BUSY, "VM \"%s\" changes too fast",
                         id);
}


int
sync_vm(virConnectPtr conn, const char *id, hatch_err_t *err)
{
    int                          rc;
    cleanup_domain virDomainPtr  domain = virDomainLookupByName(conn, id);

    if (domain == NULL) {
        rc = virt_error(err, "cannot look up the VM");

    } else {
        rc = sync_domain(domain, id, err);
    }

    return rc == HATCH_ERR_NOT_FOUND ? sync_gone(id, err) : rc;
}
