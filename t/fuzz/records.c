/*
 * libFuzzer: a file of a record or of a note as the state directory may have
 * it; the first byte says of what.  It is loaded as at a start, shown by the
 * API, and used.  What is loaded once is never freed, so this is compiled with
 * the files that hold it.
 */

#define _GNU_SOURCE

#include "store/image.c"
#include "store/pending.c"
#include "store/template.c"

#include "kit.h"
#include "api/api_vm.h"
#include "store/statedir.h"
#include "vm/snapshot.h"
#include "vm/snapshot_private.h"

#include <stdlib.h>


#define ID(prefix)  prefix "aaaaaaaaaaaaaaaa"
#define CANARY      "state-dir/templates/memory"

static const struct {
    const char  *folder;
    const char  *id;
} kinds[] = {
    { "templates", ID("tpl_") },
    { "images", ID("img_") },
    { "snapshots", ID("snap_") },
    { "pending", ID("vm_") }
};


int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    vm_t             vm;
    hatch_err_t      err;
    const config_t  *config = kit_config();

    (void) argc;
    (void) argv;

    if (table_open(config, &err) != 0 || statedir_open(config, &err) != 0) {
        kit_failed(__FILE__, __LINE__, err.text);
    }

    kit_write(CANARY, "", 0);
    memset(&vm, 0, sizeof(vm));
    memcpy(vm.id, ID("vm_"), sizeof(ID("vm_")));
    kit_must(table_observe(&vm, HATCH_STATE_STOPPED, 0) == 1);
    table_publish();

    return 0;
}


/* What GET says of it is JSON again. */
static void
get(const char *path)
{
    char            target[128];
    api_head_t      head;
    hatch_err_t     err;
    json_object    *again, *all;
    const char     *text;
    api_response_t  response;

    memset(&head, 0, sizeof(head));
    memset(&response, 0, sizeof(response));
    (void) snprintf(target, sizeof(target), "%s", path);

    kit_must(api_head(&head, "GET", target, 0, 0, &response) == 0);
    api_handle(kit_config(), &head, "", 0, &response);
    kit_must(response.status == 200 || response.status == 404);

    all = json_object_new_object();
    (void) json_object_object_add(all, "all", response.body);
    text = json_object_to_json_string(all);

    if (hatch_json_parse(text, strlen(text), &again, &err) == 0) {
        kit_must(json_object_equal(all, again));
        json_object_put(again);
    }

    json_object_put(all);
}


static void
use(void)
{
    char           mac[VM_MAC_SIZE];
    image_t        image;
    hatch_err_t    err;
    json_object   *fields = NULL, *body = json_object_new_object();
    vm_request_t   create;

    (void) json_object_object_add(body, "template_id",
                                  json_object_new_string(kinds[0].id));
    (void) api_vm_parse_create(kit_config(), body, &fields, &create, mac,
                               &err);
    json_object_put(fields);
    json_object_put(body);

    (void) image_find(kit_config(), kinds[1].id, &image, &err);

    body = json_object_new_object();
    snapshot_note_vms(body);
    json_object_put(body);
    body = pending_list();

    /* as recovery does */
    json_object_object_foreach(body, vm, note) {
        (void) vm;
        snapshot_delete_files(kit_config(),
                              hatch_json_string(note, "snapshot_id", ""));
    }

    json_object_put(body);
    kit_must(access(kit_path(CANARY), F_OK) == 0);
}


static void
forget(records_t *records)
{
    json_object_put(take(records->all));
    (void) pthread_mutex_destroy(&records->lock);
    (void) pthread_mutex_destroy(&records->write);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char             name[64];
    unsigned         kind;
    hatch_err_t      err;
    const config_t  *config = kit_config();

    if (size == 0) {
        return 0;
    }

    kind = data[0] % (sizeof(kinds) / sizeof(kinds[0]));
    (void) snprintf(name, sizeof(name), "state-dir/%s/%s.json",
                    kinds[kind].folder, kinds[kind].id);
    kit_write(name, data + 1, size - 1);

    kit_must(image_open(config, &err) == 0 && template_open(config, &err) == 0
             && snapshot_open(config, &err) == 0
             && pending_open(config, &err) == 0);
    snapshot_report(config);

    get("/templates");
    get("/templates/" ID("tpl_"));
    get("/images");
    get("/images/" ID("img_"));
    get("/vms/" ID("vm_") "/snapshots");
    get("/snapshots/" ID("snap_"));
    use();

    forget(&images);
    forget(&templates);
    forget(&snapshots);
    json_object_put(take(pending.begun));
    json_object_put(take(pending.abandoned));
    kit_unlink(name);

    return 0;
}
