/*
 * load: a load generator that never sleeps.
 *
 *   load PORT [OPTION=VALUE...]
 *
 *   seconds=3          how long to measure, after warm=0.3 seconds
 *   requests=N         or so many requests, however long they take
 *   connections=64     to 127.0.0.1:PORT, each with one request at a time
 *   path=/             what to ask for
 *   names=N            Host is nNNNNNNN.hatch.local, drawn at random from N
 *   host=NAME          or this one
 *   backend=PORT       serve what the server proxies to, on all addresses of
 *                      127.0.0.0/8
 *   hold=PATH          after warming up says "holding", and asks nothing until
 *                      PATH is there
 *   interval=US        not as fast as possible: one request, then so long none
 *   scrape=PATH        and one more connection that asks for this all the time
 *   patch=PATH         and eight more that change the port of this route
 *   crowd=PORT,...     with interval=: others that disturb these, in the pauses
 *   slow=N half=N      so many that send a byte now and then, or a request and
 *                      the end of what they send
 *   resets=N held=HOST so many that ask the first port for this host and reset
 *                      the connection some time after
 *
 * One line of JSON: requests, how long they took, new connections to the
 * backend, connections that the server closed, and whatever was not a 200 with
 * a whole body.
 *
 *   versus=PORT/PATH   compare: the above is A, this is B, with the same Host
 *   pace=PORT/PATH     and this is asked for a moment before each round
 *   rounds=N           so many rounds of A B A B ... A
 *   slices=20          with so many B, and one A more
 *   slice=0.05         seconds each; in between, all answers come
 *
 * A line of JSON for each round: requests a second of each slice.  Short ones
 * in turn see the same machine, also where its pace changes all the time.
 *
 * Client and backend are one thread that polls: whoever sleeps in between
 * lets the server sleep, too, and then measures how fast the kernel wakes it.
 * What comes in one piece, as nearly all does, is read into one buffer for
 * all: ten thousand of them would cost this thread more than the server.
 */

#define _GNU_SOURCE

#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


#define LOAD_PACE        0.1    /* s, of pace= */
#define LOAD_SLICES_MAX  1000


static struct {
    uint64_t     requests;
    double       seconds, warm, slice;
    unsigned     rounds, slices;
    const char  *hold;
} plan = { .seconds = 3, .warm = 0.3, .rounds = 1, .slices = 20,
           .slice = 0.05 };

static target_t  a = { .path = "/", .connections = 64 };
static target_t  b = { .connections = 64 };
static target_t  pace = { .connections = 64 };


static void
set_target(target_t *target, char *value)
{
    char  *path = strchr(value, '/');

    target->port = (unsigned) atoi(value);
    target->path = path != NULL ? path : "/";
}


static void
parse(int argc, char **argv)
{
    int    i;
    char  *value;

    a.port = (unsigned) atoi(argv[1]);

    for (i = 2; i < argc; i++) {
        value = strchr(argv[i], '=');

        if (value == NULL) {
            fprintf(stderr, "load: %s is no option\n", argv[i]);
            exit(2);
        }

        *value++ = '\0';

#define OPTION(name, set)                                                     \
        if (strcmp(argv[i], #name) == 0) {                                    \
            set;                                                              \
        }

        OPTION(seconds, plan.seconds = atof(value))
        OPTION(warm, plan.warm = atof(value))
        OPTION(requests, plan.requests = strtoull(value, NULL, 10))
        OPTION(hold, plan.hold = value)
        OPTION(rounds, plan.rounds = (unsigned) atoi(value))
        OPTION(slices, plan.slices = (unsigned) atoi(value))
        OPTION(slice, plan.slice = atof(value))
        OPTION(interval, options.interval = atof(value))
        OPTION(names, options.names = (unsigned) atoi(value))
        OPTION(backend, options.backend = (unsigned) atoi(value))
        OPTION(host, options.host = value)
        OPTION(scrape, options.scrape = value)
        OPTION(patch, options.patch = value)
        OPTION(crowd, options.crowd = value)
        OPTION(slow, options.slow = (unsigned) atoi(value))
        OPTION(half, options.half = (unsigned) atoi(value))
        OPTION(resets, options.resets = (unsigned) atoi(value))
        OPTION(held, options.held = value)
        OPTION(connections, a.connections = (unsigned) atoi(value))
        OPTION(path, a.path = value)
        OPTION(versus, set_target(&b, value))
        OPTION(pace, set_target(&pace, value))

#undef OPTION
    }

    if (options.interval != 0) {
        a.connections = 1;
    }

    if (plan.slices == 0 || plan.slices > LOAD_SLICES_MAX) {
        fprintf(stderr, "load: slices= must be from 1 to %d\n",
                LOAD_SLICES_MAX);
        exit(2);
    }
}


/* --- one target --- */

/* Lets all answers come, and waits for whoever measures. */
static void
hold(void)
{
    target_end(&a);
    printf("holding\n");
    (void) fflush(stdout);

    while (access(plan.hold, F_OK) == -1) {
        load_turn();
    }

    target_begin(&a);
}


static void
print(double seconds)
{
    printf("{\"requests\":%llu,\"seconds\":%.3f,\"errors\":%llu,"
           "\"accepted\":%llu,\"closed\":%llu,\"scrapes\":%llu,"
           "\"patches\":%llu,\"crowd\":%llu,\"bad\":\"%.3s\","
           "\"p50\":%.1f,\"p99\":%.1f}\n",
           (unsigned long long) a.requests, seconds,
           (unsigned long long) a.errors, (unsigned long long) a.accepted,
           (unsigned long long) a.closed, (unsigned long long) load.scrapes,
           (unsigned long long) load.patches,
           (unsigned long long) load.crowd, a.bad,
           target_quantile(&a, 0.5), target_quantile(&a, 0.99));
}


static int
measure(void)
{
    uint64_t  end, began;

    target_init(&a, 1);
    target_begin(&a);
    load_others(&a);
    crowd_init();

    end = load_now() + (uint64_t) (plan.warm * 1e9);

    while (load_now() < end) {
        load_turn();
    }

    if (plan.hold != NULL) {
        hold();
    }

    target_reset(&a);
    load.measuring = 1;
    began = load_now();
    end = began + (uint64_t) (plan.seconds * 1e9);

    while (plan.requests != 0 ? a.requests < plan.requests
                              : load_now() < end)
    {
        load_turn();
    }

    print((double) (load_now() - began) / 1e9);

    return a.errors != 0;
}


/* --- one beside the other --- */

/* Requests a second. */
static double
slice(target_t *target, double seconds)
{
    double    rate;
    uint64_t  end, began, before = target->requests;

    target_begin(target);
    load.measuring = 1;
    began = load_now();
    end = began + (uint64_t) (seconds * 1e9);

    while (load_now() < end) {
        load_turn();
    }

    load.measuring = 0;
    rate = (double) (target->requests - before)
           / ((double) (load_now() - began) / 1e9);
    target_end(target);

    return rate;
}


static void
print_rates(const char *name, const double *rates, unsigned n)
{
    unsigned  i;

    printf("\"%s\":[", name);

    for (i = 0; i < n; i++) {
        printf("%s%.0f", i != 0 ? "," : "", rates[i]);
    }

    printf("],");
}


static void
compare_round(void)
{
    double         before = 0;
    unsigned       i;

    static double  rates_a[LOAD_SLICES_MAX + 1], rates_b[LOAD_SLICES_MAX];

    if (pace.port != 0) {
        before = slice(&pace, LOAD_PACE);
    }

    target_reset(&a);
    target_reset(&b);
    rates_a[0] = slice(&a, plan.slice);

    for (i = 0; i < plan.slices; i++) {
        rates_b[i] = slice(&b, plan.slice);
        rates_a[i + 1] = slice(&a, plan.slice);
    }

    printf("{\"pace\":%.0f,", before);
    print_rates("a", rates_a, plan.slices + 1);
    print_rates("b", rates_b, plan.slices);
    printf("\"errors\":%llu,\"requests\":%llu,\"accepted\":%llu,"
           "\"p99_a\":%.1f,\"p99\":%.1f}\n",
           (unsigned long long) (a.errors + b.errors),
           (unsigned long long) b.requests, (unsigned long long) b.accepted,
           target_quantile(&a, 0.99), target_quantile(&b, 0.99));
    (void) fflush(stdout);
}


static int
compare(void)
{
    unsigned  i;

    target_init(&a, 1);
    target_init(&b, 1);

    if (pace.port != 0) {
        target_init(&pace, 0);
    }

    (void) slice(&a, plan.warm);
    (void) slice(&b, plan.warm);

    for (i = 0; i < plan.rounds; i++) {
        compare_round();
    }

    return 0;
}


int
main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: load PORT [OPTION=VALUE...]\n");
        return 2;
    }

    parse(argc, argv);
    load_init();

    return b.port != 0 ? compare() : measure();
}
