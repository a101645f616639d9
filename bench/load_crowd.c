/*
 * The load generator's crowd: clients that are slow, that end what they send
 * and wait for the answer, or that reset the connection while their request is
 * held.  One at a time does its next step while nobody waits for an answer, so
 * that what is measured is the server and not this thread.
 */

#define _GNU_SOURCE

#include "load.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>


#define CROWD_PAUSE  300000     /* ns from one step to the next */
#define CROWD_PORTS  8

/* What an HTTP/2 connection begins with: the preface and empty SETTINGS. */
#define CROWD_HTTP2  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


typedef enum {
    CROWD_SLOW,
    CROWD_HALF,
    CROWD_RESET
} crowd_kind_t;


typedef struct {
    int           fd;
    crowd_kind_t  kind;
    unsigned      port;         /* of crowd.ports */
    unsigned      sent;         /* bytes */
} client_t;


static struct {
    unsigned   n, turn, n_ports;
    unsigned   ports[CROWD_PORTS];
    int        http2[CROWD_PORTS];
    uint64_t   next;
    client_t  *clients;
} crowd;


/* "8001,8003h2": behind a port, what it speaks. */
static void
crowd_ports(const char *text)
{
    char  *end;

    while (*text != '\0' && crowd.n_ports < CROWD_PORTS) {
        crowd.ports[crowd.n_ports] = (unsigned) strtoul(text, &end, 10);

        if (end == text) {
            fprintf(stderr, "load: crowd= wants ports\n");
            exit(2);
        }

        crowd.http2[crowd.n_ports++] = strncmp(end, "h2", 2) == 0;
        text = end + strcspn(end, ",");
        text += *text == ',';
    }
}


static void
crowd_connect(client_t *client)
{
    struct sockaddr_in  to = { .sin_family = AF_INET };

    to.sin_port = htons((uint16_t) crowd.ports[client->port]);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    client->sent = 0;

    if (client->fd == -1
        || connect(client->fd, (struct sockaddr *) &to, sizeof(to)) == -1)
    {
        perror("crowd");
        exit(1);
    }
}


/* The request of a client, and how long it is. */
static const char *
crowd_request(const client_t *client, size_t *len)
{
    static char  text[LOAD_REQUEST];

    if (crowd.http2[client->port]) {
        *len = sizeof(CROWD_HTTP2) - 1;
        return CROWD_HTTP2;
    }

    *len = (size_t) snprintf(text, sizeof(text),
                             "GET / HTTP/1.1\r\nHost: %s\r\n"
                             "X-Filler: %0256u\r\n\r\n",
                             client->kind == CROWD_RESET ? options.held
                                                         : options.host, 0);
    return text;
}


/* One more byte, but never the last. */
static void
crowd_slow(client_t *client)
{
    size_t       len;
    const char  *text = crowd_request(client, &len);

    if (client->sent + 1 < len
        && send(client->fd, text + client->sent, 1,
                MSG_NOSIGNAL | MSG_DONTWAIT) == 1)
    {
        client->sent++;
        return;
    }

    /* the server closed it, or it is at its end: another one */
    (void) close(client->fd);
    crowd_connect(client);
}


static void
crowd_again(client_t *client)
{
    size_t         len;
    const char    *text;
    struct linger  linger = { .l_onoff = 1 };

    if (client->kind == CROWD_RESET) {
        (void) setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger,
                          sizeof(linger));
    }

    (void) close(client->fd);
    crowd_connect(client);
    text = crowd_request(client, &len);
    (void) send(client->fd, text, len, MSG_NOSIGNAL);

    if (client->kind == CROWD_HALF) {
        (void) shutdown(client->fd, SHUT_WR);
    }
}


static void
crowd_add(unsigned n, crowd_kind_t kind)
{
    unsigned   i;
    client_t  *client;

    for (i = 0; i < n; i++) {
        client = &crowd.clients[crowd.n++];
        client->kind = kind;
        client->port = kind == CROWD_RESET ? 0 : i % crowd.n_ports;
        crowd_connect(client);
    }
}


void
crowd_init(void)
{
    unsigned  n = options.slow + options.half + options.resets;

    if (n == 0 || options.crowd == NULL || options.interval == 0) {
        return;
    }

    crowd_ports(options.crowd);
    crowd.clients = calloc(n, sizeof(client_t));

    if (crowd.clients == NULL) {
        perror("calloc");
        exit(1);
    }

    crowd_add(options.slow, CROWD_SLOW);
    crowd_add(options.half, CROWD_HALF);
    crowd_add(options.held != NULL ? options.resets : 0, CROWD_RESET);
}


void
crowd_turn(void)
{
    client_t  *client;

    if (crowd.n == 0 || load_now() < crowd.next) {
        return;
    }

    /* each kind in turn, however many there are: a prime step */
    crowd.turn = (crowd.turn + 7919) % crowd.n;
    client = &crowd.clients[crowd.turn];

    if (client->kind == CROWD_SLOW) {
        crowd_slow(client);

    } else {
        crowd_again(client);
    }

    load.crowd += (unsigned) load.measuring;
    crowd.next = load_now() + CROWD_PAUSE;
}
