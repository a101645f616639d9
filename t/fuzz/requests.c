/*
 * requests SECONDS EXECUTIONS PROCESSES SEED FOLDER
 *
 * Sends cases to the servers of t/fuzz/requests.t until the time is over or
 * so many requests were sent, whichever is first.  Exit status 1: an answer
 * was wrong; the first case of each kind and what came are in FOLDER.  A case
 * is repeated with its number as SEED, one process and one execution.
 */

#define _GNU_SOURCE

#include "requests.h"
#include "hatch_clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>


#define CONNECTIONS  48         /* of a process, at a time */
#define QUIET_MS     50         /* no answer comes any more: half-close */
#define STUCK_MS     20000      /* nginx has not closed it since */
#define KINDS        32         /* of what is wrong with an answer */


typedef struct {
    int              fd;
    unsigned         shut:1;
    size_t           sent;
    uint64_t         active;
    bytes_t          in;
    requests_case_t  c;
} connection_t;


typedef struct {
    uint64_t         executions;
    uint64_t         answers;
    uint64_t         cases;
    uint64_t         wrong;
    int              stop;
    unsigned         kinds;
    const char      *kind[KINDS];   /* each said once */
} shared_t;


static shared_t    *shared;
static const char  *folder;
static uint64_t     next;


static void
on_signal(int signo)
{
    (void) signo;
    shared->stop = 1;
}


static void
save(const connection_t *c, const char *what, const bytes_t *b)
{
    char   path[4096];
    FILE  *file;

    (void) snprintf(path, sizeof(path), "%s/%llu.%s", folder,
                    (unsigned long long) c->c.seed, what);
    file = fopen(path, "w");

    if (file != NULL) {
        (void) fwrite(b->data, 1, b->len, file);
        (void) fclose(file);
    }
}


static void
complain(const connection_t *c, const char *wrong)
{
    unsigned  i, n;

    __atomic_fetch_add(&shared->wrong, 1, __ATOMIC_RELAXED);

    /* the texts are constants, at one address in all processes */
    for (i = 0; i < shared->kinds && i < KINDS; i++) {
        if (shared->kind[i] == wrong) {
            return;
        }
    }

    n = __atomic_fetch_add(&shared->kinds, 1, __ATOMIC_RELAXED);

    if (n >= KINDS) {
        return;
    }

    shared->kind[n] = wrong;
    printf("wrong: case %llu, port %u: %s; it is in %s\n",
           (unsigned long long) c->c.seed, c->c.port, wrong, folder);
    (void) fflush(stdout);
    save(c, "sent", &c->c.out);
    save(c, "came", &c->in);
}


static void
finish(connection_t *c)
{
    struct linger  linger = { 1, 0 };

    /* no TIME_WAIT of ours, or there are soon no more ports */
    if (c->c.end != REQUESTS_CLOSE) {
        (void) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger,
                          sizeof(linger));
    }

    (void) close(c->fd);
    c->fd = -1;
    __atomic_fetch_add(&shared->executions, c->c.wanted, __ATOMIC_RELAXED);
    __atomic_fetch_add(&shared->cases, 1, __ATOMIC_RELAXED);
}


static void
begin(connection_t *c)
{
    int                 one = 1;
    struct sockaddr_in  to;

    requests_make(&c->c, next++);
    c->in.len = 0;
    c->sent = 0;
    c->shut = 0;
    c->active = hatch_clock_ms();
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    /* many addresses have more ports than one */
    memset(&to, 0, sizeof(to));
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t) c->c.port);
    to.sin_addr.s_addr = htonl(0x7f000001u + (uint32_t) (c->c.seed % 200));

    if (c->fd == -1
        || (connect(c->fd, (struct sockaddr *) &to, sizeof(to)) == -1
            && errno != EINPROGRESS))
    {
        complain(c, "it cannot connect");
        return;
    }

    (void) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}


static void
half_close(connection_t *c)
{
    c->shut = 1;
    c->c.end = REQUESTS_SHUT;
    (void) shutdown(c->fd, SHUT_WR);
}


/* Sends the next piece.  Not 0 when the connection is done with. */
static int
send_piece(connection_t *c)
{
    size_t    end = c->c.out.len;
    ssize_t   n;
    unsigned  i;

    for (i = 0; i < c->c.cuts; i++) {
        if (c->c.cut[i] > c->sent && c->c.cut[i] < end) {
            end = c->c.cut[i];
        }
    }

    n = send(c->fd, c->c.out.data + c->sent, end - c->sent, MSG_NOSIGNAL);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }

    if (n < 0) {
        /* nginx has closed it: what came is still to be read */
        c->sent = c->c.out.len;
        c->c.end = REQUESTS_SHUT;
        c->shut = 1;
        return 0;
    }

    c->sent += (size_t) n;

    if (c->sent < c->c.out.len) {
        return 0;
    }

    if (c->c.end == REQUESTS_SHUT) {
        half_close(c);
    }

    return c->c.end == REQUESTS_CLOSE || c->c.end == REQUESTS_RESET;
}


/* Reads and judges.  Not 0 when the connection is done with. */
static int
receive(connection_t *c)
{
    int                eof = 0;
    char               buf[65536];
    ssize_t            n;
    const char        *wrong;
    requests_answer_t  answer;

    n = recv(c->fd, buf, sizeof(buf), 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }

    if (n <= 0) {
        eof = 1;

        /* a reset takes with it what was not yet read, of the answer, too */
        if (n < 0 || c->sent < c->c.out.len) {
            c->c.end = REQUESTS_SHUT;
        }

    } else {
        bytes_add(&c->in, buf, (size_t) n);
    }

    wrong = requests_check(&c->c, &c->in, eof, &answer);

    if (wrong != NULL) {
        complain(c, wrong);
        return 1;
    }

    if (!eof && (c->sent < c->c.out.len || answer.complete < c->c.wanted
                 || answer.partial))
    {
        return 0;
    }

    __atomic_fetch_add(&shared->answers, answer.complete, __ATOMIC_RELAXED);

    return 1;
}


static void
serve(connection_t *c, short events, uint64_t now)
{
    int  done = 0;

    if (events & (POLLIN | POLLHUP | POLLERR)) {
        c->active = now;
        done = receive(c);
    }

    if (!done && (events & POLLOUT) && c->sent < c->c.out.len) {
        c->active = now;
        done = send_piece(c);
    }

    if (!done && c->c.out.len == c->sent && now - c->active > QUIET_MS
        && !c->shut)
    {
        half_close(c);
        c->active = now;
    }

    if (!done && now - c->active > STUCK_MS) {
        complain(c, "nginx does not close it");
        done = 1;
    }

    if (done) {
        finish(c);
    }
}


static void
work(uint64_t executions, uint64_t until)
{
    int            i, more;
    uint64_t       now;
    connection_t  *c;
    struct pollfd  polls[CONNECTIONS];

    c = calloc(CONNECTIONS, sizeof(*c));

    if (c == NULL) {
        abort();
    }

    for (i = 0; i < CONNECTIONS; i++) {
        c[i].fd = -1;
    }

    do {
        now = hatch_clock_ms();
        more = 0;

        for (i = 0; i < CONNECTIONS; i++) {
            if (c[i].fd == -1 && !shared->stop && now < until
                && __atomic_load_n(&shared->executions, __ATOMIC_RELAXED) + i
                   < executions)
            {
                begin(&c[i]);
            }

            polls[i].fd = c[i].fd;
            polls[i].events = POLLIN;
            polls[i].revents = 0;

            if (c[i].sent < c[i].c.out.len) {
                polls[i].events |= POLLOUT;
            }

            more |= c[i].fd != -1;
        }

        (void) poll(polls, CONNECTIONS, 10);
        now = hatch_clock_ms();

        for (i = 0; i < CONNECTIONS; i++) {
            if (c[i].fd != -1) {
                serve(&c[i], polls[i].revents, now);
            }
        }

    } while (more);

    printf("at case %llu\n", (unsigned long long) next);
    (void) fflush(stdout);
    exit(0);
}


int
main(int argc, char **argv)
{
    int       i, processes;
    uint64_t  executions, until, began, seed;

    if (argc != 6) {
        fprintf(stderr, "usage: requests SECONDS EXECUTIONS PROCESSES SEED "
                        "FOLDER\n");
        return 2;
    }

    began = hatch_clock_ms();
    until = began + 1000 * strtoull(argv[1], NULL, 10);
    executions = strtoull(argv[2], NULL, 10);
    processes = atoi(argv[3]);
    seed = strtoull(argv[4], NULL, 10);
    folder = argv[5];
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (shared == MAP_FAILED) {
        return 2;
    }

    (void) signal(SIGTERM, on_signal);

    for (i = 0; i < processes; i++) {
        next = seed + ((uint64_t) i << 40);

        if (fork() == 0) {
            work(executions, until);
        }
    }

    while (wait(NULL) > 0 || errno == EINTR) { /* void */ }

    printf("seed %llu: %llu requests on %llu connections, %llu answers, "
           "%llu wrong, %llu s\n", (unsigned long long) seed,
           (unsigned long long) shared->executions,
           (unsigned long long) shared->cases,
           (unsigned long long) shared->answers,
           (unsigned long long) shared->wrong,
           (unsigned long long) (hatch_clock_ms() - began) / 1000);

    return shared->wrong > 0;
}
