#define _GNU_SOURCE

#include "save_all.h"
#include "again.h"
#include "memory.h"
#include "saved.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/work.h"
#include "store/memory_record.h"
#include "store/pending.h"
#include "store/statedir.h"
#include "store/statedir_owner.h"
#include "virt/sync.h"
#include "virt/virt_cleanup.h"
#include "virt/xml.h"

#include "hatch_clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>


/* So many at once: a disk gains nothing from more. */
#define SAVE_THREADS  8

/* One that is told to end its save, and has not within this, hangs; ms. */
#define SAVE_GRACE    5000

/* How often it is looked at them, ms. */
#define SAVE_STEP     50

/* Until a guest that had suspended itself (S3) runs, ms. */
#define SAVE_WAKEUP   5000


typedef enum {
    SAVE_WAITS,
    SAVE_BEGUN,                     /* a thread has it */
    SAVE_LATE,                      /* and libvirt was told to end it */
    SAVE_ENDED,                     /* with rc */
    SAVE_LEFT                       /* it hangs, nobody waits any more */
} save_state_t;


typedef struct {
    vm_t           vm;
    save_state_t   state;
    uint64_t       deadline;        /* hatch_clock_ms() */
    int            rc;
    hatch_err_t    err;
    unsigned       late:1;
} save_job_t;


/* For the whole of the process; a thread that hangs looks at it to the end. */
static struct {
    const config_t   *config;
    pthread_mutex_t   lock;
    save_job_t       *jobs;
    size_t            n;
    unsigned          notes:1;      /* state_dir is ours to write */
} save = { .lock = PTHREAD_MUTEX_INITIALIZER };


/* --- one VM --- */

static int
save_rouse(virDomainPtr domain, hatch_err_t *err)
{
    int                    state, reason;
    uint64_t               deadline = hatch_clock_ms() + SAVE_WAKEUP;
    const struct timespec  step = { 0, SAVE_STEP * 1000000 };

    for ( ;; ) {
        if (virDomainGetState(domain, &state, &reason, 0) == -1) {
            return virt_error(err, "cannot look at the VM");
        }

        if (state != VIR_DOMAIN_PMSUSPENDED) {
            return 0;
        }

        if (hatch_clock_ms() >= deadline) {
            return hatch_err_set(err, HATCH_ERR_TIMEOUT, "the guest has "
                                 "suspended itself, and does not wake");
        }

        (void) virDomainPMWakeup(domain, 0);
        (void) nanosleep(&step, NULL);
    }
}


/* Into its image, if it has one: 1.  Else libvirt is to save it. */
static int
save_image(vm_op_t *op)
{
    int          state, reason;
    hatch_err_t  err;

    if (!save.notes
        || (!memory_is_valid(op->vm.id) && !memory_has_image(op))
        || virDomainGetState(op->domain, &state, &reason, 0) == -1
        || (state == VIR_DOMAIN_RUNNING && virDomainSuspend(op->domain) == -1))
    {
        return 0;
    }

    if (memory_sleep(op, &err) == 0) {
        return 1;
    }

    log_event(LOG_WARN, "%s: it is saved by libvirt, not into its memory "
              "image: %s", op->vm.id, err.text);

    return 0;
}


/* Each has a connection of its own: one that hangs must hold up no other. */
static int
save_one(const vm_t *vm, hatch_err_t *err)
{
    int                          rc;
    vm_op_t                      op;
    cleanup_conn virConnectPtr   conn = NULL;
    cleanup_domain virDomainPtr  domain = NULL;

    conn = virConnectOpen(save.config->connect);
    if (conn == NULL) {
        return virt_error(err, "cannot connect to libvirt");
    }

    domain = virDomainLookupByName(conn, vm->id);
    if (domain == NULL) {
        return virt_error(err, "cannot look up the VM");
    }

    memset(&op, 0, sizeof(op));
    op.config = save.config;
    op.lease.conn = conn;
    op.domain = domain;
    op.vm = *vm;

    rc = save_rouse(domain, err);

    if (rc == 0 && save_image(&op)) {
        return 0;
    }

    /* libvirt may let it run before it is saved */
    rc = rc == 0 && save.notes ? memory_use(&op, err) : rc;

    /* as at a sleep: however it was, it wakes running */
    if (rc == 0 && virDomainManagedSave(domain, VIR_DOMAIN_SAVE_RUNNING) == -1)
    {
        rc = virt_error(err, "cannot save the memory");
    }

    if (rc == 0 && save.notes) {
        saved_note(&op);
    }

    return rc;
}


static save_job_t *
save_next(void)
{
    size_t       i;
    save_job_t  *job = NULL;

    pthread_mutex_lock(&save.lock);

    for (i = 0; i < save.n && job == NULL; i++) {
        if (save.jobs[i].state == SAVE_WAITS) {
            job = &save.jobs[i];
            job->state = SAVE_BEGUN;
            job->deadline = hatch_clock_ms()
                          + (uint64_t) save.config->save_all_timeout * 1000;
        }
    }

    pthread_mutex_unlock(&save.lock);

    return job;
}


static void *
save_run(void *data)
{
    int          rc;
    save_job_t  *job;
    hatch_err_t  err = { 0, "" };

    (void) data;

    while ((job = save_next()) != NULL) {
        rc = save_one(&job->vm, &err);

        pthread_mutex_lock(&save.lock);
        job->rc = rc;
        job->err = err;
        job->state = SAVE_ENDED;
        pthread_mutex_unlock(&save.lock);
    }

    return NULL;
}


/* libvirt then lets the guest go on; asking may hang as the save does. */
static void *
save_cancel(void *data)
{
    const save_job_t            *job = data;
    cleanup_conn virConnectPtr   conn = virConnectOpen(save.config->connect);
    cleanup_domain virDomainPtr  domain = NULL;

    domain = conn != NULL ? virDomainLookupByName(conn, job->vm.id) : NULL;

    if (domain != NULL) {
        (void) virDomainAbortJob(domain);
    }

    return NULL;
}


/* --- all of them --- */

/* Locked.  Is it still waited for?  One that is late is told so, once. */
static int
save_look(save_job_t *job)
{
    uint64_t  now = hatch_clock_ms();

    switch (job->state) {

    case SAVE_WAITS:
        return 1;

    case SAVE_BEGUN:
        if (now >= job->deadline) {
            job->state = SAVE_LATE;
            job->late = 1;
            job->deadline = now + SAVE_GRACE;
            (void) work_detach(save_cancel, job);
        }

        return 1;

    case SAVE_LATE:
        if (now < job->deadline) {
            return 1;
        }

        job->state = SAVE_LEFT;

        /* the place of the thread that hangs */
        (void) work_detach(save_run, NULL);
        return 0;

    default:
        return 0;
    }
}


static void
save_wait(void)
{
    size_t                 i, open;
    const struct timespec  step = { 0, SAVE_STEP * 1000000 };

    do {
        (void) nanosleep(&step, NULL);

        pthread_mutex_lock(&save.lock);

        for (open = 0, i = 0; i < save.n; i++) {
            open += (size_t) save_look(&save.jobs[i]);
        }

        pthread_mutex_unlock(&save.lock);
    } while (open != 0);
}


/*
 * Where there is room for some, all at once may have had none: those are tried
 * again, one after the other.
 */
static size_t
save_again(void)
{
    size_t  i, n = 0;

    pthread_mutex_lock(&save.lock);

    for (i = 0; i < save.n; i++) {
        if (save.jobs[i].state == SAVE_ENDED
            && save.jobs[i].rc == HATCH_ERR_FULL)
        {
            save.jobs[i].state = SAVE_WAITS;
            n++;
        }
    }

    pthread_mutex_unlock(&save.lock);

    return n;
}


static int
save_tell(save_job_t *job)
{
    if (job->state == SAVE_ENDED && job->rc == 0) {
        log_event(LOG_INFO, "%s: its memory is saved", job->vm.id);
        return 0;
    }

    /* what libvirt says of one that was cancelled is no reason */
    if (job->late) {
        (void) hatch_err_set(&job->err, HATCH_ERR_TIMEOUT, "libvirt has not "
                             "saved its memory within %lld s",
                             (long long) save.config->save_all_timeout);
    }

    log_event(LOG_WARN, "%s: not saved, it is left to libvirt-guests: %s",
              job->vm.id, job->err.text);

    return 1;
}


static int
save_jobs(hatch_err_t *err)
{
    int     left = 0;
    size_t  i;

    for (i = 0; i < SAVE_THREADS && i < save.n; i++) {
        if (work_detach(save_run, NULL) != 0 && i == 0) {
            return hatch_err_set(err, HATCH_ERR_SYSTEM, "cannot start a "
                                 "thread");
        }
    }

    save_wait();

    if (save_again() != 0) {
        (void) work_detach(save_run, NULL);
        save_wait();
    }

    pthread_mutex_lock(&save.lock);

    for (i = 0; i < save.n; i++) {
        left += save_tell(&save.jobs[i]);
    }

    pthread_mutex_unlock(&save.lock);

    return left;
}


/* --- which they are --- */

/* One of ours?  Takes it over if it is up. */
static void
save_take(virDomainPtr domain)
{
    vm_t           vm;
    hatch_err_t    err;
    hatch_state_t  state = HATCH_STATE_NONE;

    if (sync_look(domain, &vm, &state, &err) != 0) {
        return;
    }

    if (save.notes) {
        again_note(save.config, &vm, state);
    }

    if (virDomainIsActive(domain) == 1) {
        save.jobs[save.n].vm = vm;
        save.jobs[save.n++].state = SAVE_WAITS;
    }
}


static int
save_list(hatch_err_t *err)
{
    int                         i, n;
    virDomainPtr               *domains = NULL;
    cleanup_conn virConnectPtr  conn = virConnectOpen(save.config->connect);

    if (conn == NULL) {
        return virt_error(err, "cannot connect to libvirt");
    }

    n = virConnectListAllDomains(conn, &domains, 0);
    if (n < 0) {
        return virt_error(err, "cannot list the domains");
    }

    save.jobs = calloc((size_t) n + 1, sizeof(*save.jobs));

    for (i = 0; i < n; i++) {
        if (save.jobs != NULL) {
            save_take(domains[i]);
        }

        (void) virDomainFree(domains[i]);
    }

    free(domains);

    return save.jobs != NULL
           ? 0 : hatch_err_set(err, HATCH_ERR_SYSTEM, "out of memory");
}


typedef struct {
    int          rc;
    hatch_err_t  err;
} save_listed_t;


static void
save_list_run(void *data)
{
    save_listed_t  *listed = data;

    work_step("asking for the VMs", save.config->save_all_timeout);
    listed->rc = save_list(&listed->err);
}


/* Not for ever: the host waits for this process. */
static int
save_list_within(hatch_err_t *err)
{
    int             rc;
    save_listed_t  *listed = calloc(1, sizeof(*listed));

    if (listed == NULL) {
        return hatch_err_set(err, HATCH_ERR_SYSTEM, "out of memory");
    }

    /* what is late frees it when it has ended after all */
    rc = work_run(save_list_run, free, listed, err);

    if (rc == 0) {
        rc = listed->rc;
        *err = listed->err;
        free(listed);
    }

    return rc;
}


/*
 * An agent that runs keeps its notes itself, and may wake what is saved here;
 * saving is right all the same.
 */
static void
save_open_notes(void)
{
    int          rc;
    hatch_err_t  err;

    if (access(save.config->state_dir, F_OK) == -1) {
        return;
    }

    rc = statedir_owner_check(save.config, &err);

    if (rc == 0) {
        rc = statedir_lock(save.config, &err);
    }

    if (rc == 0) {
        rc = pending_open(save.config, &err);
    }

    save.notes = rc == 0;

    if (rc != 0) {
        log_event(LOG_WARN, "VMs are saved, and nothing is noted: %s",
                  err.text);
    }
}


int
save_all(const config_t *config, hatch_err_t *err)
{
    int       rc;
    uint64_t  began = hatch_clock_ms();

    save.config = config;
    save_open_notes();
    rc = save_list_within(err);

    if (rc == 0 && save.n != 0) {
        rc = save_jobs(err);
    }

    if (rc >= 0) {
        log_event(rc == 0 ? LOG_INFO : LOG_WARN, "saved the memory of %zu of "
                  "%zu VMs that were up, in %llu ms", save.n - (size_t) rc,
                  save.n,
                  (unsigned long long) (hatch_clock_ms() - began));
    }

    return rc;
}
