/*
 * libFuzzer: a zone that changes under its reader.  Another thread writes the
 * input's words into the file's map, again and again, and now and then cuts
 * the file; the reader must come to an end with each call, and what it returns
 * must be within its bounds.
 */

#define _GNU_SOURCE

#include "kit.h"

#include "hatch_guard.h"
#include "hatch_zone.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>


#define SLOTS   8
#define WORDS   256
#define ROUNDS  3


/* Words with their places; written by the reader while the writer rests. */
static struct {
    pthread_barrier_t  barrier;
    int                stop;
    int                cut;             /* to so many bytes; -1: not */
    unsigned           n;
    uint32_t           place[WORDS];    /* of 8 bytes */
    uint64_t           word[WORDS];
    char              *base;
    size_t             size;
    int                fd;
    ino_t              ino;
    void              *good;            /* what is in it at first */
} hostile = { .fd = -1 };


static void *
hostile_run(void *data)
{
    unsigned  i;

    (void) data;

    for ( ;; ) {
        (void) pthread_barrier_wait(&hostile.barrier);

        do {
            for (i = 0; i < hostile.n; i++) {
                __atomic_store_n((uint64_t *) (void *) (hostile.base
                                     + hostile.place[i] * sizeof(uint64_t)),
                                 hostile.word[i] + i, __ATOMIC_RELAXED);
            }

            if (hostile.cut != -1) {
                (void) !ftruncate(hostile.fd, hostile.cut);
                break;
            }
        } while (!__atomic_load_n(&hostile.stop, __ATOMIC_RELAXED));

        (void) pthread_barrier_wait(&hostile.barrier);
    }

    return NULL;
}


/* The file that has the name now. */
static void
hostile_open(void)
{
    struct stat  st;

    if (hostile.fd != -1) {
        (void) munmap(hostile.base, hostile.size);
        (void) close(hostile.fd);
    }

    hostile.fd = open(kit_path("zone"), O_RDWR | O_CLOEXEC);
    kit_must(hostile.fd != -1 && fstat(hostile.fd, &st) == 0);
    hostile.ino = st.st_ino;
    hostile.base = mmap(NULL, hostile.size, PROT_READ | PROT_WRITE, MAP_SHARED,
                        hostile.fd, 0);
    kit_must(hostile.base != MAP_FAILED);
}


/* A zone with one VM; what it is then is put back before each input. */
static void
hostile_make(void)
{
    hatch_err_t          err;
    hatch_zone_vm_t      vm = { .id = "vm_aaaaaaaaaaaaaaaa", .family = 4 };
    hatch_zone_writer_t  writer;

    kit_must(hatch_zone_own(&writer, kit_path("zone"), SLOTS, (gid_t) -1,
                            &err) == 0);
    kit_must(hatch_zone_put(&writer, &vm, HATCH_STATE_RUNNING, 1) >= 0);

    hostile.size = writer.zone.file.size;
    hostile.good = malloc(hostile.size);
    kit_must(hostile.good != NULL);
    memcpy(hostile.good, writer.zone.file.base, hostile.size);
    hatch_zone_disown(&writer);
}


int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    pthread_t  thread;

    (void) argc;
    (void) argv;
    (void) kit_config();

    kit_must(hatch_guard_install() == 0);
    hostile_make();
    hostile_open();
    (void) pthread_barrier_init(&hostile.barrier, NULL, 2);
    kit_must(pthread_create(&thread, NULL, hostile_run, NULL) == 0);

    return 0;
}


static void
read_slot(const hatch_zone_t *zone, uint32_t slot)
{
    uint32_t             found;
    hatch_zone_vm_t      vm;
    hatch_zone_peer_t    peer;
    hatch_zone_stats_t   stats;

    kit_must(hatch_zone_state(zone, slot) < HATCH_STATE_MAX);

    if (hatch_zone_read(zone, slot, &vm) != 0) {
        return;
    }

    kit_must(memchr(vm.id, '\0', sizeof(vm.id)) != NULL);
    kit_must(memchr(vm.name, '\0', sizeof(vm.name)) != NULL);

    if (hatch_zone_peer(zone, vm.id, &peer) == 0) {
        kit_must(peer.slot < zone->file.slots);
        (void) hatch_zone_peer_same(zone, &peer);
    }

    if (hatch_zone_find(zone, vm.id, &found, &vm) == 0) {
        kit_must(found < zone->file.slots);
    }

    (void) hatch_zone_stats(zone, slot, vm.generation, &stats);
}


static void
read_zone(const hatch_zone_t *zone)
{
    uint32_t               slot, ms;
    hatch_zone_vm_t        vm;
    hatch_zone_counts_t    counts;
    hatch_zone_counters_t  counters;

    for (slot = 0; slot <= zone->file.slots; slot++) {
        read_slot(zone, slot);
    }

    (void) hatch_zone_find(zone, "vm_aaaaaaaaaaaaaaaa", &slot, &vm);
    (void) hatch_zone_counts(zone, &counts);
    (void) hatch_zone_counters(zone, &counters);
    (void) hatch_zone_intact(zone);
    (void) hatch_zone_published(zone);
    (void) hatch_zone_vm_count(zone);
    kit_must(hatch_zone_libvirt(zone) <= HATCH_LIBVIRT_DISCONNECTED);
    kit_must(hatch_zone_notice(zone, &ms) < HATCH_NOTICE_MAX);
}


/* Three bytes a place and a small word, eleven a place and any word. */
static void
take_words(const uint8_t *data, size_t size)
{
    size_t  n;

    hostile.cut = data[0] == 0xff ? data[1] * 64 : -1;
    hostile.n = 0;

    for (data += 2, size -= 2; size >= 3 && hostile.n < WORDS;
         data += n, size -= n)
    {
        n = (data[1] & 0x80) && size >= 11 ? 11 : 3;
        hostile.word[hostile.n] = 0;
        memcpy(&hostile.word[hostile.n], data + 2, n == 11 ? 8 : 1);

        hostile.place[hostile.n++] = (data[0] | (data[1] & 0x7fu) << 8)
                                     % (hostile.size / sizeof(uint64_t));
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int                  i;
    hatch_err_t          err;
    hatch_zone_t         zone;
    hatch_zone_writer_t  writer;

    if (size < 2) {
        return 0;
    }

    kit_must(ftruncate(hostile.fd, (off_t) hostile.size) == 0
             && pwrite(hostile.fd, hostile.good, hostile.size, 0)
                == (ssize_t) hostile.size);
    kit_must(hatch_zone_attach(&zone, kit_path("zone"), 1, &err) == 0);

    take_words(data, size);
    __atomic_store_n(&hostile.stop, 0, __ATOMIC_RELAXED);
    (void) pthread_barrier_wait(&hostile.barrier);

    for (i = 0; i < ROUNDS; i++) {
        read_zone(&zone);
    }

    __atomic_store_n(&hostile.stop, 1, __ATOMIC_RELAXED);
    (void) pthread_barrier_wait(&hostile.barrier);

    hatch_zone_detach(&zone);

    /* the next agent takes over what is left */
    if (hatch_zone_own(&writer, kit_path("zone"), SLOTS, (gid_t) -1, &err)
        == 0)
    {
        read_zone(&writer.zone);

        if (writer.zone.file.ino != hostile.ino) {
            hostile_open();
        }

        hatch_zone_disown(&writer);
    }

    return 0;
}
