/* /orphans: the handlers. */

#define _GNU_SOURCE

#include "api_vm.h"
#include "core/cleanup.h"
#include "core/work.h"
#include "vm/orphan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define ORPHAN_LIMIT_MAX  1000


static const char *const  orphan_arguments[] = { "limit", "after", NULL };


/* As GET /vms: a page begins behind an orphan, ID or ID.MS. */
typedef struct {
    size_t    limit;                /* 0: none */
    char      after[HATCH_ID_SIZE];
    int64_t   since;                /* of the orphan `after` */
} orphan_query_t;


static int
orphan_compare(const void *a, const void *b)
{
    json_object  *one = *(json_object *const *) a;
    json_object  *two = *(json_object *const *) b;
    int64_t       first = hatch_json_integer(one, "since", 0);
    int64_t       second = hatch_json_integer(two, "since", 0);

    if (first != second) {
        return first > second ? -1 : 1;
    }

    return strcmp(hatch_json_string(one, "id", ""),
                  hatch_json_string(two, "id", ""));
}


static int
orphan_query_after(const char *text, json_object *found,
    orphan_query_t *query, hatch_err_t *err)
{
    char         *end;
    size_t        n = strcspn(text, ".");
    json_object  *entry;

    if (hatch_id_valid(HATCH_ID_VM, text, n)
        || hatch_id_valid(HATCH_ID_SNAPSHOT, text, n))
    {
        (void) snprintf(query->after, sizeof(query->after), "%.*s", (int) n,
                        text);

        if (text[n] == '.') {
            errno = 0;
            query->since = strtoll(text + n + 1, &end, 10);

            if (errno == 0 && text[n + 1] >= '0' && text[n + 1] <= '9'
                && *end == '\0')
            {
                return 0;
            }

        } else if (json_object_object_get_ex(found, query->after, &entry)) {
            query->since = hatch_json_integer(entry, "since", 0);
            return 0;
        }
    }

    return hatch_err_set(err, HATCH_ERR_INVALID, "\"after\" must be the id of "
                         "an orphan, not \"%.60s\"", text);
}


static int
orphan_query(const api_request_t *request, json_object *found,
    orphan_query_t *query, hatch_err_t *err)
{
    long         n;
    const char  *text;

    memset(query, 0, sizeof(*query));
    text = hatch_json_string(request->query, "limit", NULL);

    if (text != NULL) {
        n = strtol(text, NULL, 10);

        if (text[strspn(text, "0123456789")] != '\0' || n < 1
            || n > ORPHAN_LIMIT_MAX)
        {
            return hatch_err_set(err, HATCH_ERR_INVALID, "\"limit\" must be 1 "
                                 "to %d, not \"%.40s\"", ORPHAN_LIMIT_MAX,
                                 text);
        }

        query->limit = (size_t) n;
    }

    text = hatch_json_string(request->query, "after", NULL);

    return text != NULL ? orphan_query_after(text, found, query, err) : 0;
}


/* An entry as the API shows it. */
static json_object *
orphan_json(json_object *entry)
{
    int64_t  since = hatch_json_integer(entry, "since", 0);

    (void) json_object_object_add(entry, "since", api_time((uint64_t) since));

    return json_object_get(entry);
}


static json_object *
orphan_sorted(json_object *found)
{
    json_object  *list = json_object_new_array();

    json_object_object_foreach(found, id, entry) {
        (void) id;
        (void) json_object_array_add(list, json_object_get(entry));
    }

    json_object_array_sort(list, orphan_compare);

    return list;
}


static int
orphan_is_before(const orphan_query_t *query, json_object *entry)
{
    int64_t  since = hatch_json_integer(entry, "since", 0);

    return query->after[0] != '\0'
           && (since > query->since
               || (since == query->since
                   && strcmp(hatch_json_string(entry, "id", ""), query->after)
                      <= 0));
}


static void
orphan_page(const orphan_query_t *query, json_object *list,
    api_response_t *response)
{
    size_t        i, n, shown = 0;
    int64_t       since = 0;
    const char   *last = "";
    json_object  *entry;

    for (i = 0, n = json_object_array_length(list); i < n; i++) {
        entry = json_object_array_get_idx(list, i);

        if (orphan_is_before(query, entry)) {
            continue;
        }

        if (query->limit != 0 && shown == query->limit) {
            (void) snprintf(response->link, sizeof(response->link),
                            "</orphans?limit=%zu&after=%s.%lld>; "
                            "rel=\"next\"", query->limit, last,
                            (long long) since);
            return;
        }

        last = hatch_json_string(entry, "id", "");
        since = hatch_json_integer(entry, "since", 0);
        (void) json_object_array_add(response->body, orphan_json(entry));
        shown++;
    }
}


/* All, or NULL with the response filled: without routes it were not true. */
static json_object *
orphan_all(const api_request_t *request, api_response_t *response)
{
    hatch_err_t   err;
    json_object  *found;

    work_step("looking for orphans", request->config->save_timeout);
    found = orphan_scan(request->config, &err);

    if (err.code != HATCH_OK) {
        json_object_put(take(found));
        api_error(response, 503, "store_unavailable", err.text);
    }

    return found;
}


static void
orphan_handle_list(const api_request_t *request, api_response_t *response)
{
    hatch_err_t                err;
    orphan_query_t             query;
    cleanup_json json_object  *found = orphan_all(request, response);
    cleanup_json json_object  *list = NULL;

    if (found == NULL) {
        return;
    }

    if (orphan_query(request, found, &query, &err) != 0) {
        api_error(response, 400, "invalid_argument", err.text);
        return;
    }

    list = orphan_sorted(found);
    response->status = 200;
    response->body = json_object_new_array();
    orphan_page(&query, list, response);
}


static void
orphan_handle_get(const api_request_t *request, api_response_t *response)
{
    hatch_err_t                err;
    json_object               *entry;
    cleanup_json json_object  *found = orphan_all(request, response);

    if (found == NULL) {
        return;
    }

    if (!json_object_object_get_ex(found, request->id, &entry)) {
        (void) hatch_err_set(&err, HATCH_ERR_NOT_FOUND, "no orphan \"%.40s\"",
                             request->id);
        api_fail(response, &err, "orphan_not_found");
        return;
    }

    response->status = 200;
    response->body = orphan_json(entry);
}


static void
orphan_handle_delete(const api_request_t *request, api_response_t *response)
{
    hatch_err_t  err;

    if (orphan_delete(request->config, request->id, &err) != 0) {
        api_fail(response, &err, "orphan_not_found");
        return;
    }

    response->status = 204;
}


const api_endpoint_t  api_orphan_endpoints[] = {
    { "GET", "/orphans", API_WORK, API_BODY_NONE, orphan_handle_list,
      orphan_arguments },
    { "GET", "/orphans/{id}", API_WORK, API_BODY_NONE, orphan_handle_get,
      NULL },
    { "DELETE", "/orphans/{id}", API_WORK, API_BODY_NONE,
      orphan_handle_delete, NULL },
    { NULL, NULL, API_DIRECT, API_BODY_NONE, NULL, NULL }
};
