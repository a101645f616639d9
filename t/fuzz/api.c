/*
 * libFuzzer: METHOD TARGET, a line feed, and a body, through the agent's own
 * table of endpoints.  There is no libvirt, so what gets past all rules ends
 * as 503; images and templates need none, and are made.
 */

#define _GNU_SOURCE

#include "kit.h"
#include "api/api.h"
#include "store/image.h"
#include "store/pending.h"
#include "store/statedir.h"
#include "store/template.h"
#include "table/table.h"
#include "vm/snapshot.h"

#include "hatch_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define A  "aaaaaaaaaaaaaaaa"

/* One of each is there. */
static void
make_records(void)
{
    char    name[64];
    size_t  i;

    static const char *const  records[][2] = {
        { "templates/tpl_" A, "{\"id\":\"tpl_" A "\",\"name\":\"t\"}" },
        { "images/img_" A, "{\"id\":\"img_" A "\",\"kernel_path\":\"/k\"}" },
        { "snapshots/snap_" A, "{\"id\":\"snap_" A "\",\"vm_id\":\"vm_" A
          "\"}" }
    };

    for (i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        (void) snprintf(name, sizeof(name), "state-dir/%s.json",
                        records[i][0]);
        kit_write(name, records[i][1], strlen(records[i][1]));
    }
}


int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    vm_t             vm;
    hatch_err_t      err;
    const config_t  *config = kit_config();

    (void) argc;
    (void) argv;

    kit_must(statedir_open(config, &err) == 0);
    make_records();

    if (table_open(config, &err) != 0
        || image_open(config, &err) != 0 || template_open(config, &err) != 0
        || snapshot_open(config, &err) != 0 || pending_open(config, &err) != 0)
    {
        kit_failed(__FILE__, __LINE__, err.text);
    }

    memset(&vm, 0, sizeof(vm));
    memcpy(vm.id, "vm_" A, HATCH_ID_VM_SIZE);
    memcpy(vm.name, "web", 4);
    kit_must(table_observe(&vm, HATCH_STATE_STOPPED, 0) == 1);
    table_publish();

    return 0;
}


static void
check_error(const api_response_t *response)
{
    char         copy[sizeof(((hatch_err_t *) NULL)->text)];
    const char  *text = hatch_json_string(response->body, "error", "");

    kit_must(text[0] != '\0' && strlen(text) < sizeof(copy));
    kit_must(hatch_json_string(response->body, "code", "")[0] != '\0');
    memcpy(copy, text, strlen(text) + 1);
    hatch_err_utf8(copy);
    kit_must(strcmp(copy, text) == 0);
}


/* Sends it; what was made is deleted again, for the next input. */
static unsigned
ask(const char *method, char *target, const char *body, size_t len)
{
    char            made[sizeof(((api_response_t *) NULL)->location)];
    unsigned        status;
    api_head_t      head;
    api_response_t  response;

    memset(&head, 0, sizeof(head));
    memset(&response, 0, sizeof(response));

    if (api_head(&head, method, target, len, 0, &response) == 0) {
        api_handle(kit_config(), &head, body, len, &response);
    }

    status = response.status;
    kit_must(status >= 200 && status < 600 && status != 500);
    kit_must(response.body != NULL);
    kit_must(json_object_to_json_string(response.body) != NULL);

    if (status >= 400) {
        check_error(&response);
    }

    memcpy(made, response.location, sizeof(made));
    json_object_put(response.body);

    if (status == 201) {
        kit_must(made[0] == '/');
        kit_must(ask("DELETE", made, "", 0) == 200);
    }

    return status;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char  *text = kit_text(data, size), *body, *target;

    body = strchr(text, '\n');
    target = strchr(text, ' ');

    if (body != NULL && target != NULL && target < body) {
        *body++ = '\0';
        *target++ = '\0';

        /* what was there at the beginning stays */
        if (strcmp(text, "DELETE") != 0 || strstr(target, "aaaaaaaa") == NULL) {
            (void) ask(text, target, body, (size_t) (text + size - body));
        }
    }

    free(text);

    return 0;
}
