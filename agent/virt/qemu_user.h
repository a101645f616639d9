/*
 * The user that libvirt runs QEMU as, and what the host lets that user do.
 *
 * What can be tried is tried, in a process that becomes the user.  Where the
 * agent may not become anybody (its unit leaves it without CAP_SETUID), owner,
 * mode and access list of the file say it.
 */

#ifndef HATCH_AGENT_QEMU_USER_H_INCLUDED
#define HATCH_AGENT_QEMU_USER_H_INCLUDED

#include <libvirt/libvirt.h>
#include <sys/types.h>

#include "hatch_err.h"


#define QEMU_USER_GROUPS  256


typedef struct {
    uid_t  uid;
    int    n;
    gid_t  group[QEMU_USER_GROUPS];     /* all that libvirt gives a QEMU */
    char   name[64];                    /* or the number, as text */
} qemu_user_t;


/*
 * As libvirt's capabilities say.  -1 where they do not, or libvirt is on
 * another host, whose files are not to be seen here.
 */
int qemu_user_find(virConnectPtr conn, qemu_user_t *user);

/*
 * Calls run(arg) in a child that is the user, and returns what it does, 0 to
 * 254; -1 if it could not be tried.  run() may make system calls only: the
 * process has other threads.
 */
int qemu_user_run(const qemu_user_t *user, int (*run)(const void *arg),
    const void *arg);

/*
 * By owner, mode and access list: has the user these rights (R_OK, W_OK, X_OK)
 * to what is at path?  1, 0, or -1 if that is not there.
 */
int qemu_user_may(const qemu_user_t *user, const char *path, int rights);

/*
 * Can the user get to path?  Of what is not there yet the folders that are
 * there count.  HATCH_ERR_DENIED names the first folder that the user cannot
 * pass, and the command that mends it.  The file's own mode does not matter:
 * libvirt gives QEMU the files, and never the way to them.
 */
int qemu_user_reach(const qemu_user_t *user, const char *path,
    hatch_err_t *err);

/*
 * For a VM that could not be started: is a file of this definition out of
 * reach?  Then err says so in place of what libvirt said, and its code is
 * returned; else 0, and err is as it was.
 */
int qemu_user_explain(virConnectPtr conn, const char *xml, hatch_err_t *err);

#endif /* HATCH_AGENT_QEMU_USER_H_INCLUDED */
