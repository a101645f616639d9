/*
 * What a service manager is told, by the protocol of sd_notify(3): that the
 * agent is ready, what it is doing, that it lives.
 *
 * The protocol is one datagram to the socket that NOTIFY_SOCKET names; systemd
 * promises that it stays so, and others (podman, s6) speak it, too.  That is
 * less than libsystemd would bring along, which not every place has where the
 * agent is built or runs.  Without the variable nothing here does anything.
 */

#ifndef HATCH_AGENT_NOTIFY_H_INCLUDED
#define HATCH_AGENT_NOTIFY_H_INCLUDED


/*
 * Takes NOTIFY_SOCKET and WATCHDOG_USEC out of the environment, so that the
 * tools that the agent runs do not have them.  Once, before there are threads.
 */
void notify_open(void);

/* One or more assignments, a line each: "READY=1".  Any thread. */
void notify_send(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* STATUS=text, unless that was the last one.  The main thread alone. */
void notify_status(const char *text);

/* "RELOADING=1" with the time that it needs; "READY=1" has to follow. */
void notify_reloading(void);

/* How often a sign of life is wanted at least, ms; 0: not at all. */
unsigned notify_watchdog(void);

#endif /* HATCH_AGENT_NOTIFY_H_INCLUDED */
