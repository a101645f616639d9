/*
 * What can be done with VMs.  Each function is one operation of the API, runs
 * to its end in the calling thread, and leaves the VM either done or as it
 * was.  Operations on one VM are serial, on different VMs parallel.
 *
 * Snapshots are in snapshot.h.
 */

#ifndef HATCH_AGENT_VM_H_INCLUDED
#define HATCH_AGENT_VM_H_INCLUDED

#include "core/config.h"
#include "hatch_err.h"
#include "table/table.h"


/* What POST /vms may say; NULL, 0 and "" mean that it was not given. */
typedef struct {
    char             id[HATCH_ID_SIZE];     /* always set */
    char             name[HATCH_NAME_SIZE];
    const char      *image_id;
    const char      *template_id;
    const char      *boot_args;
    unsigned         vcpu_count;
    unsigned         mem_mib;
    unsigned         disk_mib;
    int64_t          idle_timeout;      /* always set */
    int64_t          park_after;        /* the same */
    int64_t          save_after;        /* always set */
    int              autostart;
    vm_memory_t      memory;
    int              enable_network;
    struct in_addr   guest_ip;
    const char      *guest_mac;
    const char      *user_data;         /* for cloud-init */
} vm_request_t;


/* What PATCH may say; what is not given is 0, "" or a flag that is not set. */
typedef struct {
    char             name[HATCH_NAME_SIZE];
    unsigned         vcpu_count;
    unsigned         mem_mib;
    int64_t          idle_timeout;
    int64_t          park_after;
    int64_t          save_after;
    unsigned         has_idle_timeout:1;
    unsigned         has_park_after:1;
    unsigned         has_save_after:1;
    unsigned         has_autostart:1;
    unsigned         autostart:1;
    unsigned         has_memory:1;
    vm_memory_t      memory;            /* from the next boot on */
} vm_patch_t;


/* Defines and starts a VM; fills vm with it as it is then. */
int vm_create(const config_t *config, const vm_request_t *request, vm_t *vm,
    hatch_err_t *err);

/*
 * Starts a VM that is stopped, snapshotted (from its saved memory) or in
 * error.
 */
int vm_start(const config_t *config, const char *id, vm_t *vm,
    hatch_err_t *err);

/*
 * Stops a VM: asks the guest, waits `timeout` seconds, then pulls the plug.
 * force pulls it at once, also under an operation that hangs.  A snapshotted
 * one loses its saved memory.
 */
int vm_stop(const config_t *config, const char *id, int force,
    int64_t timeout, vm_t *vm, hatch_err_t *err);

/* running to paused and back: the guest's processors stand, memory stays. */
int vm_pause(const config_t *config, const char *id, vm_t *vm,
    hatch_err_t *err);
int vm_resume(const config_t *config, const char *id, vm_t *vm,
    hatch_err_t *err);

/* Changes settings; vCPUs and memory only of a VM that is stopped. */
int vm_change(const config_t *config, const char *id,
    const vm_patch_t *patch, vm_t *vm, hatch_err_t *err);

/*
 * Deletes a VM in any state, with its disk, snapshots, reservation, seed and
 * routes, also under an operation that hangs.
 */
int vm_delete(const config_t *config, const char *id, hatch_err_t *err);

#endif /* HATCH_AGENT_VM_H_INCLUDED */
