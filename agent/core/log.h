/*
 * The agent's log: standard error, one event a line, "TIME LEVEL: text".
 * Only code at the edge logs (main, the sync thread, the HTTP server); all
 * else returns a hatch_err_t.
 */

#ifndef HATCH_AGENT_LOG_H_INCLUDED
#define HATCH_AGENT_LOG_H_INCLUDED


typedef enum {
    LOG_ERROR = 0,      /* something failed that should not */
    LOG_WARN = 1,       /* worked around, or somebody should look */
    LOG_INFO = 2,       /* what an operator wants to read later */
    LOG_DEBUG = 3
} log_level_t;


/*
 * Events above this level are dropped (default: LOG_INFO).  Where standard
 * error is journald's, lines begin with its "<N>" in place of TIME LEVEL.
 */
void log_open(log_level_t level);

/* Another level, at any time. */
void log_set_level(log_level_t level);

/* The level of that name, or -1. */
int log_parse_level(const char *name);

/* Thread-safe.  Control characters in the text become "?". */
void log_event(log_level_t level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif /* HATCH_AGENT_LOG_H_INCLUDED */
