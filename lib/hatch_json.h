/*
 * Strict reading of a JSON object (API bodies, the configuration file).  What
 * JSON is we say ourselves, so that it is the same with each json-c, which only
 * builds the object of a text that is known to be one.
 *
 * A worker of nginx must not stand still over a text: one that is too deep or
 * has too many values is refused before json-c sees it, in one pass.
 *
 * Fields are declared in a table; the check against it comes before anything
 * acts on a value.  Each error text names the field, the value where that
 * helps, and the rule.
 */

#ifndef HATCH_JSON_H_INCLUDED
#define HATCH_JSON_H_INCLUDED

#include <json-c/json.h>
#include <stddef.h>
#include <stdint.h>

#include "hatch_err.h"


#define HATCH_JSON_DEPTH   16       /* objects and arrays in each other */
#define HATCH_JSON_VALUES  1000     /* in all objects and arrays together */


typedef enum {
    HATCH_JSON_BOOLEAN,
    HATCH_JSON_INTEGER,         /* min and max are its bounds; 5.12e2 is one */
    HATCH_JSON_STRING,          /* min and max bound its length in bytes */
    HATCH_JSON_SECONDS,         /* a number or null; min and max in ms */
    HATCH_JSON_ANY              /* the caller checks it */
} hatch_json_type_t;


/* What `required` may be. */
#define HATCH_JSON_OPTIONAL  0
#define HATCH_JSON_REQUIRED  1
#define HATCH_JSON_NULLABLE  2  /* optional, and null is a value, too */


typedef struct {
    const char         *name;   /* NULL ends the table */
    hatch_json_type_t   type;
    int                 required;
    int64_t             min;
    int64_t             max;
} hatch_json_field_t;


/* What hatch_json_seconds() makes of null: never. */
#define HATCH_JSON_NEVER  (-1)


/*
 * Parses exactly one object of at most len bytes of UTF-8.  On success the
 * caller owns *object (json_object_put()).  HATCH_ERR_INVALID otherwise.
 */
int hatch_json_parse(const char *text, size_t len, json_object **object,
    hatch_err_t *err);

/*
 * Is a text exactly one JSON object (RFC 8259) in UTF-8, no deeper and with no
 * more values than above?  HATCH_ERR_INVALID otherwise.  The object's keys may
 * be the same.
 */
int hatch_json_text(const char *text, size_t len, hatch_err_t *err);

/*
 * Checks an object against a table.  HATCH_ERR_INVALID on a broken rule.  An
 * integer that is written as 512.0 or 5.12e2 is 512 in the object afterwards.
 */
int hatch_json_check(json_object *object, const hatch_json_field_t *fields,
    hatch_err_t *err);

/*
 * Is a number whole, however it is written (512, 512.0, 5.12e2)?  Then *n is
 * the number, or the nearest one that an int64_t can hold.  By its digits, not
 * by what a double makes of them: 1e-400 and 512.00000000000000000001 are not.
 */
int hatch_json_whole(json_object *value, int64_t *n);

/* The value of a field, or the default if it was not given. */
int64_t hatch_json_integer(json_object *object, const char *name,
    int64_t otherwise);
int hatch_json_boolean(json_object *object, const char *name, int otherwise);

/* In milliseconds, rounded; HATCH_JSON_NEVER for null. */
int64_t hatch_json_seconds(json_object *object, const char *name,
    int64_t otherwise);

/* A new value of that many milliseconds as seconds, null for NEVER. */
json_object *hatch_json_new_seconds(int64_t ms);

/* Valid as long as the object is. */
const char *hatch_json_string(json_object *object, const char *name,
    const char *otherwise);

#endif /* HATCH_JSON_H_INCLUDED */
