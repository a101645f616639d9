#include "hatch_json.h"

#include <stdio.h>
#include <string.h>


/* In error texts a field name of the client's is cut to this length. */
#define HATCH_JSON_NAME  "%.40s"


static int
hatch_json_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}


/* Remembers a key, given with its quotes; 1 if it was there before. */
static int
hatch_json_seen(json_object *seen, const char *quoted, size_t len,
    hatch_err_t *err)
{
    int                   rc = 0;
    const char           *name;
    json_object          *key;
    struct json_tokener  *tokener;

    tokener = json_tokener_new();
    key = tokener != NULL ? json_tokener_parse_ex(tokener, quoted, (int) len)
                          : NULL;
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

    if (tokener != NULL) {
        json_tokener_free(tokener);
    }

    return rc;
}


/*
 * What json-c lets pass: a key of the outer object that is given twice (it
 * keeps the last one), 'single quotes', NaN and Infinity.  All else in the
 * text is known to be valid.
 */
static int
hatch_json_lint(const char *text, size_t len, hatch_err_t *err)
{
    int           rc = 0;
    size_t        i, start, end;
    unsigned      depth = 0;
    json_object  *seen;

    seen = json_object_new_object();
    if (seen == NULL) {
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
            start = i++;

            while (i < len && text[i] != '"') {
                i += text[i] == '\\' ? 2 : 1;
            }

            end = i + 1;

            while (end < len && hatch_json_is_space(text[end])) {
                end++;
            }

            if (depth == 1 && end < len && text[end] == ':') {
                rc = hatch_json_seen(seen, text + start, i + 1 - start, err);
            }

            break;

        default:
            if (strchr("0123456789+-.eEtrufalsn,: \t\r\n", text[i]) == NULL) {
                rc = hatch_err_set(err, HATCH_ERR_INVALID, "not valid JSON at "
                                   "byte %zu: unexpected character", i);
            }

            break;
        }
    }

    json_object_put(seen);

    return rc;
}


static int
hatch_json_tokenize(struct json_tokener *tokener, const char *text,
    size_t len, json_object **object, hatch_err_t *err)
{
    size_t                   i;
    json_object             *parsed;
    enum json_tokener_error  error;

    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT
                                    | JSON_TOKENER_VALIDATE_UTF8
                                    | JSON_TOKENER_ALLOW_TRAILING_CHARS);

    parsed = json_tokener_parse_ex(tokener, text, (int) len);
    error = json_tokener_get_error(tokener);
    i = json_tokener_get_parse_end(tokener);

    if (error == json_tokener_continue) {
        return hatch_err_set(err, HATCH_ERR_INVALID,
                             "the JSON text ends too early");
    }

    if (error == json_tokener_error_depth) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "the JSON text is nested "
                             "deeper than %d", HATCH_JSON_DEPTH);
    }

    if (error != json_tokener_success) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "not valid JSON at byte "
                             "%zu: %s", i, json_tokener_error_desc(error));
    }

    while (i < len && hatch_json_is_space(text[i])) {
        i++;
    }

    if (i < len) {
        json_object_put(parsed);
        return hatch_err_set(err, HATCH_ERR_INVALID, "not valid JSON at byte "
                             "%zu: text after the object", i);
    }

    *object = parsed;

    return 0;
}


int
hatch_json_parse(const char *text, size_t len, json_object **object,
    hatch_err_t *err)
{
    int                   rc;
    size_t                i;
    struct json_tokener  *tokener;

    if (len > INT32_MAX) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "too much text");
    }

    for (i = 0; i < len && hatch_json_is_space(text[i]); i++) { /* void */ }

    if (i == len) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "a JSON object is "
                             "missing");
    }

    if (text[i] != '{') {
        return hatch_err_set(err, HATCH_ERR_INVALID, "not a JSON object");
    }

    if (memchr(text, '\0', len) != NULL) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "not valid JSON: a NUL "
                             "byte");
    }

    tokener = json_tokener_new_ex(HATCH_JSON_DEPTH);
    if (tokener == NULL) {
        return hatch_err_set(err, HATCH_ERR_SYSTEM, "out of memory");
    }

    rc = hatch_json_tokenize(tokener, text, len, object, err);
    json_tokener_free(tokener);

    if (rc == 0) {
        rc = hatch_json_lint(text, len, err);

        if (rc != 0) {
            json_object_put(*object);
            *object = NULL;
        }
    }

    return rc;
}


static int
hatch_json_check_integer(const hatch_json_field_t *field, json_object *value,
    hatch_err_t *err)
{
    int64_t  n;

    if (!json_object_is_type(value, json_type_int)) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must be an "
                             "integer", field->name);
    }

    /* json-c saturates what does not fit */
    n = json_object_get_int64(value);

    if (n < field->min || n > field->max) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must be %lld to "
                             "%lld, not %.24s", field->name,
                             (long long) field->min, (long long) field->max,
                             json_object_to_json_string(value));
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
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must be a string",
                             field->name);
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
                             "of seconds, or null for never", field->name);
    }

    n = json_object_get_double(value) * 1000;

    if (!(n >= (double) field->min && n <= (double) field->max)) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must be %g to "
                             "%.0f seconds, or null for never, not %.24s",
                             field->name, (double) field->min / 1000,
                             (double) field->max / 1000,
                             json_object_to_json_string(value));
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
                                 "or false", field->name);
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
