/*
 * zone.activity as the agent reads it: attached when nginx has made it,
 * again when nginx has put another file in its place.
 */

#ifndef HATCH_AGENT_ACTIVITY_H_INCLUDED
#define HATCH_AGENT_ACTIVITY_H_INCLUDED

#include <stdint.h>

#include "core/config.h"


/*
 * Looks for the file, or for a new one.  Called by the idle thread, before
 * any activity_last(), and then about every second.  `nginx` says that nginx
 * is known to run: then a file that is not there is one that we miss.
 * before() is called while a file that is about to go can still be read.
 */
void activity_refresh(const config_t *config, int nginx, void (*before)(void));

/*
 * When the VM of this generation in this slot was last requested, and when a
 * request last passed (hatch_activity.h); 0: never.  -1 if that cannot be
 * known at present; then no VM may fall asleep.  Any thread.
 */
int activity_last(uint32_t slot, uint64_t generation, uint64_t *last,
    uint64_t *pass);

/*
 * 1 if that is still the file which nginx writes now.  Part of the handshake:
 * asked after the VM's state is published, so that whoever starts writing
 * another file later sees that state.  Any thread.
 */
int activity_is_current(void);

#endif /* HATCH_AGENT_ACTIVITY_H_INCLUDED */
