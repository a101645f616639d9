#include "hatch_json.h"

#include <string.h>


/* A text, and how far it was read. */
typedef struct {
    const char   *text;
    size_t        len;
    size_t        at;
    unsigned      depth;
    unsigned      values;
    hatch_err_t  *err;
} json_text_t;


static int  json_text_value(json_text_t *t);


static int
json_text_error(json_text_t *t, const char *why)
{
    if (t->at >= t->len) {
        return hatch_err_set(t->err, HATCH_ERR_INVALID,
                             "the JSON text ends too early");
    }

    return hatch_err_set(t->err, HATCH_ERR_INVALID,
                         "not valid JSON at byte %zu: %s", t->at, why);
}


/* The next character that is no space, or NUL at the end. */
static char
json_text_peek(json_text_t *t)
{
    while (t->at < t->len && strchr(" \t\n\r", t->text[t->at]) != NULL) {
        t->at++;
    }

    return t->at < t->len ? t->text[t->at] : '\0';
}


/*
 * The length of the escape that begins here, or of what is there of it at the
 * end of the text; 0: it is none.
 */
static size_t
json_text_escape(const json_text_t *t)
{
    size_t       i, rest = t->len - t->at;
    const char  *s = t->text + t->at;

    if (rest < 2 || strchr("\"\\/bfnrt", s[1]) != NULL) {
        return rest < 2 ? rest : 2;
    }

    if (s[1] != 'u') {
        return 0;
    }

    for (i = 2; i < 6 && i < rest; i++) {
        if (strchr("0123456789abcdefABCDEF", s[i]) == NULL) {
            return 0;
        }
    }

    return i;
}


/* From its quote on. */
static int
json_text_string(json_text_t *t)
{
    int     n;
    size_t  escape;

    t->at++;

    while (t->at < t->len && t->text[t->at] != '"') {
        if (t->text[t->at] == '\\') {
            escape = json_text_escape(t);

            if (escape == 0) {
                return json_text_error(t, "unknown escape");
            }

            t->at += escape;
            continue;
        }

        if ((unsigned char) t->text[t->at] < 0x20) {
            return json_text_error(t, "a control character in a string");
        }

        n = hatch_err_character(t->text + t->at, t->len - t->at);

        if (n <= 0) {
            return json_text_error(t, "not UTF-8");
        }

        t->at += (size_t) n;
    }

    if (t->at == t->len) {
        return json_text_error(t, NULL);
    }

    t->at++;

    return 0;
}


static size_t
json_text_digits(json_text_t *t)
{
    size_t  begin = t->at;

    while (t->at < t->len && t->text[t->at] >= '0' && t->text[t->at] <= '9') {
        t->at++;
    }

    return t->at - begin;
}


/* Is the next character one of these?  Then it was read. */
static int
json_text_take(json_text_t *t, const char *any)
{
    if (t->at == t->len || strchr(any, t->text[t->at]) == NULL) {
        return 0;
    }

    t->at++;

    return 1;
}


static int
json_text_number(json_text_t *t)
{
    size_t  begin;

    (void) json_text_take(t, "-");
    begin = t->at;

    if (json_text_digits(t) == 0
        || (t->text[begin] == '0' && t->at > begin + 1))
    {
        return json_text_error(t, "number expected");
    }

    if (json_text_take(t, ".") && json_text_digits(t) == 0) {
        return json_text_error(t, "number expected");
    }

    if (json_text_take(t, "eE")) {
        (void) json_text_take(t, "+-");

        if (json_text_digits(t) == 0) {
            return json_text_error(t, "number expected");
        }
    }

    return 0;
}


static int
json_text_word(json_text_t *t, const char *word)
{
    for ( /* void */ ; *word != '\0'; word++, t->at++) {
        if (t->at == t->len || t->text[t->at] != *word) {
            return json_text_error(t, "unexpected character");
        }
    }

    return 0;
}


/* The name of a field and its colon. */
static int
json_text_name(json_text_t *t)
{
    int  rc;

    if (json_text_peek(t) != '"') {
        return json_text_error(t, "unexpected character");
    }

    rc = json_text_string(t);
    if (rc != 0) {
        return rc;
    }

    if (json_text_peek(t) != ':') {
        return json_text_error(t, "':' expected");
    }

    t->at++;

    return 0;
}


/* Past the character that begins an object, an array, or one more value. */
static int
json_text_count(json_text_t *t)
{
    if (++t->values > HATCH_JSON_VALUES) {
        return hatch_err_set(t->err, HATCH_ERR_INVALID, "the JSON text has "
                             "more than %d fields and values",
                             HATCH_JSON_VALUES);
    }

    t->at++;

    return 0;
}


/* An object or an array, from its bracket on. */
static int
json_text_container(json_text_t *t, char close)
{
    int  rc;

    if (++t->depth > HATCH_JSON_DEPTH) {
        return hatch_err_set(t->err, HATCH_ERR_INVALID, "the JSON text is "
                             "nested deeper than %d", HATCH_JSON_DEPTH);
    }

    rc = json_text_count(t);

    if (rc == 0 && json_text_peek(t) != close) {
        do {
            rc = close == '}' ? json_text_name(t) : 0;
            rc = rc != 0 ? rc : json_text_value(t);

            if (rc != 0 || json_text_peek(t) != ',') {
                break;
            }

            rc = json_text_count(t);
        } while (rc == 0);
    }

    if (rc == 0 && json_text_peek(t) != close) {
        rc = json_text_error(t, "unexpected character");
    }

    t->at++;
    t->depth--;

    return rc;
}


static int
json_text_value(json_text_t *t)
{
    switch (json_text_peek(t)) {

    case '{':
        return json_text_container(t, '}');

    case '[':
        return json_text_container(t, ']');

    case '"':
        return json_text_string(t);

    case 't':
        return json_text_word(t, "true");

    case 'f':
        return json_text_word(t, "false");

    case 'n':
        return json_text_word(t, "null");

    case '-':
    case '0': case '1': case '2': case '3': case '4':
    case '5': case '6': case '7': case '8': case '9':
        return json_text_number(t);

    default:
        return json_text_error(t, "unexpected character");
    }
}


int
hatch_json_text(const char *text, size_t len, hatch_err_t *err)
{
    int          rc;
    const char  *nul = memchr(text, '\0', len);
    json_text_t  t = { text, len, 0, 0, 0, err };

    if (json_text_peek(&t) != '{') {
        return hatch_err_set(err, HATCH_ERR_INVALID, t.at == len
                             ? "a JSON object is missing"
                             : "not a JSON object");
    }

    if (nul != NULL) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "not valid JSON: a NUL "
                             "byte");
    }

    rc = json_text_value(&t);

    if (rc == 0 && json_text_peek(&t) != '\0') {
        rc = json_text_error(&t, "text after the object");
    }

    return rc;
}
