/*
 * What a request asks for: its path and its query, decoded as nginx does it,
 * by one rule in nginx module and agent.
 *
 * A path's escapes are decoded, once; then slashes that follow each other are
 * one, and "." and ".." are resolved.  A slash at the end stays: it is another
 * path.  What follows "#" does not count.
 *
 * A query is NAME=VALUE with "&" between them.  Names and values are decoded;
 * "+" is a plus.  A name that is not known, or is given twice, is an error, so
 * is one without "=".  Nothing between two "&" is no argument.
 */

#ifndef HATCH_URI_H_INCLUDED
#define HATCH_URI_H_INCLUDED

#include <json-c/json.h>
#include <stddef.h>

#include "hatch_err.h"


/*
 * Cuts the target of a request, as it stands in its first line, into path and
 * query; in place, both point into it.  The path is decoded, the query ("" if
 * there is none) is not.  HATCH_ERR_INVALID: an escape is none, or of a NUL, or
 * the path leads above "/".
 */
int hatch_uri_split(char *target, char **path, const char **query,
    hatch_err_t *err);

/*
 * Decodes len bytes of a query and checks them against the names that there
 * may be (ended by NULL; NULL: none).  *query becomes a new object of them,
 * name to value, which is the caller's; query may be NULL.  HATCH_ERR_INVALID:
 * the text names the argument and the rule; *query is then NULL.
 */
int hatch_uri_query(const char *text, size_t len, const char *const *names,
    json_object **query, hatch_err_t *err);

#endif /* HATCH_URI_H_INCLUDED */
