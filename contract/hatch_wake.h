/*
 * The messages of wake.sock, reserved: the agent listens on it and the module
 * speaks it once waking is built (docs/architecture.md, "Sleep and wake").
 *
 * One persistent SOCK_STREAM connection per worker.  Both directions carry
 * messages of one fixed size, in the machine's byte order (both ends are on
 * one machine), multiplexed by `request`, a number that the worker chooses.
 */

#ifndef HATCH_WAKE_H_INCLUDED
#define HATCH_WAKE_H_INCLUDED

#include <stdint.h>

#include "hatch_id.h"


#define HATCH_WAKE_MAGIC    0x31574148u     /* "HAW1" */


typedef enum {
    HATCH_WAKE_ASK = 1,         /* module: wake this VM, tell me when ready */
    HATCH_WAKE_READY = 2,       /* agent: it accepts connections on the port */
    HATCH_WAKE_FAILED = 3       /* agent: it will not; back off */
} hatch_wake_type_t;


typedef enum {
    HATCH_WAKE_KIND_NONE = 0,
    HATCH_WAKE_KIND_RESUME = 1,
    HATCH_WAKE_KIND_RESTORE = 2,
    HATCH_WAKE_KIND_BOOT = 3
} hatch_wake_kind_t;


typedef struct {
    uint32_t  magic;            /* HATCH_WAKE_MAGIC */
    uint16_t  type;             /* hatch_wake_type_t */
    uint16_t  kind;             /* hatch_wake_kind_t, in answers */
    uint64_t  request;          /* echoed in the answer */
    uint32_t  slot;             /* of the zone */
    uint16_t  port;             /* that has to accept a connection */
    uint16_t  reserved;         /* 0 */
    uint64_t  generation;       /* of the slot; a stale one is FAILED */
    uint32_t  timeout;          /* ms that the asker will wait */
    uint32_t  duration;         /* ms that the wake took, in answers */
    char      vm[HATCH_ID_SIZE];
} hatch_wake_message_t;

_Static_assert(sizeof(hatch_wake_message_t) == 64, "wake message size");

#endif /* HATCH_WAKE_H_INCLUDED */
