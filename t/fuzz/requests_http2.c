/* HTTP/2 without TLS: frames to send, and frames to look at. */

#include "requests.h"

#include <stdlib.h>
#include <string.h>


enum {
    DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY,
    WINDOW_UPDATE, CONTINUATION, UNKNOWN
};

#define END_STREAM   1
#define END_HEADERS  4
#define PADDED       8


typedef struct {
    bytes_t   body[REQUESTS_STREAMS];
    unsigned  headed[REQUESTS_STREAMS];
    unsigned  ended[REQUESTS_STREAMS];
    unsigned  away;             /* GOAWAY */
    unsigned  complete;
} http2_t;


static void
add_frame(bytes_t *b, unsigned type, unsigned flags, uint32_t stream,
    const char *data, size_t len)
{
    unsigned char  head[9] = {
        (unsigned char) (len >> 16), (unsigned char) (len >> 8),
        (unsigned char) len, (unsigned char) type, (unsigned char) flags,
        (unsigned char) (stream >> 24), (unsigned char) (stream >> 16),
        (unsigned char) (stream >> 8), (unsigned char) stream
    };

    bytes_add(b, head, sizeof(head));
    bytes_add(b, data, len);
}


/* HPACK: a string that is not Huffman's. */
static void
add_string(bytes_t *b, const char *text)
{
    size_t         len = strlen(text);
    unsigned char  byte;

    if (len < 127) {
        byte = (unsigned char) len;
        bytes_add(b, &byte, 1);

    } else {
        byte = 127;
        bytes_add(b, &byte, 1);

        for (len -= 127; len >= 128; len >>= 7) {
            byte = (unsigned char) (128 | (len & 127));
            bytes_add(b, &byte, 1);
        }

        byte = (unsigned char) len;
        bytes_add(b, &byte, 1);
    }

    bytes_text(b, text);
}


static void
add_header(bytes_t *b, const char *name, const char *value)
{
    bytes_add(b, "", 1);        /* literal, not indexed, with its name */
    add_string(b, name);
    add_string(b, value);
}


static void
add_headers(requests_case_t *c, bytes_t *b)
{
    static const char *const  list[][2] = {
        { "if-match", "*" }, { "if-none-match", "\"x\"" }, { "te", "trailers" },
        { "expect", "100-continue" }, { "range", "bytes=0-10" },
        { "content-length", "7" }, { "x-api-key", "right-key" },
        { "authorization", "Bearer right-key" }, { "origin", "null" },
        { "connection", "close" }, { "transfer-encoding", "chunked" },
        { "accept", "application/openmetrics-text" }, { "X-Upper", "a" },
        { "user-agent", "kube-probe" }, { ":path", "/twice" }, { "", "x" },
        { "cookie", "a=b" }, { "host", "other" }, { "x-\377", "\377\r\n" }
    };

    unsigned  n, i;

    add_header(b, ":method", requests_method(c));
    add_header(b, ":scheme", "http");
    add_header(b, ":path", requests_path(c));

    if (requests_random(c, 16)) {
        add_header(b, ":authority", requests_host(c));
    }

    for (n = requests_random(c, 4); n > 0; n--) {
        i = requests_random(c, sizeof(list) / sizeof(list[0]));
        add_header(b, list[i][0], list[i][1]);
    }
}


/* A frame that a client may send at any time, or may not. */
static void
add_other(requests_case_t *c, bytes_t *b, uint32_t stream)
{
    char  zero[8] = { 0, 0, 0, 0, 0, 0, 0, 1 };

    switch (requests_random(c, 8)) {
    case 0:
        add_frame(b, PING, 0, 0, zero, 8);
        break;

    case 1:
        add_frame(b, WINDOW_UPDATE, 0, requests_random(c, 2) ? stream : 0,
                  zero + 4, 4);
        break;

    case 2:
        add_frame(b, RST_STREAM, 0, stream, zero + 4, 4);
        c->mutated = 1;
        break;

    case 3:
        add_frame(b, PRIORITY, 0, stream, zero, 5);
        break;

    case 4:
        add_frame(b, SETTINGS, 0, 0, "\0\4\0\0\0\1", 6);
        c->mutated = 1;
        break;

    case 5:
        add_frame(b, UNKNOWN + requests_random(c, 200), requests_random(c, 256),
                  stream, zero, requests_random(c, 9));
        c->mutated = 1;
        break;

    case 6:
        add_frame(b, GOAWAY, 0, 0, zero, 8);
        c->mutated = 1;
        break;

    default:
        add_frame(b, requests_random(c, UNKNOWN), requests_random(c, 256),
                  requests_random(c, 8), zero, requests_random(c, 9));
        c->mutated = 1;
    }
}


void
requests_make_http2(requests_case_t *c)
{
    size_t    n, len;
    bytes_t   block = { NULL, 0, 0 }, body = { NULL, 0, 0 };
    unsigned  i, flags;

    bytes_text(&c->out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

    if (requests_random(c, 2)) {
        /* room for the longest answers, on the connection and each stream */
        add_frame(&c->out, SETTINGS, 0, 0, "\0\4\0\x20\0\0", 6);
        add_frame(&c->out, WINDOW_UPDATE, 0, 0, "\0\x20\0\0", 4);

    } else {
        add_frame(&c->out, SETTINGS, 0, 0, "", 0);
    }

    for (i = 0; i < c->wanted; i++) {
        block.len = 0;
        body.len = 0;
        add_headers(c, &block);
        flags = END_HEADERS;

        if (requests_random(c, 3)) {
            flags |= END_STREAM;
        }

        n = requests_random(c, 8) ? block.len
                              : requests_random(c, (unsigned) block.len);
        add_frame(&c->out, HEADERS,
                  n < block.len ? flags & ~(unsigned) END_HEADERS : flags,
                  2 * i + 1, block.data, n);

        if (n < block.len) {
            add_frame(&c->out, CONTINUATION, END_HEADERS, 2 * i + 1,
                      block.data + n, block.len - n);
        }

        if (requests_random(c, 8) == 0) {
            add_other(c, &c->out, 2 * i + 1);
        }

        if (flags & END_STREAM) {
            continue;
        }

        requests_body(c, &body);

        for (n = 0; n == 0 || n < body.len; n += len) {
            len = body.len - n < 16384 ? body.len - n : 16384;
            add_frame(&c->out, DATA, n + len >= body.len ? END_STREAM : 0,
                      2 * i + 1, body.data + n, len);

            if (len == 0) {
                break;
            }
        }
    }

    free(block.data);
    free(body.data);
}


static const char *
look_at_frame(http2_t *h, unsigned type, unsigned flags, uint32_t stream,
    const char *data, size_t len)
{
    unsigned  i = (stream - 1) / 2;

    if (type == GOAWAY) {
        h->away = 1;
        return stream == 0 && len >= 8 ? NULL : "a wrong GOAWAY frame";
    }

    if (type == SETTINGS || type == PING) {
        return stream == 0 ? NULL : "a stream in a frame of the connection";
    }

    if (type == WINDOW_UPDATE) {
        return len == 4 ? NULL : "a wrong WINDOW_UPDATE frame";
    }

    if (type != HEADERS && type != DATA && type != RST_STREAM) {
        return "an unexpected kind of frame";
    }

    if (stream % 2 == 0) {
        return "a frame of a stream that is nobody's";
    }

    if (i >= REQUESTS_STREAMS) {
        return NULL;
    }

    if (type == RST_STREAM) {
        h->complete += !h->ended[i];
        h->ended[i] = 2;
        return len == 4 ? NULL : "a wrong RST_STREAM frame";
    }

    if (h->ended[i]) {
        return "a frame behind the end of its stream";
    }

    if (type == DATA && !h->headed[i]) {
        return "a body without headers";
    }

    if (type == HEADERS && !(flags & END_HEADERS)) {
        return "headers without an end";
    }

    if (type == HEADERS && len == 0) {
        return "no headers in HEADERS";
    }

    h->headed[i] |= type == HEADERS;

    if (type == DATA) {
        bytes_add(&h->body[i], data, len);
    }

    if (flags & END_STREAM) {
        h->ended[i] = 1;
        h->complete++;
    }

    return NULL;
}


static const char *
look_at_frames(http2_t *h, const bytes_t *in, requests_answer_t *a)
{
    size_t                at, len;
    uint32_t              stream;
    const char           *wrong;
    const unsigned char  *p;

    for (at = 0; at + 9 <= in->len; at += 9 + len) {
        p = (const unsigned char *) in->data + at;
        len = (size_t) p[0] << 16 | (size_t) p[1] << 8 | p[2];
        stream = (uint32_t) (p[5] & 127) << 24 | (uint32_t) p[6] << 16
                 | (uint32_t) p[7] << 8 | p[8];

        if (len > 16384) {
            return "a frame longer than 16384 bytes";
        }

        if (at == 0 && p[3] != SETTINGS && p[3] != GOAWAY) {
            return "the first frame is not SETTINGS";
        }

        if (at + 9 + len > in->len) {
            break;
        }

        wrong = look_at_frame(h, p[3], p[4], stream, in->data + at + 9, len);

        if (wrong != NULL) {
            return wrong;
        }
    }

    a->partial = at < in->len;

    return NULL;
}


const char *
requests_check_http2(const requests_case_t *c, const bytes_t *in, int eof,
    requests_answer_t *a)
{
    http2_t      h;
    unsigned     i;
    const char  *wrong;

    memset(&h, 0, sizeof(h));
    wrong = look_at_frames(&h, in, a);
    a->complete = h.complete;

    for (i = 0; i < REQUESTS_STREAMS; i++) {
        if (wrong == NULL && h.ended[i] == 1 && h.body[i].len > 0
            && h.body[i].data[0] == '{')
        {
            wrong = requests_check_json(h.body[i].data, h.body[i].len);
        }

        if (wrong == NULL && eof && !h.away && h.headed[i] && !h.ended[i]) {
            a->partial = 1;
        }

        free(h.body[i].data);
    }

    if (wrong == NULL && eof && a->partial && !c->mutated && !h.away
        && c->end == REQUESTS_WAIT)
    {
        wrong = "the connection ends within an answer";
    }

    return wrong;
}
