/*
 * hatch-agent --check: what an agent with this configuration would find, and
 * what would stand in its way.
 *
 * Each line that is found goes to standard output; warnings and errors, each
 * with what to do about it, to standard error.  Nothing is made or changed and
 * no lock is taken, so it may run beside an agent.
 */

#ifndef HATCH_AGENT_CHECK_H_INCLUDED
#define HATCH_AGENT_CHECK_H_INCLUDED

#include "core/config.h"
#include "hatch_err.h"


/* 0 and a last line "ok" if a VM could be made, else 1. */
int check_all(const config_t *config);

/*
 * Zone and sockets: what is there already must be ours.  running: an agent may
 * have them at the moment.
 */
int check_files(const config_t *config, int running, hatch_err_t *err);

#endif /* HATCH_AGENT_CHECK_H_INCLUDED */
