/* HTTP/1.1 answers: status lines, headers, ends of bodies, JSON. */

#define _GNU_SOURCE

#include "requests.h"

#include <ctype.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>


#define NONE  ((size_t) -1)


typedef struct {
    unsigned  status;
    size_t    length;           /* Content-Length, or NONE */
    unsigned  chunked:1;
    unsigned  close:1;
    unsigned  json:1;
} head_t;


/* The length of a valid UTF-8 character, 0 of an invalid one. */
static size_t
character(const unsigned char *p, size_t len)
{
    size_t    i, n;
    uint32_t  code;

    if (p[0] < 0x80) {
        return 1;
    }

    n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;

    if (p[0] < 0xc2 || p[0] > 0xf4 || n > len) {
        return 0;
    }

    code = p[0] & (0xffu >> (n + 1));

    for (i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }

        code = code << 6 | (p[i] & 0x3f);
    }

    if (n == 3 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) {
        return 0;
    }

    return n == 4 && (code < 0x10000 || code > 0x10ffff) ? 0 : n;
}


const char *
requests_check_json(const char *text, size_t len)
{
    size_t        i, n;
    json_object  *object;
    json_tokener  *tok;
    const char   *wrong = NULL;

    for (i = 0; i < len; i += n) {
        n = character((const unsigned char *) text + i, len - i);

        if (n == 0) {
            return "JSON that is not UTF-8";
        }
    }

    tok = json_tokener_new();
    json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
    object = json_tokener_parse_ex(tok, text, (int) len);

    if (json_tokener_get_error(tok) != json_tokener_success) {
        wrong = "JSON that does not parse";
    }

    json_object_put(object);
    json_tokener_free(tok);

    return wrong;
}


static const char *
check_status_line(const char *p, size_t len, head_t *h)
{
    if (len < 13 || memcmp(p, "HTTP/1.", 7) != 0
        || (p[7] != '0' && p[7] != '1') || p[8] != ' '
        || !isdigit((unsigned char) p[9]) || !isdigit((unsigned char) p[10])
        || !isdigit((unsigned char) p[11]) || p[12] != ' ')
    {
        return "a malformed status line";
    }

    h->status = (unsigned) atoi(p + 9);

    return h->status >= 100 && h->status < 600 ? NULL : "a status that is none";
}


static const char *
check_header(const char *p, size_t len, head_t *h)
{
    char    value[64];
    size_t  i, name;

    for (name = 0; name < len && p[name] != ':'; name++) {
        if (!isalnum((unsigned char) p[name])
            && strchr("!#$%&'*+-.^_`|~", p[name]) == NULL)
        {
            return "a header with a malformed name";
        }
    }

    if (name == 0 || name == len) {
        return "a header without a name";
    }

    for (i = name + 1; i < len; i++) {
        if ((unsigned char) p[i] < ' ' ? p[i] != '\t' : p[i] == 127) {
            return "a control character in a header";
        }
    }

    for (i = name + 1; i < len && p[i] == ' '; i++) { /* void */ }

    len = len - i < sizeof(value) ? len - i : sizeof(value) - 1;
    memcpy(value, p + i, len);
    value[len] = '\0';

    if (name == 14 && strncasecmp(p, "Content-Length", name) == 0) {
        if (h->length != NONE) {
            return "Content-Length twice";
        }

        if (len == 0 || strspn(value, "0123456789") != len) {
            return "a malformed Content-Length";
        }

        h->length = strtoul(value, NULL, 10);

    } else if (name == 17 && strncasecmp(p, "Transfer-Encoding", name) == 0) {
        if (h->chunked || strcasecmp(value, "chunked") != 0) {
            return "a wrong Transfer-Encoding";
        }

        h->chunked = 1;

    } else if (name == 12 && strncasecmp(p, "Content-Type", name) == 0) {
        h->json = strncmp(value, "application/json", 16) == 0;

    } else if (name == 10 && strncasecmp(p, "Connection", name) == 0) {
        h->close = strcasecmp(value, "close") == 0;
    }

    return NULL;
}


/* The size of a head that is there as a whole, or 0. */
static size_t
check_head(const char *p, size_t len, head_t *h, const char **wrong)
{
    size_t       line, at = 0;
    const char  *end;

    memset(h, 0, sizeof(*h));
    h->length = NONE;
    end = memmem(p, len, "\r\n\r\n", 4);

    if (end == NULL) {
        return 0;
    }

    while (*wrong == NULL && p + at < end) {
        line = (size_t) ((const char *) memmem(p + at, len - at, "\r\n", 2)
                         - (p + at));
        *wrong = at == 0 ? check_status_line(p, line, h)
                         : check_header(p + at, line, h);
        at += line + 2;
    }

    if (*wrong == NULL && h->chunked && h->length != NONE) {
        *wrong = "Content-Length and Transfer-Encoding";
    }

    return (size_t) (end - p) + 4;
}


/* The size of a chunked body, NONE while it is not complete. */
static size_t
check_chunks(const char *p, size_t len, bytes_t *body, const char **wrong)
{
    char    *end;
    size_t   at, n;

    for (at = 0; ; at += n + 2) {
        if (memmem(p + at, len - at, "\r\n", 2) == NULL) {
            return NONE;
        }

        n = strtoul(p + at, &end, 16);

        if (end == p + at || strncmp(end, "\r\n", 2) != 0) {
            *wrong = "a malformed chunk";
            return NONE;
        }

        at = (size_t) (end - p) + 2;

        if (len - at < n + 2) {
            return NONE;
        }

        if (memcmp(p + at + n, "\r\n", 2) != 0) {
            *wrong = "a chunk without an end";
            return NONE;
        }

        if (n == 0) {
            return at + 2;
        }

        bytes_add(body, p + at, n);
    }
}


/* Was it sent, wherever? */
static int
sent(const requests_case_t *c, const char *what)
{
    return memmem(c->out.data, c->out.len, what, strlen(what)) != NULL;
}


/* The size of an answer's body, NONE while it is not complete. */
static size_t
check_body(const requests_case_t *c, const head_t *h, const char *p,
    size_t len, int eof, bytes_t *body, const char **wrong)
{
    if (h->status < 200 || h->status == 204 || h->status == 304) {
        return 0;
    }

    /* an answer to HEAD has none; which of several it is, nobody can say */
    if (sent(c, "HEAD") && (len == 0 || strncmp(p, "HTTP/1.", 7) == 0)) {
        return 0;
    }

    if (h->chunked) {
        return check_chunks(p, len, body, wrong);
    }

    if (h->length != NONE) {
        if (len < h->length) {
            return NONE;
        }

        bytes_add(body, p, h->length);
        return h->length;
    }

    if (!h->close && c->end == REQUESTS_WAIT) {
        *wrong = "a body without a length on a connection that is kept";
    }

    return eof ? len : NONE;
}


static const char *
check_answers(const requests_case_t *c, const bytes_t *in, int eof,
    requests_answer_t *a)
{
    head_t       h;
    size_t       at, head, n;
    bytes_t      body = { NULL, 0, 0 };
    const char  *wrong = NULL;

    for (at = 0; at < in->len && wrong == NULL; at += head + n) {
        n = in->len - at < 7 ? in->len - at : 7;

        if (memcmp(in->data + at, "HTTP/1.", n) != 0) {
            /* HTTP/0.9 has no head */
            a->odd = 1;
            wrong = c->mutated ? NULL : "an answer without a status line";
            break;
        }

        head = check_head(in->data + at, in->len - at, &h, &wrong);

        if (head == 0 || wrong != NULL) {
            a->partial = 1;
            break;
        }

        if (h.status == 101) {
            a->odd = 1;
            break;
        }

        if (c->mutated && h.status >= 200 && sent(c, "HEAD")) {
            /* who can say whether this one has a body? */
            a->odd = 1;
            break;
        }

        body.len = 0;
        n = check_body(c, &h, in->data + at + head, in->len - at - head, eof,
                       &body, &wrong);

        if (n == NONE) {
            a->partial = 1;
            break;
        }

        a->complete += h.status >= 200;

        if (wrong == NULL && h.json && body.len > 0) {
            wrong = requests_check_json(body.data, body.len);
        }
    }

    free(body.data);

    return wrong;
}


const char *
requests_check(const requests_case_t *c, const bytes_t *in, int eof,
    requests_answer_t *a)
{
    const char  *wrong;

    memset(a, 0, sizeof(*a));

    if (c->http2 && (in->len < 5 || memcmp(in->data, "HTTP/", 5) != 0)) {
        return requests_check_http2(c, in, eof, a);
    }

    wrong = check_answers(c, in, eof, a);

    /* who half-closes is taken for gone */
    if (wrong == NULL && eof && a->partial && c->end == REQUESTS_WAIT) {
        wrong = "the connection ends within an answer";
    }

    return wrong;
}
