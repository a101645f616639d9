/*
 * Does a guest accept connections?  A SYN says so: with delayed ACKs off the
 * kernel keeps the last packet of the handshake back, and closing with a
 * reset then tells the guest's kernel to forget it.  The service in the guest
 * never sees a connection that brings no request.
 */

#define _GNU_SOURCE

#include "wake_private.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>


static struct {
    unsigned long  open;            /* descriptors of all probes */
    unsigned long  most;
} probes;


void
probe_begin(unsigned long most)
{
    probes.most = most > WAKE_PROBES ? most : WAKE_PROBES;
}


void
probe_init(probe_t *probe, struct in_addr address, uint16_t port)
{
    int  i;

    memset(probe, 0, sizeof(*probe));
    probe->peer.sin_family = AF_INET;
    probe->peer.sin_addr = address;
    probe->peer.sin_port = htons(port);

    for (i = 0; i < WAKE_PROBES; i++) {
        probe->fd[i] = -1;
    }
}


static void
probe_close_one(int *fd)
{
    const struct linger  reset = { 1, 0 };

    if (*fd != -1) {
        (void) setsockopt(*fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        (void) close(*fd);
        *fd = -1;
        probes.open--;
    }
}


void
probe_close(probe_t *probe)
{
    int  i;

    for (i = 0; i < WAKE_PROBES; i++) {
        probe_close_one(&probe->fd[i]);
    }
}


/* A place for another attempt, or -1 if it is not this probe's turn. */
static int
probe_make_room(probe_t *probe)
{
    int            i, full = probes.open >= probes.most;
    unsigned long  before = probes.open;

    i = (int) probe->next;
    probe->next = (probe->next + 1) % WAKE_PROBES;

    if (probes.open < probes.most / 2) {
        probe_close_one(&probe->fd[i]);
        return i;
    }

    probe_close(probe);

    return full && (probes.open < before || probes.open >= probes.most) ? -1
                                                                        : i;
}


probe_result_t
probe_send(probe_t *probe, int epoll, void *data, uint64_t now)
{
    int                 *fd, i;
    const int            off = 0;
    struct epoll_event   event = { .events = EPOLLOUT };

    probe->due = now + WAKE_PROBE_STEP;
    i = probe_make_room(probe);

    /* before those that have just had a turn have another */
    if (i == -1) {
        probe->due = now + WAKE_PROBE_TURN;
        return PROBE_NONE;
    }

    fd = &probe->fd[i];
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (*fd == -1) {
        return PROBE_NONE;
    }

    probes.open++;

    (void) setsockopt(*fd, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof(off));

    if (connect(*fd, (struct sockaddr *) &probe->peer, sizeof(probe->peer))
        == 0)
    {
        return PROBE_READY;
    }

    event.data.ptr = data;

    if (errno == ECONNREFUSED) {
        probe_close_one(fd);
        return PROBE_REFUSED;
    }

    if (errno != EINPROGRESS
        || epoll_ctl(epoll, EPOLL_CTL_ADD, *fd, &event) == -1)
    {
        probe_close_one(fd);
    }

    return PROBE_NONE;
}


/* 0 once connected, EINPROGRESS, or what went wrong. */
static int
probe_state(int fd)
{
    int                 error = 0;
    socklen_t           size = sizeof(error);
    struct sockaddr_in  peer;

    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == -1) {
        return errno;
    }

    if (error != 0) {
        return error;
    }

    size = sizeof(peer);

    return getpeername(fd, (struct sockaddr *) &peer, &size) == 0
           ? 0 : EINPROGRESS;
}


probe_result_t
probe_look(probe_t *probe)
{
    int             i, error;
    probe_result_t  result = PROBE_NONE;

    for (i = 0; i < WAKE_PROBES; i++) {
        if (probe->fd[i] == -1) {
            continue;
        }

        error = probe_state(probe->fd[i]);

        if (error == 0) {
            return PROBE_READY;
        }

        if (error != EINPROGRESS) {
            probe_close_one(&probe->fd[i]);
            result = error == ECONNREFUSED ? PROBE_REFUSED : result;
        }
    }

    return result;
}
