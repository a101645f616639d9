/*
 * The states of a VM, once: the zone holds the number, the API and /metrics
 * show the name.  A new state goes at the end (the number is in the zone's
 * layout) and raises HATCH_ZONE_VERSION.
 */

#ifndef HATCH_STATE_H_INCLUDED
#define HATCH_STATE_H_INCLUDED


/*
 * X(symbol, name, states that our own operations may lead to from here)
 *
 * What libvirt reports is published as it is: somebody with virsh may do
 * anything, and a missed event may hide a step.  The third column says what
 * the agent itself may start, so that an operation that makes no sense in the
 * present state is refused before libvirt is asked.
 */
#define HATCH_STATES(X)                                                       \
    X(STARTING,     "starting",     HATCH_TO(RUNNING) | HATCH_TO(STOPPING)    \
                                    | HATCH_TO(STOPPED) | HATCH_TO(ERROR))    \
    X(RUNNING,      "running",      HATCH_TO(PAUSING) | HATCH_TO(SNAPSHOTTING)\
                                    | HATCH_TO(STOPPING) | HATCH_TO(ERROR))   \
    X(PAUSING,      "pausing",      HATCH_TO(PAUSED) | HATCH_TO(RUNNING)      \
                                    | HATCH_TO(ERROR))                        \
    X(PAUSED,       "paused",       HATCH_TO(RUNNING) | HATCH_TO(SNAPSHOTTING)\
                                    | HATCH_TO(STOPPING) | HATCH_TO(ERROR))   \
    X(SNAPSHOTTING, "snapshotting", HATCH_TO(SNAPSHOTTED) | HATCH_TO(RUNNING) \
                                    | HATCH_TO(PAUSED) | HATCH_TO(ERROR))     \
    X(SNAPSHOTTED,  "snapshotted",  HATCH_TO(RESTORING) | HATCH_TO(STARTING)  \
                                    | HATCH_TO(STOPPING) | HATCH_TO(ERROR))   \
    X(RESTORING,    "restoring",    HATCH_TO(RUNNING) | HATCH_TO(STARTING)    \
                                    | HATCH_TO(SNAPSHOTTED)                   \
                                    | HATCH_TO(ERROR))                        \
    X(STOPPING,     "stopping",     HATCH_TO(STOPPED) | HATCH_TO(RUNNING)     \
                                    | HATCH_TO(PAUSED)                        \
                                    | HATCH_TO(SNAPSHOTTED)                   \
                                    | HATCH_TO(ERROR))                        \
    X(STOPPED,      "stopped",      HATCH_TO(STARTING) | HATCH_TO(RESTORING)  \
                                    | HATCH_TO(ERROR))                        \
    X(ERROR,        "error",        HATCH_TO(STARTING) | HATCH_TO(STOPPING)   \
                                    | HATCH_TO(RESTORING))


typedef enum {
    HATCH_STATE_NONE = 0,       /* a slot without a VM */
#define HATCH_X(symbol, name, to)  HATCH_STATE_##symbol,
    HATCH_STATES(HATCH_X)
#undef HATCH_X
    HATCH_STATE_MAX
} hatch_state_t;


/* The name that the API shows; "none" for 0, "unknown" past the last. */
const char *hatch_state_name(unsigned state);

/* The state of that name, HATCH_STATE_NONE if there is none. */
hatch_state_t hatch_state_parse(const char *name);

/* May an operation of the agent take a VM from one state to the other? */
int hatch_state_may(unsigned from, unsigned to);

#endif /* HATCH_STATE_H_INCLUDED */
