/* Our metadata in a domain: what libvirt has no place for. */

#define _GNU_SOURCE

#include "virt_cleanup.h"
#include "xml_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>


static void
xml_add(xml_attributes_t *a, const char *name, const char *value)
{
    a->name[a->n] = name;
    a->value[a->n++] = value;
}


static void
xml_add_number(xml_attributes_t *a, const char *name, int64_t n)
{
    (void) snprintf(a->text[a->n], XML_VALUE_SIZE, "%" PRId64, n);
    xml_add(a, name, a->text[a->n]);
}


static void
xml_add_timeout(xml_attributes_t *a, const char *name, int64_t ms)
{
    if (ms == VM_NEVER) {
        xml_add(a, name, "never");
    } else {
        xml_add_number(a, name, ms);
    }
}


void
xml_attributes(const vm_t *vm, xml_attributes_t *a)
{
    a->n = 0;

    xml_add(a, "id", vm->id);
    xml_add(a, "name", vm->name);
    xml_add(a, "image_id", vm->image_id);
    xml_add(a, "template_id", vm->template_id);
    xml_add_number(a, "disk_mib", vm->disk_mib);
    xml_add_number(a, "enable_network", vm->enable_network != 0);
    xml_add_number(a, "seed", vm->has_seed != 0);
    xml_add_number(a, "created", (int64_t) vm->created);
    xml_add_number(a, "updated", (int64_t) vm->updated);
    xml_add_timeout(a, "idle_timeout", vm->idle_timeout);
    xml_add_timeout(a, "save_after", vm->save_after);
    xml_add_timeout(a, "park_after", vm->park_after);
    xml_add_number(a, "autostart", vm->autostart != 0);
    xml_add(a, "memory", vm_memory_name(vm->memory));
    xml_add(a, "boot_args", vm->boot_args);

    if (vm->enable_network) {
        (void) inet_ntop(AF_INET, &vm->guest_ip, a->text[a->n],
                         XML_VALUE_SIZE);
        xml_add(a, "guest_ip", a->text[a->n]);
        xml_add(a, "guest_mac", vm->guest_mac);
    }
}


void
xml_write_attributes(xmlTextWriterPtr w, const vm_t *vm)
{
    unsigned          i;
    xml_attributes_t  a;

    xml_attributes(vm, &a);

    for (i = 0; i < a.n; i++) {
        (void) xmlTextWriterWriteAttribute(w, BAD_CAST a.name[i],
                                           BAD_CAST a.value[i]);
    }
}


char *
xml_metadata(const vm_t *vm)
{
    xmlBufferPtr      buffer;
    xmlTextWriterPtr  w = xml_open(&buffer);

    if (w == NULL) {
        return NULL;
    }

    xml_begin(w, "vm", NULL);
    xml_write_attributes(w, vm);
    xml_end(w);

    return xml_close(w, buffer);
}


/* "never" is -1. */
static int
xml_get_timeout(xmlNodePtr node, const char *name, int64_t *ms)
{
    char      text[XML_VALUE_SIZE];
    uint64_t  n;

    if (xml_get_string(node, name, text, sizeof(text)) == 0
        && strcmp(text, "never") == 0)
    {
        *ms = VM_NEVER;
        return 0;
    }

    if (xml_get_number(node, name, INT64_MAX, &n) != 0) {
        return -1;
    }

    *ms = (int64_t) n;

    return 0;
}


/* Domains of before have none. */
static int
xml_get_autostart(xmlNodePtr node, int *autostart)
{
    uint64_t  n = 0;

    if (xmlHasProp(node, BAD_CAST "autostart") != NULL
        && xml_get_number(node, "autostart", 1, &n) != 0)
    {
        return -1;
    }

    *autostart = n != 0;

    return 0;
}


/* Domains of before have none. */
static int
xml_get_memory(xmlNodePtr node, vm_t *vm)
{
    char  text[XML_VALUE_SIZE];

    vm->memory = VM_MEMORY_CLASSIC;
    vm->park_after = VM_NEVER;

    if (xmlHasProp(node, BAD_CAST "memory") == NULL) {
        return 0;
    }

    return xml_get_string(node, "memory", text, sizeof(text)) == 0
           && vm_memory_parse(text, &vm->memory) == 0
           && xml_get_timeout(node, "park_after", &vm->park_after) == 0
           ? 0 : -1;
}


/* NULL, or the name of the attribute that is not as we write it. */
static const char *
xml_read_attributes(xmlNodePtr node, vm_t *vm)
{
    uint64_t  disk = 0, network = 0, seed = 0;

    if (xml_get_string(node, "name", vm->name, sizeof(vm->name)) != 0) {
        return "name";
    }

    if (xml_get_string(node, "image_id", vm->image_id, sizeof(vm->image_id))
        != 0)
    {
        return "image_id";
    }

    if (xml_get_string(node, "template_id", vm->template_id,
                       sizeof(vm->template_id)) != 0)
    {
        return "template_id";
    }

    if (xml_get_number(node, "disk_mib", CONFIG_DISK_MAX, &disk) != 0
        || xml_get_number(node, "enable_network", 1, &network) != 0
        || xml_get_number(node, "seed", 1, &seed) != 0)
    {
        return "disk_mib, enable_network or seed";
    }

    if (xml_get_number(node, "created", INT64_MAX, &vm->created) != 0
        || xml_get_number(node, "updated", INT64_MAX, &vm->updated) != 0)
    {
        return "created or updated";
    }

    if (xml_get_timeout(node, "idle_timeout", &vm->idle_timeout) != 0
        || xml_get_timeout(node, "save_after", &vm->save_after) != 0
        || xml_get_memory(node, vm) != 0)
    {
        return "idle_timeout, save_after, memory or park_after";
    }

    if (xml_get_autostart(node, &vm->autostart) != 0) {
        return "autostart";
    }

    if (network && (xml_get_ip(node, "guest_ip", &vm->guest_ip) != 0
                    || xml_get_string(node, "guest_mac", vm->guest_mac,
                                      sizeof(vm->guest_mac)) != 0))
    {
        return "guest_ip or guest_mac";
    }

    if (xml_get_string(node, "boot_args", vm->boot_args,
                       sizeof(vm->boot_args)) != 0)
    {
        return "boot_args";
    }

    vm->disk_mib = (unsigned) disk;
    vm->enable_network = network != 0;
    vm->has_seed = seed != 0;

    return NULL;
}


int
xml_read_metadata(const char *text, vm_t *vm, hatch_err_t *err)
{
    char                      id[HATCH_ID_SIZE];
    xmlNodePtr                node;
    const char               *bad;
    cleanup_xmldoc xmlDocPtr  doc = xml_parse(text);

    node = doc != NULL ? xmlDocGetRootElement(doc) : NULL;

    /* domains of before have none; theirs is their name */
    if (node != NULL && xml_get_string(node, "id", id, sizeof(id)) == 0
        && strcmp(id, vm->id) != 0)
    {
        return hatch_err_set(err, HATCH_ERR_NOT_FOUND, "domain %s has the "
                             "metadata of %s, it is no VM of Hatch's", vm->id,
                             id);
    }

    bad = node != NULL && xmlStrcmp(node->name, BAD_CAST "vm") == 0
          ? xml_read_attributes(node, vm) : "vm";

    return bad == NULL
           ? 0 : hatch_err_set(err, HATCH_ERR_CORRUPT, "the metadata of "
                               "domain %s is not Hatch's: %s", vm->id, bad);
}
