/*
 * Templates: defaults for new VMs, kept as records with the fields of
 * POST /vms that were given, beside id, name, description, created, updated.
 */

#ifndef HATCH_AGENT_TEMPLATE_H_INCLUDED
#define HATCH_AGENT_TEMPLATE_H_INCLUDED

#include <json-c/json.h>

#include "core/config.h"
#include "hatch_err.h"


/* Loads the records.  Once, before any other call. */
int template_open(const config_t *config, hatch_err_t *err);

/* A record of the caller's own, or NULL; and all, newest first. */
json_object *template_get(const char *id);
json_object *template_list(void);

/*
 * Adds one; fields are checked.  On success the caller owns *record.
 * HATCH_ERR_CONFLICT if the name is taken.
 */
int template_add(json_object *fields, json_object **record,
    hatch_err_t *err);

/* Changes the fields given, null taking one away.  Also NOT_FOUND. */
int template_change(const char *id, json_object *fields,
    json_object **record, hatch_err_t *err);

int template_delete(const char *id, hatch_err_t *err);

/*
 * The fields of a new VM: those of the body, and from the template that it
 * names in "template_id" those that it does not have.  The caller owns
 * *fields.  HATCH_ERR_INVALID if there is no such template.
 */
int template_apply(json_object *body, json_object **fields,
    hatch_err_t *err);

#endif /* HATCH_AGENT_TEMPLATE_H_INCLUDED */
