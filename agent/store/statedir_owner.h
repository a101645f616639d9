/*
 * Whose a state directory is: state_dir/owner.json names the libvirt (its
 * driver and place) that has the VMs whose files these are, the host
 * (/etc/machine-id, where there is one), and the format of the directory.
 *
 *     {"format":1,"driver":"qemu","place":"/system","machine_id":"4c5d..."}
 *
 * To an agent with another libvirt, or on another host, none of the VMs would
 * be there, so it must not judge what is left of which: it does not start,
 * until somebody says that the directory has moved (hatch-agent --adopt).  One
 * without a mark is judged when libvirt is there (files_open()); until then
 * nothing in it is deleted.
 */

#ifndef HATCH_AGENT_STATEDIR_OWNER_H_INCLUDED
#define HATCH_AGENT_STATEDIR_OWNER_H_INCLUDED

#include "core/config.h"
#include "hatch_err.h"


/* How state_dir is laid out; an older agent refuses a newer one. */
#define STATEDIR_FORMAT  1

#define STATEDIR_HOWTO  "\"hatch-agent --adopt\" moves it here"


/*
 * May an agent with this configuration use the directory, as far as its mark
 * says?  0 also if it has none, or is not there.  HATCH_ERR_FOREIGN: it is
 * another libvirt's or host's; HATCH_ERR_VERSION: a newer agent's;
 * HATCH_ERR_CORRUPT.  Reads only.  The main thread.
 */
int statedir_owner_check(const config_t *config, hatch_err_t *err);

/* Is it known to be ours?  Then what is left over in it may go.  Any thread. */
int statedir_owner_judged(void);

/* Marks it as ours, whoever's it was.  It is locked. */
int statedir_owner_mark(const config_t *config, hatch_err_t *err);

/*
 * The same for a user who says that it has moved; not one of a newer format,
 * nor one that is not there.  Locks it.
 */
int statedir_owner_adopt(const config_t *config, hatch_err_t *err);

/* "qemu:///system": the libvirt that is meant, without its transport. */
void statedir_owner_libvirt(const config_t *config, char *text, size_t size);

#endif /* HATCH_AGENT_STATEDIR_OWNER_H_INCLUDED */
