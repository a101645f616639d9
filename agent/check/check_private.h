/* What the files of --check share; nobody else. */

#ifndef HATCH_AGENT_CHECK_PRIVATE_H_INCLUDED
#define HATCH_AGENT_CHECK_PRIVATE_H_INCLUDED

#include <libvirt/libvirt.h>

#include "check.h"
#include "virt/qemu_user.h"


typedef struct {
    const config_t  *config;
    virConnectPtr    conn;          /* NULL: there is none */
    qemu_user_t      user;          /* QEMU's, if has_user */
    const char      *unit_hides;    /* folders that the unit does not see */
    unsigned long    libvirt;       /* its version, as libvirt writes it */
    unsigned long    unit_descriptors;  /* 0: there is no unit */
    unsigned         errors;
    unsigned         has_user:1;
    unsigned         has_guests:1;  /* libvirt's driver has real ones */
    unsigned         local:1;       /* and they are on this host */
    unsigned         has_default:1; /* there is an image img_default */
    unsigned         has_disk:1;    /* and it has a disk */
    unsigned         is_record:1;   /* made with the API */
} check_t;


/* A line "WHAT: ...". */
void check_found(const char *what, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* VMs can be made all the same. */
void check_warn(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* No VM, or none of a usual kind, can be made. */
void check_error(check_t *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));


/* Opens the connection, and says what it is.  check_libvirt.c */
void check_libvirt(check_t *check);

/* QEMU, as libvirt sees it, and the tools that VMs are made with. */
void check_qemu(check_t *check);
void check_tools(check_t *check);

/* What systemd's unit of the agent may do, if there is one.  check_unit.c */
void check_unit(check_t *check);

/* Folders: there, writable, in reach of QEMU's user, room; what the default
 * image has.  check_paths.c */
void check_paths(check_t *check);
void check_disks(check_t *check);

/* The network that VMs get.  check_network.c */
void check_network(check_t *check);

#endif /* HATCH_AGENT_CHECK_PRIVATE_H_INCLUDED */
