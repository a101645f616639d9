/* The route store: records, indexes, limits, and a writer that is killed. */

#define _GNU_SOURCE

#include "hatch_route_store.h"

#include "tap.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>


static hatch_store_t   *store;
static hatch_err_t      err;
static hatch_target_t   target;


static hatch_route_t
make_route(const char *subdomain, const char *vm)
{
    hatch_route_t  route;

    memset(&route, 0, sizeof(route));
    (void) hatch_id_make(HATCH_ID_ROUTE, route.id);
    (void) snprintf(route.vm, sizeof(route.vm), "%s", vm);
    (void) snprintf(route.subdomain, sizeof(route.subdomain), "%s",
                    subdomain);
    route.target_port = 80;
    route.auto_wake = 1;
    route.created = 1000;
    route.updated = 1000;

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


static uint64_t
count(void)
{
    uint64_t  n = 999;

    (void) hatch_store_count(store, &n, &err);

    return n;
}


static void
test_records(void)
{
    hatch_route_t      a = make_route("a", "vm_one"), got;
    hatch_route_t      b = make_route("a", "vm_two");
    hatch_store_txn_t  txn;

    is_int(create(&a), 0, "create");
    is_int(create(&b), HATCH_ERR_EXISTS, "the name is taken");
    like(err.text, "\"a\" is already in use", "says which");
    is_int(count(), 1, "one route");

    is_int(hatch_store_lookup(store, "a", 1, &target, &err), 0, "look up");
    is_str(target.vm, "vm_one", "its VM");
    is_str(hatch_target_id(&target), a.id, "its id");
    is_int(target.target_port, 80, "its port");
    is_int(hatch_store_lookup(store, "b", 1, &target, &err),
           HATCH_ERR_NOT_FOUND, "no b");
    is_int(hatch_store_get(store, a.id, &got, &err), 0, "by id");
    is_str(got.subdomain, "a", "its name");

    (void) hatch_store_begin(store, &txn, &err);
    is_int(hatch_store_update(&txn, a.id, 8080, -1, 2000, &got, &err), 0,
           "update");
    is_int(hatch_store_lookup(store, "a", 1, &target, &err), 0, "look up");
    is_int(target.target_port, 80, "not before the commit");
    is_int(hatch_store_commit(&txn, &err), 0, "commit");
    (void) hatch_store_lookup(store, "a", 1, &target, &err);
    is_int(target.target_port, 8080, "and after it");
    is_int(target.auto_wake, 1, "the rest stays");
    is_int(got.updated, 2000, "updated");
    is_int(got.created, 1000, "created stays");

    (void) hatch_store_begin(store, &txn, &err);
    is_int(hatch_store_update(&txn, "rt_none", 1, 1, 1, &got, &err),
           HATCH_ERR_NOT_FOUND, "update of none");
    is_int(hatch_store_delete(&txn, "rt_none", &err), HATCH_ERR_NOT_FOUND,
           "delete of none");
    is_int(hatch_store_delete(&txn, a.id, &err), 0, "delete");
    is_int(hatch_store_commit(&txn, &err), 0, "commit");
    is_int(count(), 0, "no route");
    is_int(create(&b), 0, "the name is free again");
}


static void
test_lists(void)
{
    int                more;
    char               name[16], after[HATCH_ID_SIZE] = "";
    unsigned           i, n, total, sorted;
    hatch_route_t      route, page[7];
    hatch_store_txn_t  txn;

    for (i = 0; i < 50; i++) {
        (void) snprintf(name, sizeof(name), "n%u", i);
        route = make_route(name, i % 5 == 0 ? "vm_five" : "vm_rest");
        (void) create(&route);
    }

    for (total = 0, sorted = 1, more = 1; more && total < 100; ) {
        (void) hatch_store_list(store, NULL, after[0] ? after : NULL, page, 7,
                                &n, &more, &err);

        for (i = 0; i < n; i++) {
            sorted &= strcmp(after, page[i].id) < 0;
            memcpy(after, page[i].id, sizeof(after));
        }

        total += n;
    }

    is_int(total, 51, "pages of 7 have all 51");
    ok(sorted, "in the order of their ids");

    (void) hatch_store_list(store, "vm_five", NULL, page, 7, &n, &more, &err);
    is_int(n, 7, "7 of the VM's 10");
    is_int(more, 1, "and more");
    (void) hatch_store_list(store, "vm_five", page[6].id, page, 7, &n, &more,
                            &err);
    is_int(n, 3, "then 3");
    is_int(more, 0, "and no more");
    (void) hatch_store_list(store, "vm_none", NULL, page, 7, &n, &more, &err);
    is_int(n, 0, "none of another VM");
    (void) hatch_store_list(store, NULL, "rt_zzzzzzzzzzzzzzzz", page, 7, &n,
                            &more, &err);
    is_int(n, 0, "none after the last");

    (void) hatch_store_begin(store, &txn, &err);
    is_int(hatch_store_delete_vm(&txn, "vm_five", &n, &err), 0, "all of one");
    (void) hatch_store_commit(&txn, &err);
    is_int(n, 10, "are 10");
    is_int(count(), 41, "the others stay");
}


/*
 * Children create routes and say so after each commit; one is killed with
 * the lock in its hands again and again.  What was said is there.
 */
static void
test_kill(const char *dir)
{
    int            fd[2], round, n, missing = 0, said = 0;
    char           name[32];
    pid_t          pid;
    hatch_route_t  route;

    for (round = 0; round < 30; round++) {
        (void) !pipe(fd);
        pid = fork();

        if (pid == 0) {
            (void) close(fd[0]);

            /* a handle of its own: never a parent's */
            if (hatch_store_open(&store, dir, 8 << 20, &err) != 0) {
                _exit(1);
            }

            for (n = 0; ; n++) {
                (void) snprintf(name, sizeof(name), "k%d-%d", round, n);
                route = make_route(name, "vm_kill");

                if (create(&route) != 0
                    || write(fd[1], &n, sizeof(n)) != sizeof(n))
                {
                    _exit(1);
                }
            }
        }

        (void) close(fd[1]);

        /* killed after it has said a few, wherever it is then */
        while (read(fd[0], &n, sizeof(n)) == sizeof(n) && n < round) {
            /* void */
        }

        (void) kill(pid, SIGKILL);

        while (read(fd[0], &n, sizeof(n)) == sizeof(n)) {
            /* void */
        }

        (void) waitpid(pid, NULL, 0);
        (void) close(fd[0]);
        said += n + 1;

        for ( /* void */ ; n >= 0; n--) {
            (void) snprintf(name, sizeof(name), "k%d-%d", round, n);
            missing += hatch_store_lookup(store, name, strlen(name),
                                          &target, &err) != 0;
        }
    }

    ok(said > 0, "%d routes were acknowledged by killed writers", said);
    is_int(missing, 0, "all of them are there");
}


static void
test_full(void)
{
    int            rc;
    char           dir[256], name[32];
    unsigned       i;
    hatch_route_t  route;

    (void) snprintf(dir, sizeof(dir), "%s/small", tap_dir());
    (void) mkdir(dir, 0700);
    rc = hatch_store_open(&store, dir, HATCH_STORE_SIZE_MIN, &err);
    is_int(rc, 0, "a store of 1 MiB");

    for (i = 0; rc == 0 && i < 100000; i++) {
        (void) snprintf(name, sizeof(name), "n%u", i);
        route = make_route(name, "vm_x");
        rc = create(&route);
    }

    is_int(rc, HATCH_ERR_FULL, "is full at some time");
    like(err.text, "raise \"size\" of hatch_route_store", "and says so");
    ok(count() > 1000, "with %u routes", (unsigned) count());
    hatch_store_close(store);

    is_int(hatch_store_open(&store, dir, 4 << 20, &err), 0, "now 4 MiB");
    is_int(create(&route), 0, "and there is room");
    hatch_store_close(store);
}


/*
 * Another process (a worker after a reload with a larger size) lets the store
 * grow past the mapping of this one.
 */
static void
test_outgrown(void)
{
    int                i, status;
    char               dir[256], name[32];
    pid_t              pid;
    unsigned           n;
    int                more;
    hatch_route_t      route, page[3];
    hatch_store_t     *larger;
    hatch_store_txn_t  txn;

    (void) snprintf(dir, sizeof(dir), "%s/outgrown", tap_dir());
    (void) mkdir(dir, 0700);
    is_int(hatch_store_open(&store, dir, HATCH_STORE_SIZE_MIN, &err), 0,
           "a mapping of 1 MiB");

    pid = fork();

    if (pid == 0) {
        if (hatch_store_open(&larger, dir, 16 << 20, &err) != 0
            || hatch_store_begin(larger, &txn, &err) != 0)
        {
            _exit(1);
        }

        for (i = 0; i < 20000; i++) {
            (void) snprintf(name, sizeof(name), "n%d", i);
            route = make_route(name, "vm_x");

            if (hatch_store_create(&txn, &route, &err) != 0) {
                _exit(1);
            }
        }

        _exit(hatch_store_commit(&txn, &err) == 0 ? 0 : 1);
    }

    (void) waitpid(pid, &status, 0);
    is_int(status, 0, "another process writes 20000 routes");

    route = make_route("mine", "vm_y");
    is_int(create(&route), HATCH_ERR_UNAVAILABLE, "a write must map anew");
    is_int(hatch_store_lookup(store, "n19999", 6, &target, &err), 0,
           "a look-up does so by itself");
    is_int(count(), 20000, "all are seen");
    is_int(hatch_store_list(store, NULL, NULL, page, 3, &n, &more, &err), 0,
           "and listed");
    is_int(create(&route), 0, "and now a write goes through");
    hatch_store_close(store);
}


static void
test_refusals(void)
{
    int   fd;
    char  dir[256], file[300];

    (void) snprintf(dir, sizeof(dir), "%s/none", tap_dir());
    is_int(hatch_store_open(&store, dir, 0, &err), HATCH_ERR_ABSENT,
           "no store, none is made");
    is_int(hatch_store_open(&store, dir, 1 << 20, &err), HATCH_ERR_ABSENT,
           "no directory");
    like(err.text, dir, "names it");

    (void) mkdir(dir, 0700);
    (void) snprintf(file, sizeof(file), "%s/data.mdb", dir);
    fd = open(file, O_CREAT | O_WRONLY, 0600);
    (void) !write(fd, "this is no LMDB file, but text of some length", 45);
    (void) !ftruncate(fd, 65536);
    (void) close(fd);
    is_int(hatch_store_open(&store, dir, 1 << 20, &err), HATCH_ERR_CORRUPT,
           "a foreign file");
    like(err.text, "move it away", "says what to do");
}


int
main(void)
{
    char  dir[256];

    (void) snprintf(dir, sizeof(dir), "%s/routes", tap_dir());
    (void) mkdir(dir, 0700);

    is_int(hatch_store_open(&store, dir, 8 << 20, &err), 0, "open");
    test_records();
    test_lists();
    test_kill(dir);
    hatch_store_close(store);

    is_int(hatch_store_open(&store, dir, 0, &err), 0, "open what is there");
    ok(count() > 41, "everything is still in it");
    hatch_store_close(store);

    test_full();
    test_outgrown();
    test_refusals();
    tap_cleanup();

    return tap_done();
}
