/* The load generator's connections: clients, and the backend. */

#define _GNU_SOURCE

#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>


#define LOAD_EVENTS    256
#define LOAD_BUFFER    65536
#define LOAD_PATCHERS  8


typedef enum {
    PEER_CLIENT,
    PEER_BACKEND,               /* accepted from the server */
    PEER_LISTENER,
    PEER_SCRAPER,
    PEER_PATCHER
} peer_kind_t;


struct peer_s {
    int          fd;
    peer_kind_t  kind;
    target_t    *target;        /* of a client */
    int          asks;          /* its answer is not there yet */
    uint64_t     began;
    size_t       have;
    char        *part;          /* of an answer that came in pieces */
};


load_options_t  options = { .host = "localhost" };
struct load_s   load;

static int       poller;
static uint64_t  next;          /* with interval=: when to ask again */
static char      buffer[LOAD_BUFFER];

static const char  answer[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n"
    "\r\nhello\n";


static void
die(const char *what)
{
    perror(what);
    exit(1);
}


uint64_t
load_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000u + (uint64_t) ts.tv_nsec;
}


static void
watch(peer_t *peer)
{
    struct epoll_event  event = { .events = EPOLLIN | EPOLLRDHUP };

    event.data.ptr = peer;

    if (epoll_ctl(poller, EPOLL_CTL_ADD, peer->fd, &event) == -1) {
        die("epoll_ctl");
    }
}


static peer_t *
peer_new(peer_kind_t kind, int fd)
{
    peer_t  *peer = calloc(1, sizeof(*peer));

    if (peer == NULL) {
        die("calloc");
    }

    peer->kind = kind;
    peer->fd = fd;

    return peer;
}


static void
peer_send(peer_t *peer, const char *data, size_t len)
{
    if (send(peer->fd, data, len, MSG_NOSIGNAL) != (ssize_t) len) {
        load.target->errors++;
    }
}


/* What has come: -1 if nothing has yet, 0 if nothing will. */
static ssize_t
peer_recv(peer_t *peer, char *data, size_t size)
{
    ssize_t  n = recv(peer->fd, data, size, MSG_DONTWAIT);

    return n >= 0 ? n : errno == EAGAIN ? -1 : 0;
}


/* --- the clients of a target --- */

static void
client_connect(peer_t *peer)
{
    struct sockaddr_in  to = { .sin_family = AF_INET };

    to.sin_port = htons((uint16_t) peer->target->port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (peer->fd == -1
        || connect(peer->fd, (struct sockaddr *) &to, sizeof(to)) == -1)
    {
        die("connect");
    }

    watch(peer);
}


static void
client_ask(peer_t *peer)
{
    char             *digit;
    unsigned          i, n;
    target_t         *target = peer->target;

    static uint64_t   drawn = 88172645463325252ull;

    if (target->digits != 0) {
        drawn ^= drawn << 13;
        drawn ^= drawn >> 7;
        drawn ^= drawn << 17;
        n = (unsigned) (drawn % options.names);
        digit = target->request + target->digits;

        for (i = 7; i-- != 0; n /= 10) {
            digit[i] = (char) ('0' + n % 10);
        }
    }

    peer->have = 0;
    peer->asks = 1;
    peer->began = load_now();
    peer_send(peer, target->request, target->request_len);
}


static void
client_count(target_t *target, uint64_t ns, const char *text)
{
    unsigned  power;

    power = 63 - (unsigned) __builtin_clzll(ns | 32);
    target->buckets[(power - 5) * 32 + ((ns >> (power - 5)) & 31)]++;
    target->requests++;

    if (memcmp(text + 8, " 200", 4) != 0) {
        memcpy(target->bad, text + 9, sizeof(target->bad) - 1);
        target->errors++;
    }
}


/* Is the answer, NUL-terminated, complete? */
static int
client_complete(const char *text, size_t have)
{
    char    *body, *length;
    size_t   size;

    body = memmem(text, have, "\r\n\r\n", 4);

    if (body == NULL) {
        return 0;
    }

    length = memmem(text, (size_t) (body - text), "Content-Length: ", 16);
    size = (size_t) (body + 4 - text)
           + (length != NULL ? strtoul(length + 16, NULL, 10) : 0);

    return have >= size;
}


/* Keeps what there is of an answer, for when the rest has come. */
static void
client_keep(peer_t *peer, const char *text)
{
    if (peer->part == NULL && (peer->part = malloc(LOAD_BUFFER)) == NULL) {
        die("malloc");
    }

    if (text != peer->part) {
        memcpy(peer->part, text, peer->have);
    }
}


/* It has its answer, or will never have one. */
static void
client_next(peer_t *peer)
{
    peer->asks = 0;

    if (!peer->target->asking) {
        return;
    }

    if (options.interval == 0) {
        client_ask(peer);

    } else {
        next = load_now() + (uint64_t) (options.interval * 1000);
    }
}


static void
client_read(peer_t *peer)
{
    char    *text = peer->have != 0 ? peer->part : buffer;
    ssize_t  n;

    n = peer_recv(peer, text + peer->have, LOAD_BUFFER - 1 - peer->have);

    if (n == -1) {
        return;
    }

    if (n == 0) {
        /* "keepalive_requests" of the server, or it has died */
        peer->target->closed += (unsigned) load.measuring;
        (void) close(peer->fd);
        client_connect(peer);
        client_next(peer);
        return;
    }

    peer->have += (size_t) n;
    text[peer->have] = '\0';

    if (!client_complete(text, peer->have)) {
        client_keep(peer, text);
        return;
    }

    if (load.measuring) {
        client_count(peer->target, load_now() - peer->began, text);
    }

    client_next(peer);
}


/* --- the client of scrape= --- */

static void
scraper_ask(peer_t *peer)
{
    int   len;
    char  request[LOAD_REQUEST];

    len = snprintf(request, sizeof(request),
                   "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n",
                   options.scrape);
    peer_send(peer, request, (size_t) len);
}


static void
scraper_read(peer_t *peer)
{
    ssize_t  n = peer_recv(peer, buffer, LOAD_BUFFER);

    if (n == -1) {
        return;
    }

    if (n == 0) {
        die("scrape");
    }

    /* the last chunk */
    if (n >= 5 && memcmp(buffer + n - 5, "0\r\n\r\n", 5) == 0) {
        load.scrapes += (unsigned) load.measuring;
        scraper_ask(peer);
    }
}


/* --- the clients of patch= --- */

static void
patcher_ask(peer_t *peer)
{
    int              len;
    char             request[LOAD_REQUEST];

    static unsigned  port;

    len = snprintf(request, sizeof(request),
                   "PATCH %s HTTP/1.1\r\nHost: localhost\r\n"
                   "Content-Type: application/json\r\nContent-Length: 22\r\n"
                   "\r\n{\"target_port\": %5u}", options.patch,
                   10000 + port++ % 50000);
    peer_send(peer, request, (size_t) len);
}


static void
patcher_read(peer_t *peer)
{
    ssize_t  n = peer_recv(peer, buffer, LOAD_BUFFER);

    if (n == -1) {
        return;
    }

    /* answers are small: one comes in one piece */
    if (n < 12 || memcmp(buffer + 8, " 200", 4) != 0) {
        die("patch");
    }

    load.patches += (unsigned) load.measuring;
    patcher_ask(peer);
}


/* --- the backend --- */

static void
backend_read(peer_t *peer)
{
    ssize_t  n = peer_recv(peer, buffer, LOAD_BUFFER);

    if (n == -1) {
        return;
    }

    if (n == 0) {
        (void) close(peer->fd);
        free(peer);
        return;
    }

    /* requests are small: one comes in one piece */
    peer_send(peer, answer, sizeof(answer) - 1);
}


static void
backend_listen(void)
{
    int                 fd, on = 1;
    struct sockaddr_in  any = { .sin_family = AF_INET };

    any.sin_port = htons((uint16_t) options.backend);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd == -1
        || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1
        || bind(fd, (struct sockaddr *) &any, sizeof(any)) == -1
        || listen(fd, 65535) == -1)
    {
        die("backend");
    }

    watch(peer_new(PEER_LISTENER, fd));
}


static void
backend_accept(peer_t *listener)
{
    int  fd, on = 1;

    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC)) != -1) {
        load.target->accepted += (unsigned) load.measuring;
        (void) setsockopt(fd, SOL_TCP, TCP_NODELAY, &on, sizeof(on));
        watch(peer_new(PEER_BACKEND, fd));
    }
}


/* --- */

void
load_init(void)
{
    poller = epoll_create1(EPOLL_CLOEXEC);

    if (options.backend != 0) {
        backend_listen();
    }
}


static peer_t *
peer_connect(peer_kind_t kind, target_t *target)
{
    peer_t  *peer = peer_new(kind, -1);

    peer->target = target;
    client_connect(peer);

    return peer;
}


void
target_init(target_t *target, int named)
{
    char      host[256];
    unsigned  i;

    (void) snprintf(host, sizeof(host), "%s",
                    !named ? "localhost"
                    : options.names != 0 ? "n0000000.hatch.local"
                    : options.host);

    target->request_len = (size_t) snprintf(target->request, LOAD_REQUEST,
                                         "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n",
                                         target->path, host);

    if (named && options.names != 0) {
        target->digits = (size_t) (strstr(target->request, "Host: ") + 7
                                   - target->request);
    }

    target->clients = calloc(target->connections, sizeof(peer_t *));

    if (target->clients == NULL) {
        die("calloc");
    }

    for (i = 0; i < target->connections; i++) {
        target->clients[i] = peer_connect(PEER_CLIENT, target);
    }
}


void
target_begin(target_t *target)
{
    unsigned  i;

    load.target = target;
    target->asking = 1;

    for (i = 0; i < target->connections; i++) {
        client_ask(target->clients[i]);
    }
}


void
load_others(target_t *target)
{
    unsigned  i;

    if (options.scrape != NULL) {
        scraper_ask(peer_connect(PEER_SCRAPER, target));
    }

    for (i = 0; options.patch != NULL && i < LOAD_PATCHERS; i++) {
        patcher_ask(peer_connect(PEER_PATCHER, target));
    }
}


void
target_end(target_t *target)
{
    unsigned  i;

    target->asking = 0;
    next = 0;

    for (i = 0; i < target->connections; i++) {
        while (target->clients[i]->asks) {
            load_turn();
        }
    }
}


void
target_reset(target_t *target)
{
    target->requests = 0;
    target->errors = 0;
    target->closed = 0;
    target->accepted = 0;
    memset(target->buckets, 0, sizeof(target->buckets));
}


double
target_quantile(const target_t *target, double part)
{
    unsigned  i;
    uint64_t  sum = 0, want = (uint64_t) (part * (double) target->requests);

    for (i = 0; i < LOAD_BUCKETS; i++) {
        sum += target->buckets[i];

        if (sum > want) {
            return (double) (((uint64_t) (32 + i % 32)) << (i / 32)) / 1000;
        }
    }

    return 0;
}


void
load_turn(void)
{
    int                 i, n;
    peer_t             *peer;
    struct epoll_event  events[LOAD_EVENTS];

    static void (*const  readers[])(peer_t *peer) = {
        [PEER_CLIENT] = client_read,
        [PEER_BACKEND] = backend_read,
        [PEER_LISTENER] = backend_accept,
        [PEER_SCRAPER] = scraper_read,
        [PEER_PATCHER] = patcher_read
    };

    n = epoll_wait(poller, events, LOAD_EVENTS, 0);

    for (i = 0; i < n; i++) {
        peer = events[i].data.ptr;
        readers[peer->kind](peer);
    }

    if (next != 0) {
        crowd_turn();

        if (load_now() >= next) {
            next = 0;
            client_ask(load.target->clients[0]);
        }
    }
}
