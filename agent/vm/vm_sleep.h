/*
 * Falling asleep and waking, as operations on one VM.  They take turns with
 * those of the API (vm.h) and run in threads of idle.c and wake.c.
 */

#ifndef HATCH_AGENT_VM_SLEEP_H_INCLUDED
#define HATCH_AGENT_VM_SLEEP_H_INCLUDED

#include "core/config.h"
#include "hatch_err.h"
#include "hatch_wake.h"


/*
 * Pauses a VM that has been idle for its idle_timeout.  1: it is not idle any
 * more, or busy; nothing happened.
 */
int vm_idle_pause(const config_t *config, const char *id, hatch_err_t *err);

/*
 * Saves the memory of a paused VM and ends its process.  1: somebody wants
 * the VM, so it was not saved.
 */
int vm_idle_save(const config_t *config, const char *id, hatch_err_t *err);

/*
 * Wakes a VM by whatever its state takes: resume, restore, boot.  A save in
 * progress is cancelled.  awake(arg, kind) is called as soon as the guest runs
 * and the zone says so; what comes after it is not worth waiting for.
 * Saved memory that cannot be restored is dropped and the VM boots.
 * HATCH_ERR_UNAVAILABLE: libvirt is gone; HATCH_ERR_BUSY: the VM is being
 * recovered.  Try again.
 */
int vm_wake(const config_t *config, const char *id,
    void (*awake)(void *arg, hatch_wake_kind_t kind), void *arg,
    hatch_err_t *err);

#endif /* HATCH_AGENT_VM_SLEEP_H_INCLUDED */
