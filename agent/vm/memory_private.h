/* What memory*.c share; nobody else. */

#ifndef HATCH_AGENT_MEMORY_PRIVATE_H_INCLUDED
#define HATCH_AGENT_MEMORY_PRIVATE_H_INCLUDED

#include "memory.h"
#include "store/memory_record.h"


/* The firmware ends below this physical address. */
#define MEMORY_FIRMWARE_END  (UINT64_C(4) << 30)

/* At most so much of it. */
#define MEMORY_FIRMWARE_MAX  (16u * 1024 * 1024)


/* Which process has the guest. */
int memory_process(const vm_op_t *op, pid_t *pid, hatch_err_t *err);

/*
 * The image of a VM whose process has ended is valid; what libvirt did to its
 * disks' files since it was saved is noted.
 */
int memory_settle(const config_t *config, const char *vm, hatch_err_t *err);

#endif /* HATCH_AGENT_MEMORY_PRIVATE_H_INCLUDED */
