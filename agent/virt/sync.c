#define _GNU_SOURCE

#include "sync.h"
#include "host.h"
#include "sync_private.h"
#include "virt_cleanup.h"
#include "core/cond.h"
#include "core/log.h"
#include "table/table_sleep.h"

#include "hatch_id.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>


#define SYNC_BACKOFF_MIN  100       /* ms between attempts to connect */
#define SYNC_BACKOFF_MAX  1000


typedef struct job_s {
    struct job_s  *next;
    char           id[HATCH_ID_SIZE];
} job_t;


static struct {
    const config_t         *config;
    const sync_listener_t  *listener;
    pthread_t               thread;
    pthread_mutex_t         lock;
    pthread_cond_t          wake;
    job_t                  *first;      /* domains to look at, in order */
    job_t                 **last;
    unsigned                lost:1;     /* the connection is gone */
    unsigned                stop:1;
    unsigned                reloaded:1; /* resync_interval is another */

    /* the sync thread's own, no bit of the lock's: the last attempt failed,
     * and was logged */
    int                     failing;
} sync_ = { .last = &sync_.first, .lock = PTHREAD_MUTEX_INITIALIZER };


void
sync_observed(const vm_t *vm, hatch_state_t state)
{
    sync_.listener->observed(sync_.config, vm, state);
}


void
sync_settled(void)
{
    sync_.listener->settled();
}


/* --- called by libvirt's event thread --- */

static void
sync_domain_changed(const char *name)
{
    job_t  *job;

    /* domains of others do not carry an id of ours */
    if (name == NULL || !hatch_id_valid(HATCH_ID_VM, name, strlen(name))) {
        return;
    }

    job = calloc(1, sizeof(*job));
    if (job == NULL) {
        return;                         /* the next comparison finds it */
    }

    memcpy(job->id, name, strlen(name));

    pthread_mutex_lock(&sync_.lock);
    *sync_.last = job;
    sync_.last = &job->next;
    pthread_cond_signal(&sync_.wake);
    pthread_mutex_unlock(&sync_.lock);
}


/* Marked at once, in memory: requests must not go to the guest before. */
static void
sync_domain_rebooted(const char *name)
{
    if (name != NULL && hatch_id_valid(HATCH_ID_VM, name, strlen(name))) {
        table_rebooted(name);
    }
}


static void
sync_connection_lost(void)
{
    pthread_mutex_lock(&sync_.lock);
    sync_.lost = 1;
    pthread_cond_signal(&sync_.wake);
    pthread_mutex_unlock(&sync_.lock);
}


const virt_handlers_t  sync_handlers = {
    sync_domain_changed, sync_domain_rebooted, sync_connection_lost
};


/* --- waiting --- */

static uint64_t
sync_now(void)
{
    struct timespec  ts = cond_deadline(0);

    return (uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000;
}


/* Waits until `deadline` for something to do. */
static void
sync_wait(uint64_t deadline)
{
    const struct timespec  ts = { (time_t) (deadline / 1000),
                                  (long) (deadline % 1000) * 1000000 };

    pthread_mutex_lock(&sync_.lock);

    while (sync_.first == NULL && !sync_.lost && !sync_.stop
           && !sync_.reloaded
           && pthread_cond_timedwait(&sync_.wake, &sync_.lock, &ts)
              != ETIMEDOUT)
    {
        /* void */
    }

    sync_.reloaded = 0;
    pthread_mutex_unlock(&sync_.lock);
}


void
sync_reload(void)
{
    pthread_mutex_lock(&sync_.lock);
    sync_.reloaded = 1;
    pthread_cond_signal(&sync_.wake);
    pthread_mutex_unlock(&sync_.lock);
}


static int
sync_flag(int *lost)
{
    int  stop;

    pthread_mutex_lock(&sync_.lock);
    *lost = sync_.lost;
    stop = sync_.stop;
    pthread_mutex_unlock(&sync_.lock);

    return stop;
}


/* --- all VMs --- */

/* Takes the first job off the queue; NULL if there is none. */
static job_t *
sync_next_job(void)
{
    job_t  *job;

    pthread_mutex_lock(&sync_.lock);

    job = sync_.first;

    if (job != NULL) {
        sync_.first = job->next;

        if (sync_.first == NULL) {
            sync_.last = &sync_.first;
        }
    }

    pthread_mutex_unlock(&sync_.lock);

    return job;
}


static void
sync_drop_jobs(void)
{
    job_t  *job;

    while ((job = sync_next_job()) != NULL) {
        free(job);
    }
}


/* sync_vm() for the thread, which has nobody to tell but the log. */
static void
sync_vm_log(virConnectPtr conn, const char *id)
{
    int          rc;
    hatch_err_t  err;

    rc = sync_vm(conn, id, &err);

    if (rc != 0 && rc != HATCH_ERR_NOT_FOUND) {
        log_event(LOG_WARN, "%s: %s", id, err.text);
    }
}


/*
 * A comparison of thousands of domains takes seconds.  The news of those that
 * change meanwhile does not wait for it: this runs between any two of them.
 */
static void
sync_jobs(virConnectPtr conn)
{
    job_t  *job;

    while ((job = sync_next_job()) != NULL) {
        sync_vm_log(conn, job->id);
        free(job);
    }
}


/*
 * A domain takes three calls, and each waits for libvirtd: several threads
 * go through the list together.
 */
#define SYNC_THREADS  4

/* How long a comparison that is in no hurry waits before each domain, ms. */
#define SYNC_PACE     100

typedef struct {
    virConnectPtr  conn;
    virDomainPtr  *domains;
    int            n;
    int            next;        /* atomic: the first that nobody has taken */
    char          *again;       /* of each: the sync thread has to look */
} sync_list_t;


/*
 * Looks at the next domain of the list; 0 if there is none.  An object keeps
 * the domain's id of when it was listed, perhaps minutes ago; where that would
 * be taken for another run of the guest, the domain is looked up anew.
 */
static int
sync_listed_next(sync_list_t *list)
{
    int          i, rc, known;
    const char  *name;
    hatch_err_t  err;

    i = __atomic_fetch_add(&list->next, 1, __ATOMIC_RELAXED);

    if (i >= list->n) {
        return 0;
    }

    name = virDomainGetName(list->domains[i]);

    if (name == NULL || !hatch_id_valid(HATCH_ID_VM, name, strlen(name))) {
        return 1;
    }

    known = table_has(name);
    rc = known ? sync_vm(list->conn, name, &err)
               : sync_domain(list->domains[i], name, &err);

    if (rc == HATCH_ERR_NOT_FOUND) {
        /* not ours; if it was, its metadata went without an event */
        list->again[i] = (char) (known || table_has(name));

    } else if (rc != 0) {
        log_event(LOG_WARN, "%s: %s", name, err.text);
    }

    return 1;
}


static void *
sync_listed_run(void *data)
{
    while (sync_listed_next(data)) {
        /* void */
    }

    return NULL;
}


/* The first comparison on a connection: the agent is not ready before. */
static void
sync_listed_fast(virConnectPtr conn, sync_list_t *list)
{
    int        i, threads;
    pthread_t  thread[SYNC_THREADS - 1];

    /* for a few, threads are not worth it */
    for (threads = 0; threads < SYNC_THREADS - 1 && threads < list->n / 16;
         threads++)
    {
        if (pthread_create(&thread[threads], NULL, sync_listed_run, list)
            != 0)
        {
            break;
        }
    }

    do {
        sync_jobs(conn);
    } while (sync_listed_next(list));

    for (i = 0; i < threads; i++) {
        (void) pthread_join(thread[i], NULL);
    }
}


/*
 * All later ones are for what libvirt may not have told, and nobody waits for
 * them: ten domains a second, lest ten thousand of them keep two
 * processors busy for seconds and all news waiting.
 */
static void
sync_listed_slowly(virConnectPtr conn, sync_list_t *list)
{
    int       lost;
    uint64_t  next;

    do {
        next = sync_now() + SYNC_PACE;

        do {
            sync_jobs(conn);
            sync_wait(next);

            if (sync_flag(&lost) || lost) {
                return;
            }
        } while (sync_now() < next);

    } while (sync_listed_next(list));
}


static void
sync_listed(virConnectPtr conn, virDomainPtr *domains, int n, int fast)
{
    int                  i;
    cleanup_free char   *again = calloc((size_t) n + 1, 1);
    sync_list_t          list = { conn, domains, n, 0, again };

    if (again == NULL) {
        log_event(LOG_ERROR, "no memory to compare the domains");
        return;
    }

    if (fast) {
        sync_listed_fast(conn, &list);
    } else {
        sync_listed_slowly(conn, &list);
    }

    for (i = 0; i < n; i++) {
        if (again[i]) {
            sync_vm_log(conn, virDomainGetName(domains[i]));
        }
    }
}


/* What the table has and libvirt's list did not: ask for each again. */
static void
sync_missing(virConnectPtr conn, virDomainPtr *domains, int n)
{
    int                  i;
    size_t               j, known;
    const char          *name;
    cleanup_free vm_t   *vms = NULL;
    cleanup_json json_object  *listed = json_object_new_object();

    for (i = 0; i < n; i++) {
        name = virDomainGetName(domains[i]);
        (void) json_object_object_add(listed, name, NULL);
    }

    if (table_list(&vms, &known) != 0) {
        return;
    }

    for (j = 0; j < known; j++) {
        if (json_object_object_get_ex(listed, vms[j].id, NULL)) {
            continue;
        }

        sync_jobs(conn);
        sync_vm_log(conn, vms[j].id);
    }
}


static int
sync_all(virConnectPtr conn, int fast, hatch_err_t *err)
{
    int            i, n;
    virDomainPtr  *domains = NULL;

    n = virConnectListAllDomains(conn, &domains, 0);
    if (n < 0) {
        return virt_error(err, "cannot list the domains");
    }

    /* while the list is fresh; a VM that is not in it has to be asked for */
    if (!fast) {
        sync_missing(conn, domains, n);
    }

    sync_listed(conn, domains, n, fast);

    if (fast) {
        sync_missing(conn, domains, n);
    }

    for (i = 0; i < n; i++) {
        (void) virDomainFree(domains[i]);
    }

    free(domains);

    table_publish();

    sync_.listener->settled();

    return 0;
}


/* --- the thread --- */

static int
sync_connect(void)
{
    int                        rc;
    hatch_err_t                err;
    cleanup_conn virConnectPtr  conn = NULL;

    pthread_mutex_lock(&sync_.lock);
    sync_.lost = 0;
    pthread_mutex_unlock(&sync_.lock);

    rc = virt_open(sync_.config->connect, &err);

    if (rc == 0) {
        conn = virt_get(&err);
        rc = conn != NULL
             ? sync_.listener->connected(sync_.config, conn, &err)
             : HATCH_ERR_UNAVAILABLE;
    }

    if (rc == 0) {
        rc = sync_all(conn, 1, &err);
    }

    if (rc != 0) {
        virt_close();

        /* of a directory that is not ours, the listener has ended the agent */
        if (!sync_.failing && rc != HATCH_ERR_FOREIGN) {
            log_event(LOG_WARN, "%s; trying again", err.text);
        }

        sync_.failing = 1;
        return rc;
    }

    sync_.failing = 0;
    table_set_libvirt(HATCH_LIBVIRT_CONNECTED);
    log_event(LOG_INFO, "connected to %s", sync_.config->connect);
    host_ask(sync_.config);

    return 0;
}


/* When the next full comparison is due. */
static uint64_t
sync_next(uint64_t last)
{
    return last + (uint64_t) sync_.config->resync_interval * 1000;
}


/* Serves one connection until it is lost or the agent stops. */
static void
sync_serve(void)
{
    int                         lost;
    uint64_t                    last = sync_now();
    hatch_err_t                 err;
    cleanup_conn virConnectPtr  conn = virt_get(&err);

    while (conn != NULL) {
        sync_wait(sync_next(last));

        if (sync_flag(&lost) || lost) {
            return;
        }

        sync_jobs(conn);

        if (sync_now() >= sync_next(last)) {
            if (sync_all(conn, 0, &err) != 0) {
                log_event(LOG_WARN, "%s", err.text);
            }

            last = sync_now();
        }
    }
}


static void *
sync_run(void *data)
{
    int       lost;
    unsigned  backoff = SYNC_BACKOFF_MIN;

    (void) data;

    while (!sync_flag(&lost)) {
        if (sync_connect() == 0) {
            backoff = SYNC_BACKOFF_MIN;
            sync_serve();

            table_set_libvirt(HATCH_LIBVIRT_DISCONNECTED);
            virt_close();

            if (!sync_flag(&lost)) {
                log_event(LOG_WARN, "the connection to libvirt is lost");
            }

            continue;
        }

        table_set_libvirt(HATCH_LIBVIRT_DISCONNECTED);
        sync_drop_jobs();               /* the next comparison sees them */
        sync_wait(sync_now() + backoff);

        backoff = backoff * 2 < SYNC_BACKOFF_MAX ? backoff * 2
                                                 : SYNC_BACKOFF_MAX;
    }

    return NULL;
}


int
sync_start(const config_t *config, const sync_listener_t *listener,
    hatch_err_t *err)
{
    int  rc;

    sync_.config = config;
    sync_.listener = listener;
    cond_init(&sync_.wake);

    rc = pthread_create(&sync_.thread, NULL, sync_run, NULL);

    return rc == 0 ? 0 : hatch_err_errno(err, rc, "cannot start a thread");
}


void
sync_stop(void)
{
    pthread_mutex_lock(&sync_.lock);
    sync_.stop = 1;
    pthread_cond_signal(&sync_.wake);
    pthread_mutex_unlock(&sync_.lock);

    (void) pthread_join(sync_.thread, NULL);
    virt_close();
}
