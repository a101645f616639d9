#define _GNU_SOURCE

#include "again.h"
#include "vm.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/text.h"
#include "core/work.h"
#include "store/pending.h"
#include "store/statedir.h"

#include "hatch_clock.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>


#define AGAIN_FOLDER    "running"
#define AGAIN_BOOT_ID   "/proc/sys/kernel/random/boot_id"
#define AGAIN_ID_SIZE   40

/* How many start at once; each waits for one of "max_starts" turns, too. */
#define AGAIN_THREADS   4

/* A start that failed is made again after 1, 2, 4, ... s, so many times. */
#define AGAIN_TRIES     8
#define AGAIN_REST_MAX  30000       /* ms */


/* A VM that is to run again. */
typedef struct due_s {
    struct due_s  *next;
    char           id[HATCH_ID_SIZE];
    uint64_t       when;            /* not before, hatch_clock_ms() */
    unsigned       tries;
    unsigned       begun:1;         /* a thread has it */
    unsigned       memory:1;        /* it was seen with saved memory */
} due_t;


static struct {
    const config_t   *config;
    pthread_mutex_t   write;        /* of who changes files; taken first */
    pthread_mutex_t   lock;
    json_object      *marked;       /* ids */
    due_t            *due;
    char              boot_id[AGAIN_ID_SIZE];
    unsigned          booted:1;     /* the host has, and boot_id is another */
    unsigned          started:1;    /* the threads are */
    unsigned          settled:1;

    /* no bit of the others': read without the lock, too */
    _Atomic int       stop;
} again = {
    .write = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER
};


/* --- marks --- */

/* -1: it stays as it is, something is just happening to the VM. */
static int
again_wanted(const vm_t *vm, hatch_state_t state)
{
    if (!vm->autostart && vm->idle_timeout != VM_NEVER) {
        return 0;
    }

    switch (state) {

    case HATCH_STATE_RUNNING:
        return 1;

    case HATCH_STATE_PAUSED:
    case HATCH_STATE_SNAPSHOTTED:
    case HATCH_STATE_STOPPED:
        /* an operation may stop it for a moment, and says so in a note */
        return pending_known(vm->id) ? -1 : 0;

    default:
        return -1;
    }
}


static void
again_write(const config_t *config, const char *id, int runs)
{
    int          rc;
    char         path[STATEDIR_PATH];
    hatch_err_t  err;

    statedir_path(config, AGAIN_FOLDER, id, "", path);
    rc = runs ? statedir_write(path, "", 0, &err)
              : statedir_unlink(path, &err);

    if (rc != 0) {
        log_event(LOG_WARN, "%s: whether it runs again after a boot of the "
                  "host is not noted: %s", id, err.text);
    }
}


void
again_forget(const config_t *config, const char *vm)
{
    pthread_mutex_lock(&again.lock);

    if (again.marked != NULL) {
        json_object_object_del(again.marked, vm);
    }

    pthread_mutex_unlock(&again.lock);
    again_write(config, vm, 0);
}


void
again_note(const config_t *config, const vm_t *vm, hatch_state_t state)
{
    int  wanted = again_wanted(vm, state);

    if (wanted != -1) {
        again_write(config, vm->id, wanted);
    }
}


/* Locked.  The link to a VM that is due, or to the NULL at the end. */
static due_t **
again_find(const char *id)
{
    due_t  **due;

    for (due = &again.due; *due != NULL; due = &(*due)->next) {
        if (strcmp((*due)->id, id) == 0) {
            break;
        }
    }

    return due;
}


/* Locked.  It runs, or is not to run: nothing more is done for it. */
static void
again_done(const char *id)
{
    due_t  **link = again_find(id), *due = *link;

    if (due != NULL) {
        *link = due->next;
        free(due);
    }
}


/* Locked.  Has a VM that is due to keep its mark although it is not up? */
static int
again_is_due(const vm_t *vm, hatch_state_t state)
{
    due_t  *due = *again_find(vm->id);

    if (due == NULL || (!vm->autostart && vm->idle_timeout != VM_NEVER)
        || (state != HATCH_STATE_SNAPSHOTTED && state != HATCH_STATE_STOPPED))
    {
        return 0;
    }

    if (state == HATCH_STATE_SNAPSHOTTED) {
        due->memory = 1;
        return 1;
    }

    /* its memory is gone, and not by us: a user stopped it */
    return due->begun || !due->memory;
}


/* What is wanted of the mark, and is not so; -1: all is well. */
static int
again_change(const vm_t *vm, hatch_state_t state)
{
    int  has, wanted = again_wanted(vm, state);

    pthread_mutex_lock(&again.lock);

    has = json_object_object_get_ex(again.marked, vm->id, NULL);

    if (wanted == 0 && has && again_is_due(vm, state)) {
        wanted = -1;

    } else if (wanted != -1) {
        again_done(vm->id);
    }

    pthread_mutex_unlock(&again.lock);

    return wanted == has ? -1 : wanted;
}


void
again_observed(const vm_t *vm, hatch_state_t state)
{
    int   wanted;
    vm_t  now;

    if (again.config == NULL || again_change(vm, state) == -1) {
        return;
    }

    /* of two who come with news, the later one may come first */
    pthread_mutex_lock(&again.write);

    wanted = table_observed(vm->id, &now, &state) == 0
             ? again_change(&now, state) : -1;

    if (wanted != -1) {
        again_write(again.config, vm->id, wanted);

        pthread_mutex_lock(&again.lock);

        if (wanted) {
            (void) json_object_object_add(again.marked, vm->id, NULL);
        } else {
            json_object_object_del(again.marked, vm->id);
        }

        pthread_mutex_unlock(&again.lock);
    }

    pthread_mutex_unlock(&again.write);
}


/* --- the start --- */

/* For statedir_each(). */
static void
again_load(void *ctx, const char *name)
{
    due_t  *due;

    (void) ctx;

    if (!hatch_id_valid(HATCH_ID_VM, name, strlen(name))) {
        return;
    }

    (void) json_object_object_add(again.marked, name, NULL);
    due = again.booted ? calloc(1, sizeof(*due)) : NULL;

    if (due != NULL) {
        memcpy(due->id, name, strlen(name));
        due->next = again.due;
        again.due = due;
    }
}


static int
again_read_boot_id(char id[AGAIN_ID_SIZE])
{
    int      fd = open(AGAIN_BOOT_ID, O_RDONLY | O_CLOEXEC);
    ssize_t  n = fd != -1 ? read(fd, id, AGAIN_ID_SIZE - 1) : -1;

    if (fd != -1) {
        (void) close(fd);
    }

    id[n > 0 ? n : 0] = '\0';
    id[strcspn(id, "\n")] = '\0';

    return id[0] != '\0' ? 0 : -1;
}


/* All who were due have been seen to: the marks are of this boot. */
static void
again_settle(void)
{
    int          settled;
    char         path[STATEDIR_PATH];
    hatch_err_t  err;

    pthread_mutex_lock(&again.lock);
    settled = again.settled;
    again.settled = 1;
    pthread_mutex_unlock(&again.lock);

    statedir_path(again.config, "", "boot_id", "", path);

    if (!settled
        && statedir_write(path, again.boot_id, strlen(again.boot_id),
                          &err)
           != 0)
    {
        log_event(LOG_WARN, "%s", err.text);
    }
}


void
again_open(const config_t *config, int fresh)
{
    char                path[STATEDIR_PATH];
    size_t              len;
    hatch_err_t         why;
    cleanup_free char  *text = NULL;

    again.config = config;
    again.marked = json_object_new_object();

    /* without one nothing can be said of boots */
    if (again_read_boot_id(again.boot_id) != 0) {
        return;
    }

    statedir_path(config, "", "boot_id", "", path);
    again.booted = text_read(path, AGAIN_ID_SIZE, &text, &len, &why) == 0
                   && (fresh || strcmp(text, again.boot_id) != 0);

    (void) statedir_each(config, AGAIN_FOLDER, again_load, NULL);

    if (again.due == NULL) {
        again_settle();
    }
}


/* --- afterwards --- */

/*
 * The next one to be started, or NULL: none is left (*wait is 0), or only in
 * that many ms, or when others have done with theirs.
 */
static due_t *
again_next(uint64_t *wait)
{
    due_t     *due, *found = NULL;
    uint64_t   now = hatch_clock_ms();

    *wait = 0;

    pthread_mutex_lock(&again.lock);

    for (due = again.due; !again.stop && due != NULL && found == NULL;
         due = due->next)
    {
        if (!due->begun && due->when <= now) {
            due->begun = 1;
            found = due;
        }

        *wait = 200;
    }

    pthread_mutex_unlock(&again.lock);

    return found;
}


/* What has become of a start; the VM may be due no more. */
static void
again_ended(const char *id, int rc, const hatch_err_t *err)
{
    int       counts = rc != HATCH_ERR_UNAVAILABLE && rc != HATCH_ERR_BUSY
                       && rc != HATCH_ERR_TIMEOUT;
    int       given_up = 0;
    due_t    *due;
    uint64_t  rest;

    pthread_mutex_lock(&again.lock);
    due = *again_find(id);

    if (due != NULL && rc != 0) {
        due->begun = 0;
        due->tries += counts || due->tries == 0;
        given_up = due->tries >= AGAIN_TRIES || rc == HATCH_ERR_NOT_FOUND;
        rest = UINT64_C(1000) << (due->tries < 6 ? due->tries - 1 : 5);
        due->when = hatch_clock_ms()
                    + (rest < AGAIN_REST_MAX ? rest : AGAIN_REST_MAX);
        counts = due->tries == 1;
    }

    if (rc == 0 || given_up) {
        again_done(id);
    }

    pthread_mutex_unlock(&again.lock);

    if (rc == HATCH_ERR_NOT_FOUND) {
        log_event(LOG_WARN, "%s: it ran when the host went down, and is no VM "
                  "any more", id);
        again_forget(again.config, id);

    } else if (rc != 0 && given_up) {
        log_event(LOG_ERROR, "%s: it ran when the host went down, and does "
                  "not run again: %s", id, err->text);

    } else if (rc != 0 && counts) {
        log_event(LOG_WARN, "%s: it ran when the host went down; trying again "
                  "to start it: %s", id, err->text);
    }
}


static void
again_start(const char *id)
{
    int          rc;
    vm_t         vm;
    hatch_err_t  err;

    rc = vm_start(again.config, id, &vm, &err);

    /* somebody else has started it */
    if (rc == HATCH_ERR_CONFLICT && table_get(id, &vm) == 0
        && vm.state == HATCH_STATE_RUNNING)
    {
        rc = 0;
    }

    if (rc == 0) {
        log_event(LOG_INFO, "%s: runs again, as it did before the host was "
                  "booted", id);
    }

    again_ended(id, rc, &err);
}


static void *
again_run(void *data)
{
    char             id[HATCH_ID_SIZE];
    due_t           *due;
    uint64_t         wait;
    struct timespec  ts;

    (void) data;

    for ( ;; ) {
        due = again_next(&wait);

        if (due != NULL) {
            /* it may go as soon as the VM is seen to run */
            memcpy(id, due->id, sizeof(id));
            again_start(id);

        } else if (wait != 0) {
            ts.tv_sec = 0;
            ts.tv_nsec = (long) wait * 1000000;
            (void) nanosleep(&ts, NULL);

        } else {
            break;
        }
    }

    /* some are left if the agent stops: they are the next one's */
    if (!again.stop) {
        again_settle();
    }

    return NULL;
}


void
again_stop(void)
{
    again.stop = 1;
}


void
again_request(void)
{
    int       i, start;
    unsigned  n = 0;
    due_t    *due;

    pthread_mutex_lock(&again.lock);

    for (due = again.due; due != NULL; due = due->next) {
        n++;
    }

    start = n != 0 && !again.started;
    again.started = 1;
    pthread_mutex_unlock(&again.lock);

    if (!start) {
        return;
    }

    log_event(LOG_INFO, "the host was booted; %u VM%s that ran before %s "
              "started again", n, n == 1 ? "" : "s", n == 1 ? "is" : "are");

    for (i = 0; i < AGAIN_THREADS; i++) {
        if (work_detach(again_run, NULL) != 0) {
            log_event(LOG_ERROR, "no thread to start VMs again");
        }
    }
}
