/*
 * Linked into the agent of `make coverage` alone.  Tests kill agents in ways
 * that let nothing be written at the end; so what was executed is written twice
 * a second, and just before a fault point kills.
 *
 * A child does it, of the counters as they are: to write them again one has to
 * clear them first, and what is counted between the two is lost.
 */

#define _GNU_SOURCE

#include <gcov.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>


#define COVERAGE_STEP  500      /* ms */

/* Called by name, it would be one that writes and clears in the parent. */
static pid_t  (*const volatile coverage_fork)(void) = fork;


static void *
coverage_run(void *data)
{
    pid_t                  pid;
    const struct timespec  step = { 0, COVERAGE_STEP * 1000000 };

    while (nanosleep(&step, NULL) == 0) {
        pid = coverage_fork();

        if (pid == 0) {
            /* locks of files are not to outlive the agent */
            (void) close_range(3, ~0u, 0);
            __gcov_dump();
            _exit(0);
        }

        (void) waitpid(pid, NULL, 0);
    }

    return data;
}


/* In place of libc's. */
int
raise(int signo)
{
    __gcov_dump();

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
