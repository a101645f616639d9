#define _GNU_SOURCE

#include "template.h"
#include "records.h"
#include "user_data.h"
#include "core/cleanup.h"

#include "hatch_clock.h"
#include "hatch_id.h"
#include "hatch_json.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>


static records_t  templates = { .folder = "templates" };

/* Held over reading and replacing one, so that no change is lost. */
static pthread_mutex_t  template_change_lock = PTHREAD_MUTEX_INITIALIZER;


int
template_open(const config_t *config, hatch_err_t *err)
{
    return records_open(&templates, config, err);
}


json_object *
template_get(const char *id)
{
    return records_get(&templates, id);
}


json_object *
template_list(void)
{
    return records_list(&templates);
}


static int
template_missing(const char *id, hatch_err_t *err)
{
    return hatch_err_set(err, HATCH_ERR_NOT_FOUND, "no template \"%s\"", id);
}


/* With a clock that was set back it stays as it was, or as "created" is. */
static void
template_stamp(json_object *record, const char *field)
{
    int64_t  now = (int64_t) hatch_clock_wall_ms();
    int64_t  before = hatch_json_integer(record, "updated",
                            hatch_json_integer(record, "created", 0));

    (void) json_object_object_add(record, field, json_object_new_int64(
                                         now > before ? now : before));
}


/*
 * The format belongs to the user_data beside it: whoever gives another, or
 * takes it away, and names no format, does not mean that one.
 */
static int
template_is_stale_format(const char *field, json_object *fields)
{
    return strcmp(field, USER_DATA_FORMAT) == 0
           && json_object_object_get_ex(fields, USER_DATA, NULL)
           && !json_object_object_get_ex(fields, USER_DATA_FORMAT, NULL);
}


/* null for what may be null as a value: never. */
static int
template_keeps_null(const char *field)
{
    return strcmp(field, "idle_timeout") == 0
           || strcmp(field, "park_after") == 0
           || strcmp(field, "save_after") == 0;
}


int
template_add(json_object *fields, json_object **record, hatch_err_t *err)
{
    int                        rc;
    char                       id[HATCH_ID_SIZE];
    const char                *text;
    cleanup_json json_object  *new = NULL;

    rc = user_data_check(fields, &text, err);
    if (rc != 0) {
        return rc;
    }

    if (hatch_id_make(HATCH_ID_TEMPLATE, id) != 0
        || json_object_deep_copy(fields, &new, NULL) != 0)
    {
        return hatch_err_errno(err, errno, "cannot add the template");
    }

    (void) json_object_object_add(new, "id", json_object_new_string(id));
    template_stamp(new, "created");
    template_stamp(new, "updated");

    rc = records_add(&templates, new, "name", err);

    if (rc == 0) {
        *record = take(new);
    }

    return rc;
}


static int
template_merge(json_object *record, json_object *fields, hatch_err_t *err)
{
    const char  *text;

    if (template_is_stale_format(USER_DATA_FORMAT, fields)) {
        json_object_object_del(record, USER_DATA_FORMAT);
    }

    json_object_object_foreach(fields, name, value) {
        if (value == NULL && !template_keeps_null(name)) {
            json_object_object_del(record, name);
        } else {
            (void) json_object_object_add(record, name,
                                          json_object_get(value));
        }
    }

    template_stamp(record, "updated");

    /* what was there before is no concern of a change of another field */
    return json_object_object_get_ex(fields, USER_DATA, NULL)
           || json_object_object_get_ex(fields, USER_DATA_FORMAT, NULL)
           ? user_data_check(record, &text, err) : 0;
}


int
template_change(const char *id, json_object *fields, json_object **record,
    hatch_err_t *err)
{
    int                        rc;
    cleanup_json json_object  *new = NULL;

    pthread_mutex_lock(&template_change_lock);

    new = records_get(&templates, id);

    if (new == NULL) {
        pthread_mutex_unlock(&template_change_lock);
        return template_missing(id, err);
    }

    rc = template_merge(new, fields, err);

    if (rc == 0) {
        rc = records_replace(&templates, new, "name", err);
    }

    pthread_mutex_unlock(&template_change_lock);

    if (rc == HATCH_ERR_NOT_FOUND) {
        return template_missing(id, err);
    }

    if (rc == 0) {
        *record = take(new);
    }

    return rc;
}


int
template_delete(const char *id, hatch_err_t *err)
{
    int  rc = records_delete(&templates, id, err);

    return rc == HATCH_ERR_NOT_FOUND ? template_missing(id, err) : rc;
}


/* What a template has for itself, and no VM gets from it. */
static int
template_owns(const char *field)
{
    size_t  i;

    static const char *const  own[] = {
        "id", "name", "description", "created", "updated"
    };

    for (i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        if (strcmp(own[i], field) == 0) {
            return 1;
        }
    }

    return 0;
}


int
template_apply(json_object *body, json_object **fields, hatch_err_t *err)
{
    const char                *id;
    json_object               *merged = NULL;
    cleanup_json json_object  *template = NULL;

    id = hatch_json_string(body, "template_id", NULL);

    if (id != NULL) {
        template = records_get(&templates, id);

        if (template == NULL) {
            return hatch_err_set(err, HATCH_ERR_INVALID, "\"template_id\": "
                                 "template \"%.40s\" not found", id);
        }
    }

    if (json_object_deep_copy(body, &merged, NULL) != 0) {
        return hatch_err_errno(err, ENOMEM, "cannot create a VM");
    }

    if (template != NULL) {
        json_object_object_foreach(template, name, value) {
            if (!template_owns(name)
                && !template_is_stale_format(name, body)
                && !json_object_object_get_ex(body, name, NULL))
            {
                (void) json_object_object_add(merged, name,
                                              json_object_get(value));
            }
        }
    }

    *fields = merged;

    return 0;
}
