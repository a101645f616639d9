/*
 * The index of the routes: the same answers as the store's, whatever was
 * done to either.  A wrong answer here is a request that reaches the wrong
 * VM.
 */

#define _GNU_SOURCE

#include "hatch_guard.h"
#include "hatch_route_store.h"

#include "tap.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>


#define NAMES  400


static hatch_store_t   *store;
static hatch_err_t      err;
static char             dir[256];


/* A route whose VM and port tell its name; `n` in what they tell. */
static hatch_route_t
make_route(const char *name, unsigned n)
{
    hatch_route_t  route;

    memset(&route, 0, sizeof(route));
    (void) hatch_id_make(HATCH_ID_ROUTE, route.id);
    (void) snprintf(route.vm, sizeof(route.vm), "vm_aaaaaaaaaa%c%c%c%c%c%c",
                    'a' + n / 26 / 26 / 26 % 26, 'a' + n / 26 / 26 % 26,
                    'a' + n / 26 % 26, 'a' + n % 26, 'z', '7');
    (void) snprintf(route.subdomain, sizeof(route.subdomain), "%s", name);
    route.target_port = (uint16_t) (n + 1);
    route.auto_wake = n & 1;

    return route;
}


static int
create(const hatch_route_t *route)
{
    int                rc;
    hatch_store_txn_t  txn;

    rc = hatch_store_begin(store, &txn, &err);

    if (rc == 0) {
        rc = hatch_store_create(&txn, route, &err);

        if (rc == 0) {
            return hatch_store_commit(&txn, &err);
        }

        hatch_store_abort(&txn);
    }

    return rc;
}


static int
delete(const char *id)
{
    int                rc;
    hatch_store_txn_t  txn;

    rc = hatch_store_begin(store, &txn, &err);

    if (rc == 0) {
        rc = hatch_store_delete(&txn, id, &err);

        if (rc == 0) {
            return hatch_store_commit(&txn, &err);
        }

        hatch_store_abort(&txn);
    }

    return rc;
}


/* Builds the index, `part` routes at a time; how many parts it took. */
static unsigned
build(unsigned part)
{
    int       rc, more = 1;
    unsigned  n;

    for (n = 0; more && n < 100000; n++) {
        rc = hatch_store_index_build(store, part, &more, &err);

        if (rc != 0) {
            return 0;
        }
    }

    hatch_store_index_use(store);

    return n;
}


/* Does a look-up say what the route says?  NULL: that there is none. */
static int
right(const char *name, const hatch_route_t *route)
{
    int             rc;
    hatch_target_t  target;

    rc = hatch_store_lookup(store, name, strlen(name), &target, &err);

    if (route == NULL) {
        return rc == HATCH_ERR_NOT_FOUND;
    }

    return rc == 0 && strcmp(target.vm, route->vm) == 0
           && target.target_port == route->target_port
           && target.auto_wake == route->auto_wake
           && strcmp(hatch_target_id(&target), route->id) == 0;
}


static void
name_of(unsigned n, char *name)
{
    /* of every length that a label can have */
    (void) snprintf(name, HATCH_LABEL_SIZE, "%0*u", 3 + (int) (n % 61), n);
}


static void
test_empty(void)
{
    hatch_route_t  a = make_route("a", 7);

    ok(right("a", NULL), "no route");
    is_int(hatch_store_index_wanted(store), 1, "an index is wanted");
    is_int(build(10), 1, "built at once");
    ok(right("a", NULL), "still no route");
    is_int(hatch_store_index_wanted(store), 0, "and none is wanted");

    is_int(create(&a), 0, "a route");
    ok(right("a", &a), "is found");
    is_int(hatch_store_index_wanted(store), 0, "in the index");
    is_int(delete(a.id), 0, "deleted");
    ok(right("a", NULL), "not found");
    is_int(hatch_store_index_wanted(store), 0, "by the index");
}


/* Routes come, change and go at random; each look-up is right all the time. */
static void
test_random(void)
{
    char               name[HATCH_LABEL_SIZE];
    unsigned           step, n, i, wrong = 0, wanted = 0;
    hatch_route_t      routes[NAMES];
    hatch_store_txn_t  txn;

    memset(routes, 0, sizeof(routes));
    srandom(4711);

    for (step = 0; step < 3000; step++) {
        n = (unsigned) random() % NAMES;
        name_of(n, name);

        if (routes[n].id[0] == '\0') {
            routes[n] = make_route(name, n);
            wrong += create(&routes[n]) != 0;

        } else if (step % 3 == 0) {
            (void) hatch_store_begin(store, &txn, &err);
            wrong += hatch_store_update(&txn, routes[n].id,
                                        (uint16_t) (step + 1), step & 1,
                                        step, &routes[n], &err) != 0;
            wrong += hatch_store_commit(&txn, &err) != 0;

        } else {
            wrong += delete(routes[n].id) != 0;
            routes[n].id[0] = '\0';
        }

        for (i = 0; i < NAMES; i += step % 100 == 0 ? 1 : 37) {
            name_of(i, name);
            wrong += !right(name, routes[i].id[0] ? &routes[i] : NULL);
            wanted += strlen(name) <= 30
                      && hatch_store_index_wanted(store) != 0;
        }
    }

    is_int(wrong, 0, "3000 changes, all look-ups right");
    is_int(wanted, 0, "all from the index");

    for (n = 0; n < NAMES; n++) {
        if (routes[n].id[0] != '\0') {
            (void) delete(routes[n].id);
        }
    }
}


/* Changes while it is built, before and behind the part that there is. */
static void
test_parts(void)
{
    int            more = 1;
    char           name[32];
    unsigned       n, wrong = 0, parts = 0;
    hatch_route_t  routes[1000], b[200];

    for (n = 0; n < 1000; n++) {
        (void) snprintf(name, sizeof(name), "p%03u", n);
        routes[n] = make_route(name, n);
        (void) create(&routes[n]);
    }

    is_int(unlink("index"), 0, "the index is gone");

    while (more && parts < 1000) {
        wrong += hatch_store_index_build(store, 10, &more, &err) != 0;

        /* one more, and one less, somewhere */
        n = parts * 37 % 1000;
        (void) snprintf(name, sizeof(name), "p%03ux", n);
        b[parts % 200] = make_route(name, n);
        wrong += create(&b[parts % 200]) != 0;

        n = parts * 91 % 1000;
        if (routes[n].id[0] != '\0') {
            wrong += delete(routes[n].id) != 0;
            routes[n].id[0] = '\0';
        }

        parts++;
    }

    hatch_store_index_use(store);
    ok(parts > 90 && parts < 200, "built in %u parts, changed between them",
       parts);

    for (n = 0; n < 1000; n++) {
        (void) snprintf(name, sizeof(name), "p%03u", n);
        wrong += !right(name, routes[n].id[0] ? &routes[n] : NULL);
        wrong += hatch_store_index_wanted(store) != 0;
    }

    for (n = 0; n < parts && n < 200; n++) {
        wrong += !right(b[n].subdomain, &b[n]);
        wrong += hatch_store_index_wanted(store) != 0;
    }

    is_int(wrong, 0, "all right, from the index");
}


/* It fills up: look-ups go on, and a new one is larger. */
static void
test_growth(void)
{
    char           name[32];
    unsigned       n, wrong = 0, wanted = 0;
    hatch_route_t  route;

    for (n = 0; n < 3000; n++) {
        (void) snprintf(name, sizeof(name), "g%04u", n);
        route = make_route(name, n);
        wrong += create(&route) != 0;
        wrong += !right(name, &route);

        if (hatch_store_index_wanted(store)) {
            wanted++;
            wrong += build(500) == 0;
            wrong += !right(name, &route);
        }
    }

    is_int(wrong, 0, "3000 routes, each found at once");
    ok(wanted > 0 && wanted < 5, "the index grew %u times", wanted);
}


/* Ids that are none of ours have no place in it; the store has them. */
static void
test_foreign(void)
{
    hatch_route_t  a = make_route("foreign", 1);
    hatch_route_t  b = make_route("elsewhere", 2);

    (void) snprintf(a.vm, sizeof(a.vm), "vm_short");
    is_int(create(&a), 0, "a VM with another kind of id");
    ok(right("foreign", &a), "is found");
    ok(right("nowhere", NULL), "another is not");
    is_int(hatch_store_index_wanted(store), 0, "the index is as it should be");
    is_int(delete(a.id), 0, "deleted");
    ok(right("foreign", NULL), "not found");
    is_int(create(&b), 0, "one of ours");
    ok(right("elsewhere", &b), "is found");
}


/* Writers are killed, wherever they are; no look-up is ever wrong. */
static void
test_kill(void)
{
    int            fd[2], said = 0;
    char           name[32];
    pid_t          pid;
    unsigned       n, m, round, wrong = 0;
    hatch_route_t  route;
    hatch_store_t  *mine = store;

    for (round = 0; round < 40; round++) {
        (void) !pipe(fd);
        pid = fork();

        if (pid == 0) {
            (void) close(fd[0]);

            if (hatch_store_open(&store, dir, 0, &err) != 0) {
                _exit(1);
            }

            for (n = 0; ; n++) {
                (void) snprintf(name, sizeof(name), "k%u-%u", round, n);
                route = make_route(name, n);

                if (create(&route) != 0
                    || write(fd[1], &n, sizeof(n)) != sizeof(n))
                {
                    _exit(1);
                }
            }
        }

        (void) close(fd[1]);

        for (m = 0; read(fd[0], &n, sizeof(n)) == sizeof(n) && m < round;
             m++)
        {
            said++;
        }

        (void) kill(pid, SIGKILL);

        while (read(fd[0], &n, sizeof(n)) == sizeof(n)) {
            m = n + 1;
        }

        (void) waitpid(pid, NULL, 0);
        (void) close(fd[0]);
        store = mine;

        for (n = 0; n < m; n++) {
            hatch_target_t  target;

            (void) snprintf(name, sizeof(name), "k%u-%u", round, n);
            wrong += hatch_store_lookup(store, name, strlen(name), &target,
                                        &err) != 0
                     || target.target_port != n + 1;
        }

        if (hatch_store_index_wanted(store)) {
            wrong += build(1000) == 0;
        }
    }

    ok(said > 0, "%d routes of writers that were killed", said);
    is_int(wrong, 0, "each is found");
    ok(right("nowhere", NULL), "and no other");
    is_int(hatch_store_index_wanted(store), 0, "with the index");
}


/*
 * Creates and deletes routes of its own until it is told to stop.  Pages that a
 * reader may still look at are not used again: while one stands still in the
 * middle of a look-up, as on a busy machine, so small a store fills up.
 */
static void
hammer(const int *stop, unsigned child)
{
    int             rc;
    char            name[32];
    unsigned        n;
    hatch_route_t   route;
    hatch_target_t  target;

    if (hatch_store_open(&store, dir, 0, &err) != 0) {
        _exit(1);
    }

    for (n = 0; !__atomic_load_n(stop, __ATOMIC_ACQUIRE); n++) {
        (void) snprintf(name, sizeof(name), "h%u", n % 50 + child * 50);
        route = make_route(name, n % 50 + child * 50);

        do {
            rc = create(&route);
        } while (rc == HATCH_ERR_FULL
                 && !__atomic_load_n(stop, __ATOMIC_ACQUIRE));

        if (rc != 0 && rc != HATCH_ERR_FULL) {
            _exit(1);
        }

        (void) snprintf(name, sizeof(name), "h%u", (n + 7) % 50 + child * 50);

        /* not through the index: this process does not use it */
        if (hatch_store_lookup(store, name, strlen(name), &target, &err) != 0)
        {
            continue;
        }

        do {
            rc = delete(hatch_target_id(&target));
        } while (rc == HATCH_ERR_FULL
                 && !__atomic_load_n(stop, __ATOMIC_ACQUIRE));
    }

    _exit(0);
}


/*
 * Two processes change routes as fast as they can; whatever a look-up finds
 * is a route that there was, whole, and the index stays the store's.
 */
static void
test_hammer(void)
{
    int             rc, status, *stop;
    char            name[32];
    pid_t           pid[2];
    unsigned        n, i, torn = 0, found = 0, indexed = 0;
    hatch_route_t   want;
    hatch_store_t  *mine = store;
    hatch_target_t  target;

    /* the last writer that was killed may have begun to write */
    (void) build(1000);

    stop = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    for (n = 0; n < 2; n++) {
        pid[n] = fork();

        if (pid[n] == 0) {
            hammer(stop, n);
        }
    }

    for (i = 0; i < 3000000 && (found < 200000 || indexed < 1000); i++) {
        n = i % 100;
        (void) snprintf(name, sizeof(name), "h%u", n);
        rc = hatch_store_lookup(store, name, strlen(name), &target, &err);
        indexed += !hatch_store_index_wanted(store);

        if (rc == HATCH_ERR_NOT_FOUND) {
            continue;
        }

        want = make_route(name, n);
        found++;
        torn += rc != 0 || strcmp(target.vm, want.vm) != 0
                || target.target_port != n + 1
                || !hatch_id_valid(HATCH_ID_ROUTE, hatch_target_id(&target),
                                   19);
    }

    __atomic_store_n(stop, 1, __ATOMIC_RELEASE);

    for (n = 0; n < 2; n++) {
        (void) waitpid(pid[n], &status, 0);
        is_int(status, 0, "a writer is done");
    }

    store = mine;
    ok(found > 0 && indexed > 0, "%u found, %u times from the index", found,
       indexed);
    is_int(torn, 0, "all of them whole");
    ok(right("nowhere", NULL), "afterwards a look-up");
    is_int(hatch_store_index_wanted(store), 0, "is from the index");
    (void) munmap(stop, sizeof(int));
}


static void
copy(const char *from, const char *to)
{
    int      in = open(from, O_RDONLY);
    int      out = open(to, O_WRONLY | O_CREAT, 0600);
    char     data[65536];
    ssize_t  n;

    while ((n = read(in, data, sizeof(data))) > 0) {
        (void) !write(out, data, (size_t) n);
    }

    (void) !ftruncate(out, lseek(out, 0, SEEK_CUR));
    (void) close(in);
    (void) close(out);
}


/*
 * data.mdb is put back from a copy, with the number that the index has too:
 * the number alone would not tell.
 */
static void
test_put_back(void)
{
    hatch_route_t  a = make_route("before", 1), b = make_route("after", 2);

    hatch_store_close(store);
    copy("data.mdb", "copy.mdb");

    (void) hatch_store_open(&store, dir, 0, &err);
    (void) build(1000);
    (void) create(&a);
    hatch_store_close(store);

    /* another history, as long as that one */
    copy("copy.mdb", "data.mdb");
    (void) rename("index", "kept");
    (void) hatch_store_open(&store, dir, 0, &err);
    (void) create(&b);
    hatch_store_close(store);
    (void) rename("kept", "index");

    (void) hatch_store_open(&store, dir, 0, &err);
    ok(build(1000) > 0, "built anew");
    ok(right("before", NULL), "what is no more in the store is not found");
    ok(right("after", &b), "what is there is");
    is_int(hatch_store_index_wanted(store), 0, "in the index");
    (void) unlink("copy.mdb");
}


/*
 * Cut in the middle of a page, the rest of which then reads as zeroes, with no
 * fault that would tell: no name in there may be lost.  One cell of the first
 * 64 is left; of 400 names in 1024 cells some are in the others.
 */
static void
test_cut(void)
{
    char            name[32];
    unsigned        n, wrong = 0, unused = 0;
    hatch_route_t   routes[400];
    hatch_store_t  *before = store;

    (void) mkdir("cut", 0700);
    is_int(hatch_store_open(&store, "cut", 16 << 20, &err), 0, "a store");

    for (n = 0; n < 400; n++) {
        (void) snprintf(name, sizeof(name), "cut%u", n);
        routes[n] = make_route(name, n);
        wrong += create(&routes[n]) != 0;
    }

    /* one look-up for each time: the next one may touch a page beyond */
    for (n = 0; n < 400; n++) {
        wrong += build(1000) == 0;
        wrong += !right(routes[n].subdomain, &routes[n]);
        unused += hatch_store_index_wanted(store) != 0;

        wrong += truncate("cut/index", 4096 + 64) != 0;
        wrong += !right(routes[n].subdomain, &routes[n]);
        (void) unlink("cut/index");
    }

    is_int(wrong, 0, "cut short: each of 400 names is found");
    is_int(unused, 0, "and from the index, each time that it was made anew");
    hatch_store_close(store);
    store = before;
}


/* Somebody removes it, cuts it, or fills it with something else. */
static void
test_damage(void)
{
    int            fd;
    hatch_route_t  a = make_route("damage", 3), b = make_route("repair", 4);

    is_int(create(&a), 0, "a route");
    is_int(truncate("index", 100), 0, "the index is cut");
    ok(right("damage", &a), "a look-up is right");
    is_int(create(&b), 0, "another route");
    ok(right("repair", &b), "is found");
    ok(build(1000) > 0, "it can be built again");
    ok(right("damage", &a), "right");
    is_int(hatch_store_index_wanted(store), 0, "from the index");

    fd = open("index", O_WRONLY | O_TRUNC);
    (void) !write(fd, "no index", 8);
    (void) close(fd);
    ok(right("damage", &a), "text in its place: right");
    is_int(delete(a.id), 0, "deleted");
    ok(build(1000) > 0, "built");
    ok(right("damage", NULL), "gone");
    ok(right("repair", &b), "the other stays");
    is_int(hatch_store_index_wanted(store), 0, "from the index");
}


/* No room for it: it is an error that says so, and nothing else is. */
static void
test_no_room(void)
{
    int            more, rc;
    hatch_route_t  a = make_route("room", 5);
    struct rlimit  was, none = { 4096, RLIM_INFINITY };

    (void) signal(SIGXFSZ, SIG_IGN);
    (void) unlink("index");
    (void) getrlimit(RLIMIT_FSIZE, &was);
    none.rlim_max = was.rlim_max;
    (void) setrlimit(RLIMIT_FSIZE, &none);
    rc = hatch_store_index_build(store, 1000, &more, &err);
    (void) setrlimit(RLIMIT_FSIZE, &was);

    ok(rc < 0 && more == 0, "it cannot be built");
    like(err.text, "index", "and says what");
    is_int(access("index", F_OK), -1, "nothing is left behind");
    is_int(create(&a), 0, "a route");
    ok(right("room", &a), "is found");
    ok(build(1000) > 0, "later there is room");
    ok(right("room", &a), "still found");
    is_int(hatch_store_index_wanted(store), 0, "in the index");
}


/* Ten bytes for an id, and back. */
static void
test_ids(void)
{
    int      i, j, wrong = 0;
    char     id[HATCH_ID_SIZE], back[HATCH_ID_SIZE];
    uint8_t  packed[HATCH_ID_PACKED];

    for (i = 0; i < 1000; i++) {
        (void) hatch_id_make(HATCH_ID_ROUTE, id);
        wrong += hatch_id_pack(HATCH_ID_ROUTE, id, packed) != 0;
        hatch_id_unpack(HATCH_ID_ROUTE, packed, back);
        wrong += strcmp(id, back) != 0;
    }

    for (j = 0; j < 32; j++) {
        (void) snprintf(id, sizeof(id), "rt_aaaaaaaaaaaaaaaa");
        id[3 + j % 16] = "abcdefghijklmnopqrstuvwxyz234567"[j];
        (void) hatch_id_pack(HATCH_ID_ROUTE, id, packed);
        hatch_id_unpack(HATCH_ID_ROUTE, packed, back);
        wrong += strcmp(id, back) != 0;
    }

    is_int(wrong, 0, "ids survive packing");
    is_int(hatch_id_pack(HATCH_ID_ROUTE, "rt_aaaaaaaaaaaaaaa1", packed), -1,
           "what is no id is refused");
    is_int(hatch_id_pack(HATCH_ID_ROUTE, "vm_aaaaaaaaaaaaaaaa", packed), -1,
           "another kind, too");
}


int
main(void)
{
    (void) snprintf(dir, sizeof(dir), "%s/routes", tap_dir());
    (void) mkdir(dir, 0700);

    (void) hatch_guard_install();
    is_int(chdir(dir), 0, "a directory");
    is_int(hatch_store_open(&store, dir, 16 << 20, &err), 0, "open");
    test_ids();
    test_empty();
    test_random();
    test_parts();
    test_growth();
    test_foreign();
    test_kill();
    test_hammer();
    test_put_back();
    test_cut();
    test_damage();
    test_no_room();
    hatch_store_close(store);
    tap_cleanup();

    return tap_done();
}
