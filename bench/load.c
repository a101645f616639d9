/*
 * load: a load generator that never sleeps.
 *
 *   load PORT [OPTION=VALUE...]
 *
 *   seconds=3          how long to measure, after warm=0.3 seconds
 *   requests=N         or so many requests, however long they take
 *   connections=64     to 127.0.0.1:PORT, each with one request at a time
 *   path=/             what to ask for
 *   names=N            Host is nNNNNNNN.hatch.local, drawn at random from N
 *   host=NAME          or this one
 *   backend=PORT       serve what the server proxies to, on all addresses of
 *                      127.0.0.0/8
 *   hold=PATH          after warming up says "holding", and asks nothing until
 *                      PATH is there
 *   interval=US        not as fast as possible: one request, then so long none
 *   scrape=PATH        and one more connection that asks for this all the time
 *   patch=PATH         and eight more that change the port of this route
 *
 * Client and backend are one thread that polls: whoever sleeps in between
 * lets the server sleep, too, and then measures how fast the kernel wakes it.
 * What comes in one piece, as nearly all does, is read into one buffer for
 * all: ten thousand of them would cost this thread more than the server.
 * One line of JSON: requests, how long they took, new connections to the
 * backend, connections that the server closed, and whatever was not a 200 with
 * a whole body.
 */

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>


#define LOAD_EVENTS   256
#define LOAD_BUFFER   65536
#define LOAD_REQUEST  512

/* Latencies: 32 buckets for each power of two of nanoseconds. */
#define LOAD_BUCKETS  (40 * 32)


typedef struct {
    int       fd;
    int       backend;          /* 1: accepted from the server, 2: listens;
                                 * clients: 3 of scrape=, 4 of patch= */
    uint64_t  began;
    int       asks;             /* its answer is not there yet */
    size_t    have;
    char     *part;             /* of an answer that came in pieces */
} peer_t;


static struct {
    unsigned     port, backend, connections;
    uint64_t     requests;
    double       seconds, warm, interval;
    unsigned     names;
    const char  *path, *host, *scrape, *patch, *hold;
} options = { .connections = 64, .seconds = 3, .warm = 0.3, .path = "/",
              .host = "localhost" };

static struct {
    int       epoll;
    int       measuring, holding;
    peer_t  **clients;          /* those of connections= */
    uint64_t  requests, errors, accepted, served, scrapes, patches, closed;
    uint64_t  buckets[LOAD_BUCKETS];
    char      request[LOAD_REQUEST];
    size_t    request_len, digits;
    char      bad[4];           /* the last status that was not 200 */
    uint64_t  random;
    uint64_t  next;             /* with interval=: when to ask again */
} load = { .random = 88172645463325252ull };

static char  buffer[LOAD_BUFFER];

static const char  answer[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n"
    "\r\nhello\n";


static void
die(const char *what)
{
    perror(what);
    exit(1);
}


static uint64_t
now_ns(void)
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

    if (epoll_ctl(load.epoll, EPOLL_CTL_ADD, peer->fd, &event) == -1) {
        die("epoll_ctl");
    }
}


static peer_t *
peer_new(int fd, int backend)
{
    int      on = 1;
    peer_t  *peer = calloc(1, sizeof(*peer));

    if (peer == NULL) {
        die("calloc");
    }

    peer->fd = fd;
    peer->backend = backend;
    (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    watch(peer);

    return peer;
}


/* --- the client --- */

static void
client_connect(peer_t *peer)
{
    struct sockaddr_in  to = { .sin_family = AF_INET };

    to.sin_port = htons((uint16_t) options.port);
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
    unsigned   i, n;
    char      *digit;

    if (options.names != 0) {
        load.random ^= load.random << 13;
        load.random ^= load.random >> 7;
        load.random ^= load.random << 17;
        n = (unsigned) (load.random % options.names);
        digit = load.request + load.digits;

        for (i = 7; i-- != 0; n /= 10) {
            digit[i] = (char) ('0' + n % 10);
        }
    }

    peer->have = 0;
    peer->asks = 1;
    peer->began = now_ns();

    if (send(peer->fd, load.request, load.request_len, MSG_NOSIGNAL)
        != (ssize_t) load.request_len)
    {
        load.errors++;
    }
}


static void
client_count(uint64_t ns)
{
    unsigned  power;

    power = 63 - (unsigned) __builtin_clzll(ns | 32);
    load.buckets[(power - 5) * 32 + ((ns >> (power - 5)) & 31)]++;
    load.requests++;
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


static void
client_read(peer_t *peer)
{
    char    *text = peer->have != 0 ? peer->part : buffer;
    ssize_t  n;

    n = recv(peer->fd, text + peer->have, LOAD_BUFFER - 1 - peer->have,
             MSG_DONTWAIT);

    if (n == -1 && errno == EAGAIN) {
        return;
    }

    if (n <= 0) {
        /* "keepalive_requests" of the server, or it has died */
        load.closed += (unsigned) load.measuring;
        (void) close(peer->fd);
        client_connect(peer);
        client_ask(peer);
        return;
    }

    peer->have += (size_t) n;
    text[peer->have] = '\0';

    if (!client_complete(text, peer->have)) {
        client_keep(peer, text);
        return;
    }

    if (load.measuring) {
        client_count(now_ns() - peer->began);

        if (memcmp(text + 8, " 200", 4) != 0) {
            memcpy(load.bad, text + 9, sizeof(load.bad) - 1);
            load.errors++;
        }
    }

    peer->asks = 0;

    if (load.holding) {
        return;
    }

    if (options.interval == 0) {
        client_ask(peer);

    } else {
        load.next = now_ns() + (uint64_t) (options.interval * 1000);
    }
}


/* --- the client of scrape= --- */

static void
scrape_ask(peer_t *peer)
{
    char  request[LOAD_REQUEST];
    int   len;

    len = snprintf(request, sizeof(request),
                   "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n",
                   options.scrape);
    peer->have = 0;

    if (send(peer->fd, request, (size_t) len, MSG_NOSIGNAL) != len) {
        load.errors++;
    }
}


static void
scrape_read(peer_t *peer)
{
    ssize_t  n;

    n = recv(peer->fd, buffer, LOAD_BUFFER, MSG_DONTWAIT);

    if (n == -1 && errno == EAGAIN) {
        return;
    }

    if (n <= 0) {
        die("scrape");
    }

    /* the last chunk */
    if (n >= 5 && memcmp(buffer + n - 5, "0\r\n\r\n", 5) == 0) {
        load.scrapes += (unsigned) load.measuring;
        scrape_ask(peer);
    }
}


/* --- the clients of patch= --- */

#define LOAD_PATCHERS  8


static void
patch_ask(peer_t *peer)
{
    char             request[LOAD_REQUEST];
    int              len;

    static unsigned  port;

    len = snprintf(request, sizeof(request),
                   "PATCH %s HTTP/1.1\r\nHost: localhost\r\n"
                   "Content-Type: application/json\r\nContent-Length: 22\r\n"
                   "\r\n{\"target_port\": %5u}", options.patch,
                   10000 + port++ % 50000);
    peer->have = 0;

    if (send(peer->fd, request, (size_t) len, MSG_NOSIGNAL) != len) {
        load.errors++;
    }
}


static void
patch_read(peer_t *peer)
{
    ssize_t  n;

    n = recv(peer->fd, buffer, LOAD_BUFFER, MSG_DONTWAIT);

    if (n == -1 && errno == EAGAIN) {
        return;
    }

    /* answers are small: one comes in one piece */
    if (n < 12 || memcmp(buffer + 8, " 200", 4) != 0) {
        die("patch");
    }

    load.patches += (unsigned) load.measuring;
    patch_ask(peer);
}


/* --- the backend --- */

static void
backend_read(peer_t *peer)
{
    ssize_t  n;

    n = recv(peer->fd, buffer, LOAD_BUFFER, MSG_DONTWAIT);

    if (n == -1 && errno == EAGAIN) {
        return;
    }

    if (n <= 0) {
        (void) close(peer->fd);
        free(peer);
        return;
    }

    /* requests are small: one comes in one piece */
    load.served += (unsigned) load.measuring;

    if (send(peer->fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL)
        != sizeof(answer) - 1)
    {
        load.errors++;
    }
}


static peer_t *
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

    return peer_new(fd, 2);
}


static void
backend_accept(peer_t *listener)
{
    int  fd;

    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC)) != -1) {
        load.accepted += (unsigned) load.measuring;
        (void) peer_new(fd, 1);
    }
}


/* --- */

static void
turn(peer_t *only)
{
    int                 i, n;
    peer_t             *peer;
    struct epoll_event  events[LOAD_EVENTS];

    n = epoll_wait(load.epoll, events, LOAD_EVENTS, 0);

    for (i = 0; i < n; i++) {
        peer = events[i].data.ptr;

        if (peer->backend == 2) {
            backend_accept(peer);

        } else if (peer->backend == 3) {
            scrape_read(peer);

        } else if (peer->backend == 4) {
            patch_read(peer);

        } else if (peer->backend) {
            backend_read(peer);

        } else {
            client_read(peer);
        }
    }

    if (load.next != 0 && now_ns() >= load.next) {
        load.next = 0;
        client_ask(only);
    }
}


/* Lets all answers come, and waits for whoever measures. */
static void
hold(void)
{
    unsigned  i;

    load.holding = 1;

    for (i = 0; i < options.connections; i++) {
        while (load.clients[i]->asks) {
            turn(NULL);
        }
    }

    printf("holding\n");
    (void) fflush(stdout);

    while (access(options.hold, F_OK) == -1) {
        turn(NULL);
    }

    load.holding = 0;

    for (i = 0; i < options.connections; i++) {
        client_ask(load.clients[i]);
    }
}


static void
make_request(void)
{
    char  host[256];

    if (options.names != 0) {
        (void) snprintf(host, sizeof(host), "n0000000.hatch.local");

    } else {
        (void) snprintf(host, sizeof(host), "%s", options.host);
    }

    load.request_len = (size_t) snprintf(load.request, sizeof(load.request),
                                         "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n",
                                         options.path, host);
    load.digits = (size_t) (strstr(load.request, "Host: ") + 7
                            - load.request);
}


/* The latency that so much of all requests kept below, us. */
static double
quantile(double part)
{
    unsigned  i;
    uint64_t  sum = 0, want = (uint64_t) (part * (double) load.requests);

    for (i = 0; i < LOAD_BUCKETS; i++) {
        sum += load.buckets[i];

        if (sum > want) {
            return (double) (((uint64_t) (32 + i % 32)) << (i / 32)) / 1000;
        }
    }

    return 0;
}


static void
parse(int argc, char **argv)
{
    int    i;
    char  *value;

    options.port = (unsigned) atoi(argv[1]);

    for (i = 2; i < argc; i++) {
        value = strchr(argv[i], '=');

        if (value == NULL) {
            fprintf(stderr, "load: %s is no option\n", argv[i]);
            exit(2);
        }

        *value++ = '\0';

#define OPTION(name, parsed)                                                  \
        if (strcmp(argv[i], #name) == 0) {                                    \
            options.name = parsed;                                            \
        }

        OPTION(seconds, atof(value))
        OPTION(warm, atof(value))
        OPTION(interval, atof(value))
        OPTION(requests, strtoull(value, NULL, 10))
        OPTION(connections, (unsigned) atoi(value))
        OPTION(names, (unsigned) atoi(value))
        OPTION(backend, (unsigned) atoi(value))
        OPTION(path, value)
        OPTION(host, value)
        OPTION(scrape, value)
        OPTION(patch, value)
        OPTION(hold, value)

#undef OPTION
    }

    if (options.interval != 0) {
        options.connections = 1;
    }
}


/* A connection of the client's own, without a request. */
static peer_t *
client_new(int kind)
{
    peer_t  *peer = calloc(1, sizeof(*peer));

    if (peer == NULL) {
        die("calloc");
    }

    peer->backend = kind;
    client_connect(peer);

    return peer;
}


/* Returns one of the clients that ask. */
static peer_t *
connect_all(void)
{
    unsigned   i;
    peer_t    *peer = NULL;

    load.clients = calloc(options.connections, sizeof(peer_t *));

    if (load.clients == NULL) {
        die("calloc");
    }

    for (i = 0; i < options.connections; i++) {
        peer = client_new(0);
        load.clients[i] = peer;
        client_ask(peer);
    }

    if (options.scrape != NULL) {
        scrape_ask(client_new(3));
    }

    for (i = 0; options.patch != NULL && i < LOAD_PATCHERS; i++) {
        patch_ask(client_new(4));
    }

    return peer;
}


static void
print(double seconds)
{
    printf("{\"requests\":%llu,\"seconds\":%.3f,\"errors\":%llu,"
           "\"served\":%llu,\"accepted\":%llu,\"closed\":%llu,"
           "\"scrapes\":%llu,\"patches\":%llu,\"bad\":\"%.3s\","
           "\"p50\":%.1f,\"p99\":%.1f}\n",
           (unsigned long long) load.requests, seconds,
           (unsigned long long) load.errors,
           (unsigned long long) load.served,
           (unsigned long long) load.accepted,
           (unsigned long long) load.closed,
           (unsigned long long) load.scrapes,
           (unsigned long long) load.patches, load.bad, quantile(0.5),
           quantile(0.99));
}


int
main(int argc, char **argv)
{
    peer_t    *peer;
    uint64_t   end, began;

    if (argc < 2) {
        fprintf(stderr, "usage: load PORT [OPTION=VALUE...]\n");
        return 2;
    }

    parse(argc, argv);
    make_request();
    load.epoll = epoll_create1(EPOLL_CLOEXEC);

    if (options.backend != 0) {
        (void) backend_listen();
    }

    peer = connect_all();

    for (end = now_ns() + (uint64_t) (options.warm * 1e9); now_ns() < end; ) {
        turn(peer);
    }

    if (options.hold != NULL) {
        hold();
    }

    load.errors = 0;
    load.measuring = 1;
    began = now_ns();

    end = began + (uint64_t) (options.seconds * 1e9);

    while (options.requests != 0 ? load.requests < options.requests
                                 : now_ns() < end)
    {
        turn(peer);
    }

    print((double) (now_ns() - began) / 1e9);

    return load.errors != 0;
}
