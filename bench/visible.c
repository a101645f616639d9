/*
 * visible: how long after its commit another process sees a change.
 *
 *   visible DIR CHANGES
 *
 * Changes the port of the route n0000000, which another process looks up all
 * the time, as a worker does for each request.  One line of JSON (latency.h).
 */

#define _GNU_SOURCE

#include "hatch_route_store.h"

#include "latency.h"

#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>


static hatch_err_t     err;
static hatch_store_t  *store;


/* What the one who changes and the one who looks share. */
typedef struct {
    unsigned  port;             /* the last change that was seen */
    uint64_t  seen;             /* and when, ns */
    int       ready;
} visible_t;


static void
die(void)
{
    fprintf(stderr, "visible: %s\n", err.text);
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
look(const char *dir, visible_t *v)
{
    int              more = 1;
    unsigned         port = 0;
    hatch_target_t   target;

    if (hatch_store_open(&store, dir, 0, &err) != 0) {
        die();
    }

    while (more) {
        if (hatch_store_index_build(store, 10000, &more, &err) != 0) {
            die();
        }
    }

    hatch_store_index_use(store);
    __atomic_store_n(&v->ready, 1, __ATOMIC_RELEASE);

    for ( ;; ) {
        if (hatch_store_lookup(store, "n0000000", 8, &target, &err) == 0
            && target.target_port != port)
        {
            port = target.target_port;
            v->seen = now_ns();
            __atomic_store_n(&v->port, port, __ATOMIC_RELEASE);
        }
    }
}


/* Returns when the commit was done. */
static uint64_t
change(const char *id, uint16_t port)
{
    hatch_route_t      route;
    hatch_store_txn_t  txn;

    if (hatch_store_begin(store, &txn, &err) != 0
        || hatch_store_update(&txn, id, port, -1, 0, &route, &err) != 0
        || hatch_store_commit(&txn, &err) != 0)
    {
        die();
    }

    return now_ns();
}


int
main(int argc, char **argv)
{
    pid_t            pid;
    unsigned         i, n, port;
    latency_t        late;
    uint64_t         committed;
    visible_t       *v;
    hatch_target_t   target;

    if (argc != 3 || (n = (unsigned) atoi(argv[2])) == 0
        || latency_init(&late, n) != 0)
    {
        fprintf(stderr, "usage: visible DIR CHANGES\n");
        return 2;
    }

    v = mmap(NULL, sizeof(*v), PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid = fork();

    if (pid == 0) {
        look(argv[1], v);
    }

    while (!__atomic_load_n(&v->ready, __ATOMIC_ACQUIRE)) {
        (void) usleep(1000);
    }

    if (hatch_store_open(&store, argv[1], 0, &err) != 0
        || hatch_store_lookup(store, "n0000000", 8, &target, &err) != 0)
    {
        die();
    }

    for (i = 0; i < n; i++) {
        latency_begin(&late);
        port = 10000 + i % 2;
        committed = change(hatch_target_id(&target), (uint16_t) port);

        while (__atomic_load_n(&v->port, __ATOMIC_ACQUIRE) != port) {
            /* void */
        }

        latency_note(&late, v->seen > committed
                            ? (double) (v->seen - committed) / 1e6 : 0);
    }

    /* as it was */
    (void) change(target.id, target.target_port);
    (void) kill(pid, SIGKILL);

    latency_print(&late);

    return 0;
}
