/*
 * What libvirt has written, and has told the agent of, is not on disk yet: it
 * renames a definition into its place without a sync of the folder, marks saved
 * memory as whole without any, and unlinks memory that has been used.  After a
 * power cut there would be settings of before, a VM that was deleted, memory
 * that is not whole, or memory of before under a disk that went on without it.
 *
 * The agent syncs what it knows the place of (vm/saved_file.h), before anybody
 * has an answer.  What it cannot open is another host's or another user's.
 */

#ifndef HATCH_AGENT_DURABLE_H_INCLUDED
#define HATCH_AGENT_DURABLE_H_INCLUDED

#include "vm_private.h"


/* After a definition was written or removed.  May block for a disk's time. */
int durable_definition(const vm_op_t *op, hatch_err_t *err);

/*
 * After memory was saved, or the file of it was removed or got another name.
 * May block for as long as it takes to write the memory.
 */
int durable_memory(const vm_op_t *op, hatch_err_t *err);

#endif /* HATCH_AGENT_DURABLE_H_INCLUDED */
