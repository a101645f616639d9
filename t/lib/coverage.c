/*
 * Linked into the agent of `make coverage` alone: what was executed is written
 * five times a second, since tests kill agents in ways that let nothing be
 * written at the end, and just before a fault point kills.
 */

#define _GNU_SOURCE

#include <gcov.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>


#define COVERAGE_STEP  200      /* ms */

static pthread_mutex_t  coverage_lock = PTHREAD_MUTEX_INITIALIZER;


static void
coverage_write(void)
{
    pthread_mutex_lock(&coverage_lock);
    __gcov_dump();
    __gcov_reset();
    pthread_mutex_unlock(&coverage_lock);
}


static void *
coverage_run(void *data)
{
    const struct timespec  step = { 0, COVERAGE_STEP * 1000000 };

    while (nanosleep(&step, NULL) == 0) {
        coverage_write();
    }

    return data;
}


/* In place of libc's. */
int
raise(int signo)
{
    coverage_write();

    return kill(getpid(), signo);
}


/* All signals are for the agent's own threads. */
static void __attribute__((constructor))
coverage_start(void)
{
    sigset_t   all, before;
    pthread_t  thread;

    (void) sigfillset(&all);
    (void) pthread_sigmask(SIG_SETMASK, &all, &before);

    if (pthread_create(&thread, NULL, coverage_run, NULL) == 0) {
        (void) pthread_detach(thread);
    }

    (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
}
