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
 * Parks a paused VM (memory.h).  1: somebody wants it.  *room as below, always
 * 0 for now.
 */
int vm_idle_park(const config_t *config, const char *id, uint64_t *room,
    hatch_err_t *err);

/*
 * Saves the memory of a paused VM and ends its process.  1: somebody wants
 * the VM, so it was not saved.  2: nothing was tried, since the last time there
 * was no room, and there is not much more now.
 *
 * HATCH_ERR_FULL: there is no room, of which *room bytes are free (0: not
 * known); the caller hands that in the next time, else 0.
 */
int vm_idle_save(const config_t *config, const char *id, uint64_t *room,
    hatch_err_t *err);

/*
 * Wakes a VM by whatever its state takes: resume, restore, boot.  A save in
 * progress is cancelled.  The caller has said table_want(), so that no other
 * begins.  1: another operation has the VM, nothing was done; ask again when
 * that has ended (table_set_freed()).  awake(arg, kind) is called as soon as
 * the guest runs and the zone says so; what comes after it is not worth waiting
 * for.  Saved memory that is proved bad is put aside and the VM boots.
 * HATCH_ERR_UNAVAILABLE: libvirt is gone; HATCH_ERR_BUSY: the VM is being
 * recovered.  Try again.  HATCH_ERR_FULL: it stood since its disk could not be
 * written, and does so again.
 */
int vm_wake(const config_t *config, const char *id,
    void (*awake)(void *arg, hatch_wake_kind_t kind), void *arg,
    hatch_err_t *err);

#endif /* HATCH_AGENT_VM_SLEEP_H_INCLUDED */
