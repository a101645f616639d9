/* A case from a number: requests, their mutations, pieces and end. */

#include "requests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define N(list)  (sizeof(list) / sizeof((list)[0]))
#define PICK(c, list)  (list)[requests_random((c), N(list))]


/* where t/fuzz/requests.t has its servers; 9091 and 8091 speak HTTP/2 */
static const unsigned  ports[] = { 8080, 8080, 8081, 9090, 9090, 9090 };
static const unsigned  http2_ports[] = { 8091, 9091, 9091 };

static const char *const  hosts[] = {
    "demo.hatch.local", "demo.hatch.local", "demo.hatch.local",
    "DEMO.hatch.local.:9090", "six.hatch.local", "stopped.hatch.local",
    "paused.hatch.local", "asleep.hatch.local", "error.hatch.local",
    "noaddress.hatch.local", "gone.hatch.local", "refused.hatch.local",
    "none.hatch.local", "hatch.local", "a.b.hatch.local", "localhost",
    "[::1]:9090", "127.0.0.1", "", ".", "x\377.hatch.local",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.hatch.local"
};

static const char *const  paths[] = {
    "/", "/echo", "/file", "/big", "/slice/file", "/cache/echo", "/auth/echo",
    "/mirror/echo", "/ssi/page", "/error/missing", "/named/missing",
    "/nobuf/echo", "/try/file", "/limit/echo", "/inner", "/close", "/missing",
    "/accel", "/old/echo", "/wake/echo", "/nowake/echo",
    "/healthz", "/healthz?a=b", "/readyz", "/metrics", "/summary",
    "/routes", "/routes?limit=1", "/routes?limit=x&cursor=%00",
    "/routes?cursor=rt_aaaaaaaaaaaaaaaa", "/routes/rt_aaaaaaaaaaaaaaaa",
    "/routes/rt_zzzzzzzzzzzzzzzz", "/routes/%ff", "/routes/", "//routes",
    "/vms/vm_running222222222/routes", "/vms/vm_gone222222222/routes",
    "/vms//routes", "/vms/%2e%2e/routes", "/vms", "/vms/x",
    "/%76ms/vm_running222222222/routes", "/../..", "*",
    "http://demo.hatch.local/echo", "/%00", "/%zz", "/a b", "/\377\376",
    "/nested/if", "/nested/if?x=1", "/stub"
};

static const char *const  methods[] = {
    "GET", "GET", "GET", "GET", "GET", "GET", "POST", "POST", "HEAD", "PATCH",
    "DELETE", "PUT", "OPTIONS", "TRACE", "PROPFIND", "get", "X"
};

static const char *const  headers[] = {
    "Connection: close", "Connection: keep-alive", "Connection: upgrade",
    "Upgrade: websocket", "Upgrade: h2c", "Expect: 100-continue", "Expect: x",
    "If-Match: *", "If-Match: \"x\"", "If-None-Match: *",
    "If-None-Match: W/\"x\"", "If-Range: \"x\"",
    "If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT",
    "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:01 GMT",
    "If-Modified-Since: yesterday", "Range: bytes=0-10", "Range: bytes=-1",
    "Range: bytes=5-1,2-,-0", "Range: bytes=0-0,2-2,4-4,6-6,8-8",
    "Accept: application/openmetrics-text;q=0.5,text/plain;q=0.1",
    "Accept: text/plain; version=0.0.4, */*;q=0", "Accept: ;;q=,,=",
    "Accept: application/json;q=1.0001", "Accept-Encoding: gzip",
    "Origin: null", "Origin: http://evil.example", "Origin: http://localhost",
    "Authorization: Bearer right-key", "Authorization: Bearer", "X-API-Key: ",
    "X-API-Key: right-key", "X-API-Key: wrong", "User-Agent: kube-probe/1",
    "Cookie: a=b; c=d", "TE: trailers", "Content-Type: application/json",
    "Content-Length: 5", "Content-Length: -1", "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked", "Host: demo.hatch.local",
    "Host: other", "X-Accel-Redirect: /inner", "Max-Forwards: 0",
    "Server-Timing: x", "Trailer: X", "Proxy: x", " folded", "No-Colon",
    "X-\377: \377", "X-Forwarded-For: 1.2.3.4"
};

static const char *const  bodies[] = {
    "", "x", "{}", "[]", "{\"target_port\":80}",
    "{\"target_port\":80,\"subdomain\":\"new%u\"}",
    "{\"target_port\":81,\"auto_wake\":false}", "{\"target_port\":1e99}",
    "{\"target_port\":80,\"target_port\":81}", "{\"subdomain\":\"\\ud800\"}",
    "{\"subdomain\":\"\377\"}", "{\"a\":{\"a\":{\"a\":{\"a\":[[[[[[]]]]]]}}}}",
    "{\"target_port\":80,\"subdomain\":null}", "{\"auto_wake\":true}", "{\"a",
    "{\"target_port\":80}x", "\357\273\277{}", "{\"\\u0000\":1}"
};

static const char *const  tokens[] = {
    "\r\n", "\n", "\r\n\r\n", "\r", " ", "\t", ":", "HTTP/1.1", "HTTP/1.0",
    "HTTP/9.9", "0\r\n\r\n", "ffffffffffffffff\r\n", "7fffffffffffffff\r\n",
    "-1\r\n", "5;x=y\r\nhello\r\n", "%00", "%ff", "%", "..", "//", "?", "#",
    "\377", "\300\200", "{", "}", "\"", "\\", ",", ";q=", "Content-Length: ",
    "Transfer-Encoding: chunked\r\n", "Host: ", "99999999999999999999"
};


unsigned
requests_random(requests_case_t *c, unsigned n)
{
    uint64_t  z;

    z = (c->random += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;

    return (unsigned) ((z ^ (z >> 31)) % n);
}


void
bytes_add(bytes_t *b, const void *data, size_t len)
{
    if (b->len + len > b->size) {
        b->size = (b->len + len) * 2 + 4096;
        b->data = realloc(b->data, b->size);

        if (b->data == NULL) {
            abort();
        }
    }

    if (len > 0) {
        memcpy(b->data + b->len, data, len);
        b->len += len;
    }
}


void
bytes_text(bytes_t *b, const char *text)
{
    bytes_add(b, text, strlen(text));
}


const char *
requests_host(requests_case_t *c)
{
    return PICK(c, hosts);
}


const char *
requests_path(requests_case_t *c)
{
    return PICK(c, paths);
}


const char *
requests_method(requests_case_t *c)
{
    return PICK(c, methods);
}


void
requests_body(requests_case_t *c, bytes_t *b)
{
    char      text[256];
    unsigned  n;

    if (requests_random(c, 16) == 0) {
        for (n = requests_random(c, 70000); n > 0; n--) {
            bytes_add(b, "x", 1);
        }

        return;
    }

    (void) snprintf(text, sizeof(text), "%s", PICK(c, bodies));

    if (strstr(text, "%u") != NULL) {
        (void) snprintf(text, sizeof(text),
                        "{\"target_port\":80,\"subdomain\":\"new%u\"}",
                        requests_random(c, 500));
    }

    bytes_text(b, text);
}


/* The body as it is, or in chunks; now and then not as it was announced. */
static void
make_body(requests_case_t *c, bytes_t *b)
{
    char      line[64];
    size_t    i, n;
    bytes_t   body = { NULL, 0, 0 };

    requests_body(c, &body);

    if (requests_random(c, 3) > 0) {
        n = body.len;

        if (requests_random(c, 32) == 0) {
            n += requests_random(c, 8);
            c->mutated = 1;
        }

        (void) snprintf(line, sizeof(line), "Content-Length: %zu\r\n\r\n", n);
        bytes_text(b, line);
        bytes_add(b, body.data, body.len);
        free(body.data);
        return;
    }

    bytes_text(b, "Transfer-Encoding: chunked\r\n\r\n");

    for (i = 0; i < body.len; i += n) {
        n = 1 + requests_random(c, 9000);
        n = n < body.len - i ? n : body.len - i;
        (void) snprintf(line, sizeof(line), "%zx\r\n", n);
        bytes_text(b, line);
        bytes_add(b, body.data + i, n);
        bytes_text(b, "\r\n");
    }

    bytes_text(b, requests_random(c, 8) ? "0\r\n\r\n" : "0\r\nX: y\r\n\r\n");
    free(body.data);
}


static void
make_request(requests_case_t *c, bytes_t *b)
{
    unsigned     n;
    const char  *header;

    bytes_text(b, requests_method(c));
    bytes_text(b, " ");
    bytes_text(b, requests_path(c));
    bytes_text(b, requests_random(c, 16) ? " HTTP/1.1\r\nHost: "
                                         : " HTTP/1.0\r\nHost: ");
    bytes_text(b, requests_host(c));
    bytes_text(b, "\r\n");

    for (n = requests_random(c, 6); n > 0; n--) {
        header = PICK(c, headers);
        bytes_text(b, header);
        bytes_text(b, "\r\n");
    }

    if (requests_random(c, 64) == 0) {
        bytes_text(b, "X-Long: ");

        for (n = requests_random(c, 40000); n > 0; n--) {
            bytes_add(b, "y", 1);
        }

        bytes_text(b, "\r\n");
    }

    if (requests_random(c, 3) == 0) {
        make_body(c, b);

    } else {
        bytes_text(b, "\r\n");
    }
}


static void
insert(bytes_t *b, size_t at, const char *data, size_t len)
{
    bytes_add(b, data, len);
    memmove(b->data + at + len, b->data + at, b->len - len - at);
    memcpy(b->data + at, data, len);
}


static void
mutate(requests_case_t *c)
{
    size_t       at, n;
    bytes_t     *b = &c->out;
    const char  *token;

    if (b->len == 0) {
        return;
    }

    at = requests_random(c, (unsigned) b->len);
    n = 1 + requests_random(c, 16);
    n = n < b->len - at ? n : b->len - at;

    switch (requests_random(c, 6)) {
    case 0:
        b->data[at] = (char) requests_random(c, 256);
        break;

    case 1:
        memmove(b->data + at, b->data + at + n, b->len - at - n);
        b->len -= n;
        break;

    case 2:
    case 3:
        token = PICK(c, tokens);
        insert(b, at, token, strlen(token));
        break;

    case 4:
        b->data[at] = (char) (b->data[at] ^ (1 << requests_random(c, 8)));
        break;

    default:
        b->len = at;
    }

    c->mutated = 1;
}


void
requests_make(requests_case_t *c, uint64_t seed)
{
    unsigned         n, kind;
    unsigned char    byte;
    requests_end_t   ends[] = { REQUESTS_WAIT, REQUESTS_WAIT, REQUESTS_WAIT,
                                REQUESTS_WAIT, REQUESTS_WAIT, REQUESTS_SHUT,
                                REQUESTS_CLOSE, REQUESTS_RESET };

    c->seed = seed;
    c->random = seed * 0xd6e8feb86659fd93ull;
    c->out.len = 0;
    c->mutated = 0;
    c->wanted = 1 + requests_random(c, 2) * requests_random(c, 4);
    c->http2 = requests_random(c, 4) == 0;
    c->port = c->http2 ? PICK(c, http2_ports) : PICK(c, ports);
    kind = requests_random(c, 16);

    if (kind == 0) {
        for (n = requests_random(c, 3000); n > 0; n--) {
            byte = (unsigned char) requests_random(c, 256);
            bytes_add(&c->out, &byte, 1);
        }

        c->mutated = 1;

    } else if (c->http2) {
        requests_make_http2(c);

    } else {
        for (n = 0; n < c->wanted; n++) {
            make_request(c, &c->out);
        }
    }

    if (kind < 6) {
        for (n = requests_random(c, 4); n > 0; n--) {
            mutate(c);
        }
    }

    c->end = PICK(c, ends);
    c->cuts = requests_random(c, 2) * requests_random(c, REQUESTS_CUTS);

    for (n = 0; n < c->cuts; n++) {
        c->cut[n] = requests_random(c, (unsigned) c->out.len + 1);
    }
}
