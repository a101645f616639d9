/* The connections of the wake socket. */

#define _GNU_SOURCE

#include "wake.h"
#include "wake_private.h"
#include "core/descriptors.h"
#include "core/listen.h"
#include "core/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>


#define WORKERS      1024
#define WORKER_REST  100            /* ms, while there is no descriptor */
#define WORKER_GROW  256            /* messages */


struct worker_s {
    wake_source_t     source;
    struct worker_s  *next;
    int               fd;           /* -1: gone */
    size_t            have;         /* of in */
    union {
        hatch_wake_message_t  message;
        char                  bytes[sizeof(hatch_wake_message_t)];
    } in;

    /* what the socket did not take: bytes [sent, unsent) of out */
    char             *out;
    size_t            sent, unsent, size;
};


static struct {
    const config_t   *config;
    int               epoll;
    int               listener;
    worker_message_t  message;
    void            (*gone)(worker_t *worker);
    worker_t         *first;
    unsigned          n;
    int               connected;    /* n, for other threads */
    uint64_t          rest;         /* 0, or nobody is accepted until then */
    unsigned          is_short:1;   /* of descriptors, and it was said so */
} workers;

static wake_source_t  worker_listener = WAKE_LISTENER;


static void
worker_count(int change)
{
    workers.n += (unsigned) change;
    __atomic_store_n(&workers.connected, (int) workers.n, __ATOMIC_RELAXED);
}


int
wake_connected(void)
{
    return __atomic_load_n(&workers.connected, __ATOMIC_RELAXED) != 0;
}


int
worker_begin(const config_t *config, int epoll, int listener,
    worker_message_t message, void (*gone)(worker_t *worker))
{
    struct epoll_event  event = { .events = EPOLLIN };

    workers.config = config;
    workers.epoll = epoll;
    workers.listener = listener;
    workers.message = message;
    workers.gone = gone;
    event.data.ptr = &worker_listener;

    return epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
}


void
worker_close(worker_t *worker)
{
    if (worker->fd != -1) {
        (void) close(worker->fd);
        worker->fd = -1;
        worker_count(-1);
        workers.gone(worker);
    }
}


void
worker_sweep(void)
{
    worker_t  **worker = &workers.first, *closed;

    while ((closed = *worker) != NULL) {
        if (closed->fd != -1) {
            worker = &closed->next;
            continue;
        }

        *worker = closed->next;
        free(closed->out);
        free(closed);
    }
}


/* --- accepting --- */

/* Whether somebody who connects is an event. */
static void
worker_listen(int listens)
{
    struct epoll_event  event = { .events = listens ? EPOLLIN : 0 };

    event.data.ptr = &worker_listener;
    (void) epoll_ctl(workers.epoll, EPOLL_CTL_MOD, workers.listener, &event);
}


/* Who waits to be accepted stays an event, and would be one at once again. */
static void
worker_rest(uint64_t now)
{
    if (!workers.is_short) {
        log_event(LOG_WARN, "no file descriptor is left for connections to "
                  "the wake socket; they wait");
    }

    workers.is_short = 1;
    workers.rest = now + WORKER_REST;
    worker_listen(0);
}


uint64_t
worker_tick(uint64_t now)
{
    if (workers.rest == 0) {
        return UINT64_MAX;
    }

    if (now < workers.rest) {
        return workers.rest;
    }

    workers.rest = 0;
    worker_listen(1);

    return UINT64_MAX;
}


void
worker_accept(uint64_t now)
{
    int                 fd;
    uid_t               uid;
    worker_t           *worker;
    struct epoll_event  event = { .events = EPOLLIN };

    fd = accept4(workers.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd == -1) {
        if (descriptors_short(errno)) {
            worker_rest(now);
        }

        return;
    }

    workers.is_short = 0;

    if (!listen_trusts(fd, workers.config, &uid)) {
        log_event(LOG_WARN, "user %d may not use the wake socket: it is "
                  "neither root nor in the group of nginx's workers or of the "
                  "sockets", (int) uid);
        (void) close(fd);
        return;
    }

    worker = workers.n < WORKERS ? calloc(1, sizeof(*worker)) : NULL;
    event.data.ptr = worker;

    if (worker == NULL
        || epoll_ctl(workers.epoll, EPOLL_CTL_ADD, fd, &event) == -1)
    {
        free(worker);
        (void) close(fd);
        return;
    }

    worker->source = WAKE_WORKER;
    worker->fd = fd;
    worker->next = workers.first;
    workers.first = worker;
    worker_count(1);
}


/* --- writing --- */

/* Whether room in the socket is an event. */
static void
worker_watch(worker_t *worker, uint32_t events)
{
    struct epoll_event  event = { .events = events };

    event.data.ptr = worker;
    (void) epoll_ctl(workers.epoll, EPOLL_CTL_MOD, worker->fd, &event);
}


/* Room for another message: 0, or -1. */
static int
worker_grow(worker_t *worker)
{
    char    *out;
    size_t   size = worker->size + WORKER_GROW * sizeof(hatch_wake_message_t);

    if (worker->sent != 0) {
        memmove(worker->out, worker->out + worker->sent,
                worker->unsent - worker->sent);
        worker->unsent -= worker->sent;
        worker->sent = 0;
    }

    if (worker->unsent + sizeof(hatch_wake_message_t) <= worker->size) {
        return 0;
    }

    if (size > WORKER_BEHIND * sizeof(hatch_wake_message_t)) {
        return -1;
    }

    out = realloc(worker->out, size);

    if (out == NULL) {
        return -1;
    }

    worker->out = out;
    worker->size = size;

    return 0;
}


/* What there is; closes the connection if that cannot be sent. */
static void
worker_flush(worker_t *worker)
{
    ssize_t  n;

    while (worker->sent != worker->unsent) {
        n = send(worker->fd, worker->out + worker->sent,
                 worker->unsent - worker->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n == -1 && errno == EAGAIN) {
            worker_watch(worker, EPOLLIN | EPOLLOUT);
            return;
        }

        if (n == -1 && errno != EINTR) {
            worker_close(worker);
            return;
        }

        worker->sent += n > 0 ? (size_t) n : 0;
    }

    worker->sent = 0;
    worker->unsent = 0;
    worker_watch(worker, EPOLLIN);
}


void
worker_send(worker_t *worker, const hatch_wake_message_t *message)
{
    ssize_t  n = 0;

    if (worker->fd == -1) {
        return;
    }

    if (worker->unsent == 0) {
        n = send(worker->fd, message, sizeof(*message),
                 MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n == (ssize_t) sizeof(*message)) {
            return;
        }

        if (n == -1 && errno != EAGAIN) {
            worker_close(worker);
            return;
        }

        n = n > 0 ? n : 0;
    }

    if (worker->unsent + sizeof(*message) > worker->size
        && worker_grow(worker) != 0)
    {
        worker_close(worker);
        return;
    }

    if (worker->unsent == 0) {
        worker_watch(worker, EPOLLIN | EPOLLOUT);
    }

    memcpy(worker->out + worker->unsent, (const char *) message + n,
           sizeof(*message) - (size_t) n);
    worker->unsent += sizeof(*message) - (size_t) n;
}


/* --- reading --- */

static void
worker_read(worker_t *worker, uint64_t now)
{
    ssize_t  n;

    while (worker->fd != -1) {
        n = recv(worker->fd, worker->in.bytes + worker->have,
                 sizeof(worker->in) - worker->have, 0);

        if (n == -1 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }

        if (n <= 0) {
            worker_close(worker);
            return;
        }

        worker->have += (size_t) n;

        if (worker->have == sizeof(worker->in)) {
            worker->have = 0;
            workers.message(worker, &worker->in.message, now);
        }
    }
}


void
worker_event(worker_t *worker, uint32_t events, uint64_t now)
{
    if (worker->fd != -1 && (events & EPOLLOUT)) {
        worker_flush(worker);
    }

    if (worker->fd != -1 && (events & ~(uint32_t) EPOLLOUT)) {
        worker_read(worker, now);
    }
}
