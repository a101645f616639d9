/*
 * The guest's clock.  It stands while the guest does, and neither RTC nor
 * kvmclock make the guest's kernel step afterwards; somebody inside has to.
 * libvirt asks the QEMU guest agent there, over a channel of the domain.
 */

#ifndef HATCH_AGENT_CLOCK_H_INCLUDED
#define HATCH_AGENT_CLOCK_H_INCLUDED


/*
 * Sets the clock of a VM's guest in a thread of its own.  Needs the QEMU guest
 * agent in the guest: if it is not there at the moment, the clock is set when
 * it is (clock_connected()).  Any thread; never waits.
 */
void clock_set(const char *id);

/*
 * The guest agent of a domain is there.  Sets the clock if that is due, else
 * does nothing.  Called in libvirt's event thread.
 */
void clock_connected(const char *name);

#endif /* HATCH_AGENT_CLOCK_H_INCLUDED */
