/* zone.activity of another size: what is kept, and who moves to it. */

#define _GNU_SOURCE

#include "hatch_activity.h"

#include "tap.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>


#define NOBODY  65534

#define FRESH   HATCH_ACTIVITY_FRESH


static char  path[256];


static int
own(hatch_activity_t *activity, uint32_t slots)
{
    return hatch_activity_own(activity, path, slots, NOBODY, NOBODY, NULL);
}


static void
test_grow(void)
{
    hatch_activity_t        old, worker, new;
    hatch_activity_total_t  sum;

    memset(&new, 0, sizeof(new));
    ok(hatch_activity_replaced(&new, path), "nothing is mapped");

    is_int(own(&old, 16), 0, "a file for 16 VMs");
    is_int(own(&worker, 16), 0, "opened again");
    ok(!hatch_activity_replaced(&old, path), "is the same");

    hatch_activity_stamp(&old, 3, 7, 5000, FRESH);
    hatch_activity_pass(&old, 15, 9, 6000, FRESH);
    hatch_activity_count(&old, 1, 3, 7);
    hatch_activity_count(&old, 33, 3, 7);
    hatch_activity_count_held(&old, 2);

    is_int(own(&new, 32), 0, "32 VMs");
    ok(hatch_activity_replaced(&old, path), "the old file was replaced");
    ok(!hatch_activity_replaced(&new, path), "the new one was not");
    is_int(new.file.slots, 32, "it has 32 slots");
    is_int(hatch_activity_last(&new, 3, 7), 5000, "and the stamp");
    is_int(hatch_activity_last(&new, 3, 8), 0, "of that VM only");
    is_int(hatch_activity_last_pass(&new, 15, 9), 6000, "and the other kind");
    is_int(hatch_activity_requests(&new, 3, 7), 2, "its requests");
    hatch_activity_sum(&new, &sum);
    is_int(sum.requests, 2, "all requests");
    is_int(sum.held, 1, "and those held");
    is_int(hatch_activity_last(&new, 16, 1), 0, "the new slots are empty");

    /* a worker of before */
    hatch_activity_stamp(&worker, 3, 7, 9000, FRESH);
    is_int(hatch_activity_last(&new, 3, 7), 5000, "it writes the old file");
    is_int(hatch_activity_reattach(&worker, path, NULL), 0, "it moves");
    ok(!hatch_activity_replaced(&worker, path), "to the new file");
    hatch_activity_stamp(&worker, 3, 7, 9000, FRESH);
    hatch_activity_stamp(&worker, 31, 2, 9001, FRESH);
    is_int(hatch_activity_last(&new, 3, 7), 9000, "and stamps there");
    is_int(hatch_activity_last(&new, 31, 2), 9001, "in all of its slots");
    is_int(hatch_activity_last(&old, 3, 7), 9000, "the old file is mapped");

    hatch_activity_detach(&old);
    hatch_activity_detach(&worker);
    hatch_activity_detach(&new);
}


static void
test_shrink(void)
{
    hatch_activity_t        old, new;
    hatch_activity_total_t  sum;

    is_int(own(&old, 32), 0, "the same file");
    is_int(own(&new, 4), 0, "4 VMs");
    is_int(hatch_activity_last(&new, 3, 7), 9000, "the stamp that has room");
    is_int(hatch_activity_last(&new, 31, 2), 0, "the others are gone");
    hatch_activity_sum(&new, &sum);
    is_int(sum.requests, 2, "all requests are still counted");

    is_int(hatch_activity_reattach(&old, path, NULL), 0, "a worker moves");
    hatch_activity_stamp(&old, 31, 2, 9999, FRESH);
    hatch_activity_stamp(&old, 3, 7, 9999, FRESH);
    is_int(hatch_activity_last(&old, 31, 2), 0, "out of range");
    is_int(hatch_activity_last(&new, 3, 7), 9999, "in range");

    hatch_activity_detach(&old);
    hatch_activity_detach(&new);
}


/* What a worker must not move to. */
static void
test_reattach(void)
{
    int                fd;
    hatch_err_t        err;
    hatch_activity_t   owner, worker;
    const char        *text = "this is somebody's file";

    (void) chmod(tap_dir(), 0755);
    is_int(own(&owner, 16), 0, "16 VMs");
    memset(&worker, 0, sizeof(worker));
    is_int(hatch_activity_reattach(&worker, path, &err), 0,
           "a worker that had none");
    hatch_activity_stamp(&worker, 1, 1, 1000, FRESH);

    (void) unlink(path);
    ok(hatch_activity_replaced(&worker, path), "removed");
    is_int(hatch_activity_reattach(&worker, path, &err), HATCH_ERR_ABSENT,
           "none to move to");
    ok(access(path, F_OK) == -1, "and none is made");
    is_int(hatch_activity_last(&worker, 1, 1), 1000, "it keeps what it has");

    fd = creat(path, 0644);
    (void) !write(fd, text, strlen(text));
    (void) close(fd);
    is_int(hatch_activity_reattach(&worker, path, &err), HATCH_ERR_FOREIGN,
           "a file of somebody's");
    is_int(hatch_activity_last(&owner, 1, 1), 1000, "it keeps what it has");
    (void) unlink(path);

    hatch_activity_detach(&owner);
    is_int(own(&owner, 8), 0, "8 VMs");

    if (geteuid() != 0) {
        ok(1, "# SKIP needs root to become somebody else");

    } else {
        is_int(seteuid(NOBODY), 0, "as nobody");
        is_int(hatch_activity_reattach(&worker, path, &err), 0,
               "an unprivileged worker moves");
        is_int(worker.file.slots, 8, "to 8 slots");
        is_int(seteuid(0), 0, "as root again");
        (void) !chown(path, 0, 0);
        is_int(seteuid(NOBODY), 0, "as nobody");
        is_int(hatch_activity_reattach(&worker, path, &err),
               HATCH_ERR_DENIED, "unless the file is not its own");
        is_int(seteuid(0), 0, "as root again");
    }

    hatch_activity_detach(&worker);
    hatch_activity_detach(&owner);
    (void) unlink(path);
}


int
main(void)
{
    (void) snprintf(path, sizeof(path), "%s/activity", tap_dir());

    test_grow();
    test_shrink();
    test_reattach();

    tap_cleanup();
    return tap_done();
}
