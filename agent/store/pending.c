#define _GNU_SOURCE

#include "pending.h"
#include "statedir.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/text.h"

#include "hatch_id.h"
#include "hatch_json.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>


#define PENDING_FOLDER    "pending"
#define PENDING_SUFFIX    ".json"

/* Of the operation that was begun over one that has not ended: a deletion. */
#define PENDING_OVER      ".over.json"
#define PENDING_FILE_MAX  (1024 * 1024)


static struct {
    const config_t   *config;
    pthread_mutex_t   lock;
    json_object      *begun;            /* id to details: by this agent */
    json_object      *abandoned;        /* the same: to be recovered */
} pending = { .lock = PTHREAD_MUTEX_INITIALIZER };


static void
pending_load_entry(void *ctx, const char *name)
{
    char                       path[STATEDIR_PATH], id[HATCH_ID_SIZE];
    size_t                     len, n = strcspn(name, ".");
    const config_t            *config = ctx;
    hatch_err_t                err;
    cleanup_free char         *text = NULL;
    cleanup_json json_object  *details = NULL;

    statedir_path(config, PENDING_FOLDER, name, "", path);

    if (!hatch_id_valid(HATCH_ID_VM, name, n)
        || (strcmp(name + n, PENDING_SUFFIX) != 0
            && strcmp(name + n, PENDING_OVER) != 0))
    {
        return;
    }

    memcpy(id, name, n);
    id[n] = '\0';

    /* the later one counts */
    if (strcmp(name + n, PENDING_SUFFIX) == 0
        && json_object_object_get_ex(pending.abandoned, id, NULL))
    {
        return;
    }

    if (text_read(path, PENDING_FILE_MAX, &text, &len, &err) != 0
        || hatch_json_parse(text, len, &details, &err) != 0)
    {
        /* the VM is left alone: nothing but DELETE is done to it */
        log_event(LOG_WARN, "%s is ignored: %s", path, err.text);
        details = json_object_new_object();
    }

    (void) json_object_object_add(pending.abandoned, id, take(details));
}


/* A note that had not got its name yet: nothing had begun. */
static void
pending_tidy_entry(void *ctx, const char *name)
{
    char         path[STATEDIR_PATH];
    size_t       n = strcspn(name, ".");
    hatch_err_t  err;

    if (hatch_id_valid(HATCH_ID_VM, name, n)
        && (strcmp(name + n, PENDING_SUFFIX ".tmp") == 0
            || strcmp(name + n, PENDING_OVER ".tmp") == 0))
    {
        statedir_path(ctx, PENDING_FOLDER, name, "", path);
        (void) statedir_unlink(path, &err);
    }
}


void
pending_tidy(const config_t *config)
{
    (void) statedir_each(config, PENDING_FOLDER, pending_tidy_entry,
                         (void *) config);
}


int
pending_open(const config_t *config, hatch_err_t *err)
{
    pending.config = config;
    pending.begun = json_object_new_object();
    pending.abandoned = json_object_new_object();

    if (pending.begun == NULL || pending.abandoned == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot load what is pending");
    }

    (void) statedir_each(config, PENDING_FOLDER, pending_load_entry,
                      (void *) config);

    return 0;
}


/*
 * Where the note of the operation that is begun now is, or was: that of an
 * older one stays, should this one come to nothing.
 */
static void
pending_path(const config_t *config, const char *vm, char *path)
{
    statedir_path(config, PENDING_FOLDER, vm,
                  pending_abandoned(vm) ? PENDING_OVER : PENDING_SUFFIX, path);
}


static int
pending_note(const config_t *config, const char *vm, const char *operation,
    json_object *details, int anyway, hatch_err_t *err)
{
    int                        rc;
    char                       path[STATEDIR_PATH];
    const char                *text;
    cleanup_json json_object  *note;

    note = details != NULL ? details : json_object_new_object();

    (void) json_object_object_add(note, "operation",
                                  json_object_new_string(operation));

    pending_path(config, vm, path);
    text = json_object_to_json_string_ext(note, STATEDIR_JSON);

    rc = statedir_write(path, text, strlen(text), err);

    if (rc != 0 && anyway) {
        log_event(LOG_WARN, "%s: to %s goes on without a note: %s", vm,
                  operation, err->text);
        rc = 0;
    }

    if (rc == 0) {
        pthread_mutex_lock(&pending.lock);
        (void) json_object_object_add(pending.begun, vm, take(note));
        pthread_mutex_unlock(&pending.lock);
    }

    return rc;
}


int
pending_begin(const config_t *config, const char *vm, const char *operation,
    json_object *details, hatch_err_t *err)
{
    return pending_note(config, vm, operation, details, 0, err);
}


int
pending_begin_anyway(const config_t *config, const char *vm,
    const char *operation, json_object *details, hatch_err_t *err)
{
    return pending_note(config, vm, operation, details, 1, err);
}


/* The note of one suffix is off the disk; an error is logged. */
static int
pending_unlink(const config_t *config, const char *vm, const char *suffix)
{
    int          rc;
    char         path[STATEDIR_PATH];
    hatch_err_t  err;

    statedir_path(config, PENDING_FOLDER, vm, suffix, path);
    rc = statedir_unlink(path, &err);

    if (rc != 0) {
        log_event(LOG_ERROR, "%s: %s", vm, err.text);
    }

    return rc;
}


int
pending_undone(const config_t *config, const char *vm)
{
    int          rc = 0, over;
    json_object  *begun, *older;

    pthread_mutex_lock(&pending.lock);

    /* begun a second time: the first one is still to be ended */
    over = json_object_object_get_ex(pending.abandoned, vm, &older);
    over += over && json_object_object_get_ex(pending.begun, vm, &begun)
            && strcmp(hatch_json_string(older, "operation", ""),
                      hatch_json_string(begun, "operation", "")) == 0;

    pthread_mutex_unlock(&pending.lock);

    if (over < 2) {
        rc = pending_unlink(config, vm, over ? PENDING_OVER : PENDING_SUFFIX);
    }

    pthread_mutex_lock(&pending.lock);
    json_object_object_del(pending.begun, vm);
    pthread_mutex_unlock(&pending.lock);

    return rc;
}


int
pending_end(const config_t *config, const char *vm)
{
    int  rc;

    /* the later one last: killed in between, it is what is gone on with */
    rc = pending_unlink(config, vm, PENDING_SUFFIX);

    if (rc == 0) {
        rc = pending_unlink(config, vm, PENDING_OVER);
    }

    pthread_mutex_lock(&pending.lock);
    json_object_object_del(pending.begun, vm);
    json_object_object_del(pending.abandoned, vm);
    pthread_mutex_unlock(&pending.lock);

    return rc;
}


void
pending_abandon(const char *vm)
{
    json_object  *note;

    pthread_mutex_lock(&pending.lock);

    if (json_object_object_get_ex(pending.begun, vm, &note)) {
        (void) json_object_object_add(pending.abandoned, vm,
                                      json_object_get(note));
        json_object_object_del(pending.begun, vm);
    }

    pthread_mutex_unlock(&pending.lock);
}


int
pending_known(const char *vm)
{
    int  found;

    pthread_mutex_lock(&pending.lock);
    found = json_object_object_get_ex(pending.begun, vm, NULL)
            || json_object_object_get_ex(pending.abandoned, vm, NULL);
    pthread_mutex_unlock(&pending.lock);

    return found;
}


int
pending_waits(const char *vm)
{
    int           waits = 0;
    const char   *operation;
    json_object  *note;

    pthread_mutex_lock(&pending.lock);

    if (!json_object_object_get_ex(pending.begun, vm, NULL)
        && json_object_object_get_ex(pending.abandoned, vm, &note))
    {
        operation = hatch_json_string(note, "operation", "");
        waits = operation[0] == '\0' || strcmp(operation, "restore") == 0;
    }

    pthread_mutex_unlock(&pending.lock);

    return waits;
}


int
pending_mentions(const char *field, const char *value)
{
    int  found = 0;

    pthread_mutex_lock(&pending.lock);

    json_object_object_foreach(pending.begun, vm, note) {
        (void) vm;
        found |= strcmp(hatch_json_string(note, field, ""), value) == 0;
    }

    json_object_object_foreach(pending.abandoned, id, details) {
        (void) id;
        found |= strcmp(hatch_json_string(details, field, ""), value) == 0;
    }

    pthread_mutex_unlock(&pending.lock);

    return found;
}


int
pending_abandoned(const char *vm)
{
    int  found;

    pthread_mutex_lock(&pending.lock);
    found = json_object_object_get_ex(pending.abandoned, vm, NULL);
    pthread_mutex_unlock(&pending.lock);

    return found;
}


json_object *
pending_list(void)
{
    json_object  *copy = NULL;

    pthread_mutex_lock(&pending.lock);
    (void) json_object_deep_copy(pending.abandoned, &copy, NULL);
    pthread_mutex_unlock(&pending.lock);

    return copy;
}
