/* The load generator: what its two halves share. */

#ifndef HATCH_BENCH_LOAD_H_INCLUDED
#define HATCH_BENCH_LOAD_H_INCLUDED

#include <stddef.h>
#include <stdint.h>


#define LOAD_REQUEST  512

/* Latencies: 32 buckets for each power of two of nanoseconds. */
#define LOAD_BUCKETS  (40 * 32)


typedef struct peer_s  peer_t;

/* What is asked, over connections of its own. */
typedef struct {
    unsigned     port;
    const char  *path;

    peer_t     **clients;
    unsigned     connections;
    int          asking;        /* who has its answer asks again */
    char         request[LOAD_REQUEST];
    size_t       request_len;
    size_t       digits;        /* where the number of the name is; 0: none */

    /* while load.measuring */
    uint64_t     requests, errors, closed, accepted;
    uint64_t     buckets[LOAD_BUCKETS];
    char         bad[4];        /* the last status that was not 200 */
} target_t;


typedef struct {
    unsigned     backend;       /* port; 0: there is none */
    unsigned     names;
    double       interval;      /* us */
    const char  *host, *scrape, *patch;

    /* what load_crowd.c does in the pauses of interval= */
    unsigned     slow, half, resets;
    const char  *crowd, *held;
} load_options_t;


extern load_options_t  options;

extern struct load_s {
    int        measuring;
    target_t  *target;          /* that is asked, the only one */
    uint64_t   scrapes, patches, crowd;
} load;


uint64_t load_now(void);

/* Makes the poll and the backend. */
void load_init(void);

/* Connects; nothing is asked yet.  `named`: the Host is as options say. */
void target_init(target_t *target, int named);

/* Begins to ask, as fast as answers come or with options.interval. */
void target_begin(target_t *target);

/* The clients of scrape= and patch= begin; they do not end. */
void load_others(target_t *target);

/* Connects those of slow=, half= and resets=. */
void crowd_init(void);

/* One of them does something, if it is time; nobody waits for an answer. */
void crowd_turn(void);

/* Asks no more, and waits until all answers have come. */
void target_end(target_t *target);

/* Forgets what was counted. */
void target_reset(target_t *target);

/* The latency that so much of all requests kept below, us. */
double target_quantile(const target_t *target, double part);

/* Whatever there is to do now. */
void load_turn(void);

#endif /* HATCH_BENCH_LOAD_H_INCLUDED */
