/*
 * first-byte: how long until the first byte of an answer, in microseconds.
 *
 *   first-byte get HOST ADDRESS PORT
 *       a request to ADDRESS:PORT
 *   first-byte resume|create DOMAIN HOST ADDRESS PORT
 *       libvirt's bare call on the domain, then the same, tried anew every
 *       5 ms until it is answered
 *   first-byte start VM SOCKET HOST ADDRESS PORT
 *       POST /vms/VM/start to the agent's socket, then a request
 *
 * The connection to libvirt is open before the clock starts.
 */

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>


#define BENCH_DEADLINE  60000000        /* us */
#define BENCH_CONNECT   100             /* ms for one attempt */
#define BENCH_PAUSE     5000            /* us between two */


static long long
bench_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (long long) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}


/* Sends the request and waits for a byte.  0, or -1. */
static int
bench_exchange(int fd, const char *text)
{
    char  byte[1];

    return send(fd, text, strlen(text), MSG_NOSIGNAL)
           == (ssize_t) strlen(text) && recv(fd, byte, 1, 0) == 1 ? 0 : -1;
}


/* A connection, or -1 if there is none within BENCH_CONNECT ms. */
static int
bench_connect(const char *address, const char *port)
{
    int                 fd, error = 0;
    socklen_t           size = sizeof(error);
    struct pollfd       poll_fd;
    struct sockaddr_in  peer = { .sin_family = AF_INET };

    peer.sin_port = htons((uint16_t) atoi(port));
    (void) inet_pton(AF_INET, address, &peer.sin_addr);

    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    if (connect(fd, (struct sockaddr *) &peer, sizeof(peer)) == -1) {
        poll_fd.fd = fd;
        poll_fd.events = POLLOUT;

        if (errno != EINPROGRESS || poll(&poll_fd, 1, BENCH_CONNECT) != 1
            || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == -1
            || error != 0)
        {
            (void) close(fd);
            return -1;
        }
    }

    (void) fcntl(fd, F_SETFL, 0);

    return fd;
}


static int
bench_get(const char *host, const char *address, const char *port)
{
    int        fd, rc = -1;
    char       text[512];
    long long  began = bench_now();

    (void) snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: %s\r\n"
                    "Connection: close\r\n\r\n", host);

    while (rc != 0 && bench_now() - began < BENCH_DEADLINE) {
        fd = bench_connect(address, port);

        if (fd != -1) {
            rc = bench_exchange(fd, text);
            (void) close(fd);
        }

        if (rc != 0) {
            (void) usleep(BENCH_PAUSE);
        }
    }

    return rc;
}


static int
bench_start(const char *vm, const char *path)
{
    int                 fd, rc;
    char                text[512];
    struct sockaddr_un  peer = { .sun_family = AF_UNIX };

    (void) snprintf(peer.sun_path, sizeof(peer.sun_path), "%s", path);
    (void) snprintf(text, sizeof(text), "POST /vms/%s/start HTTP/1.1\r\n"
                    "Host: localhost\r\nContent-Length: 0\r\n"
                    "Connection: close\r\n\r\n", vm);

    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    rc = connect(fd, (struct sockaddr *) &peer, sizeof(peer));

    if (rc == 0) {
        rc = bench_exchange(fd, text);
    }

    (void) close(fd);

    return rc;
}


int
main(int argc, char **argv)
{
    int            rc = 0;
    long long      began;
    virDomainPtr   domain = NULL;
    virConnectPtr  conn;

    if (argc < 5) {
        fprintf(stderr, "usage: see the top of bench/first_byte.c\n");
        return 2;
    }

    if (strcmp(argv[1], "resume") == 0 || strcmp(argv[1], "create") == 0) {
        conn = virConnectOpen("qemu:///system");
        domain = conn != NULL ? virDomainLookupByName(conn, argv[2]) : NULL;

        if (domain == NULL) {
            return 1;
        }
    }

    began = bench_now();

    if (domain != NULL) {
        rc = argv[1][0] == 'r' ? virDomainResume(domain)
                               : virDomainCreate(domain);

    } else if (strcmp(argv[1], "start") == 0) {
        rc = bench_start(argv[2], argv[3]);
    }

    if (rc == 0) {
        rc = bench_get(argv[argc - 3], argv[argc - 2], argv[argc - 1]);
    }

    if (rc != 0) {
        fprintf(stderr, "first-byte: no answer\n");
        return 1;
    }

    printf("%lld\n", bench_now() - began);

    return 0;
}
