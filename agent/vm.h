/*
 * What can be done with VMs.  Each function is one operation of the API, runs
 * to its end in the calling thread, and leaves the VM either done or as it
 * was.  Operations on one VM are serial, on different VMs parallel.
 */

#ifndef HATCH_AGENT_VM_H_INCLUDED
#define HATCH_AGENT_VM_H_INCLUDED

#include "config.h"
#include "hatch_err.h"
#include "table.h"


/* What POST /vms may say; NULL, 0 and -1 mean that it was not given. */
typedef struct {
    const char      *image_id;
    const char      *boot_args;
    unsigned         vcpu_count;
    unsigned         mem_mib;
    int              enable_network;
    struct in_addr   guest_ip;
    const char      *guest_mac;
    const char      *user_data;         /* for cloud-init */
} vm_request_t;


/* Defines and starts a VM; fills vm with it as it is then. */
int vm_create(const config_t *config, const vm_request_t *request, vm_t *vm,
    hatch_err_t *err);

/* Starts a VM that is stopped, snapshotted or in error. */
int vm_start(const config_t *config, const char *id, vm_t *vm,
    hatch_err_t *err);

/*
 * Stops a VM: asks the guest, waits stop_timeout seconds, then pulls the
 * plug; force pulls it at once.
 */
int vm_stop(const config_t *config, const char *id, int force, vm_t *vm,
    hatch_err_t *err);

/* Deletes a VM in any state, with its reservation, seed, saves and routes. */
int vm_delete(const config_t *config, const char *id, hatch_err_t *err);

#endif /* HATCH_AGENT_VM_H_INCLUDED */
