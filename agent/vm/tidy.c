#define _GNU_SOURCE

#include "tidy.h"
#include "files.h"
#include "recover.h"
#include "core/cond.h"
#include "core/log.h"
#include "table/table.h"
#include "virt/net.h"
#include "virt/virt.h"
#include "virt/virt_cleanup.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>


/* From the end of one round to the next, ms. */
#define TIDY_REST  1000


static struct {
    const config_t   *config;
    pthread_t         thread;
    pthread_mutex_t   lock;
    pthread_cond_t    wake;
    unsigned          requested:1;
    unsigned          stop:1;
} tidy = { .lock = PTHREAD_MUTEX_INITIALIZER };


/* Returns how much is left to be tried again. */
static unsigned
tidy_once(void)
{
    unsigned                    count, left;
    hatch_err_t                 err;
    cleanup_conn virConnectPtr  conn = virt_get(&err);

    /* the next connection asks again, and the end of a comparison */
    if (conn == NULL || !table_is_complete()) {
        return 0;
    }

    left = recover_all(tidy.config, virt_driver(conn)->forgets);

    files_tidy(tidy.config);

    if (net_reconcile(conn, tidy.config, &count, &err) != 0) {
        log_event(LOG_WARN, "%s", err.text);

    } else if (count != 0) {
        log_event(LOG_INFO, "corrected %u reservations of network \"%s\"",
                  count, tidy.config->network_name);
    }

    return left;
}


/*
 * One round, and a rest: those who ask meanwhile, as when hundreds of VMs go,
 * are served together.
 */
static unsigned
tidy_round(void)
{
    unsigned         left;
    struct timespec  ts;

    tidy.requested = 0;

    pthread_mutex_unlock(&tidy.lock);
    left = tidy_once();
    ts = cond_deadline(TIDY_REST);
    pthread_mutex_lock(&tidy.lock);

    while (!tidy.stop
           && pthread_cond_timedwait(&tidy.wake, &tidy.lock, &ts)
              != ETIMEDOUT)
    {
        /* void */
    }

    return left;
}


static void *
tidy_run(void *data)
{
    unsigned  left = 0;

    (void) data;

    pthread_mutex_lock(&tidy.lock);

    while (!tidy.stop) {
        if (tidy.requested || left != 0) {
            left = tidy_round();

        } else {
            (void) pthread_cond_wait(&tidy.wake, &tidy.lock);
        }
    }

    pthread_mutex_unlock(&tidy.lock);

    return NULL;
}


int
tidy_start(const config_t *config, hatch_err_t *err)
{
    int  rc;

    tidy.config = config;
    cond_init(&tidy.wake);

    rc = pthread_create(&tidy.thread, NULL, tidy_run, NULL);

    return rc == 0 ? 0 : hatch_err_errno(err, rc, "cannot start a thread");
}


void
tidy_stop(void)
{
    pthread_mutex_lock(&tidy.lock);
    tidy.stop = 1;
    pthread_cond_signal(&tidy.wake);
    pthread_mutex_unlock(&tidy.lock);

    (void) pthread_join(tidy.thread, NULL);
}


void
tidy_request(void)
{
    pthread_mutex_lock(&tidy.lock);
    tidy.requested = 1;
    pthread_cond_signal(&tidy.wake);
    pthread_mutex_unlock(&tidy.lock);
}
