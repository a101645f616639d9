/* What the files of the configuration share; nobody else. */

#ifndef HATCH_AGENT_CONFIG_PRIVATE_H_INCLUDED
#define HATCH_AGENT_CONFIG_PRIVATE_H_INCLUDED

#include <stddef.h>

#include "config.h"


typedef enum {
    CONFIG_STRING,
    CONFIG_INTEGER,
    CONFIG_BOOLEAN,             /* 0 or 1; in text "true" or "false" */
    CONFIG_DURATION             /* ms; in text as in "90", "1.5s", "1h30m" */
} config_type_t;


/* When another value counts. */
typedef enum {
    CONFIG_RESTART,             /* from the next start on */
    CONFIG_LIVE,                /* at once */
    CONFIG_IMAGE                /* at once, together: config_image() */
} config_when_t;


/* One row per key: the file, the environment and the checks follow it. */
typedef struct {
    const char     *name;
    config_type_t   type;
    config_when_t   when;
    size_t          offset;
    int64_t         min;            /* of the number, or of the length */
    int64_t         max;
    const char     *otherwise;
} config_key_t;


/* Ended by a row without a name. */
extern const config_key_t  config_keys[];

#endif /* HATCH_AGENT_CONFIG_PRIVATE_H_INCLUDED */
