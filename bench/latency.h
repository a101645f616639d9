/*
 * Latencies in blocks, each with what the host took away of the processors
 * meanwhile ("steal" in /proc/stat): on a machine that is a guest, a p99 of a
 * few milliseconds is otherwise that of the host's scheduler.
 */

#ifndef HATCH_BENCH_LATENCY_H_INCLUDED
#define HATCH_BENCH_LATENCY_H_INCLUDED

#include <stdio.h>
#include <stdlib.h>


#define LATENCY_BLOCK  5


typedef struct {
    unsigned   n;
    double    *ms;
    unsigned  *stolen;          /* ticks, at the beginning of each block */
} latency_t;


/* Room for n; -1 if there is no memory. */
static inline int
latency_init(latency_t *l, unsigned n)
{
    l->n = 0;
    l->ms = calloc(n, sizeof(*l->ms));
    l->stolen = calloc(n / LATENCY_BLOCK + 2, sizeof(*l->stolen));

    return l->ms != NULL && l->stolen != NULL ? 0 : -1;
}


static inline unsigned
latency_stolen(void)
{
    FILE      *file = fopen("/proc/stat", "re");
    unsigned   ticks = 0;

    if (file != NULL) {
        (void) !fscanf(file, "cpu %*u %*u %*u %*u %*u %*u %*u %u", &ticks);
        (void) fclose(file);
    }

    return ticks;
}


/* Before each that is measured. */
static inline void
latency_begin(latency_t *l)
{
    if (l->n % LATENCY_BLOCK == 0) {
        l->stolen[l->n / LATENCY_BLOCK] = latency_stolen();
    }
}


static inline void
latency_note(latency_t *l, double ms)
{
    l->ms[l->n++] = ms;
}


/* {"blocks":[[ticks stolen, ms, ms, ...], ...]} of all whole blocks. */
static inline void
latency_print(latency_t *l)
{
    unsigned  b, i;

    latency_begin(l);
    printf("{\"blocks\":[");

    for (b = 0; b < l->n / LATENCY_BLOCK; b++) {
        printf("%s[%u", b != 0 ? "," : "", l->stolen[b + 1] - l->stolen[b]);

        for (i = b * LATENCY_BLOCK; i < (b + 1) * LATENCY_BLOCK; i++) {
            printf(",%.4f", l->ms[i]);
        }

        printf("]");
    }

    printf("]}\n");
}

#endif /* HATCH_BENCH_LATENCY_H_INCLUDED */
