/* Paths and queries: the rule that nginx module and agent have in common. */

#include "hatch_uri.h"

#include "tap.h"


static void
test_split(void)
{
    int          rc;
    char         target[128], *path;
    size_t       i;
    const char  *query;
    hatch_err_t  err;

    static const struct {
        const char  *target;
        const char  *path;              /* NULL: refused */
        const char  *query;
    } rows[] = {
        { "/vms", "/vms", "" }, { "/", "/", "" },
        { "//vms", "/vms", "" }, { "///vms//a///start", "/vms/a/start", "" },
        { "/vms/", "/vms/", "" }, { "/vms//", "/vms/", "" },
        { "/%76ms", "/vms", "" }, { "/%76%6D%73", "/vms", "" },
        { "/%2576ms", "/%76ms", "" }, { "/vms%2Fa", "/vms/a", "" },
        { "%2fvms", "/vms", "" }, { "/vms%2f", "/vms/", "" },
        { "/vms%2f%2fa", "/vms/a", "" }, { "/vms%3fa", "/vms?a", "" },
        { "/vms%23a", "/vms#a", "" }, { "/a+b", "/a+b", "" },
        { "/./vms", "/vms", "" }, { "/vms/.", "/vms/", "" },
        { "/a/../vms", "/vms", "" }, { "/a/..", "/", "" },
        { "/a/b/..", "/a/", "" }, { "/a/%2e%2e/vms", "/vms", "" },
        { "/a/.%2e/./vms", "/vms", "" }, { "/...", "/...", "" },
        { "/.a/..b/a./b..", "/.a/..b/a./b..", "" },
        { "/vms\xff%ff", "/vms\xff\xff", "" },
        { "/..", NULL, "" }, { "/a/../..", NULL, "" },
        { "/%2e%2e/vms", NULL, "" }, { "/%", NULL, "" }, { "/%7", NULL, "" },
        { "/%zz", NULL, "" }, { "/%7z", NULL, "" }, { "/%00", NULL, "" },
        { "/vms%00/a", NULL, "" },
        { "/vms?", "/vms", "" }, { "/vms?a=%35", "/vms", "a=%35" },
        { "/vms?a?b", "/vms", "a?b" }, { "/vms#a?b", "/vms", "" },
        { "/vms?a#b", "/vms", "a" }, { "/vms?%00", "/vms", "%00" },
        { "http://h/vms?a", "/vms", "a" }, { "http://h", "/", "" },
        { "http://h?a", "/", "a" }, { "http://h//vms/", "/vms/", "" },
        { "vms", "vms", "" }, { "*", "*", "" }, { "", "", "" }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        (void) snprintf(target, sizeof(target), "%s", rows[i].target);
        path = NULL;
        rc = hatch_uri_split(target, &path, &query, &err);

        if (rows[i].path == NULL) {
            is_int(rc, HATCH_ERR_INVALID, "%s is refused", rows[i].target);
            continue;
        }

        is_int(rc, 0, "%s", rows[i].target);
        is_str(path, rows[i].path, "its path");
        is_str(query, rows[i].query, "its query");
    }
}


static const char *const  names[] = { "state", "limit", NULL };


static void
query(const char *text, const char *const *known, const char *words)
{
    int           rc;
    hatch_err_t   err;
    json_object  *object = NULL;

    rc = hatch_uri_query(text, strlen(text), known, &object, &err);
    is_int(rc, HATCH_ERR_INVALID, "?%s is refused", text);
    like(err.text, words, "because: %s", words);
    ok(object == NULL, "and is nothing");
}


static void
taken(const char *text, const char *json)
{
    hatch_err_t   err = { HATCH_OK, "" };
    json_object  *object = NULL;

    ok(hatch_uri_query(text, strlen(text), names, &object, &err) == 0,
       "?%s is taken%s", text, err.text);
    is_str(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN),
           json, "as what it is");
    json_object_put(object);
}


static void
test_query(void)
{
    hatch_err_t  err;

    taken("", "{}");
    taken("&&", "{}");
    taken("limit=5", "{\"limit\":\"5\"}");
    taken("limit=%35", "{\"limit\":\"5\"}");
    taken("li%6dit=5&", "{\"limit\":\"5\"}");
    taken("&limit=5&state=a+b%2b%26%3D=", "{\"limit\":\"5\","
                                          "\"state\":\"a+b+&==\"}");
    taken("limit=", "{\"limit\":\"\"}");
    taken("limit=%2535", "{\"limit\":\"%35\"}");

    query("_=1", names, "unknown query argument \"_\", there may be state, "
                        "limit");
    query("_=1", NULL, "unknown query argument \"_\", there may be none");
    query("_", NULL, "unknown query argument \"_\"");
    query("=1", names, "unknown query argument \"\"");
    query("Limit=5", names, "unknown query argument \"Limit\"");
    query("%5f=1", NULL, "unknown query argument \"_\"");
    query("limit", names, "\"limit\" has no value");
    query("limit=5&limit=5", names, "\"limit\" is given twice");
    query("limit=5&%6cimit=6", names, "\"limit\" is given twice");
    query("limit=%", names, "in the query argument \"limit\" a \"%\" must be");
    query("limit=5%3", names, "two hexadecimal digits");
    query("limit=%zz", names, "two hexadecimal digits");
    query("limit=%00", names, "not both 0");
    query("li%00mit=5", names, "in the query argument \"li%00mit\"");
    query("%=5", NULL, "in the query argument \"%\"");
    query("%ff=5", NULL, "unknown query argument \"?\"");
    query("%f=1&a=5", NULL, "in the query argument \"%f\"");

    is_int(hatch_uri_query("a=1", 0, NULL, NULL, NULL), 0, "no bytes of it");
    is_int(hatch_uri_query("limit=1&x=2", 7, names, NULL, NULL), 0, "seven");
    is_int(hatch_uri_query("limit=%35", 8, names, NULL, &err),
           HATCH_ERR_INVALID, "nothing is read behind its end");
}


int
main(void)
{
    test_split();
    test_query();

    return tap_done();
}
