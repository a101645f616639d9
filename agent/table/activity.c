#define _GNU_SOURCE

#include "activity.h"
#include "core/log.h"

#include "hatch_activity.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>


static struct {
    pthread_mutex_t   lock;
    char              path[PATH_MAX];
    hatch_activity_t  file;
    unsigned          attached:1;
    unsigned          absent:1;         /* and nobody could have written it */
    hatch_err_code_t  complained;       /* the last error that was logged */
} activity = { .lock = PTHREAD_MUTEX_INITIALIZER };


static void
activity_complain(const hatch_err_t *err)
{
    if (activity.complained != err->code) {
        log_event(LOG_WARN, "%s; no VM falls asleep until it can be read",
                  err->text);
        activity.complained = err->code;
    }
}


void
activity_refresh(const config_t *config, int nginx, void (*before)(void))
{
    int               rc, attached;
    hatch_err_t       err;
    const char       *path = activity.path;
    hatch_activity_t  file;

    if (path[0] == '\0') {
        (void) snprintf(activity.path, sizeof(activity.path),
                        "%s" HATCH_ACTIVITY_SUFFIX, config->zone);
    }

    /* only this thread writes these, so it may read them */
    attached = activity.attached && hatch_activity_intact(&activity.file);

    if (attached && !hatch_file_replaced(&activity.file.file, path)) {
        return;
    }

    rc = hatch_activity_attach(&file, path, 1, &err);

    /* removed under a running nginx: that one writes the old file still */
    if (rc == HATCH_ERR_ABSENT && attached) {
        return;
    }

    before();

    pthread_mutex_lock(&activity.lock);

    if (activity.attached) {
        hatch_activity_detach(&activity.file);
    }

    activity.attached = rc == 0;
    activity.absent = rc == HATCH_ERR_ABSENT && !nginx;

    if (rc == 0) {
        activity.file = file;
        activity.complained = 0;
    }

    pthread_mutex_unlock(&activity.lock);

    if (rc != 0 && !activity.absent) {
        activity_complain(&err);
    }
}


int
activity_last(uint32_t slot, uint64_t generation, uint64_t *last,
    uint64_t *pass)
{
    int  rc = -1;

    pthread_mutex_lock(&activity.lock);

    if (activity.attached && slot < activity.file.file.slots) {
        *last = hatch_activity_last(&activity.file, slot, generation);
        *pass = hatch_activity_last_pass(&activity.file, slot, generation);
        rc = hatch_activity_intact(&activity.file) ? 0 : -1;

    } else if (activity.absent) {
        *last = *pass = 0;
        rc = 0;
    }

    pthread_mutex_unlock(&activity.lock);

    return rc;
}


int
activity_is_current(void)
{
    int  current;

    pthread_mutex_lock(&activity.lock);

    /* one that was removed is written still, see above */
    current = access(activity.path, F_OK) == -1
              || (activity.attached
                  && !hatch_file_replaced(&activity.file.file,
                                          activity.path));

    pthread_mutex_unlock(&activity.lock);

    return current;
}
