/* What the parts of the wake thread share; all of it in that one thread. */

#ifndef HATCH_AGENT_WAKE_PRIVATE_H_INCLUDED
#define HATCH_AGENT_WAKE_PRIVATE_H_INCLUDED

#include <netinet/in.h>
#include <stdint.h>

#include "core/config.h"
#include "hatch_wake.h"


/* What an event belongs to: the first member of each. */
typedef enum {
    WAKE_LISTENER,
    WAKE_NOTIFIER,
    WAKE_WORKER,
    WAKE_ASKED
} wake_source_t;


/* --- wake_worker.c --- */

/* A connection of a worker; it is freed at the end of a round of events. */
typedef struct worker_s  worker_t;

typedef void (*worker_message_t)(worker_t *worker,
    const hatch_wake_message_t *message, uint64_t now);

/*
 * Accepts from now on.  message() is told what a worker says, gone() of a
 * connection that has ended.  0, or -1 with errno.
 */
int worker_begin(const config_t *config, int epoll, int listener,
    worker_message_t message, void (*gone)(worker_t *worker));

/* Somebody connects. */
void worker_accept(uint64_t now);

/* Something happened to a connection: EPOLLIN, EPOLLOUT. */
void worker_event(worker_t *worker, uint32_t events, uint64_t now);

/*
 * Says something; what the socket does not take at once follows.  A worker that
 * does not read WORKER_BEHIND messages has lost its claim to them.
 */
#define WORKER_BEHIND  131072

void worker_send(worker_t *worker, const hatch_wake_message_t *message);

void worker_close(worker_t *worker);

/* Timers: when worker_tick() is due again, or UINT64_MAX. */
uint64_t worker_tick(uint64_t now);

/* Frees what was closed in this round of events. */
void worker_sweep(void);


/* --- wake_probe.c --- */

/*
 * Fresh connection attempts, one every WAKE_PROBE_STEP ms; the last few are
 * kept, since a guest that is busy may answer an older one.
 */
#define WAKE_PROBES      8
#define WAKE_PROBE_STEP  25

/*
 * All attempts together have this part of the descriptors.  When half of it is
 * taken, each probe has one attempt; when all of it is, they take turns.
 */
#define WAKE_PROBE_SHARE  4
#define WAKE_PROBE_TURN   5


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


/* `most` descriptors for all probes together. */
void probe_begin(unsigned long most);

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
uint64_t wake_vm_next(uint64_t now);

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
