/* States, ids, and the latch by itself. */

#include "hatch_err.h"
#include "hatch_id.h"
#include "hatch_latch.h"
#include "hatch_state.h"
#include "hatch_wake.h"

#include "tap.h"

#include <errno.h>


static void
test_states(void)
{
    unsigned  state, to, ways;

    is_int(HATCH_STATE_MAX, 11, "ten states and none");

    for (state = 1; state < HATCH_STATE_MAX; state++) {
        is_int(hatch_state_parse(hatch_state_name(state)), state,
               "%s is its own name", hatch_state_name(state));

        for (to = 0, ways = 0; to < HATCH_STATE_MAX; to++) {
            ways += hatch_state_may(state, to) != 0;
        }

        ok(ways > 0, "%s is not terminal", hatch_state_name(state));
        ok(!hatch_state_may(state, state), "%s does not lead to itself",
           hatch_state_name(state));
    }

    is_str(hatch_state_name(0), "none", "0 is none");
    is_str(hatch_state_name(99), "unknown", "99 is unknown");
    is_int(hatch_state_parse("asleep"), 0, "asleep is no state");
    ok(hatch_state_may(HATCH_STATE_STOPPED, HATCH_STATE_STARTING),
       "a stopped VM may start");
    ok(!hatch_state_may(HATCH_STATE_RUNNING, HATCH_STATE_STARTING),
       "a running VM may not");
    ok(!hatch_state_may(99, 1) && !hatch_state_may(1, 99), "out of range");
}


static void
test_ids(void)
{
    char  id[HATCH_ID_SIZE], other[HATCH_ID_SIZE], label[HATCH_LABEL_SIZE];

    is_int(hatch_id_make(HATCH_ID_VM, id), 0, "an id");
    is_int(strlen(id), 19, "vm_ and 16 characters");
    ok(hatch_id_valid(HATCH_ID_VM, id, strlen(id)), "%s is valid", id);
    ok(!hatch_id_valid(HATCH_ID_ROUTE, id, strlen(id)), "but no route's");
    ok(!hatch_id_valid(HATCH_ID_VM, id, strlen(id) - 1), "nor cut");

    (void) hatch_id_make(HATCH_ID_VM, other);
    ok(strcmp(id, other) != 0, "two differ");

    ok(!hatch_id_valid("vm_", "vm_ABCDEFGHIJKLMNOP", 19), "upper case");
    ok(!hatch_id_valid("vm_", "vm_abcdefghijklmno1", 19), "1 is not used");
    ok(!hatch_id_valid("vm_", "vm_abcdefgh\0jklmnop", 19), "NUL inside");
    ok(!hatch_id_valid("vm_", "", 0), "empty");
    is_int(hatch_id_make("much_too_long_", other), -1, "too long a prefix");

    is_int(hatch_random(label, HATCH_LABEL_AUTO), 0, "a subdomain");
    is_int(strlen(label), 12, "of 12 characters");
    is_int(hatch_random(label, 65), -1, "more than there is room for");
}


static void
test_latch(void)
{
    uint32_t  seq = 0;
    uint64_t  copies[4] = { 0, 0, 0, 0 }, data[2] = { 1, 2 }, got[2];

    hatch_latch_write(&seq, copies, data, sizeof(data));
    is_int(hatch_latch_read(&seq, copies, got, sizeof(got)), 0, "read");
    ok(got[0] == 1 && got[1] == 2, "what was written");

    /* a writer that died in the middle of the next write */
    copies[((seq + 1) & 1) * 2] = 99;
    is_int(hatch_latch_read(&seq, copies, got, sizeof(got)), 0, "still");
    ok(got[0] == 1 && got[1] == 2, "the last good copy");

    seq = UINT32_MAX;
    data[0] = 7;
    hatch_latch_write(&seq, copies, data, sizeof(data));
    is_int(seq, 0, "the number wraps");
    (void) hatch_latch_read(&seq, copies, got, sizeof(got));
    is_int(got[0], 7, "and the data is right");
}


static void
test_utf8(void)
{
    size_t       i;
    hatch_err_t  err;

    static const struct {
        const char  *text;
        const char  *want;
    } rows[] = {
        { "", "" }, { "plain", "plain" },
        { "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac"
                                                "\xf0\x9f\x98\x80" },
        { "a\xc3", "a" }, { "a\xe2\x82", "a" }, { "a\xf0\x9f\x98", "a" },
        { "\"\xf0\x9f\x98\" b", "\"\" b" },      /* as "%.3s" leaves it */
        { "\xff", "?" }, { "\x80x", "?x" }, { "\xc0\xaf", "??" },
        { "\xe0\x80\x80", "??" }, { "\xed\xa0\x80", "??" },
        { "\xf4\x90\x80\x80", "???" }, { "\xf5\x80", "??" },
        { "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf" },
        { "\xc3\xc3\xa4", "\xc3\xa4" }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        (void) hatch_err_set(&err, HATCH_ERR_INVALID, "%s", rows[i].text);
        is_str(err.text, rows[i].want, "UTF-8 %zu", i);
    }

    (void) hatch_err_set(&err, HATCH_ERR_INVALID, "%.3s|", "ab\xc3\xa4");
    is_str(err.text, "ab|", "cut by its format");
    (void) hatch_err_set(&err, HATCH_ERR_INVALID, "%*s\xc3\xa4",
                         (int) sizeof(err.text) - 2, "");
    is_int(strlen(err.text), sizeof(err.text) - 2, "cut by its size");
    (void) hatch_err_errno(&err, ENOENT, "\"%s\"", "\xff");
    like(err.text, "\"?\": ", "with an errno");
}


static void
test_end(void)
{
    char  to[8];

    is_str(hatch_err_end("", to, sizeof(to)), "", "no text has no end");
    is_str(hatch_err_end("1234567", to, sizeof(to)), "1234567",
           "one that fits is whole");
    is_str(hatch_err_end("12345678", to, sizeof(to)), "...5678",
           "one more, and its end is kept");
    is_str(hatch_err_end("1234\xc3\xa4" "678", to, sizeof(to)), "...678",
           "not from within a character");
}


int
main(void)
{
    test_utf8();
    test_end();
    test_states();
    test_ids();
    test_latch();

    is_int(sizeof(hatch_wake_message_t), 64, "a wake message has 64 bytes");

    return tap_done();
}
