/* Strict JSON: what json-c would let pass, and the field table. */

#include "hatch_json.h"

#include "tap.h"

#include <time.h>


/* The largest body that the API takes. */
#define LARGE  (1024 * 1024)

/*
 * What a worker may stand still over one, ms of processor time.  It takes a
 * tenth of that on any machine; the rest is for sanitizers and valgrind.
 */
#define LARGE_TIME  100


static void
refused_n(const char *text, size_t len, const char *words)
{
    int           rc;
    hatch_err_t   err;
    json_object  *object = NULL;

    memset(&err, 0, sizeof(err));
    rc = hatch_json_parse(text, len, &object, &err);
    is_int(rc, HATCH_ERR_INVALID, "refused: %.30s", text);
    like(err.text, words, "because: %s", words);
}


static void
refused(const char *text, const char *words)
{
    refused_n(text, strlen(text), words);
}


static void
accepted(const char *text)
{
    hatch_err_t   err = { HATCH_OK, "" };
    json_object  *object = NULL;

    ok(hatch_json_parse(text, strlen(text), &object, &err) == 0,
       "accepted: %.30s%s", text, err.text);
    json_object_put(object);
}


static const hatch_json_field_t  fields[] = {
    { "port", HATCH_JSON_INTEGER, 1, 1, 65535 },
    { "name", HATCH_JSON_STRING, 0, 1, 8 },
    { "wake", HATCH_JSON_BOOLEAN, 0, 0, 0 },
    { "idle", HATCH_JSON_SECONDS, 0, 100, 60000 },
    { "note", HATCH_JSON_STRING, HATCH_JSON_NULLABLE, 1, 8 },
    { "any", HATCH_JSON_ANY, 0, 0, 0 },
    { NULL, HATCH_JSON_BOOLEAN, 0, 0, 0 }
};


static void
checked(const char *text, const char *words)
{
    int           rc;
    hatch_err_t   err = { HATCH_OK, "" };
    json_object  *object = NULL;

    if (hatch_json_parse(text, strlen(text), &object, &err) != 0) {
        ok(0, "%s: %s", text, err.text);
        return;
    }

    rc = hatch_json_check(object, fields, &err);

    if (words == NULL) {
        ok(rc == 0, "fits: %s%s", text, err.text);

    } else {
        is_int(rc, HATCH_ERR_INVALID, "does not fit: %s", text);
        like(err.text, words, "because: %s", words);
    }

    json_object_put(object);
}


/* As deep as is allowed, with a value in the innermost one. */
static void
test_depth(void)
{
    int   i;
    char  text[64] = "{\"a\":";

    for (i = 1; i < HATCH_JSON_DEPTH; i++) {
        (void) strcat(text, "[");
    }

    (void) strcat(text, "1");

    for (i = 1; i < HATCH_JSON_DEPTH; i++) {
        (void) strcat(text, "]");
    }

    (void) strcat(text, "}");
    accepted(text);
}


/*
 * What json-c lets pass or refuses, each version of it something else: JSON is
 * what RFC 8259 says.
 */
static void
test_versions(void)
{
    accepted("{\"a\":\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"}");
    accepted("{\"\xc3\xa4\":1}");
    accepted("{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\\uD83D\\uDE00\"}");
    accepted("{\"a\":[-0,0.5,-1.5e+10,1E5,1e-5,12345678901234567890]}");
    accepted("{\"a\":[true,false,null,{},[]]}");
    accepted("{\"a\":\"\x7f\"}");

    refused("{\"a\":\"\n\"}", "byte 6: a control character in a string");
    refused("{\"a\n\":1}", "byte 3: a control character in a string");
    refused("{\"a\":\"\x1f\"}", "a control character in a string");
    refused("{\"a\":\"\\x\"}", "byte 6: unknown escape");
    refused("{\"a\":\"\\u12g4\"}", "byte 6: unknown escape");
    refused("{\"a\":\"\\u12", "ends too early");
    refused("{\"a\":\"\\", "ends too early");
    refused("{\"a\":\"\\\"}", "ends too early");
    refused("{\"a\":\"\xc0\x80\"}", "byte 6: not UTF-8");
    refused("{\"a\":\"\xed\xa0\x80\"}", "byte 6: not UTF-8");
    refused("{\"a\":\"\xf4\x90\x80\x80\"}", "byte 6: not UTF-8");
    refused("{\"a\":\"\xe2\x82\"}", "byte 6: not UTF-8");
    refused("{\"a\":\"\xe2\x82", "not UTF-8");
    refused("{\"\xff\":1}", "byte 2: not UTF-8");
    refused("{\"a\":[1,]}", "byte 8: unexpected character");
    refused("{\"a\":[1 2]}", "unexpected character");
    refused("{\"a\":[,]}", "unexpected character");
    refused("{\"a\":}", "unexpected character");
    refused("{\"a\"}", "':' expected");
    refused("{\"a\":1 \"b\":2}", "unexpected character");
    refused("{\"a\":[}", "unexpected character");
    refused("{\"a\":1]", "unexpected character");
    refused("{\"a\":True}", "unexpected character");
    refused("{\"a\":nul}", "unexpected character");
    refused("{\"a\":nullx}", "unexpected character");
    refused("{\"a\":tru", "ends too early");
    refused("{\"a\":Infinity}", "unexpected character");
    refused("{\"a\":-Infinity}", "number expected");
    refused("{\"a\":+1}", "unexpected character");
    refused("{\"a\":.5}", "unexpected character");
    refused("{\"a\":1.}", "number expected");
    refused("{\"a\":1.e5}", "number expected");
    refused("{\"a\":1e}", "number expected");
    refused("{\"a\":1e+}", "number expected");
    refused("{\"a\":-}", "number expected");
    refused("{\"a\":-01}", "number expected");
    refused("{\"a\":1-2}", "unexpected character");
    refused("{\"a\":0x10}", "unexpected character");
    refused("{\"a\":1\f}", "unexpected character");
}


static void
test_deep(void)
{
    size_t  i;
    char    text[4096] = "{\"a\":";

    for (i = 0; i < 1000; i++) {
        (void) strcat(text, "[");
    }

    refused(text, "nested deeper than");

    for (i = 0; i < 1000; i++) {
        (void) strcat(text, "]");
    }

    (void) strcat(text, "}");
    refused(text, "nested deeper than");
}


/* `head`, then `piece` as often as it fits, then `tail`: what is said of it? */
static void
large(const char *head, const char *piece, const char *tail, const char *words)
{
    int           rc;
    char         *text = malloc(LARGE + 1);
    double        ms;
    size_t        n = strlen(head), end = LARGE - strlen(tail);
    clock_t       began;
    hatch_err_t   err = { HATCH_OK, "" };
    json_object  *object = NULL;

    memcpy(text, head, n);

    for ( /* void */ ; n + strlen(piece) <= end; n += strlen(piece)) {
        memcpy(text + n, piece, strlen(piece));
    }

    memcpy(text + n, tail, strlen(tail) + 1);
    n += strlen(tail);

    began = clock();
    rc = hatch_json_parse(text, n, &object, &err);
    ms = (double) (clock() - began) * 1000 / CLOCKS_PER_SEC;

    ok(ms < LARGE_TIME, "%s%s%s...: %.1f ms", head, piece, tail, ms);

    if (words != NULL) {
        is_int(rc, HATCH_ERR_INVALID, "is refused");
        like(err.text, words, "because: %s", words);

    } else {
        is_int(rc, 0, "is taken");
    }

    json_object_put(object);
    free(text);
}


static void
test_large(void)
{
    const char  *many = "more than 1000 fields and values";

    large("{", "\"a\":1,", "\"b\":1}", many);
    large("{\"a\":[", "1,", "1]}", many);
    large("{\"a\":[", "{},", "1]}", many);
    large("{\"a\":[", "\"\",", "1]}", many);
    large("{\"a\":", "[", "}", "nested deeper than 16");
    large("{\"a\":[[]", ",[]", "]}", many);
    large("{\"a\":{", "\"b\":{}},\"a\":{", "}}", many);
    large("{", ",", "}", "not valid JSON at byte 1");
    large("{", "]", "}", "not valid JSON");
    large("{\"a\":\"", "\\u00e4", "\"}", NULL);
    large("{\"a\":\"", "\\\\", "\"}", NULL);
    large("{\"a\":\"", "\\\"", "\"}", NULL);
    large("{\"a\":\"", "\xf0\x9f\x98\x80", "\"}", NULL);
    large("{\"", "\\u0061", "\":1}", NULL);
    large("{\"a\":", "1", "}", NULL);
    large("{\"a\":0.", "1", "}", NULL);
    large("{\"a\":1e", "1", "}", NULL);
    large("{", " ", "}", NULL);
    large("{}", "\t", "", NULL);
    large("{\"a\":1}", "\"x\" ", "", "text after the object");

    large("{'\"':[", "1,", "1],\"b\":'\"'}", "unexpected character");
}


/* The bound itself, and 1000 keys one of which comes twice. */
static void
test_values(void)
{
    int           i, n;
    char          text[20000];
    size_t        len;
    hatch_err_t   err = { HATCH_OK, "" };
    json_object  *object = NULL;

    for (n = HATCH_JSON_VALUES; n <= HATCH_JSON_VALUES + 1; n++) {
        text[0] = '\0';

        for (i = 0, len = 0; i < n; i++) {
            len += (size_t) snprintf(text + len, sizeof(text) - len,
                                     "%c\"k%d\":%d", i == 0 ? '{' : ',',
                                     i, i);
        }

        (void) snprintf(text + len, sizeof(text) - len, "}");

        if (n <= HATCH_JSON_VALUES) {
            ok(hatch_json_parse(text, len + 1, &object, &err) == 0,
               "%d fields%s", n, err.text);
            is_int(json_object_object_length(object), n, "all of them");
            json_object_put(object);

            (void) snprintf(strstr(text, "\"k999\""), 20, "\"\\u006b7\":1}");
            refused(text, "field \"k7\" is given twice");

        } else {
            refused(text, "more than 1000 fields and values");
        }
    }
}


/* What is cut of a client's text is cut between two characters. */
static void
test_cut(void)
{
    int           i;
    char          text[128];
    hatch_err_t   err;
    json_object  *object = NULL;

    static const hatch_json_field_t  none[] = {
        { NULL, HATCH_JSON_ANY, 0, 0, 0 }
    };

    for (i = 37; i <= 40; i++) {
        (void) snprintf(text, sizeof(text), "{\"%.*s\xf0\x9f\x98\x80\":1}", i,
                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        (void) hatch_json_parse(text, strlen(text), &object, &err);
        is_int(hatch_json_check(object, none, &err), HATCH_ERR_INVALID,
               "%d bytes and one character of four", i);
        is_int(strlen(err.text), strlen("unknown field \"\"") + (size_t) i,
               "which is not there: %s", err.text);
        json_object_put(object);
    }
}


/* Milliseconds as seconds, and back. */
static void
test_seconds(void)
{
    size_t        i;
    hatch_err_t   err;
    json_object  *object;

    static const struct {
        const char  *text;
        int64_t      ms;
        const char  *again;
    } rows[] = {
        { "{\"s\":1}", 1000, "1" }, { "{\"s\":0.25}", 250, "0.25" },
        { "{\"s\":1.0005}", 1001, "1.001" }, { "{\"s\":null}", -1, "null" },
        { "{}", 7000, "7" }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        object = NULL;
        (void) hatch_json_parse(rows[i].text, strlen(rows[i].text), &object,
                                &err);
        is_int(hatch_json_seconds(object, "s", 7000), rows[i].ms, "ms of %s",
               rows[i].text);
        json_object_put(object);

        object = hatch_json_new_seconds(rows[i].ms);
        like(json_object_to_json_string(object), rows[i].again, "and back");
        json_object_put(object);
    }
}


/* What JSON Schema calls an integer, and the object that is left of it. */
static void
test_whole(void)
{
    size_t        i;
    int64_t       n;
    hatch_err_t   err;
    json_object  *object, *value;

    static const struct {
        const char  *text;
        int          whole;
        int64_t      n;
    } rows[] = {
        { "512", 1, 512 }, { "512.0", 1, 512 }, { "5.12e2", 1, 512 },
        { "5.12E+2", 1, 512 }, { "51200e-2", 1, 512 }, { "-512.000", 1, -512 },
        { "0.0512e4", 1, 512 }, { "100.0", 1, 100 }, { "1e3", 1, 1000 },
        { "10.20e1", 1, 102 }, { "0.0", 1, 0 }, { "-0.0", 1, 0 },
        { "0e999999999999", 1, 0 }, { "0.000e-99999999999", 1, 0 },
        { "512.5", 0, 0 }, { "5.125e2", 0, 0 }, { "512e-1", 0, 0 },
        { "1e-1", 0, 0 }, { "1e-400", 0, 0 }, { "5e-324", 0, 0 },
        { "1e-99999999999999999999", 0, 0 },
        { "512.00000000000000000000000000001", 0, 0 },
        { "9007199254740993.0", 1, 9007199254740993 },
        { "9223372036854775807.0", 1, INT64_MAX },
        { "-9223372036854775808.0", 1, INT64_MIN },
        { "9223372036854775808.0", 1, INT64_MAX }, { "1e19", 1, INT64_MAX },
        { "1e400", 1, INT64_MAX }, { "-1e400", 1, INT64_MIN },
        { "1e99999999999999999999", 1, INT64_MAX }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char  text[128];

        object = NULL;
        n = 0;
        (void) snprintf(text, sizeof(text), "{\"n\":%s}", rows[i].text);
        (void) hatch_json_parse(text, strlen(text), &object, &err);
        (void) json_object_object_get_ex(object, "n", &value);
        is_int(hatch_json_whole(value, &n), rows[i].whole, "%s", rows[i].text);

        if (rows[i].whole) {
            is_int(n, rows[i].n, "%s is %lld", rows[i].text,
                   (long long) rows[i].n);
        }

        json_object_put(object);
    }

    object = NULL;
    (void) hatch_json_parse("{\"name\":\"x\",\"port\":8.0e1,\"wake\":true}", 37,
                            &object, &err);
    is_int(hatch_json_check(object, fields, &err), 0, "8.0e1 fits");
    like(json_object_to_json_string(object), "\"port\": 80,", "and is 80");
    json_object_put(object);
}


int
main(void)
{
    accepted("{}");
    accepted(" \r\n\t{ \"a\" : 1 } \n");
    accepted("{\"a\":{\"a\":1},\"b\":[\"a\",\"a\"]}");
    accepted("{\"a\":\"\\\"b\\\":\"}");
    accepted("{\"a\":\"\xc3\xa4\"}");

    refused("", "missing");
    refused("  \n", "missing");
    refused("[]", "not a JSON object");
    refused("null", "not a JSON object");
    refused("\"x\"", "not a JSON object");
    refused("{", "ends too early");
    refused("{\"a\":1", "ends too early");
    refused("{\"a\":1}}", "text after the object");
    refused("{\"a\":1} {}", "text after the object");
    refused("{\"a\":1,}", "not valid JSON");
    refused("{'a':1}", "not valid JSON");
    refused("{a:1}", "not valid JSON");
    refused("{\"a\":01}", "not valid JSON");
    refused("{\"a\":NaN}", "not valid JSON");
    refused("{\"a\":1}/* x */", "text after the object");
    refused("{/* x */\"a\":1}", "not valid JSON");
    refused("{\"a\":\"\xff\"}", "not valid JSON");
    refused("{\"a\":1,\"a\":2}", "\"a\" is given twice");
    refused("{\"a\":1,\"\\u0061\":2}", "\"a\" is given twice");
    refused("{\"a\":{\"b\":1},\"c\":2,\"a\" : 3}", "\"a\" is given twice");
    refused_n("{\"a\":1}\0", 8, "NUL");
    refused_n("{\"a\":\"x\0y\"}", 11, "NUL");
    test_deep();
    test_depth();
    test_versions();

    checked("{\"port\":80}", NULL);
    checked("{\"port\":65535,\"name\":\"x\",\"wake\":false}", NULL);
    checked("{}", "\"port\" is missing");
    checked("{\"port\":0}", "\"port\" must be 1 to 65535, not 0");
    checked("{\"port\":-1}", "not -1");
    checked("{\"port\":65536}", "not 65536");
    checked("{\"port\":99999999999999999999}", "must be 1 to 65535");
    checked("{\"port\":80.5}", "must be an integer from 1 to 65535, not 80.5");
    checked("{\"port\":80.0}", NULL);
    checked("{\"port\":65536.0}", "must be 1 to 65535, not 65536.0");
    checked("{\"port\":1e99}", "must be 1 to 65535, not 1e99");
    checked("{\"port\":-1e1}", "must be 1 to 65535, not -1e1");
    checked("{\"port\":\"80\"}", "\"port\" must be an integer");
    checked("{\"port\":null}", "\"port\" must be an integer");
    checked("{\"port\":true}", "\"port\" must be an integer");
    checked("{\"port\":1,\"wake\":1}", "\"wake\" must be true or false");
    checked("{\"port\":1,\"name\":7}", "\"name\" must be a string");
    checked("{\"port\":1,\"name\":\"\"}", "1 to 8 bytes long, not 0");
    checked("{\"port\":1,\"name\":\"123456789\"}", "not 9");
    checked("{\"port\":1,\"name\":\"a\\u0000b\"}", "NUL");
    checked("{\"port\":1,\"other\":1}", "unknown field \"other\"");
    checked("{\"port\":1,\"Port\":1}", "unknown field \"Port\"");

    checked("{\"port\":1,\"idle\":0.1,\"note\":null,\"any\":[1]}", NULL);
    checked("{\"port\":1,\"idle\":null}", NULL);
    checked("{\"port\":1,\"idle\":60}", NULL);
    checked("{\"port\":1,\"idle\":0.09}", "\"idle\" must be 0.1 to 60 sec");
    checked("{\"port\":1,\"idle\":60.01}", "not 60.01");
    checked("{\"port\":1,\"idle\":1e999}", "\"idle\" must be");
    checked("{\"port\":1,\"idle\":\"1\"}", "\"idle\" must be a number");
    checked("{\"port\":1,\"name\":null}", "\"name\" must be a string");

    /* larger than json-c's: an error of the field, in each version of it */
    checked("{\"port\":99999999999999999999999}", "\"port\" must be 1 to");
    checked("{\"port\":-99999999999999999999999}", "\"port\" must be 1 to");
    checked("{\"port\":9223372036854775808}", "\"port\" must be 1 to");
    checked("{\"port\":1,\"any\":[9223372036854775808,12345678901234567890]}",
            NULL);
    checked("{\"port\":1,\"name\":\"1\",\"any\":\"99999999999999999999\"}",
            NULL);
    checked("{\"port\":1,\"idle\":1.00000000000000000000001}", NULL);
    checked("{\"port\":1,\"any\":1e-00000000000000000000001}", NULL);
    refused("{\"port\":099999999999999999999999}", "number expected");
    refused("{\"port\":99999999999999999999x}", "byte 28");

    test_seconds();
    test_whole();
    test_large();
    test_values();
    test_cut();

    return tap_done();
}
