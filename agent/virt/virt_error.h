/* What an error of libvirt's means: the one place that knows its codes. */

#ifndef HATCH_AGENT_VIRT_ERROR_H_INCLUDED
#define HATCH_AGENT_VIRT_ERROR_H_INCLUDED

#include <libvirt/virterror.h>

#include "hatch_err.h"


typedef enum {
    VIRT_OTHER = 0,             /* not known */
    VIRT_HOST,                  /* trouble of the host: a file, a lock on it, a
                                   program; it may pass */
    VIRT_GONE,                  /* no such domain, network or metadata */
    VIRT_BUSY,                  /* an operation on it does not end */
    VIRT_NO_ROOM,               /* a disk is full */
    VIRT_NO_PORT,               /* a bridge is full */
    VIRT_BAD_IMAGE,             /* QEMU cannot load this memory */
    VIRT_REFUSED,               /* not possible in its present state */
    VIRT_UNSUPPORTED,           /* not by this libvirt, or this driver */
    VIRT_LOST,                  /* the connection is gone */
    VIRT_NO_AGENT               /* the agent in the guest does not answer */
} virt_class_t;


/*
 * By domain and code.  libvirt's texts are translated and say nothing; QEMU's
 * own, which libvirt quotes, are not: two of those are looked for where libvirt
 * has no code.  NULL is VIRT_OTHER.
 */
virt_class_t virt_classify(const virError *error);

/* The same of this thread's last error. */
virt_class_t virt_last_class(void);

/*
 * The hatch_err_t of this thread's last error: "DOING: what libvirt said", or
 * what QEMU said where libvirt quotes it, without the argument that it had.
 * Where that is too long it is its end, which has the cause.  At once after the
 * call that failed: every other call to libvirt, also one that looks or frees,
 * forgets it.  Its code by its class: HATCH_ERR_NOT_FOUND, HOST, TIMEOUT, FULL,
 * BRIDGE, CONFLICT, UNAVAILABLE, else LIBVIRT.  What the API makes of a code
 * only api_fail() says.
 */
int virt_error(hatch_err_t *err, const char *doing);

#endif /* HATCH_AGENT_VIRT_ERROR_H_INCLUDED */
