/*
 * What the host lets QEMU do, asked of libvirt when the agent connects: the
 * domain type that "virt_type" auto stands for, and how long libvirt takes for
 * a look at QEMU's capabilities.
 *
 * libvirt remembers them, unless its check says that they may have changed.
 * Where /dev/kvm belongs to a group that QEMU's user is not in, that check
 * fails each time: libvirt looks with more rights than it checks with.  Then
 * each look starts several QEMUs, and defining a VM takes a dozen looks.
 * Nothing fails, but deadlines that fit other hosts are too short.
 */

#ifndef HATCH_AGENT_HOST_H_INCLUDED
#define HATCH_AGENT_HOST_H_INCLUDED

#include <libvirt/libvirt.h>
#include <stdint.h>

#include "core/config.h"


#define HOST_TEXT  512

/* How long a creation waits for each of the first answers, ms. */
#define HOST_WAIT  60000


/* Once, before all else but host_check(). */
void host_init(void);

/*
 * Asks in a thread of its own, and publishes what it finds: in the log and,
 * what is amiss, in the zone.  The sync thread, after each connection.
 */
void host_ask(const config_t *config);

/*
 * The same at once, for --check.  Fills choice[HOST_TEXT] with the type of new
 * domains and why.  Returns 1 and fills warning[HOST_TEXT] if something is
 * amiss, else 0.
 */
int host_check(const config_t *config, char *choice, char *warning);

/*
 * Waits until it is known how slow libvirt is, a minute at most: a new VM's
 * first steps have their deadlines from it.
 */
void host_wait(void);

/*
 * The type of a new domain: "kvm", "qemu" or "test".  Waits for the first
 * answer where it depends on that, HOST_WAIT at most; NULL if there is none.
 * Any thread.
 */
const char *host_type(const config_t *config, virConnectPtr conn);

/*
 * libvirt_timeout and save_timeout, s; longer on a host where libvirt is slow,
 * unless somebody set them.  Any thread.
 */
int64_t host_call_timeout(const config_t *config);
int64_t host_save_timeout(const config_t *config);

#endif /* HATCH_AGENT_HOST_H_INCLUDED */
