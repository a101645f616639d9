/* /dev/kvm, the processor, and who may use them. */

#ifndef HATCH_AGENT_HOST_KVM_H_INCLUDED
#define HATCH_AGENT_HOST_KVM_H_INCLUDED

#include "qemu_user.h"


/* Has the processor virtualization, and says so?  1 where it has no flag. */
int host_kvm_flag(void);

/* Is there a /dev/kvm that the agent can see? */
int host_kvm_seen(void);

/*
 * Tries to open /dev/kvm as that user, in a process of its own: 0, the errno
 * (ENODEV for a file that is no KVM), or -1 if it could not be tried and its
 * mode does not forbid it.
 */
int host_kvm_open_as(const qemu_user_t *user);

#endif /* HATCH_AGENT_HOST_KVM_H_INCLUDED */
