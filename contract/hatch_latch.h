/*
 * A latch: one writer, any readers, no lock, in shared memory.
 *
 * There are two copies of the data and a sequence number whose lowest bit
 * says which copy is the good one.  The writer changes the other copy and
 * then raises the number.  A reader copies the good one out and accepts it if
 * the number is still the same.
 *
 * Why not the usual seqlock with an odd number during the write: its readers
 * wait for the writer, and a writer killed in the middle leaves the data
 * unreadable.  Here a writer may die between any two instructions and the
 * last good copy stays readable.
 *
 * All data moves as relaxed atomic 64-bit words, so nothing here is a data
 * race in the sense of C11.
 */

#ifndef HATCH_LATCH_H_INCLUDED
#define HATCH_LATCH_H_INCLUDED

#include <stddef.h>
#include <stdint.h>


/*
 * How often a reader starts again.  Only a writer that overtakes it twice
 * within one copy (tens of nanoseconds) makes it start again at all.
 */
#define HATCH_LATCH_TRIES  10000


static inline void
hatch_words_load(void *to, const void *from, size_t size)
{
    size_t           i;
    uint64_t        *dst = to;
    const uint64_t  *src = from;

#pragma GCC unroll 8
    for (i = 0; i < size / sizeof(uint64_t); i++) {
        dst[i] = __atomic_load_n(&src[i], __ATOMIC_RELAXED);
    }
}


static inline void
hatch_words_store(void *to, const void *from, size_t size)
{
    size_t           i;
    uint64_t        *dst = to;
    const uint64_t  *src = from;

    for (i = 0; i < size / sizeof(uint64_t); i++) {
        __atomic_store_n(&dst[i], src[i], __ATOMIC_RELAXED);
    }
}


/*
 * Publishes size bytes (a multiple of 8).  Only the one writer may call it.
 * `copies` are the two copies, one after the other.
 */
static inline void
hatch_latch_write(uint32_t *seq, void *copies, const void *data, size_t size)
{
    uint32_t  next = __atomic_load_n(seq, __ATOMIC_RELAXED) + 1;

    /* the number of the write before must be out before this one begins */
    __atomic_thread_fence(__ATOMIC_RELEASE);

    hatch_words_store((char *) copies + (next & 1) * size, data, size);

    __atomic_store_n(seq, next, __ATOMIC_RELEASE);
}


/*
 * Copies the first `part` bytes of the data, of which there are `size`, and
 * sets read to the sequence number that they are of.  0, or -1 if the writer
 * overtook the reader HATCH_LATCH_TRIES times.
 */
static inline int
hatch_latch_read_part(const uint32_t *seq, const void *copies, void *data,
    size_t size, size_t part, uint32_t *read)
{
    uint32_t  s, tries;

    for (tries = 0; tries < HATCH_LATCH_TRIES; tries++) {
        s = __atomic_load_n(seq, __ATOMIC_ACQUIRE);

        hatch_words_load(data, (const char *) copies + (s & 1) * size, part);

        __atomic_thread_fence(__ATOMIC_ACQUIRE);

        if (__atomic_load_n(seq, __ATOMIC_RELAXED) == s) {
            *read = s;
            return 0;
        }
    }

    return -1;
}


/* The same for all of it. */
static inline int
hatch_latch_read(const uint32_t *seq, const void *copies, void *data,
    size_t size)
{
    uint32_t  s;

    return hatch_latch_read_part(seq, copies, data, size, size, &s);
}

#endif /* HATCH_LATCH_H_INCLUDED */
