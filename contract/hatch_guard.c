#define _GNU_SOURCE

#include "hatch_guard.h"

#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>


/*
 * A slot is taken first, by whatever thread; size is written before base and
 * read after it, so the handler never sees half a slot.
 */
static struct {
    int      taken;
    void    *base;
    size_t   size;
} hatch_guarded[HATCH_GUARD_MAX];

static struct sigaction  hatch_guard_previous;
static int               hatch_guard_installed;


static int
hatch_guard_replace(char *address)
{
    int      i;
    char    *base;
    size_t   size;

    for (i = 0; i < HATCH_GUARD_MAX; i++) {
        base = __atomic_load_n(&hatch_guarded[i].base, __ATOMIC_ACQUIRE);
        size = hatch_guarded[i].size;

        if (base == NULL || address < base || address >= base + size) {
            continue;
        }

        return mmap(base, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
               == MAP_FAILED ? -1 : 0;
    }

    return -1;
}


static void
hatch_guard_handler(int signo, siginfo_t *info, void *context)
{
    (void) context;

    if (hatch_guard_replace(info->si_addr) == 0) {
        return;
    }

    /* not ours: the instruction faults again under the previous handler */
    (void) sigaction(signo, &hatch_guard_previous, NULL);
}


int
hatch_guard_install(void)
{
    struct sigaction  sa;

    if (hatch_guard_installed) {
        return 0;
    }

    memset(&sa, 0, sizeof(sa));
    sa.sa_sigaction = hatch_guard_handler;
    sa.sa_flags = SA_SIGINFO;
    (void) sigemptyset(&sa.sa_mask);

    if (sigaction(SIGBUS, &sa, &hatch_guard_previous) == -1) {
        return -1;
    }

    hatch_guard_installed = 1;

    return 0;
}


int
hatch_guard_add(void *base, size_t size)
{
    int  i, none;

    for (i = 0; i < HATCH_GUARD_MAX; i++) {
        none = 0;

        if (__atomic_compare_exchange_n(&hatch_guarded[i].taken, &none, 1, 0,
                                        __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        {
            hatch_guarded[i].size = size;
            __atomic_store_n(&hatch_guarded[i].base, base, __ATOMIC_RELEASE);
            return 0;
        }
    }

    return -1;
}


void
hatch_guard_remove(void *base)
{
    int  i;

    for (i = 0; i < HATCH_GUARD_MAX; i++) {
        if (hatch_guarded[i].base == base) {
            __atomic_store_n(&hatch_guarded[i].base, NULL, __ATOMIC_RELEASE);
            __atomic_store_n(&hatch_guarded[i].taken, 0, __ATOMIC_RELEASE);
        }
    }
}
