/* Files that must be refused, each with an error that says what to do. */

#define _GNU_SOURCE

#include "hatch_activity.h"
#include "hatch_zone.h"

#include "tap.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>


static char  path[256];


static void
make(void)
{
    hatch_zone_writer_t  writer;

    (void) unlink(path);
    (void) hatch_zone_own(&writer, path, 16, (gid_t) -1, NULL);
    hatch_zone_disown(&writer);
}


static void
poke(size_t offset, const void *bytes, size_t size)
{
    int  fd = open(path, O_RDWR);

    (void) !pwrite(fd, bytes, size, (off_t) offset);
    (void) close(fd);
}


static void
refused(int code, const char *words, uint32_t min_slots, const char *what)
{
    hatch_err_t   err;
    hatch_zone_t  zone;

    memset(&err, 0, sizeof(err));
    is_int(hatch_zone_attach(&zone, path, min_slots, &err), code, "%s", what);
    is_int(err.code, code, "%s: the code is in the error, too", what);
    like(err.text, words, "%s: says \"%s\"", what, words);
    like(err.text, path, "%s: names the file", what);
}


static void
test_refusals(void)
{
    uint32_t      n;
    uint64_t      size;
    hatch_zone_t  zone;

    refused(HATCH_ERR_ABSENT, "No such file", 1, "absent");

    (void) close(open(path, O_CREAT | O_WRONLY, 0600));
    refused(HATCH_ERR_EMPTY, "is empty; restart", 1, "empty");

    poke(0, "#!/bin/sh\necho this is a script, and a long one at that\n", 56);
    refused(HATCH_ERR_FOREIGN, "not a Hatch zone; remove", 1, "foreign");

    make();
    n = HATCH_ZONE_VERSION + 1;
    poke(offsetof(hatch_file_head_t, version), &n, sizeof(n));
    refused(HATCH_ERR_VERSION, "run the same version", 1, "version");

    make();
    n = 0xdeadbeef;
    poke(offsetof(hatch_file_head_t, layout), &n, sizeof(n));
    refused(HATCH_ERR_LAYOUT, "layout deadbeef, this build", 1, "layout");

    make();
    refused(HATCH_ERR_SLOTS, "too few slots: 16, needed 17", 17, "slots");
    is_int(hatch_zone_attach(&zone, path, 16, NULL), 0, "16 are enough");
    hatch_zone_detach(&zone);

    make();
    (void) !truncate(path, 5000);
    refused(HATCH_ERR_TRUNCATED, "is truncated: 5000 of", 1, "truncated");
    (void) !truncate(path, 12);
    refused(HATCH_ERR_TRUNCATED, "is truncated: 12 bytes", 1, "in its head");

    make();
    n = 0;
    poke(offsetof(hatch_file_head_t, slots), &n, sizeof(n));
    refused(HATCH_ERR_CORRUPT, "is corrupted", 1, "no slots");
    n = UINT32_MAX;
    poke(offsetof(hatch_file_head_t, slots), &n, sizeof(n));
    refused(HATCH_ERR_CORRUPT, "is corrupted", 1, "4 billion slots");

    make();
    size = 1ull << 40;
    poke(offsetof(hatch_file_head_t, size), &size, sizeof(size));
    refused(HATCH_ERR_CORRUPT, "is corrupted", 1, "a wrong size");

    (void) unlink(path);
    (void) mkdir(path, 0700);
    refused(HATCH_ERR_FOREIGN, "not a regular file", 1, "a directory");
    (void) rmdir(path);

    (void) mkfifo(path, 0600);
    refused(HATCH_ERR_FOREIGN, "not a regular file", 1, "a FIFO, no hang");
    (void) unlink(path);
}


static void
test_permission(void)
{
    make();
    (void) chmod(path, 0600);
    (void) chmod(tap_dir(), 0755);

    if (geteuid() != 0) {
        ok(1, "# SKIP needs root to become somebody else");
        return;
    }

    is_int(seteuid(65534), 0, "as nobody");
    refused(HATCH_ERR_DENIED, "Permission denied", 1, "no permission");
    is_int(seteuid(0), 0, "as root again");
}


static void
test_activity(void)
{
    hatch_err_t             err;
    hatch_activity_t        owner, reader;
    hatch_activity_total_t  sum;

    (void) snprintf(path, sizeof(path), "%s/activity", tap_dir());

    is_int(hatch_activity_attach(&reader, path, 1, &err), HATCH_ERR_ABSENT,
           "no activity file");
    is_int(hatch_activity_own(&owner, path, 16, (uid_t) -1, (gid_t) -1, &err),
           0, "make one");
    is_int(hatch_activity_attach(&reader, path, 17, &err), HATCH_ERR_SLOTS,
           "too few slots");
    is_int(hatch_activity_attach(&reader, path, 16, &err), 0, "attach");

    hatch_activity_stamp(&owner, 3, 7, 5000,
                         HATCH_ACTIVITY_FRESH);
    is_int(hatch_activity_last(&reader, 3, 7), 5000, "a stamp");
    is_int(hatch_activity_last(&reader, 3, 8), 0, "of no other generation");
    is_int(hatch_activity_last(&reader, 2, 7), 0, "of no other slot");

    hatch_activity_stamp(&owner, 3, 7, 5000 + HATCH_ACTIVITY_FRESH - 1,
                         HATCH_ACTIVITY_FRESH);
    is_int(hatch_activity_last(&reader, 3, 7), 5000, "a fresh one stays");
    hatch_activity_stamp(&owner, 3, 7, 5000 + HATCH_ACTIVITY_FRESH,
                         HATCH_ACTIVITY_FRESH);
    is_int(hatch_activity_last(&reader, 3, 7), 5000 + HATCH_ACTIVITY_FRESH,
           "an old one is renewed");

    hatch_activity_stamp(&owner, 3, 8, 5001,
                         HATCH_ACTIVITY_FRESH);
    is_int(hatch_activity_last(&reader, 3, 8), 5001, "the next VM's stamp");
    is_int(hatch_activity_last(&reader, 3, 7), 0, "replaces the one before");

    hatch_activity_count(&owner, 1, 3, 8);
    hatch_activity_count(&owner, 1, 3, 8);
    is_int(hatch_activity_requests(&reader, 3, 8), 2, "two requests");
    hatch_activity_count(&owner, 1, 3, (1ull << 40) + 9);
    is_int(hatch_activity_requests(&reader, 3, (1ull << 40) + 9), 1,
           "begins anew with the next VM");

    hatch_activity_stamp(&owner, 16, 1, 1,
                         HATCH_ACTIVITY_FRESH);
    hatch_activity_count(&owner, 1, 16, 1);
    is_int(hatch_activity_last(&owner, 16, 1), 0, "out of range");

    hatch_activity_count(&owner, HATCH_ACTIVITY_TOTALS + 1, 2, 1);
    hatch_activity_count(&owner, 5, 2, 1);
    hatch_activity_count_held(&owner, 5);
    hatch_activity_sum(&reader, &sum);
    is_int(sum.requests, 5, "all requests of all workers and VMs");
    is_int(sum.held, 1, "one was held");

    hatch_activity_detach(&reader);
    hatch_activity_detach(&owner);
}


int
main(void)
{
    test_activity();
    (void) snprintf(path, sizeof(path), "%s/zone", tap_dir());
    test_refusals();
    test_permission();
    tap_cleanup();

    return tap_done();
}
