/*
 * The guest's clock.  It stands while the guest does, and neither RTC nor
 * kvmclock make the guest's kernel step afterwards; somebody inside has to.
 * libvirt asks the QEMU guest agent there, over a channel of the domain.
 */

#ifndef HATCH_AGENT_CLOCK_H_INCLUDED
#define HATCH_AGENT_CLOCK_H_INCLUDED


/*
 * Sets the clock of a VM's guest in a thread of its own.  Needs the QEMU guest
 * agent in the guest; it is asked for some seconds, and without it nothing
 * happens.  Any thread; never waits.
 */
void clock_set(const char *id);

#endif /* HATCH_AGENT_CLOCK_H_INCLUDED */
