/* What was last known of each VM: state_dir/vms. */

#define _GNU_SOURCE

#include "orphan.h"
#include "orphan_private.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/text.h"
#include "table/table.h"

#include "hatch_json.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


#define NOTE_SUFFIX  ".json"
#define NOTE_MAX     4096


/* Who writes or removes a note: nobody else waits for it. */
static pthread_mutex_t  note_lock = PTHREAD_MUTEX_INITIALIZER;


static void
note_path(const config_t *config, const char *vm, char *path)
{
    statedir_path(config, ORPHAN_FOLDER, vm, NOTE_SUFFIX, path);
}


json_object *
orphan_note(const config_t *config, const char *vm)
{
    char                 path[STATEDIR_PATH];
    size_t               len;
    hatch_err_t          err;
    json_object         *note = NULL;
    cleanup_free char   *text = NULL;

    note_path(config, vm, path);

    if (text_read(path, NOTE_MAX, &text, &len, &err) != 0
        || hatch_json_parse(text, len, &note, &err) != 0)
    {
        return json_object_new_object();
    }

    return note;
}


/*
 * Only of a VM that is there, or has a note already: one that is being deleted
 * is out of the table first, then its note goes, and must not come back.
 */
static void
note_write(const config_t *config, const char *vm, json_object *note)
{
    int          rc = 0;
    char         path[STATEDIR_PATH];
    const char  *text;
    hatch_err_t  err;

    note_path(config, vm, path);
    text = json_object_to_json_string_ext(note, STATEDIR_JSON);

    pthread_mutex_lock(&note_lock);

    if (table_has(vm) || access(path, F_OK) == 0) {
        rc = statedir_write(path, text, strlen(text), &err);
    }

    pthread_mutex_unlock(&note_lock);

    if (rc != 0) {
        log_event(LOG_WARN, "%s: its name and address are not noted: %s", vm,
                  err.text);
    }
}


static json_object *
note_make(const vm_t *vm)
{
    char          ip[INET_ADDRSTRLEN];
    json_object  *note = json_object_new_object();

    (void) json_object_object_add(note, "name",
                                  json_object_new_string(vm->name));

    if (vm->enable_network && vm->guest_ip.s_addr != 0) {
        (void) inet_ntop(AF_INET, &vm->guest_ip, ip, sizeof(ip));
        (void) json_object_object_add(note, "guest_ip",
                                      json_object_new_string(ip));
        (void) json_object_object_add(note, "guest_mac",
                                      json_object_new_string(vm->guest_mac));
    }

    return note;
}


/* VMs that are gone are not in it, so that they are looked at when back. */
void
orphan_note_vms(const config_t *config)
{
    size_t                i, n;
    json_object          *next, *known;
    cleanup_free vm_t    *vms = NULL;

    static json_object  *noted;         /* id to what its note says */

    if (table_list(&vms, &n) != 0) {
        return;
    }

    next = json_object_new_object();

    for (i = 0; i < n; i++) {
        cleanup_json json_object  *note = note_make(&vms[i]), *old = NULL;

        if (noted == NULL
            || !json_object_object_get_ex(noted, vms[i].id, &known))
        {
            old = orphan_note(config, vms[i].id);
            known = old;
        }

        if (!json_object_equal(known, note)) {
            note_write(config, vms[i].id, note);
        }

        (void) json_object_object_add(next, vms[i].id, take(note));
    }

    json_object_put(noted);
    noted = next;
}


void
orphan_note_gone(const config_t *config, const char *vm, int64_t since)
{
    cleanup_json json_object  *note = orphan_note(config, vm);

    if (!json_object_object_get_ex(note, "gone", NULL)) {
        (void) json_object_object_add(note, "gone",
                                      json_object_new_int64(since));
        note_write(config, vm, note);
    }
}


void
orphan_forget(const config_t *config, const char *vm)
{
    char         path[STATEDIR_PATH];
    hatch_err_t  err;

    note_path(config, vm, path);

    pthread_mutex_lock(&note_lock);
    (void) statedir_unlink(path, &err);
    pthread_mutex_unlock(&note_lock);
}
