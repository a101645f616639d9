/*
 * relay: the least that a proxy can do, to know what the kernel alone takes.
 *
 *   relay PORT BACKEND GUESTS
 *
 * Sends what clients of 127.0.0.1:PORT say to 127.1.0.0 + n, n drawn at random
 * from GUESTS, port BACKEND, over connections that it keeps, and the answers
 * back.  It parses nothing, logs nothing, times nothing out.
 */

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>


#define RELAY_EVENTS  512


typedef struct peer_s  peer_t;

struct peer_s {
    int       fd;
    int       listens;
    peer_t  **idle;             /* of a guest: where it waits; else NULL */
    peer_t   *next;             /* there */
    peer_t   *client;           /* whose request it has */
};


static int        queue;
static unsigned   backend, guests;
static peer_t   **idle;
static uint64_t   drawn = 88172645463325252ull;
static char       buffer[65536];


static peer_t *
peer_new(int fd, peer_t **of)
{
    int                  on = 1;
    peer_t              *peer = calloc(1, sizeof(*peer));
    struct epoll_event   event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET };

    if (fd == -1 || peer == NULL) {
        perror("relay");
        exit(1);
    }

    peer->fd = fd;
    peer->idle = of;
    event.data.ptr = peer;
    (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void) epoll_ctl(queue, EPOLL_CTL_ADD, fd, &event);

    return peer;
}


/* A connection to a guest, one that is kept if there is one. */
static peer_t *
guest(void)
{
    int                  fd;
    unsigned             n;
    peer_t              *peer;
    struct sockaddr_in   to = { .sin_family = AF_INET };

    drawn ^= drawn << 13;
    drawn ^= drawn >> 7;
    drawn ^= drawn << 17;
    n = (unsigned) (drawn % guests);
    peer = idle[n];

    if (peer != NULL) {
        idle[n] = peer->next;
        return peer;
    }

    to.sin_port = htons((uint16_t) backend);
    to.sin_addr.s_addr = htonl((127u << 24) + (1u << 16) + n);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd == -1 || connect(fd, (struct sockaddr *) &to, sizeof(to)) == -1) {
        perror("relay: connect");
        exit(1);
    }

    return peer_new(fd, &idle[n]);
}


static void
relay(peer_t *peer)
{
    peer_t   *to;
    ssize_t   n = recv(peer->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

    if (n == -1 && errno == EAGAIN) {
        return;
    }

    if (n <= 0) {
        (void) close(peer->fd);
        return;
    }

    if (peer->idle == NULL) {
        to = guest();
        to->client = peer;

    } else {
        to = peer->client;
        peer->next = *peer->idle;
        *peer->idle = peer;
    }

    (void) send(to->fd, buffer, (size_t) n, MSG_NOSIGNAL);
}


int
main(int argc, char **argv)
{
    int                  i, n, fd, on = 1;
    peer_t              *listener, *peer;
    struct sockaddr_in   at = { .sin_family = AF_INET };
    struct epoll_event   events[RELAY_EVENTS];

    if (argc != 4) {
        fprintf(stderr, "usage: relay PORT BACKEND GUESTS\n");
        return 2;
    }

    backend = (unsigned) atoi(argv[2]);
    guests = (unsigned) atoi(argv[3]);
    idle = calloc(guests, sizeof(*idle));
    queue = epoll_create1(EPOLL_CLOEXEC);

    at.sin_port = htons((uint16_t) atoi(argv[1]));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (idle == NULL
        || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1
        || bind(fd, (struct sockaddr *) &at, sizeof(at)) == -1
        || listen(fd, 1024) == -1)
    {
        perror("relay");
        return 1;
    }

    listener = peer_new(fd, NULL);
    listener->listens = 1;

    while ((n = epoll_wait(queue, events, RELAY_EVENTS, -1)) > 0) {
        for (i = 0; i < n; i++) {
            peer = events[i].data.ptr;

            if (!peer->listens) {
                relay(peer);
                continue;
            }

            while ((fd = accept4(peer->fd, NULL, NULL, SOCK_CLOEXEC)) != -1) {
                (void) peer_new(fd, NULL);
            }
        }
    }

    return 0;
}
