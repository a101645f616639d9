/*
 * The tidy thread: what may take long and nobody waits for.
 *
 * Recovery of operations that did not end; reservations of the network that a
 * VM lacks; a word in the log for files and routes that are left of VMs which
 * libvirt has no more.
 * Changing a reservation makes libvirt replace the network's firewall rules,
 * a third of a second each; in the sync thread that would hold up the news of
 * other VMs.
 */

#ifndef HATCH_AGENT_TIDY_H_INCLUDED
#define HATCH_AGENT_TIDY_H_INCLUDED

#include "core/config.h"
#include "hatch_err.h"


int tidy_start(const config_t *config, hatch_err_t *err);

void tidy_stop(void);

/*
 * There may be something to tidy: a VM is gone, or all have been compared.
 * At once, or a second after the round before.  Call it only once the table
 * is complete.  Any thread, never waits.
 */
void tidy_request(void);

#endif /* HATCH_AGENT_TIDY_H_INCLUDED */
