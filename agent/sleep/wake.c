#define _GNU_SOURCE

#include "wake.h"
#include "wake_private.h"
#include "core/descriptors.h"
#include "core/listen.h"
#include "core/log.h"
#include "core/watchdog.h"
#include "table/table_sleep.h"
#include "table/table_stats.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>


#define WAKE_EVENTS       64
#define WAKE_ASKS         65536     /* of all workers together */


/* One ASK, until it is answered. */
typedef struct ask_s {
    wake_source_t      source;
    struct ask_s      *next;
    worker_t          *worker;
    uint64_t           request;
    uint64_t           deadline;
    uint16_t           port;
    char               id[HATCH_ID_SIZE];
    wake_vm_t         *vm;          /* it is being woken; NULL: probing */
    hatch_wake_kind_t  kind;
    uint64_t           duration;
    probe_t            probe;
    uint64_t           incarnation; /* of the guest that is probed; 0: not
                                     * known */
    uint64_t           due;         /* when to look again, 0: not */
    unsigned           probing:1;   /* probe is in use */
    unsigned           told:1;      /* WAIT was sent */
    unsigned           answered:1;  /* freed after the round */
} ask_t;


static struct {
    const config_t  *config;
    pthread_t        thread;
    int              epoll;
    listen_t         listener;
    int              notify;        /* eventfd */
    ask_t           *asks;
    unsigned         n_asks;
    int              stop;
} wake = { .epoll = -1, .listener = { .fd = -1 }, .notify = -1 };

static wake_source_t  wake_notifier = WAKE_NOTIFIER;


uint64_t
wake_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000;
}


/* What it asked for, nobody waits for any more. */
static void
wake_worker_gone(worker_t *worker)
{
    ask_t  *ask;

    for (ask = wake.asks; ask != NULL; ask = ask->next) {
        if (ask->worker == worker) {
            ask->answered = 1;
        }
    }
}


/* --- answers --- */

static void
ask_send(ask_t *ask, hatch_wake_message_t *message)
{
    message->magic = HATCH_WAKE_MAGIC;
    message->request = ask->request;
    worker_send(ask->worker, message);
}


static void
ask_wait(ask_t *ask)
{
    hatch_wake_message_t  message = { .type = HATCH_WAKE_WAIT };

    if (!ask->told) {
        ask->told = 1;
        ask_send(ask, &message);
    }
}


/* `incarnation` of the guest that has answered, or 0. */
static void
ask_ready(ask_t *ask, uint64_t incarnation)
{
    hatch_wake_message_t  message = {
        .type = HATCH_WAKE_READY,
        .kind = (uint16_t) ask->kind,
        .duration = (uint32_t) ask->duration,
        .incarnation = incarnation
    };

    ask->answered = 1;
    ask_send(ask, &message);
}


static void
ask_fail(ask_t *ask, hatch_wake_failure_t failure, uint64_t retry)
{
    hatch_wake_message_t  message = {
        .type = HATCH_WAKE_FAILED,
        .failure = (uint16_t) failure,
        .timeout = (uint32_t) retry
    };

    ask->answered = 1;
    ask_send(ask, &message);
}


/* --- one ask: from whatever state the VM is in to an answer --- */

/* A VM that did not have to be woken has not failed to wake. */
static void
ask_count_failure(const ask_t *ask, hatch_wake_failure_t failure)
{
    if (ask->vm != NULL || ask->kind != HATCH_WAKE_KIND_NONE) {
        table_count_failure(ask->id, failure);
    }
}


static void
ask_probe_result(ask_t *ask, probe_result_t result)
{
    uint64_t  incarnation;

    if (result == PROBE_READY) {
        /* if the guest is another one by now, nobody knows which answered */
        incarnation = table_incarnation(ask->id);
        incarnation = incarnation == ask->incarnation ? incarnation : 0;

        table_answered(ask->id);

        if (ask->kind != HATCH_WAKE_KIND_NONE) {
            table_count_answer(ask->id, wake_now());
        }

        ask_ready(ask, incarnation);

    } else if (result == PROBE_REFUSED && !table_is_booting(ask->id)) {
        ask_count_failure(ask, HATCH_WAKE_REFUSED);
        ask_fail(ask, HATCH_WAKE_REFUSED, 0);
    }
}


/* The VM runs: is its guest ready? */
static void
ask_probe(ask_t *ask, const vm_t *vm, uint64_t now)
{
    /* before connect(): a later guest may answer, but never an earlier one */
    uint64_t  incarnation = table_incarnation(ask->id);

    ask->vm = NULL;

    if (vm->guest_ip.s_addr == 0) {
        ask_ready(ask, 0);          /* nginx says what is wrong with it */
        return;
    }

    /* what the guest before was sent, it may have answered */
    if (ask->probing && ask->incarnation != incarnation) {
        probe_close(&ask->probe);
        ask->probing = 0;
    }

    if (!ask->probing) {
        probe_init(&ask->probe, vm->guest_ip, ask->port);
        ask->probing = 1;
        ask->incarnation = incarnation;
    }

    ask_probe_result(ask, probe_send(&ask->probe, wake.epoll, ask, now));
}


static void
ask_look(ask_t *ask, uint64_t now)
{
    int                   complete = table_is_complete();
    vm_t                  vm;
    uint64_t              retry;
    hatch_wake_failure_t  failure;

    ask->due = 0;

    if (table_get(ask->id, &vm) != 0) {
        if (complete) {
            ask_fail(ask, HATCH_WAKE_GONE, 0);
            return;
        }

        /* this agent has just begun, and does not know yet */
        ask->due = now + WAKE_PROBE_STEP;
        ask_wait(ask);
        return;
    }

    if (vm.state == HATCH_STATE_RUNNING) {
        ask_probe(ask, &vm, now);
        return;
    }

    if (ask->probing) {
        probe_close(&ask->probe);
        ask->probing = 0;

        /* it ran, and has ended again by itself */
        if (vm.state == HATCH_STATE_STOPPED || vm.state == HATCH_STATE_ERROR) {
            wake_vm_failed(ask->id, now);
        }
    }

    ask->vm = wake_vm_begin(ask->id, now, &retry, &failure);

    if (ask->vm == NULL) {
        ask_fail(ask, failure, retry);
        return;
    }

    ask_wait(ask);
}


static void
ask_woken(wake_vm_t *vm, int rc, hatch_wake_kind_t kind, uint64_t duration)
{
    ask_t     *ask;
    uint64_t   now = wake_now();

    for (ask = wake.asks; ask != NULL; ask = ask->next) {
        if (ask->vm != vm || ask->answered) {
            continue;
        }

        ask->vm = NULL;

        if (rc == HATCH_ERR_NOT_FOUND) {
            ask_fail(ask, HATCH_WAKE_GONE, 0);

        } else if (rc != 0) {
            ask_fail(ask, wake_vm_failure(vm), wake_vm_retry(vm, now));

        } else {
            if (kind != HATCH_WAKE_KIND_NONE) {
                ask->kind = kind;
                ask->duration = duration;
            }

            ask_look(ask, now);
        }
    }
}


/* Timers; returns ms until the next one, or -1. */
static int
ask_tick(uint64_t now)
{
    ask_t     *ask;
    uint64_t   next, rest = worker_tick(now);

    wake_vm_run(now);
    next = wake_vm_next(now);
    next = rest < next ? rest : next;

    for (ask = wake.asks; ask != NULL; ask = ask->next) {
        if (!ask->answered && now >= ask->deadline) {
            ask_count_failure(ask, HATCH_WAKE_NOT_READY);
            ask_fail(ask, HATCH_WAKE_NOT_READY, 0);
        }

        if (!ask->answered && ask->probing && now >= ask->probe.due) {
            ask_wait(ask);
            ask_look(ask, now);

        } else if (!ask->answered && ask->due != 0 && now >= ask->due) {
            ask_look(ask, now);
        }

        if (!ask->answered) {
            next = ask->deadline < next ? ask->deadline : next;

            if (ask->probing && ask->probe.due < next) {
                next = ask->probe.due;
            }

            if (ask->due != 0 && ask->due < next) {
                next = ask->due;
            }
        }
    }

    return next == UINT64_MAX ? -1 : next > now ? (int) (next - now) : 0;
}


/* --- messages --- */

static int
message_valid(const hatch_wake_message_t *m)
{
    return m->magic == HATCH_WAKE_MAGIC && m->type == HATCH_WAKE_ASK
           && m->port != 0 && m->timeout != 0
           && m->timeout <= HATCH_WAKE_TIMEOUT_MAX
           && memchr(m->vm, '\0', sizeof(m->vm)) != NULL
           && hatch_id_valid(HATCH_ID_VM, m->vm, strlen(m->vm));
}


static void
wake_message(worker_t *worker, const hatch_wake_message_t *m, uint64_t now)
{
    ask_t  *ask;

    if (!message_valid(m)) {
        log_event(LOG_WARN, "a message on the wake socket breaks its rules");
        worker_close(worker);
        return;
    }

    ask = wake.n_asks < WAKE_ASKS ? calloc(1, sizeof(*ask)) : NULL;

    if (ask == NULL) {
        worker_close(worker);
        return;
    }

    ask->source = WAKE_ASKED;
    ask->worker = worker;
    ask->request = m->request;
    ask->deadline = now + m->timeout;
    ask->port = m->port;
    memcpy(ask->id, m->vm, sizeof(ask->id));
    ask->next = wake.asks;
    wake.asks = ask;
    wake.n_asks++;

    ask_look(ask, now);
}


/* --- the thread --- */

static void
wake_event(void *source, uint32_t events, uint64_t now)
{
    ask_t       *ask = source;
    eventfd_t    n;

    switch (*(wake_source_t *) source) {

    case WAKE_LISTENER:
        worker_accept(now);
        return;

    case WAKE_NOTIFIER:
        (void) eventfd_read(wake.notify, &n);
        wake_vm_take_requests(now);
        wake_vm_collect(now);
        return;

    case WAKE_WORKER:
        worker_event(source, events, now);
        return;

    case WAKE_ASKED:
        if (!ask->answered && ask->probing) {
            ask_probe_result(ask, probe_look(&ask->probe));
        }
        return;
    }
}


/* Frees what was answered or closed in this round of events. */
static void
wake_sweep(void)
{
    ask_t  **ask = &wake.asks, *answered;

    while ((answered = *ask) != NULL) {
        if (!answered->answered) {
            ask = &answered->next;
            continue;
        }

        *ask = answered->next;
        wake.n_asks--;

        if (answered->probing) {
            probe_close(&answered->probe);
        }

        free(answered);
    }

    worker_sweep();
}


static void *
wake_run(void *data)
{
    int                 i, n, timeout;
    uint64_t            now;
    struct epoll_event  events[WAKE_EVENTS];

    (void) data;

    while (!__atomic_load_n(&wake.stop, __ATOMIC_RELAXED)) {
        timeout = ask_tick(wake_now());
        wake_sweep();

        watchdog_waits(WATCHDOG_WAKE);
        n = epoll_wait(wake.epoll, events, WAKE_EVENTS, timeout);
        watchdog_works(WATCHDOG_WAKE);
        now = wake_now();

        for (i = 0; i < n; i++) {
            wake_event(events[i].data.ptr, events[i].events, now);
        }

        wake_sweep();
    }

    return NULL;
}


static int
wake_watch(int fd, wake_source_t *source)
{
    struct epoll_event  event = { .events = EPOLLIN };

    event.data.ptr = source;

    return epoll_ctl(wake.epoll, EPOLL_CTL_ADD, fd, &event);
}


int
wake_start(const config_t *config, hatch_err_t *err)
{
    int  rc;

    wake.config = config;
    rc = listen_unix(&wake.listener, config, "wake_socket",
                     config->wake_socket, SOCK_NONBLOCK, err);
    if (rc != 0) {
        return rc;
    }

    wake.epoll = epoll_create1(EPOLL_CLOEXEC);
    wake.notify = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    if (wake.epoll == -1 || wake.notify == -1
        || worker_begin(config, wake.epoll, wake.listener.fd, wake_message,
                        wake_worker_gone) == -1
        || wake_watch(wake.notify, &wake_notifier) == -1)
    {
        return hatch_err_errno(err, errno, "cannot watch the wake socket");
    }

    probe_begin(descriptors_max() / WAKE_PROBE_SHARE);
    wake_vm_init(config, wake.notify, ask_woken);

    rc = pthread_create(&wake.thread, NULL, wake_run, NULL);

    return rc == 0 ? 0 : hatch_err_errno(err, rc, "cannot start a thread");
}


void
wake_stop(void)
{
    __atomic_store_n(&wake.stop, 1, __ATOMIC_RELAXED);
    (void) eventfd_write(wake.notify, 1);
    (void) pthread_join(wake.thread, NULL);

    listen_remove(&wake.listener);
}
