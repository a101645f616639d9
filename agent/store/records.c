#define _GNU_SOURCE

#include "records.h"
#include "statedir.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/text.h"

#include "hatch_id.h"
#include "hatch_json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


#define RECORDS_FILE_MAX  (1024 * 1024)
#define RECORDS_SUFFIX    ".json"


static int
records_load_file(records_t *records, const char *name, hatch_err_t *err)
{
    char                      path[STATEDIR_PATH], id[HATCH_ID_SIZE];
    size_t                    len;
    cleanup_free char        *text = NULL;
    cleanup_json json_object *record = NULL;

    statedir_path(records->config, records->folder, name, "", path);

    if (text_read(path, RECORDS_FILE_MAX, &text, &len, err) != 0) {
        return -1;
    }

    if (hatch_json_parse(text, len, &record, err) != 0) {
        return -1;
    }

    (void) snprintf(id, sizeof(id), "%.*s",
                    (int) (strlen(name) - strlen(RECORDS_SUFFIX)), name);

    if (!records_match(record, "id", id)) {
        return hatch_err_set(err, HATCH_ERR_CORRUPT, "its \"id\" is not %s",
                             id);
    }

    (void) json_object_object_add(records->all, id, take(record));

    return 0;
}


static void
records_load_entry(void *ctx, const char *name)
{
    char         path[STATEDIR_PATH];
    size_t       len = strlen(name), suffix = strlen(RECORDS_SUFFIX);
    records_t   *records = ctx;
    hatch_err_t  err;

    /* a record that had not got its name yet */
    if (len > suffix && strcmp(name + len - 4, ".tmp") == 0) {
        statedir_path(records->config, records->folder, name, "", path);
        (void) statedir_unlink(path, &err);
        return;
    }

    if (len > suffix && strcmp(name + len - suffix, RECORDS_SUFFIX) == 0
        && records_load_file(records, name, &err) != 0)
    {
        log_event(LOG_WARN, "%s/%s is ignored: %s", records->folder, name,
                  err.text);
    }
}


/* Orders by "created", and by id where that is the same. */
static int
records_older(const void *a, const void *b)
{
    int64_t       m, n;
    json_object  *x = *(json_object **) a, *y = *(json_object **) b;

    m = hatch_json_integer(x, "created", 0);
    n = hatch_json_integer(y, "created", 0);

    return m != n ? (m < n ? -1 : 1)
                  : strcmp(hatch_json_string(x, "id", ""),
                           hatch_json_string(y, "id", ""));
}


static json_object *
records_copy(json_object *record)
{
    json_object  *copy = NULL;

    return json_object_deep_copy(record, &copy, NULL) == 0 ? copy : NULL;
}


int
records_open(records_t *records, const config_t *config, hatch_err_t *err)
{
    records->config = config;
    records->all = json_object_new_object();

    if (records->all == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot load %s",
                               records->folder);
    }

    (void) pthread_mutex_init(&records->lock, NULL);
    (void) pthread_mutex_init(&records->write, NULL);
    (void) statedir_each(config, records->folder, records_load_entry, records);

    return 0;
}


json_object *
records_get(records_t *records, const char *id)
{
    json_object  *record, *copy = NULL;

    pthread_mutex_lock(&records->lock);

    if (json_object_object_get_ex(records->all, id, &record)) {
        copy = records_copy(record);
    }

    pthread_mutex_unlock(&records->lock);

    return copy;
}


json_object *
records_list(records_t *records)
{
    return records_list_of(records, NULL, NULL);
}


json_object *
records_list_of(records_t *records, const char *field, const char *value)
{
    size_t        i, n;
    json_object  *array = json_object_new_array();
    json_object  *newest = json_object_new_array();

    pthread_mutex_lock(&records->lock);

    json_object_object_foreach(records->all, id, record) {
        (void) id;

        if (field == NULL || records_match(record, field, value)) {
            (void) json_object_array_add(array, records_copy(record));
        }
    }

    pthread_mutex_unlock(&records->lock);

    json_object_array_sort(array, records_older);

    for (i = 0, n = json_object_array_length(array); i < n; i++) {
        (void) json_object_array_add(newest, json_object_get(
                           json_object_array_get_idx(array, n - 1 - i)));
    }

    json_object_put(array);

    return newest;
}


void
records_each(records_t *records, void (*each)(void *ctx, json_object *record),
    void *ctx)
{
    pthread_mutex_lock(&records->lock);

    json_object_object_foreach(records->all, id, record) {
        (void) id;
        each(ctx, record);
    }

    pthread_mutex_unlock(&records->lock);
}


/* Another record that has the same value in this field; the lock is held. */
static int
records_taken(records_t *records, json_object *record, const char *field)
{
    const char  *value;

    value = field != NULL ? hatch_json_string(record, field, NULL) : NULL;

    if (value == NULL) {
        return 0;
    }

    json_object_object_foreach(records->all, id, other) {
        if (!records_match(record, "id", id)
            && records_match(other, field, value))
        {
            return 1;
        }
    }

    return 0;
}


static int
records_put(records_t *records, json_object *record, const char *unique,
    int add, hatch_err_t *err)
{
    int                        rc = 0;
    char                       path[STATEDIR_PATH];
    const char                *id = hatch_json_string(record, "id", ""), *text;
    cleanup_json json_object  *copy = records_copy(record);

    if (copy == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot write %s", id);
    }

    statedir_path(records->config, records->folder, id, RECORDS_SUFFIX, path);
    text = json_object_to_json_string_ext(copy, STATEDIR_JSON);

    pthread_mutex_lock(&records->write);
    pthread_mutex_lock(&records->lock);

    if (json_object_object_get_ex(records->all, id, NULL) == add) {
        rc = add ? hatch_err_set(err, HATCH_ERR_EXISTS,
                                 "\"id\" \"%s\" is taken", id)
                 : hatch_err_set(err, HATCH_ERR_NOT_FOUND, "no \"%s\"", id);

    } else if (add && access(path, F_OK) == 0) {
        rc = hatch_err_set(err, HATCH_ERR_EXISTS, "\"id\" \"%s\" has a record "
                           "that cannot be read; mend or remove \"%s\"", id,
                           path);

    } else if (records_taken(records, record, unique)) {
        rc = hatch_err_set(err, HATCH_ERR_EXISTS, "\"%s\" \"%.64s\" is taken",
                           unique, hatch_json_string(record, unique, ""));
    }

    pthread_mutex_unlock(&records->lock);

    if (rc == 0) {
        rc = statedir_write(path, text, strlen(text), err);
    }

    if (rc == 0) {
        pthread_mutex_lock(&records->lock);
        (void) json_object_object_add(records->all, id, take(copy));
        pthread_mutex_unlock(&records->lock);
    }

    pthread_mutex_unlock(&records->write);

    return rc;
}


int
records_add(records_t *records, json_object *record, const char *unique,
    hatch_err_t *err)
{
    return records_put(records, record, unique, 1, err);
}


int
records_replace(records_t *records, json_object *record, const char *unique,
    hatch_err_t *err)
{
    return records_put(records, record, unique, 0, err);
}


static int
records_remove(records_t *records, const char *id, int gone, hatch_err_t *err)
{
    int   rc, has;
    char  path[STATEDIR_PATH], mark[STATEDIR_PATH];

    statedir_path(records->config, records->folder, id, RECORDS_SUFFIX, path);
    statedir_path(records->config, records->folder, id, RECORDS_GONE, mark);

    pthread_mutex_lock(&records->write);
    pthread_mutex_lock(&records->lock);
    has = json_object_object_get_ex(records->all, id, NULL);
    pthread_mutex_unlock(&records->lock);

    if (!has) {
        rc = hatch_err_set(err, HATCH_ERR_NOT_FOUND, "no \"%s\"", id);

    } else if (!gone || statedir_rename(path, mark, err) != 0) {
        /* also where the disk has no room for another name */
        rc = statedir_unlink(path, err);

    } else {
        rc = 0;
    }

    if (rc == 0) {
        pthread_mutex_lock(&records->lock);
        json_object_object_del(records->all, id);
        pthread_mutex_unlock(&records->lock);
    }

    pthread_mutex_unlock(&records->write);

    return rc;
}


int
records_delete(records_t *records, const char *id, hatch_err_t *err)
{
    return records_remove(records, id, 0, err);
}


int
records_mark_gone(records_t *records, const char *id, hatch_err_t *err)
{
    return records_remove(records, id, 1, err);
}


int
records_match(json_object *record, const char *field, const char *value)
{
    json_object  *found;

    return json_object_object_get_ex(record, field, &found)
           && json_object_is_type(found, json_type_string)
           && strcmp(json_object_get_string(found), value) == 0;
}
