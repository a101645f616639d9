/*
 * libFuzzer: any bytes as the content of a zone behind a valid head, and as
 * a whole file.  A reader must neither crash nor hang.  Run by `make fuzz`.
 */

#define _GNU_SOURCE

#include "hatch_zone.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static void
read_all(const char *path)
{
    uint32_t             slot, found;
    hatch_zone_t         zone;
    hatch_zone_vm_t      vm;
    hatch_zone_counts_t  counts;

    if (hatch_zone_attach(&zone, path, 1, NULL) != 0) {
        return;
    }

    (void) hatch_zone_counts(&zone, &counts);
    (void) hatch_zone_published(&zone);

    for (slot = 0; slot < zone.file.slots; slot++) {
        if (hatch_zone_read(&zone, slot, &vm) == 0) {
            (void) hatch_zone_find(&zone, vm.id, &found, &vm);
        }
    }

    (void) hatch_zone_find(&zone, "vm_aaaaaaaaaaaaaaaa", &found, &vm);
    hatch_zone_detach(&zone);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int                  fd;
    char                 path[64];
    hatch_zone_writer_t  writer;

    (void) snprintf(path, sizeof(path), "/dev/shm/hatch-fuzz.%ld",
                    (long) getpid());
    (void) unlink(path);

    if (size > 0 && data[0] & 1) {
        if (hatch_zone_own(&writer, path, 8, (gid_t) -1, NULL) != 0) {
            return 0;
        }

        if (size > writer.zone.file.size - 64) {
            size = writer.zone.file.size - 64;
        }

        memcpy((char *) writer.zone.file.base + 64, data, size);
        read_all(path);
        hatch_zone_disown(&writer);

        /* the next agent takes over whatever it finds */
        if (hatch_zone_own(&writer, path, 8, (gid_t) -1, NULL) == 0) {
            read_all(path);
            hatch_zone_disown(&writer);
        }

    } else {
        fd = memfd_create("zone", 0);

        if (fd != -1) {
            (void) !write(fd, data, size);
            (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
            read_all(path);
            (void) close(fd);
            return 0;
        }
    }

    (void) unlink(path);

    return 0;
}
