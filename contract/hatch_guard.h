/*
 * hatch_guard: a mapped file that somebody truncates must not kill us.
 *
 * Touching a page past the end of a mapped file raises SIGBUS.  The zone and
 * the activity file belong to another process each, and whoever may write
 * them may also shorten them.  The guard knows our mappings; a SIGBUS inside
 * one puts zeroed private memory over all of it, so that the access goes on
 * and reads zeroes, which are not a valid zone: the next check says so.
 * (systemd-journald guards its mapped journals the same way.)
 *
 * A SIGBUS anywhere else goes to whatever handled it before.
 */

#ifndef HATCH_GUARD_H_INCLUDED
#define HATCH_GUARD_H_INCLUDED

#include <stddef.h>


#define HATCH_GUARD_MAX  16     /* mappings per process */


/* Installs the handler.  Idempotent; call it in the process that maps. */
int hatch_guard_install(void);

/* 0, or -1 if HATCH_GUARD_MAX mappings are guarded already. */
int hatch_guard_add(void *base, size_t size);

/* Forgets the mapping; call it before munmap(). */
void hatch_guard_remove(void *base);

#endif /* HATCH_GUARD_H_INCLUDED */
