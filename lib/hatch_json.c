#include "hatch_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


/* In error texts a field name of the client's is cut to this length. */
#define HATCH_JSON_NAME  "%.40s"


static int
hatch_json_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}


/* Where a string ends: at its quote, or at len.  i: its first character. */
static size_t
hatch_json_skip_string(const char *text, size_t len, size_t i)
{
    while (i < len && text[i] != '"') {
        i += text[i] == '\\' ? 2 : 1;
    }

    return i < len ? i : len;
}


/* Remembers a key, given with its quotes, unless it was there before. */
static int
hatch_json_seen(json_object *seen, struct json_tokener *tokener,
    const char *quoted, size_t len, hatch_err_t *err)
{
    int           rc = 0;
    const char   *name;
    json_object  *key;

    json_tokener_reset(tokener);
    key = json_tokener_parse_ex(tokener, quoted, (int) len);
    name = key != NULL ? json_object_get_string(key) : NULL;

    if (name != NULL) {
        if (json_object_object_get_ex(seen, name, NULL)) {
            rc = hatch_err_set(err, HATCH_ERR_INVALID,
                               "field \"" HATCH_JSON_NAME "\" is given twice",
                               name);
        } else {
            (void) json_object_object_add(seen, name, NULL);
        }
    }

    json_object_put(key);

    return rc;
}


/*
 * Looks at the keys of the outer object: returns how many there are, or, given
 * a tokener, finds the first that is given twice.
 */
static int
hatch_json_keys(const char *text, size_t len, struct json_tokener *tokener,
    hatch_err_t *err)
{
    int           n = 0, rc = 0;
    size_t        i, start, end;
    unsigned      depth = 0;
    json_object  *seen = tokener != NULL ? json_object_new_object() : NULL;

    if (tokener != NULL && seen == NULL) {
        return hatch_err_set(err, HATCH_ERR_SYSTEM, "out of memory");
    }

    for (i = 0; i < len && rc == 0; i++) {
        switch (text[i]) {

        case '{':
        case '[':
            depth++;
            break;

        case '}':
        case ']':
            depth--;
            break;

        case '"':
            start = i;
            i = hatch_json_skip_string(text, len, i + 1);

            for (end = i + 1; end < len && hatch_json_is_space(text[end]);
                 end++)
            {
                /* void */
            }

            if (depth != 1 || end >= len || text[end] != ':') {
                break;
            }

            n++;

            if (seen != NULL) {
                rc = hatch_json_seen(seen, tokener, text + start,
                                     i + 1 - start, err);
            }

            break;
        }
    }

    json_object_put(seen);

    return tokener != NULL ? rc : n;
}


/*
 * The text is known to be valid.  Not with json-c's strict mode, which differs
 * from version to version: that of 0.18 refuses letters that are not ASCII, and
 * integers that are too large for it, which are for the rule of their field.
 */
static int
hatch_json_build(struct json_tokener *tokener, const char *text, size_t len,
    json_object **object, hatch_err_t *err)
{
    json_object  *parsed = json_tokener_parse_ex(tokener, text, (int) len);

    if (parsed == NULL) {
        return hatch_err_set(err, HATCH_ERR_SYSTEM, "json-c: %s",
                             json_tokener_error_desc(
                                 json_tokener_get_error(tokener)));
    }

    /* of a key that is given twice json-c keeps the last one */

    if (hatch_json_keys(text, len, NULL, NULL)
            != json_object_object_length(parsed)
        && hatch_json_keys(text, len, tokener, err) != 0)
    {
        json_object_put(parsed);
        return HATCH_ERR_INVALID;
    }

    *object = parsed;

    return 0;
}


int
hatch_json_parse(const char *text, size_t len, json_object **object,
    hatch_err_t *err)
{
    int                   rc;
    struct json_tokener  *tokener;

    if (len > INT32_MAX) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "too much text");
    }

    rc = hatch_json_text(text, len, err);
    if (rc != 0) {
        return rc;
    }

    /* json-c counts what is in the innermost one, too */
    tokener = json_tokener_new_ex(HATCH_JSON_DEPTH + 1);
    if (tokener == NULL) {
        return hatch_err_set(err, HATCH_ERR_SYSTEM, "out of memory");
    }

    rc = hatch_json_build(tokener, text, len, object, err);

    json_tokener_free(tokener);

    return rc;
}


/* For an error, as its author would write it. */
static const char *
hatch_json_value_text(json_object *value)
{
    return json_object_to_json_string_ext(value, JSON_C_TO_STRING_SPACED
                                             | JSON_C_TO_STRING_NOSLASHESCAPE);
}


static int
hatch_json_check_integer(const hatch_json_field_t *field, json_object *value,
    hatch_err_t *err)
{
    int64_t  n;

    if (!hatch_json_whole(value, &n)) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must be an "
                             "integer from %lld to %lld, not %.40s",
                             field->name, (long long) field->min,
                             (long long) field->max,
                             hatch_json_value_text(value));
    }

    if (n < field->min || n > field->max) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must be %lld to "
                             "%lld, not %.24s", field->name,
                             (long long) field->min, (long long) field->max,
                             hatch_json_value_text(value));
    }

    return 0;
}


static int
hatch_json_check_string(const hatch_json_field_t *field, json_object *value,
    hatch_err_t *err)
{
    int          len;
    const char  *s;

    if (!json_object_is_type(value, json_type_string)) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must be a "
                             "string, not %.40s", field->name,
                             hatch_json_value_text(value));
    }

    s = json_object_get_string(value);
    len = json_object_get_string_len(value);

    if (strlen(s) != (size_t) len) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must not contain "
                             "a NUL character", field->name);
    }

    if (len < field->min || len > field->max) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must be %lld to "
                             "%lld bytes long, not %d", field->name,
                             (long long) field->min, (long long) field->max,
                             len);
    }

    return 0;
}


static int
hatch_json_check_seconds(const hatch_json_field_t *field, json_object *value,
    hatch_err_t *err)
{
    double  n;

    if (value == NULL) {
        return 0;
    }

    if (!json_object_is_type(value, json_type_int)
        && !json_object_is_type(value, json_type_double))
    {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must be a number "
                             "of seconds, or null for never, not %.40s",
                             field->name, hatch_json_value_text(value));
    }

    n = json_object_get_double(value) * 1000;

    if (!(n >= (double) field->min && n <= (double) field->max)) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must be %g to "
                             "%.0f seconds, or null for never, not %.24s",
                             field->name, (double) field->min / 1000,
                             (double) field->max / 1000,
                             hatch_json_value_text(value));
    }

    return 0;
}


static int
hatch_json_check_field(const hatch_json_field_t *field, json_object *value,
    hatch_err_t *err)
{
    if (value == NULL && field->required == HATCH_JSON_NULLABLE) {
        return 0;
    }

    switch (field->type) {

    case HATCH_JSON_ANY:
        return 0;

    case HATCH_JSON_SECONDS:
        return hatch_json_check_seconds(field, value, err);

    case HATCH_JSON_INTEGER:
        return hatch_json_check_integer(field, value, err);

    case HATCH_JSON_STRING:
        return hatch_json_check_string(field, value, err);

    default: /* HATCH_JSON_BOOLEAN */
        if (!json_object_is_type(value, json_type_boolean)) {
            return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must be true "
                                 "or false, not %.40s", field->name,
                                 hatch_json_value_text(value));
        }

        return 0;
    }
}


static const hatch_json_field_t *
hatch_json_find(const hatch_json_field_t *fields, const char *name)
{
    for ( /* void */ ; fields->name != NULL; fields++) {
        if (strcmp(fields->name, name) == 0) {
            return fields;
        }
    }

    return NULL;
}


int
hatch_json_check(json_object *object, const hatch_json_field_t *fields,
    hatch_err_t *err)
{
    int                        rc;
    int64_t                    n;
    const hatch_json_field_t  *field;

    json_object_object_foreach(object, name, value) {
        field = hatch_json_find(fields, name);

        if (field == NULL) {
            return hatch_err_set(err, HATCH_ERR_INVALID,
                                 "unknown field \"" HATCH_JSON_NAME "\"",
                                 name);
        }

        rc = hatch_json_check_field(field, value, err);
        if (rc != 0) {
            return rc;
        }

        if (field->type == HATCH_JSON_INTEGER
            && json_object_is_type(value, json_type_double)
            && hatch_json_whole(value, &n))
        {
            (void) json_object_object_add(object, name,
                                          json_object_new_int64(n));
        }
    }

    for (field = fields; field->name != NULL; field++) {
        if (field->required == HATCH_JSON_REQUIRED
            && !json_object_object_get_ex(object, field->name, NULL))
        {
            return hatch_err_set(err, HATCH_ERR_INVALID,
                                 "\"%s\" is missing", field->name);
        }
    }

    return 0;
}


int64_t
hatch_json_integer(json_object *object, const char *name, int64_t otherwise)
{
    json_object  *value;

    return json_object_object_get_ex(object, name, &value)
           ? json_object_get_int64(value) : otherwise;
}


int
hatch_json_boolean(json_object *object, const char *name, int otherwise)
{
    json_object  *value;

    return json_object_object_get_ex(object, name, &value)
           ? json_object_get_boolean(value) : otherwise;
}


const char *
hatch_json_string(json_object *object, const char *name,
    const char *otherwise)
{
    json_object  *value;

    return json_object_object_get_ex(object, name, &value)
           ? json_object_get_string(value) : otherwise;
}


int64_t
hatch_json_seconds(json_object *object, const char *name, int64_t otherwise)
{
    json_object  *value;

    if (!json_object_object_get_ex(object, name, &value)) {
        return otherwise;
    }

    return value == NULL ? HATCH_JSON_NEVER
                         : (int64_t) (json_object_get_double(value) * 1000
                                      + 0.5);
}


json_object *
hatch_json_new_seconds(int64_t ms)
{
    int   n;
    char  text[32];

    if (ms == HATCH_JSON_NEVER) {
        return NULL;
    }

    if (ms % 1000 == 0) {
        return json_object_new_int64(ms / 1000);
    }

    /* 1.001 as a double would be shown as 1.0009999999999999 */
    n = snprintf(text, sizeof(text), "%lld.%03d", (long long) ms / 1000,
                 (int) (ms % 1000));

    while (text[n - 1] == '0') {
        text[--n] = '\0';
    }

    return json_object_new_double_s((double) ms / 1000, text);
}
