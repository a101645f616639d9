/*
 * user_data: would cloud-init act on it?
 *
 * cloud-init knows what it is given by its first line, or, if it is a MIME
 * message, by its header.  What it does not know it drops, with a warning in
 * the guest's log that nobody reads.  So that is refused here, unless the
 * client says that it is meant for somebody else: "user_data_format": "raw".
 */

#ifndef HATCH_AGENT_USER_DATA_H_INCLUDED
#define HATCH_AGENT_USER_DATA_H_INCLUDED

#include <json-c/json.h>

#include "hatch_err.h"


/* The fields, of POST /vms and of templates. */
#define USER_DATA         "user_data"
#define USER_DATA_FORMAT  "user_data_format"

#define USER_DATA_FORMAT_MAX  16    /* bytes of its value */


/*
 * Checks the two fields of an object against each other and cloud-init's
 * rules, and gives what a guest gets in *text, which points into the object:
 * as it stands, except that a byte order mark, which cloud-init stumbles over,
 * is left out.  NULL if there is no user_data.  HATCH_ERR_INVALID naming field
 * and rule.  Any thread.
 */
int user_data_check(json_object *fields, const char **text, hatch_err_t *err);

#endif /* HATCH_AGENT_USER_DATA_H_INCLUDED */
