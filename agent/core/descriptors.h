/*
 * File descriptors: how many there may be, and what to do when there are none.
 */

#ifndef HATCH_AGENT_DESCRIPTORS_H_INCLUDED
#define HATCH_AGENT_DESCRIPTORS_H_INCLUDED


/*
 * Raises the soft limit to the hard one, of this process and those that it
 * starts.  Once, before there are threads.  Where that is refused, the limit
 * stays.
 */
void descriptors_raise(void);

/* The soft limit. */
unsigned long descriptors_max(void);

/* Does this errno say that there are none left, or no memory for one? */
int descriptors_short(int errnum);

/* Is there none left at the moment?  Asks the kernel. */
int descriptors_are_short(void);

#endif /* HATCH_AGENT_DESCRIPTORS_H_INCLUDED */
