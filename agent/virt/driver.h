/*
 * What differs between libvirt's drivers: QEMU, and the built-in test driver
 * (test:///default).  Nobody else asks which one it is.
 */

#ifndef HATCH_AGENT_DRIVER_H_INCLUDED
#define HATCH_AGENT_DRIVER_H_INCLUDED

#include <libvirt/libvirt.h>


typedef struct {
    const char  *name;              /* as virConnectGetType() says */

    /* the type of its domains; NULL: "kvm" or "qemu", the host decides */
    const char  *domain_type;

    /* flags that it knows */
    unsigned     undefine_flags;    /* all that a domain may still have */
    unsigned     restore_flags;     /* so that the guest runs */

    unsigned     has_guests:1;      /* they take memory and have neighbours */
    unsigned     forgets:1;         /* its domains end with the connection */

    /*
     * Writes the memory of a paused domain into a file; it stays paused, with
     * its process.  xml: a snapshot of the memory alone, into that file.
     * 0, or -1 with libvirt's error.
     */
    int        (*save_memory)(virDomainPtr domain, const char *path,
                              const char *xml);
} virt_driver_t;


/* Never NULL: what is not the test driver is treated as QEMU.  Any thread. */
const virt_driver_t *virt_driver(virConnectPtr conn);

#endif /* HATCH_AGENT_DRIVER_H_INCLUDED */
