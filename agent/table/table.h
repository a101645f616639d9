/*
 * The table of VMs: what the agent knows, and the only code that writes the
 * zone.
 *
 * libvirt is the database; this is a cache of it that answers the API and
 * feeds the zone.  Each VM has what was last observed in libvirt, and what
 * one of our own operations is doing to it at the moment, which is shown
 * instead (starting, stopping).
 *
 * Locking: one mutex, held for short copies only and never during a call to
 * libvirt or the disk.  No pointer into the table leaves it: callers get and
 * give copies.
 *
 * Operations on one VM are serial: table_begin() waits for the one before.
 */

#ifndef HATCH_AGENT_TABLE_H_INCLUDED
#define HATCH_AGENT_TABLE_H_INCLUDED

#include <netinet/in.h>
#include <stdint.h>

#include "hatch_err.h"
#include "hatch_id.h"
#include "hatch_zone.h"

#include "core/config.h"


#define VM_BOOT_ARGS_MAX  1024
#define VM_MAC_SIZE       18
#define VM_NEVER          (-1)      /* an idle time that does not come */


/* How its memory is kept while it sleeps (vm/memory.h), from its next boot. */
typedef enum {
    VM_MEMORY_AUTO = 0,         /* as the host can: "classic" for now */
    VM_MEMORY_IMAGE,
    VM_MEMORY_CLASSIC           /* libvirt's managed save */
} vm_memory_t;

const char *vm_memory_name(vm_memory_t memory);

/* 0, or -1: there is none of that name. */
int vm_memory_parse(const char *text, vm_memory_t *memory);


/* A VM's settings, as libvirt and our metadata there keep them; its state. */
typedef struct {
    char            id[HATCH_ID_SIZE];
    char            name[HATCH_NAME_SIZE];      /* no two VMs have the same */
    char            image_id[HATCH_ID_SIZE];
    char            template_id[HATCH_ID_SIZE]; /* "": made without */
    char            boot_args[VM_BOOT_ARGS_MAX];
    unsigned        vcpu_count;
    unsigned        mem_mib;
    unsigned        disk_mib;           /* 0: no disk */
    int64_t         idle_timeout;       /* ms until paused, or VM_NEVER */
    int64_t         park_after;         /* ms until parked, or VM_NEVER */
    int64_t         save_after;         /* ms until saved, or VM_NEVER */
    int             autostart;          /* see vm/again.h */
    vm_memory_t     memory;
    int             enable_network;
    int             has_seed;           /* a cloud-init drive */
    struct in_addr  guest_ip;           /* 0: none */
    char            guest_mac[VM_MAC_SIZE];
    uint64_t        created;            /* wall clock, ms */
    uint64_t        updated;

    /* what libvirt says of the domain at the moment */
    int             domain_id;          /* of this run of it, or -1 */
    int             restored;           /* it goes on from saved memory */
    int             suspended;          /* its guest did so itself (S3) */
    int             imaged;             /* its memory may be an image */
    int             parked;             /* and that is valid, while it stands */
    int             stalled;            /* it stands since its disk could not
                                           be written */

    hatch_state_t   state;              /* in copies: what the API shows */
} vm_t;


/* A reservation of the network. */
typedef struct {
    char            mac[VM_MAC_SIZE];
    struct in_addr  ip;
} vm_address_t;


/* A VM that libvirt does not have any more, and whose files are kept. */
typedef struct {
    char            id[HATCH_ID_SIZE];
    char            name[HATCH_NAME_SIZE];  /* "": not known */
    vm_address_t    address;            /* 0 and "": none, or not known */
    unsigned        disk_mib;
} table_orphan_t;


/* Takes the zone over.  Once, before any other call. */
int table_open(const config_t *config, hatch_err_t *err);

/*
 * Says in the zone that nobody keeps it true any more; it stays for nginx and
 * the next agent.  It stays mapped, too: an operation that hangs in libvirt may
 * come back until the process has ended.
 */
void table_close(void);


/* --- what libvirt says: the sync thread, and operations when they end --- */

/*
 * A number that changes whenever the VM's observed state does.  Read it
 * before asking libvirt and hand it to table_observe(), which drops (returns
 * 0 for) an answer that was overtaken.  0 for a VM that is not known.
 */
uint64_t table_epoch(const char *id);

int table_observe(const vm_t *vm, hatch_state_t state, uint64_t epoch);

/* libvirt has no such VM.  Returns 1 if the table had it. */
int table_forget(const char *id);

/* The table is complete: frees what is left of others in the zone. */
void table_publish(void);

/* Has table_publish() been called yet?  Before it, VMs may be missing. */
int table_is_complete(void);

/* How many VMs there are, and run.  Returns 1 if libvirt is connected. */
int table_summary(unsigned *vms, unsigned *running);

/* Marks the zone; wakes those who wait if the connection is gone. */
void table_set_libvirt(hatch_libvirt_t state);

/* What is amiss with the host, for /readyz; ms: see hatch_notice.h. */
void table_set_notice(hatch_notice_t notice, uint32_t ms);

/*
 * What there is of VMs that are gone: their disks count in the limits, their
 * names and addresses stay taken.  Takes the n of them over; listed is what
 * the zone says that there are, of any kind.  began is table_orphans_epoch() of
 * before they were looked for: of what was deleted since, nothing is taken.
 */
uint64_t table_orphans_epoch(void);
void table_set_orphans(table_orphan_t *orphans, size_t n, unsigned listed,
    uint64_t began);

/* A user deleted all that there was of a VM: its name and address are free. */
void table_forget_orphan(const char *id);

/* Heartbeat; puts a zone file that was removed back in its place. */
void table_beat(hatch_err_t *err);


/* --- operations --- */

/*
 * Reserves the id, name, address and MAC of a VM about to be defined, and
 * begins an operation on it.  vm->guest_ip and vm->guest_mac are chosen if
 * they are not set and vm->enable_network is.  HATCH_ERR_CONFLICT if one is
 * taken, HATCH_ERR_LIMIT if a limit of the configuration would be passed.
 * taken[n] is what the network has reserved already: also for VMs that libvirt
 * does not have at the moment.
 */
int table_reserve(vm_t *vm, struct in_addr gateway, unsigned prefix,
    const vm_address_t *taken, unsigned n, hatch_err_t *err);

/* The reserved VM exists in libvirt now: it counts. */
void table_defined(const char *id, hatch_state_t doing);

/*
 * Changes name, vCPUs and memory of a VM to what vm says, under the same rules;
 * the caller has begun an operation.  What libvirt has then is what counts.
 */
int table_change(const vm_t *vm, hatch_err_t *err);

/*
 * May a VM with this much memory be started?  HATCH_ERR_MEMORY if the host
 * has not got it, beside what the VMs that are up may still take and
 * host_memory_reserve_mib.  id is the VM itself.
 */
int table_check_memory(const char *id, unsigned mem_mib, hatch_err_t *err);

/* Somebody pulls the plug under the operation that is under way. */
void table_force(const char *id);

/* Did somebody?  Of the operation that is under way. */
int table_forced(const char *id);

/*
 * Begins an operation: waits (ms) for the one before, fills vm.
 * HATCH_ERR_NOT_FOUND, HATCH_ERR_TIMEOUT, or HATCH_ERR_BUSY: too many wait,
 * unless it is urgent.
 */
int table_begin(const char *id, int urgent, unsigned timeout, vm_t *vm,
    hatch_err_t *err);

/* Shows `doing` as the state until the operation ends. */
void table_doing(const char *id, hatch_state_t doing);

void table_end(const char *id);

/*
 * Is an operation under way for which a wake has to wait?  A save that can be
 * cancelled is none.
 */
int table_is_taken(const char *id);

/*
 * Who is told when the operation has ended on a VM that somebody wants
 * (table_want()); in that operation's thread, without the table's lock.
 */
void table_set_freed(void (*freed)(const char *id));

/*
 * Waits until libvirt's state is the given one, or the VM is gone.  0, or
 * HATCH_ERR_TIMEOUT.
 */
int table_wait(const char *id, hatch_state_t state, unsigned timeout);


/* --- reading --- */

/* HATCH_ERR_NOT_FOUND; a VM that is still being created is not found. */
int table_get(const char *id, vm_t *vm);

/* What libvirt said last, whatever an operation is doing meanwhile. */
int table_observed(const char *id, vm_t *vm, hatch_state_t *state);

/* All VMs, newest first, in memory that the caller frees.  -1: no memory. */
int table_list(vm_t **vms, size_t *n);

/* Every VM, also those being created: for reservations. */
int table_list_all(vm_t **vms, size_t *n);

int table_has(const char *id);

/* Since when (the zone's clock, ms) a VM is up; 0 if it is not. */
uint64_t table_booted(const char *id);

/* How many VMs, also those being created, are made from this image? */
unsigned table_count_image(const char *image_id);

#endif /* HATCH_AGENT_TABLE_H_INCLUDED */
