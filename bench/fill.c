/*
 * fill: a zone with many VMs and a store with many routes, for measuring.
 *
 *   fill zone PATH SLOTS VMS          VM i at 127.1.0.0 + i, running
 *   fill routes DIR ROUTES VMS PORT   route i, n0000000 and up, to VM i % VMS
 *   fill publish PATH SECONDS         changes states of what is there, in
 *                                     bursts of 1000 every 10 ms
 *   fill index DIR                    builds the index of the routes
 *   fill agent SOCKET [VM]            tells workers that each VM that they
 *                                     ask for is ready, as an agent would;
 *                                     but VM i, of which it says nothing
 */

#define _GNU_SOURCE

#include "hatch_clock.h"
#include "hatch_route_store.h"
#include "hatch_wake.h"
#include "hatch_zone.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>


static hatch_err_t  err;


static int
fail(void)
{
    fprintf(stderr, "fill: %s\n", err.text);

    return 1;
}


static void
make_id(char *id, const char *prefix, unsigned n)
{
    int  i;

    (void) snprintf(id, HATCH_ID_SIZE, "%saaaaaaaaaaaaaaaa", prefix);

    for (i = (int) strlen(id) - 1; n != 0; i--, n /= 26) {
        id[i] = (char) ('a' + n % 26);
    }
}


static int
fill_zone(const char *path, unsigned slots, unsigned vms)
{
    unsigned             i;
    uint32_t             address;
    hatch_zone_vm_t      vm;
    hatch_zone_stats_t   stats;
    hatch_zone_writer_t  writer;

    if (hatch_zone_own(&writer, path, slots, (gid_t) -1, &err) != 0) {
        return fail();
    }

    for (i = 0; i < vms; i++) {
        memset(&vm, 0, sizeof(vm));
        make_id(vm.id, "vm_", i);
        (void) snprintf(vm.name, sizeof(vm.name), "web-%u", i);
        vm.incarnation = i + 1;
        vm.vcpus = 1;
        vm.memory = 1u << 29;
        vm.family = 4;
        address = htonl((127u << 24) + (1u << 16) + i);
        memcpy(vm.address, &address, sizeof(address));

        if (hatch_zone_put(&writer, &vm, HATCH_STATE_RUNNING,
                           hatch_clock_ms()) < 0)
        {
            fprintf(stderr, "fill: the zone is full\n");
            return 1;
        }

        memset(&stats, 0, sizeof(stats));
        stats.generation = vm.generation;
        stats.sampled = hatch_clock_ms();
        stats.cpu_time = 12345678901ull * (i + 1);
        stats.memory_resident = 1u << 28;
        stats.rx_bytes = stats.tx_bytes = 987654321;
        hatch_zone_set_stats(&writer, i, &stats);
    }

    hatch_zone_set_libvirt(&writer, HATCH_LIBVIRT_CONNECTED, hatch_clock_ms());
    hatch_zone_set_sampled(&writer, hatch_clock_ms());
    hatch_zone_publish(&writer, hatch_clock_ms());
    (void) chmod(path, 0644);

    return 0;
}


static int
fill_routes(const char *dir, unsigned routes, unsigned vms, unsigned port)
{
    unsigned            i;
    hatch_route_t       route;
    hatch_store_t      *store;
    hatch_store_txn_t   txn;

    (void) mkdir(dir, 0700);

    if (hatch_store_open(&store, dir, 2ul << 30, &err) != 0
        || hatch_store_begin(store, &txn, &err) != 0)
    {
        return fail();
    }

    memset(&route, 0, sizeof(route));
    route.target_port = (uint16_t) port;
    route.auto_wake = 1;
    route.created = route.updated = hatch_clock_wall_ms();

    for (i = 0; i < routes; i++) {
        make_id(route.id, "rt_", i);
        make_id(route.vm, "vm_", i % vms);
        (void) snprintf(route.subdomain, sizeof(route.subdomain), "n%07u", i);

        if (hatch_store_create(&txn, &route, &err) != 0) {
            return fail();
        }
    }

    if (hatch_store_commit(&txn, &err) != 0) {
        return fail();
    }

    hatch_store_close(store);

    return 0;
}


static int
publish(const char *path, double seconds)
{
    unsigned               i, burst = 0;
    uint64_t               end;
    hatch_zone_writer_t    writer;
    const struct timespec  pause = { 0, 10000000 };

    if (hatch_zone_own(&writer, path, 16384, (gid_t) -1, &err) != 0) {
        return fail();
    }

    end = hatch_clock_ms() + (uint64_t) (seconds * 1000);

    while (hatch_clock_ms() < end) {
        for (i = 0; i < 1000; i++) {
            hatch_zone_set_state(&writer, (burst + i) % 10000,
                                 i & 1 ? HATCH_STATE_RUNNING
                                       : HATCH_STATE_PAUSED,
                                 hatch_clock_ms());
        }

        burst += 1000;
        (void) nanosleep(&pause, NULL);
    }

    return 0;
}


static int
fill_index(const char *dir)
{
    int             more = 1;
    hatch_store_t  *store;

    if (hatch_store_open(&store, dir, 0, &err) != 0) {
        return fail();
    }

    while (more) {
        if (hatch_store_index_build(store, 10000, &more, &err) != 0) {
            return fail();
        }
    }

    return 0;
}


/* One message of a worker; -1: it has gone. */
static int
answer(int fd, const char *never)
{
    hatch_wake_message_t  m;

    if (recv(fd, &m, sizeof(m), MSG_WAITALL) != sizeof(m)) {
        return -1;
    }

    if (strncmp(m.vm, never, sizeof(m.vm)) == 0) {
        return 0;
    }

    m.type = HATCH_WAKE_READY;
    m.kind = HATCH_WAKE_KIND_NONE;
    m.timeout = 0;
    m.port = 0;
    memset(m.vm, 0, sizeof(m.vm));

    return send(fd, &m, sizeof(m), MSG_NOSIGNAL) == sizeof(m) ? 0 : -1;
}


static int
agent(const char *path, const char *never)
{
    int                 n = 1, i;
    struct pollfd       fds[64];
    struct sockaddr_un  sun = { .sun_family = AF_UNIX };

    (void) snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
    (void) unlink(path);

    fds[0].fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fds[0].events = POLLIN;

    if (fds[0].fd == -1
        || bind(fds[0].fd, (struct sockaddr *) &sun, sizeof(sun)) == -1
        || listen(fds[0].fd, 64) == -1)
    {
        perror("fill: agent");
        return 1;
    }

    while (poll(fds, (nfds_t) n, -1) > 0) {
        for (i = n - 1; i > 0; i--) {
            if (fds[i].revents != 0 && answer(fds[i].fd, never) != 0) {
                (void) close(fds[i].fd);
                fds[i] = fds[--n];
            }
        }

        if (fds[0].revents != 0 && n < 64) {
            fds[n].fd = accept(fds[0].fd, NULL, NULL);
            fds[n].events = POLLIN;
            fds[n].revents = 0;
            n += fds[n].fd != -1;
        }
    }

    return 0;
}


int
main(int argc, char **argv)
{
    char  never[HATCH_ID_SIZE] = "none";

    if (argc == 5 && strcmp(argv[1], "zone") == 0) {
        return fill_zone(argv[2], (unsigned) atoi(argv[3]),
                         (unsigned) atoi(argv[4]));
    }

    if (argc == 6 && strcmp(argv[1], "routes") == 0) {
        return fill_routes(argv[2], (unsigned) atoi(argv[3]),
                           (unsigned) atoi(argv[4]),
                           (unsigned) atoi(argv[5]));
    }

    if (argc == 4 && strcmp(argv[1], "publish") == 0) {
        return publish(argv[2], atof(argv[3]));
    }

    if (argc == 3 && strcmp(argv[1], "index") == 0) {
        return fill_index(argv[2]);
    }

    if ((argc == 3 || argc == 4) && strcmp(argv[1], "agent") == 0) {
        if (argc == 4) {
            make_id(never, "vm_", (unsigned) atoi(argv[3]));
        }

        return agent(argv[2], never);
    }

    fprintf(stderr, "usage: fill zone|routes|index|publish|agent ...\n");

    return 2;
}
