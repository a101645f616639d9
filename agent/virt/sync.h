/*
 * The sync thread: keeps the table true to libvirt.
 *
 * libvirt's events only name a domain that changed; this thread then asks
 * libvirt for what is so now.  So the order of events, a lost event, or one
 * that comes twice make no difference.  A full comparison at each connection
 * and every resync_interval seconds finds what no event told.
 *
 * It also owns the connection: it opens it, notices its end and opens it
 * again, waiting 0.1 s at first and at most 1 s between attempts.
 */

#ifndef HATCH_AGENT_SYNC_H_INCLUDED
#define HATCH_AGENT_SYNC_H_INCLUDED

#include <libvirt/libvirt.h>

#include "virt.h"
#include "core/config.h"
#include "table/table.h"


/*
 * Who listens: what is to be done on a new connection before any VM is looked
 * at, and when there may be something to tidy (a VM is gone, or all have been
 * compared).  Without a lock, the first two in the sync
 * thread.
 */
typedef struct {
    int  (*connected)(const config_t *config, virConnectPtr conn,
                      hatch_err_t *err);
    void (*settled)(void);

    /* what libvirt says of a VM is in the table; any thread that asks it */
    void (*observed)(const config_t *config, const vm_t *vm,
                     hatch_state_t state);
} sync_listener_t;

/* Starts the thread.  `handlers` of virt_init() are sync's own. */
int sync_start(const config_t *config, const sync_listener_t *listener,
    hatch_err_t *err);

/* resync_interval may be another one. */
void sync_reload(void);

/* Ends it and closes the connection. */
void sync_stop(void);

extern const virt_handlers_t  sync_handlers;

/*
 * What libvirt says of a domain, without a table.  HATCH_ERR_NOT_FOUND: it is
 * none of ours.
 */
int sync_look(virDomainPtr domain, vm_t *vm, hatch_state_t *state,
    hatch_err_t *err);

/*
 * Asks libvirt for a VM and brings the table up to date.  Any thread.
 * Returns 0, HATCH_ERR_NOT_FOUND if libvirt has no such VM (it is out of the
 * table then; its files and routes stay), or an error that says nothing about
 * the VM.
 */
int sync_vm(virConnectPtr conn, const char *id, hatch_err_t *err);

#endif /* HATCH_AGENT_SYNC_H_INCLUDED */
