/*
 * The table's part of falling asleep and waking: which guest it is, how long
 * it has been idle, and the agent's half of the handshake (docs/
 * architecture.md, "Sleep and wake").  Any thread; nothing here blocks.
 */

#ifndef HATCH_AGENT_TABLE_SLEEP_H_INCLUDED
#define HATCH_AGENT_TABLE_SLEEP_H_INCLUDED

#include <stddef.h>

#include "table.h"


/* How long a guest may take from its start until its services answer, ms. */
#define TABLE_BOOT_TIME      60000

/* The same for the rest of them, once one has answered. */
#define TABLE_ANSWERED_TIME  5000

/*
 * Until requests in flight have stamped by a new idle time, ms: they stamp
 * each second at least (ngx_hatch_busy.c).
 */
#define TABLE_STAMP_TIME     1500


/*
 * Our own operation has let the domain with this id run: it was resumed,
 * restored or booted.
 */
void table_started(const char *id, int domain_id, int booted);

/* The guest rebooted. */
void table_rebooted(const char *id);

/*
 * Which guest it is: the incarnation in the zone (hatch_zone.h).  0: there is
 * none, the VM is not published.
 */
uint64_t table_incarnation(const char *id);

/* May the guest still be booting?  Then a refused connection says nothing. */
int table_is_booting(const char *id);

/* One of its services has answered. */
void table_answered(const char *id);

/* The VM was used through the API just now. */
void table_use(const char *id);


typedef enum {
    TABLE_PAUSE,                /* idle for idle_timeout */
    TABLE_PARK,                 /* paused for park_after, with an image */
    TABLE_SAVE,                 /* paused for save_after */
    TABLE_WAKE                  /* used since it fell asleep by itself */
} table_todo_t;


#define TABLE_TODOS  4


typedef struct {
    char          id[HATCH_ID_SIZE];
    table_todo_t  todo;
    unsigned      mem_mib;
    uint64_t      no_room;      /* the last save failed for want of room, with
                                   so many bytes free; 0: it did not */
} table_due_t;


/*
 * What is due at `now` (the zone's clock), at most room[] of each kind, in that
 * many places of due; returns how many.  `next` is lowered to when the next
 * will be, apart from those that have no room.
 */
size_t table_due(uint64_t now, const unsigned room[TABLE_TODOS],
    table_due_t *due, uint64_t *next);

/*
 * Keeps of each VM when it was last requested, before an activity file that
 * knows it is let go.
 */
void table_remember_requests(void);

/*
 * The handshake: after table_doing(id, HATCH_STATE_PAUSING), is the VM still
 * idle?  If not, it has to go on.
 */
int table_is_idle(const char *id, uint64_t now);

/* It sleeps now, and was not told to. */
void table_idled(const char *id, uint64_t now);

/* It is not put to sleep before `until`. */
void table_sleep_later(const char *id, uint64_t until);

/*
 * It could not be put to sleep: not again for 10 s, twice that the next time,
 * and so on up to 10 min, until it slept or was woken.  cause tells reasons
 * apart; no_room as in table_due_t.  Returns 1 if the cause is another one
 * than the last time.
 */
int table_sleep_failed(const char *id, uint64_t now, uint32_t cause,
    uint64_t no_room);


/*
 * Saving can be cancelled.  table_save_begin() returns 0 if somebody wants
 * the VM; otherwise table_save_end() follows.
 */
int table_save_begin(const char *id);
void table_save_end(const char *id);

/* Somebody wants the VM, until table_unwant(): no save begins. */
void table_want(const char *id);
void table_unwant(const char *id);
int table_wanted(const char *id);

/* Waits up to `ms` for a save to end.  Returns 1 if it is still under way. */
int table_saving(const char *id, unsigned ms);

#endif /* HATCH_AGENT_TABLE_SLEEP_H_INCLUDED */
