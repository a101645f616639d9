/* What the service manager is told of the agent as a whole (core/notify.h). */

#ifndef HATCH_AGENT_SERVICE_H_INCLUDED
#define HATCH_AGENT_SERVICE_H_INCLUDED


/*
 * Once a round of the main loop: says what the agent is doing, and READY=1 when
 * libvirt's VMs are published, or after ten seconds: nginx is started after the
 * agent, and answers for itself while libvirt is away.  1 once it is ready.
 */
int service_beat(void);

/* SIGHUP has come, and has been dealt with. */
void service_reloading(void);
void service_reloaded(void);

void service_stopping(void);

#endif /* HATCH_AGENT_SERVICE_H_INCLUDED */
