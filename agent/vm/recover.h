/*
 * Recovery: an operation that did not end, because the agent was killed in it
 * or libvirt went away, is brought to one of its two ends.
 *
 * The steps are those of operation.h: before the one that commits has been
 * done, all is undone; after it, all is done to the end.
 *
 * What an operation was doing is in its note (pending.h); how far it got is
 * seen from libvirt and the files.
 */

#ifndef HATCH_AGENT_RECOVER_H_INCLUDED
#define HATCH_AGENT_RECOVER_H_INCLUDED

#include "core/config.h"


/*
 * Recovers all VMs that need it, in the tidy thread, once the table is
 * complete.  Returns how many are left to be tried again.  test: this is
 * libvirt's test driver; notes of the other kind of driver are left alone.
 */
unsigned recover_all(const config_t *config, int test);

#endif /* HATCH_AGENT_RECOVER_H_INCLUDED */
