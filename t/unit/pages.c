/*
 * core/pages.c with a process of its own: what it has changed of a private
 * mapping goes into the file, and is dropped from its memory while its threads
 * sit in system calls, which go on as if nothing had been.
 */

#define _GNU_SOURCE

#include "tap.h"

#include "core/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>


#define PAGES  4096u                    /* 16 MiB */
#define BYTES  ((uint64_t) PAGES * PAGES_SIZE)

static char   file[256];
static int    ask[2], answer[2];
static char  *memory;


/* --- the other process --- */

static void *
sleeper(void *data)
{
    struct timespec  ts = { 1000, 0 };

    (void) data;

    /* a call that the kernel makes again by itself */
    while (nanosleep(&ts, &ts) == -1) {
        /* void */
    }

    return NULL;
}


static uint64_t
sum(void)
{
    uint64_t  i, n = 0;

    for (i = 0; i < BYTES; i += 8) {
        n = n * 31 + *(uint64_t *) (void *) (memory + i);
    }

    return n;
}


/* One letter a question: how it answers shows that it lives. */
static void
other(int fd)
{
    char           c;
    uint64_t       n;
    unsigned       i;
    pthread_t      thread;
    struct pollfd  p = { ask[0], POLLIN, 0 };

    memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    (void) pthread_create(&thread, NULL, sleeper, NULL);
    (void) pthread_create(&thread, NULL, sleeper, NULL);

    for ( ;; ) {
        if (poll(&p, 1, -1) != 1 || read(ask[0], &c, 1) != 1) {
            _exit(1);
        }

        if (c == 'w') {
            for (i = 3; i < PAGES; i += 3) {
                memset(memory + (size_t) i * PAGES_SIZE, (int) i, PAGES_SIZE);
            }

        } else if (c == 'z') {
            memset(memory, 0, BYTES / 2);
        }

        n = sum();
        (void) !write(answer[1], &n, sizeof(n));
    }
}


static uint64_t
question(char c)
{
    uint64_t  n = 0;

    (void) !write(ask[1], &c, 1);
    (void) !read(answer[0], &n, sizeof(n));

    return n;
}


/* --- this one --- */

static int
stop_at_once(void *ctx)
{
    (void) ctx;

    return 1;
}


static long
blocks(void)
{
    struct stat  st;

    return stat(file, &st) == 0 ? (long) st.st_blocks : -1;
}


static void
test_pages(pid_t pid, int fd)
{
    pid_t        found = 0;
    pages_t      pages;
    uint64_t     before, written = 0;
    hatch_err_t  err = { HATCH_OK, "" };
    char         path[4096];

    (void) !realpath(file, path);

    is_int(pages_open(&pages, getpid(), path, BYTES, &err),
           HATCH_ERR_NOT_FOUND, "a process that does not map it");
    is_int(pages_open(&pages, pid, path, BYTES / 2, &err), HATCH_ERR_INVALID,
           "not of that size");
    is_int(pages_open(&pages, pid, path, BYTES, &err), 0, "its mapping");
    is_int(pages_find("/no/such/file", &found, &err), HATCH_ERR_NOT_FOUND,
           "a file that nobody maps");

    before = question('s');
    is_int(pages_changed(&pages, -1, &err), 0, "nothing is changed");
    before = question('w');
    is_int(pages_changed(&pages, -1, &err), PAGES / 3, "a third is");
    is_int(pages_changed(&pages, fd, &err), HATCH_ERR_CORRUPT,
           "which the file has not");
    is_int(pages_drop(&pages, fd, &err), HATCH_ERR_CORRUPT,
           "so it is not dropped");
    ok(question('s') == before, "and all is there");

    is_int(pages_save(&pages, fd, stop_at_once, NULL, &written, &err),
           HATCH_ERR_BUSY, "cancelled");
    is_int(pages_save(&pages, fd, NULL, NULL, &written, &err), 0, "saved");
    /* of i * 256 the bytes are zeroes */
    is_int((long) written, PAGES / 3 - PAGES / 3 / 256, "but for zeroes");
    is_int(pages_changed(&pages, fd, &err), PAGES / 3, "the file has them");

    is_int(pages_drop(&pages, fd, &err), 0, "dropped");
    is_int(pages_changed(&pages, -1, &err), 0, "nothing is changed any more");
    ok(question('s') == before, "the process goes on with the same memory");
    is_int(pages_drop(&pages, fd, &err), 0, "again");
    ok(question('s') == before, "and again");

    before = question('z');
    is_int(pages_save(&pages, fd, NULL, NULL, &written, &err), 0, "zeroes");
    is_int((long) written, 0, "are not written");
    ok(blocks() <= (long) (BYTES / 512 / 2), "but become a hole");
    is_int(pages_drop(&pages, fd, &err), 0, "dropped");
    ok(question('s') == before, "the same memory");

    pages_close(&pages);
}


int
main(void)
{
    int    fd, status;
    pid_t  pid;

    (void) snprintf(file, sizeof(file), "%s/memory", tap_dir());
    fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd == -1 || ftruncate(fd, (off_t) BYTES) == -1 || pipe(ask) == -1
        || pipe(answer) == -1)
    {
        printf("Bail out! no file\n");
        return 1;
    }

    pid = fork();

    if (pid == 0) {
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        other(fd);
    }

    (void) question('s');
    test_pages(pid, fd);

    is_int(kill(pid, 0), 0, "it lives");
    (void) kill(pid, SIGKILL);
    (void) waitpid(pid, &status, 0);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "until now");

    (void) close(fd);
    tap_cleanup();

    return tap_done();
}
