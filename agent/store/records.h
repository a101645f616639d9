/*
 * Records: small JSON objects with an id, one file each in a folder of the
 * state directory (images, templates, snapshots), all of them in memory, too.
 *
 * A record is whole or not there: files are replaced by rename().  What a
 * caller gets is a copy of its own (json_object_put()).  Thread-safe: reads
 * take a lock for the time of a copy; writers take turns and no lock that a
 * read needs is held over the disk.
 */

#ifndef HATCH_AGENT_RECORDS_H_INCLUDED
#define HATCH_AGENT_RECORDS_H_INCLUDED

#include <json-c/json.h>
#include <pthread.h>
#include <stdint.h>

#include "core/config.h"
#include "hatch_err.h"


typedef struct {
    const char       *folder;       /* of the state directory */
    const config_t   *config;
    pthread_mutex_t   lock;         /* of all */
    pthread_mutex_t   write;        /* who changes files; taken first */
    json_object      *all;          /* id to record, oldest first */
} records_t;


/*
 * Loads the records of records->folder.  A file that is none, by its content
 * or because its "id" is not its name, is left alone and logged.
 */
int records_open(records_t *records, const config_t *config,
    hatch_err_t *err);

/* A copy of a record, or NULL. */
json_object *records_get(records_t *records, const char *id);

/* Copies of all, newest first, as a new array. */
json_object *records_list(records_t *records);

/* The same of those whose field has this value; no other is copied. */
json_object *records_list_of(records_t *records, const char *field,
    const char *value);

/*
 * Shows each of them, which is not the caller's and must not be changed.  Under
 * the lock: each() is quick, and calls neither this, libvirt nor the disk.
 */
void records_each(records_t *records,
    void (*each)(void *ctx, json_object *record), void *ctx);

/*
 * Adds a record, by its "id".  HATCH_ERR_EXISTS if the id is taken, also by a
 * file that could not be read, or the value of the field `unique` (or NULL).
 * Copies it.
 */
int records_add(records_t *records, json_object *record, const char *unique,
    hatch_err_t *err);

/* Replaces one.  HATCH_ERR_NOT_FOUND; otherwise as records_add(). */
int records_replace(records_t *records, json_object *record,
    const char *unique, hatch_err_t *err);

/* HATCH_ERR_NOT_FOUND if there is none. */
int records_delete(records_t *records, const char *id, hatch_err_t *err);

/*
 * The same, and leaves a mark, ID.gone: a user deleted it, so what else there
 * is of it may go.  Whoever deletes that removes the mark last; an agent that
 * finds one goes on with it.
 */
#define RECORDS_GONE  ".gone"

int records_mark_gone(records_t *records, const char *id, hatch_err_t *err);

/* For records of one VM: does record's field have this value? */
int records_match(json_object *record, const char *field, const char *value);

#endif /* HATCH_AGENT_RECORDS_H_INCLUDED */
