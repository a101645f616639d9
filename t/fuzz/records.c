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

/* What is read and shown of each; of the others there is nothing. */
static const struct {
    const char   *folder;
    const char   *id;
    int         (*open)(const config_t *config, hatch_err_t *err);
    records_t    *records;
    const char   *shown[2];
} kinds[] = {
    { "templates", ID("tpl_"), template_open, &templates,
      { "/templates", "/templates/" ID("tpl_") } },
    { "images", ID("img_"), image_open, &images,
      { "/images", "/images/" ID("img_") } },
    { "snapshots", ID("snap_"), snapshot_open, &snapshots,
      { "/vms/" ID("vm_") "/snapshots", "/snapshots/" ID("snap_") } },
    { "pending", ID("vm_"), pending_open, NULL, { NULL, NULL } }
};

#define KINDS  (sizeof(kinds) / sizeof(kinds[0]))


int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    vm_t             vm;
    size_t           i;
    hatch_err_t      err;
    const config_t  *config = kit_config();

    (void) argc;
    (void) argv;

    if (table_open(config, &err) != 0 || statedir_open(config, &err) != 0) {
        kit_failed(__FILE__, __LINE__, err.text);
    }

    for (i = 0; i < KINDS; i++) {
        kit_must(kinds[i].open(config, &err) == 0);
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


/* Nothing is loaded of this kind. */
static void
forget(unsigned kind)
{
    records_t  *records = kinds[kind].records;

    if (records != NULL) {
        json_object_put(records->all);
        records->all = json_object_new_object();

    } else {
        json_object_put(pending.begun);
        json_object_put(pending.abandoned);
        pending.begun = json_object_new_object();
        pending.abandoned = json_object_new_object();
    }
}


/* As a start does, in whose place the objects of the time before are freed. */
static void
load(unsigned kind)
{
    hatch_err_t   err;
    records_t    *records = kinds[kind].records;
    json_object  *before[2] = { pending.begun, pending.abandoned };

    if (records != NULL) {
        before[0] = records->all;
        before[1] = NULL;
        (void) pthread_mutex_destroy(&records->lock);
        (void) pthread_mutex_destroy(&records->write);
    }

    kit_must(kinds[kind].open(kit_config(), &err) == 0);
    json_object_put(before[0]);
    json_object_put(before[1]);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char      name[64];
    size_t    i;
    unsigned  kind;

    if (size == 0) {
        return 0;
    }

    kind = data[0] % KINDS;
    (void) snprintf(name, sizeof(name), "state-dir/%s/%s.json",
                    kinds[kind].folder, kinds[kind].id);
    kit_write(name, data + 1, size - 1);

    load(kind);

    if (kinds[kind].records == &snapshots) {
        snapshot_report(kit_config());
    }

    for (i = 0; i < 2 && kinds[kind].shown[i] != NULL; i++) {
        get(kinds[kind].shown[i]);
    }

    use();

    kit_unlink(name);
    forget(kind);

    return 0;
}
