/* What the parts of the wake thread share; all of it in that one thread. */

#ifndef HATCH_AGENT_WAKE_PRIVATE_H_INCLUDED
#define HATCH_AGENT_WAKE_PRIVATE_H_INCLUDED

#include <netinet/in.h>
#include <stdint.h>

#include "core/config.h"
#include "hatch_wake.h"


/* --- wake_probe.c --- */

/*
 * Fresh connection attempts, one every WAKE_PROBE_STEP ms; the last few are
 * kept, since a guest that is busy may answer an older one.
 */
#define WAKE_PROBES      8
#define WAKE_PROBE_STEP  25


typedef enum {
    PROBE_NONE = 0,             /* no answer yet */
    PROBE_READY,
    PROBE_REFUSED               /* the guest is up, nothing listens */
} probe_result_t;


typedef struct {
    struct sockaddr_in  peer;
    int                 fd[WAKE_PROBES];    /* -1: free */
    unsigned            next;               /* the oldest */
    uint64_t            due;                /* when the next one begins */
} probe_t;


void probe_init(probe_t *probe, struct in_addr address, uint16_t port);

/* Begins another attempt; its socket is watched by epoll with `data`. */
probe_result_t probe_send(probe_t *probe, int epoll, void *data,
    uint64_t now);

/* Looks at all attempts: something happened to one of them. */
probe_result_t probe_look(probe_t *probe);

void probe_close(probe_t *probe);


/* --- wake_vm.c --- */

/* A VM that is being woken, or could not be. */
typedef struct wake_vm_s  wake_vm_t;

/*
 * Told from wake_vm_collect(): the VM runs (rc 0; `kind` and how many ms it
 * took), or could not be woken.
 */
typedef void (*wake_vm_done_t)(wake_vm_t *vm, int rc, hatch_wake_kind_t kind,
    uint64_t duration);

/* `notify` is an eventfd that is written when wake_vm_collect() is due. */
void wake_vm_init(const config_t *config, int notify, wake_vm_done_t done);

/*
 * Begins to wake a VM, unless that is under way.  NULL if it failed lately
 * (*retry: ms in which not to ask again; *failure: how) or there is no memory.
 */
wake_vm_t *wake_vm_begin(const char *id, uint64_t now, uint64_t *retry,
    hatch_wake_failure_t *failure);

/* Begins those whose turn has come; when the next one may, or UINT64_MAX. */
void wake_vm_run(uint64_t now);
uint64_t wake_vm_next(void);

/* Reports what has happened to all VMs since the last call. */
void wake_vm_collect(uint64_t now);

/* The VM was woken but its guest did not come up: counts as a failure. */
void wake_vm_failed(const char *id, uint64_t now);

/* ms until asking for a VM makes sense again; 0: now. */
uint64_t wake_vm_retry(const wake_vm_t *vm, uint64_t now);

/* How the last wake of a VM failed. */
hatch_wake_failure_t wake_vm_failure(const wake_vm_t *vm);

/* Takes what others asked for by wake_request(). */
void wake_vm_take_requests(uint64_t now);


/* The clock of this thread: CLOCK_MONOTONIC, ms. */
uint64_t wake_now(void);

#endif /* HATCH_AGENT_WAKE_PRIVATE_H_INCLUDED */
