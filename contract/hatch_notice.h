/*
 * A notice: what the agent found amiss with its host, which still works, but
 * not as it should.  It stands in the zone; /readyz shows it as its reason,
 * and stays 200.
 */

#ifndef HATCH_NOTICE_H_INCLUDED
#define HATCH_NOTICE_H_INCLUDED

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>


/*
 * libvirt forgets what it knows about QEMU, and starts several of them to find
 * out at each look: the figure is how long one such look takes, ms.
 */
typedef enum {
    HATCH_NOTICE_NONE = 0,
    HATCH_NOTICE_KVM_DENIED = 1,    /* since QEMU's user may not open KVM */
    HATCH_NOTICE_KVM_ABSENT = 2,    /* since /dev/kvm has no KVM behind it */
    HATCH_NOTICE_SLOW = 3,          /* and it is not known why */
    HATCH_NOTICE_MAX
} hatch_notice_t;

/* Room for any text, with its NUL. */
#define HATCH_NOTICE_TEXT  256


/* The notice as one line: what is so, why, and what to do. */
static inline void
hatch_notice_text(hatch_notice_t notice, uint32_t ms, char *text)
{
    static const char *const  causes[HATCH_NOTICE_MAX] = {
        "",
        "QEMU's user cannot open /dev/kvm; mend it with \"chgrp kvm /dev/kvm "
        "&& chmod 660 /dev/kvm\"",
        "/dev/kvm can be opened by no one, there is no KVM behind it; remove "
        "it, or load KVM's module",
        "libvirt's log may say why"
    };

    (void) snprintf(text, HATCH_NOTICE_TEXT, "libvirt takes %u.%02u s for "
                    "each look at QEMU, so VMs start slowly: %s",
                    (unsigned) (ms / 1000), (unsigned) (ms % 1000 / 10),
                    causes[notice < HATCH_NOTICE_MAX ? notice
                                                     : HATCH_NOTICE_SLOW]);
}

#endif /* HATCH_NOTICE_H_INCLUDED */
