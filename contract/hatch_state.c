#include "hatch_state.h"

#include <stddef.h>
#include <string.h>


#define HATCH_TO(symbol)  (1u << HATCH_STATE_##symbol)


static const struct {
    const char  *name;
    unsigned     to;
} hatch_states[HATCH_STATE_MAX] = {
    { "none", 0 },
#define HATCH_X(symbol, name, to)  { name, to },
    HATCH_STATES(HATCH_X)
#undef HATCH_X
};


const char *
hatch_state_name(unsigned state)
{
    return state < HATCH_STATE_MAX ? hatch_states[state].name : "unknown";
}


hatch_state_t
hatch_state_parse(const char *name)
{
    unsigned  state;

    for (state = HATCH_STATE_NONE + 1; state < HATCH_STATE_MAX; state++) {
        if (strcmp(hatch_states[state].name, name) == 0) {
            return (hatch_state_t) state;
        }
    }

    return HATCH_STATE_NONE;
}


int
hatch_state_may(unsigned from, unsigned to)
{
    if (from >= HATCH_STATE_MAX || to >= HATCH_STATE_MAX) {
        return 0;
    }

    return (hatch_states[from].to & (1u << to)) != 0;
}
