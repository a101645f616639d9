/*
 * The connection to libvirt: opened, watched, lost, opened again.
 *
 * One thread runs libvirt's default event loop for the whole life of the
 * agent.  Callbacks run in it; they only put work into the queue of the sync
 * thread, or mark a VM in the table, and never call libvirt.
 */

#ifndef HATCH_AGENT_VIRT_H_INCLUDED
#define HATCH_AGENT_VIRT_H_INCLUDED

#include <libvirt/libvirt.h>

#include "driver.h"
#include "virt_error.h"

#include "hatch_err.h"


/* What the event thread reports.  Called in that thread: be quick. */
typedef struct {
    void (*domain_changed)(const char *name);
    void (*domain_rebooted)(const char *name);
    void (*connection_lost)(void);
} virt_handlers_t;


/* Starts the event loop.  Once, before any other libvirt call. */
int virt_init(const virt_handlers_t *handlers, hatch_err_t *err);

/*
 * Opens the connection and registers for events and for its end.  Called by
 * the sync thread; may block as long as libvirt does.
 */
int virt_open(const char *uri, hatch_err_t *err);

/* Closes the connection, if there is one. */
void virt_close(void);

/*
 * The open connection, with a reference that the caller gives back
 * (cleanup_conn), or NULL with err set to HATCH_ERR_UNAVAILABLE.
 */
virConnectPtr virt_get(hatch_err_t *err);

/*
 * A connection for one operation.  libvirtd answers only a few calls of one
 * connection at a time, so calls that hang must not share one with others.
 */
typedef struct {
    virConnectPtr  conn;
    unsigned       epoch;           /* of the main connection then */
} virt_lease_t;

/*
 * Takes an idle connection or opens one.  HATCH_ERR_UNAVAILABLE if libvirt is
 * not connected.  May block as long as libvirt does.
 */
int virt_lease(virt_lease_t *lease, hatch_err_t *err);

/* Gives it back, for the next operation.  Nothing if there is none. */
void virt_release(virt_lease_t *lease);

/* Is libvirt on another host?  Then this one's files say nothing of it. */
int virt_is_remote(virConnectPtr conn);

/*
 * The part of a URI that says which libvirt it is (core/place.h): "/system" of
 * qemu:///system.  Until the thread's next call.
 */
const char *virt_place(const char *uri);

#endif /* HATCH_AGENT_VIRT_H_INCLUDED */
