/*
 * The messages of wake.sock: the agent listens on it, each nginx worker keeps
 * one SOCK_STREAM connection to it.  Both directions carry messages of one
 * fixed size, in the machine's byte order (both ends are on one machine).
 *
 *   worker                             agent
 *   ASK request=7 vm port timeout -->
 *                                 <-- WAIT  request=7    it is being woken
 *                                 <-- READY request=7    kind, duration
 *
 * READY is of one run of the guest, which may have ended by the time it is
 * read: `incarnation` says of which one.
 *
 * Each ASK gets exactly one READY or FAILED, and before it a WAIT unless the
 * answer comes at once.  `request` is a number that the worker chooses and
 * that is unique among those it waits for.  Nothing cancels a wake; a worker
 * that no longer cares ignores the answer.  When the connection ends, so do
 * its requests: the worker asks again over a new one.
 *
 * A message that breaks a rule ends the connection.
 */

#ifndef HATCH_WAKE_H_INCLUDED
#define HATCH_WAKE_H_INCLUDED

#include <stdint.h>

#include "hatch_id.h"


#define HATCH_WAKE_MAGIC        0x32574148u     /* "HAW2" */
#define HATCH_WAKE_PATH         "/run/hatch/wake.sock"

/* The longest that an asker may want to wait, ms. */
#define HATCH_WAKE_TIMEOUT_MAX  3600000


typedef enum {
    HATCH_WAKE_ASK = 1,         /* worker: wake this VM, tell me when ready */
    HATCH_WAKE_WAIT = 2,        /* agent: it takes a while */
    HATCH_WAKE_READY = 3,       /* agent: it accepts connections on the port */
    HATCH_WAKE_FAILED = 4       /* agent: it does not; see failure */
} hatch_wake_type_t;


typedef enum {
    HATCH_WAKE_KIND_NONE = 0,   /* it ran already */
    HATCH_WAKE_KIND_RESUME = 1,
    HATCH_WAKE_KIND_RESTORE = 2,
    HATCH_WAKE_KIND_BOOT = 3
} hatch_wake_kind_t;


typedef enum {
    HATCH_WAKE_NO_FAILURE = 0,
    HATCH_WAKE_NOT_WOKEN = 1,   /* libvirt or the host refused */
    HATCH_WAKE_GONE = 2,        /* there is no such VM */
    HATCH_WAKE_NOT_READY = 3,   /* no answer on the port within `timeout` */
    HATCH_WAKE_REFUSED = 4,     /* the guest is up, and nothing listens */
    HATCH_WAKE_KEPT = 5,        /* as NOT_WOKEN: its saved memory cannot be
                                 * restored now, and is kept */
    HATCH_WAKE_FULL = 6         /* as NOT_WOKEN: its disk cannot be written */
} hatch_wake_failure_t;


typedef struct {
    uint32_t  magic;            /* HATCH_WAKE_MAGIC */
    uint16_t  type;             /* hatch_wake_type_t */
    uint16_t  kind;             /* hatch_wake_kind_t, in READY */
    uint64_t  request;          /* echoed in the answers */
    uint32_t  timeout;          /* ASK: ms that the asker will wait, from 1;
                                 * FAILED: ms in which asking is in vain */
    uint32_t  duration;         /* READY: ms that the wake took */
    uint16_t  port;             /* ASK: that has to accept a connection */
    uint16_t  failure;          /* hatch_wake_failure_t, in FAILED */
    uint32_t  reserved;         /* 0 */
    char      vm[HATCH_ID_SIZE];    /* ASK, NUL-terminated */
    uint64_t  incarnation;      /* READY: of the guest that accepted the
                                 * connection (hatch_zone.h); never of a later
                                 * one; 0: not known, and always from agents
                                 * of before */
} hatch_wake_message_t;

_Static_assert(sizeof(hatch_wake_message_t) == 64, "wake message size");


/* The name that Server-Timing and $hatch_wake show; "" for NONE. */
static inline const char *
hatch_wake_kind_name(unsigned kind)
{
    static const char *const  names[] = { "", "resume", "restore", "boot" };

    return kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "";
}

#endif /* HATCH_WAKE_H_INCLUDED */
