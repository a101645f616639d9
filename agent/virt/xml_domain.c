/* Domains: the XML of a new one, our metadata in it, changes to it. */

#define _GNU_SOURCE

#include "virt_cleanup.h"
#include "xml_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


/* --- our metadata: what libvirt has no place for --- */

#define XML_ATTRIBUTES  15
#define XML_VALUE_SIZE  24


/* The attributes of our element, and room for their text. */
typedef struct {
    const char  *name[XML_ATTRIBUTES];
    const char  *value[XML_ATTRIBUTES];
    char         text[XML_ATTRIBUTES][XML_VALUE_SIZE];
    unsigned     n;
} xml_attributes_t;


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


static void
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
    xml_add(a, "boot_args", vm->boot_args);

    if (vm->enable_network) {
        (void) inet_ntop(AF_INET, &vm->guest_ip, a->text[a->n],
                         XML_VALUE_SIZE);
        xml_add(a, "guest_ip", a->text[a->n]);
        xml_add(a, "guest_mac", vm->guest_mac);
    }
}


static void
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
        || xml_get_timeout(node, "save_after", &vm->save_after) != 0)
    {
        return "idle_timeout or save_after";
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


/* --- a new domain --- */

/* Slots on the root complex; 0 is the host bridge, 1f the chipset. */
#define XML_SLOT_NETWORK  "0x02"
#define XML_SLOT_DISK     "0x03"
#define XML_SLOT_SEED     "0x04"
#define XML_SLOT_SERIAL   "0x05"


static void
xml_write_metadata(xmlTextWriterPtr w, const vm_t *vm)
{
    xml_begin(w, "metadata", NULL);
    (void) xmlTextWriterStartElementNS(w, BAD_CAST XML_PREFIX, BAD_CAST "vm",
                                       BAD_CAST XML_NAMESPACE);
    xml_write_attributes(w, vm);
    xml_end(w);
    xml_end(w);
}


static void
xml_write_os(xmlTextWriterPtr w, const vm_t *vm, const xml_domain_t *domain)
{
    xml_begin(w, "os", NULL);

    if (strcmp(domain->type, "test") == 0) {
        xml_text(w, "type", "hvm");

    } else {
        xml_begin(w, "type", "arch", "x86_64", "machine", "q35", NULL);
        (void) xmlTextWriterWriteString(w, BAD_CAST "hvm");
        xml_end(w);
    }

    if (domain->kernel_path[0] != '\0') {
        xml_text(w, "kernel", domain->kernel_path);

        if (domain->initrd_path[0] != '\0') {
            xml_text(w, "initrd", domain->initrd_path);
        }

        if (vm->boot_args[0] != '\0') {
            xml_text(w, "cmdline", vm->boot_args);
        }

    } else {
        xml_empty(w, "boot", "dev", "hd");
    }

    xml_end(w);
}


/*
 * A place on the root complex itself.  libvirt would put each device behind a
 * root port of its own, for hotplug; firmware and kernel take 0.1 s for each.
 */
static void
xml_write_slot(xmlTextWriterPtr w, const xml_domain_t *domain,
    const char *slot)
{
    if (strcmp(domain->type, "test") != 0) {
        xml_begin(w, "address", "type", "pci", "domain", "0x0000", "bus",
                  "0x00", "slot", slot, NULL);
        (void) xmlTextWriterWriteAttribute(w, BAD_CAST "function",
                                           BAD_CAST "0x0");
        xml_end(w);
    }
}


/* A format for each layer: nothing is ever probed. */
static void
xml_write_disk(xmlTextWriterPtr w, const xml_domain_t *domain)
{
    xml_begin(w, "disk", "type", "file", "device", "disk", NULL);
    xml_begin(w, "driver", "name", "qemu", "type", "qcow2", "discard",
              "unmap", NULL);
    xml_end(w);
    xml_empty(w, "source", "file", domain->disk_path);

    if (domain->base_path[0] != '\0') {
        xml_begin(w, "backingStore", "type", "file", NULL);
        xml_empty(w, "format", "type", domain->base_format);
        xml_empty(w, "source", "file", domain->base_path);
        xml_begin(w, "backingStore", NULL);
        xml_end(w);
        xml_end(w);

    } else {
        xml_begin(w, "backingStore", NULL);
        xml_end(w);
    }

    xml_begin(w, "target", "dev", "vda", "bus", "virtio", NULL);
    xml_end(w);
    xml_write_slot(w, domain, XML_SLOT_DISK);
    xml_end(w);
}


/* A disk rather than a CD-ROM: cloud kernels have no driver for more. */
static void
xml_write_seed(xmlTextWriterPtr w, const xml_domain_t *domain)
{
    xml_begin(w, "disk", "type", "file", "device", "disk", NULL);
    xml_begin(w, "driver", "name", "qemu", "type", "raw", NULL);
    xml_end(w);
    xml_empty(w, "source", "file", domain->seed_path);
    xml_begin(w, "backingStore", NULL);
    xml_end(w);
    xml_begin(w, "target", "dev", "vdb", "bus", "virtio", NULL);
    xml_end(w);
    xml_begin(w, "readonly", NULL);
    xml_end(w);
    xml_write_slot(w, domain, XML_SLOT_SEED);
    xml_end(w);
}


/* The way to the QEMU guest agent, which sets the clock after a wake. */
static void
xml_write_agent(xmlTextWriterPtr w, const xml_domain_t *domain)
{
    xml_begin(w, "controller", "type", "virtio-serial", NULL);
    xml_write_slot(w, domain, XML_SLOT_SERIAL);
    xml_end(w);

    xml_begin(w, "channel", "type", "unix", NULL);
    xml_begin(w, "target", "type", "virtio", "name",
              "org.qemu.guest_agent.0", NULL);
    xml_end(w);
    xml_end(w);
}


/*
 * Few devices: each costs time at every boot.  No USB, no ROM on the network
 * card (we never boot from it), no balloon.
 */
static void
xml_write_devices(xmlTextWriterPtr w, const vm_t *vm,
    const xml_domain_t *domain)
{
    xml_begin(w, "devices", NULL);

    if (strcmp(domain->type, "test") != 0) {
        xml_begin(w, "controller", "type", "usb", "model", "none", NULL);
        xml_end(w);
        xml_empty(w, "serial", "type", "pty");
        xml_empty(w, "memballoon", "model", "none");
        xml_write_agent(w, domain);
    }

    if (vm->disk_mib != 0) {
        xml_write_disk(w, domain);
    }

    if (vm->has_seed) {
        xml_write_seed(w, domain);
    }

    if (vm->enable_network) {
        xml_begin(w, "interface", "type", "network", NULL);
        xml_empty(w, "mac", "address", vm->guest_mac);
        xml_empty(w, "source", "network", domain->network);
        xml_empty(w, "model", "type", "virtio");
        xml_empty(w, "rom", "enabled", "no");
        xml_write_slot(w, domain, XML_SLOT_NETWORK);
        xml_end(w);
    }

    xml_end(w);
}


/*
 * With KVM the host's processor.  In software QEMU's own, with what x86-64-v2
 * asks for beyond it: systems that are built for that panic without.  It is
 * no Intel model: a kernel that believes in one guards against Meltdown, and
 * each system call of the guest takes twice as long.  All is named, so that
 * saved memory finds the same processor in another version of QEMU.
 */
static void
xml_write_cpu(xmlTextWriterPtr w, const xml_domain_t *domain)
{
    size_t  i;

    static const char *const  features[] = {
        "cx16", "lahf_lm", "pni", "popcnt", "sse4.1", "sse4.2", "ssse3"
    };

    if (strcmp(domain->type, "kvm") == 0) {
        xml_empty(w, "cpu", "mode", "host-model");

    } else if (strcmp(domain->type, "qemu") == 0) {
        xml_begin(w, "cpu", "mode", "custom", "match", "exact", NULL);
        xml_begin(w, "model", "fallback", "forbid", NULL);
        (void) xmlTextWriterWriteString(w, BAD_CAST "qemu64");
        xml_end(w);

        for (i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
            xml_begin(w, "feature", "policy", "require", "name", features[i],
                      NULL);
            xml_end(w);
        }

        xml_end(w);
    }
}


char *
xml_domain(const vm_t *vm, const xml_domain_t *domain)
{
    char              number[16];
    xmlBufferPtr      buffer;
    xmlTextWriterPtr  w = xml_open(&buffer);

    if (w == NULL) {
        return NULL;
    }

    xml_begin(w, "domain", "type", domain->type, NULL);
    xml_text(w, "name", vm->id);

    /* a new one after each restore: the guest then reseeds its entropy */
    if (strcmp(domain->type, "test") != 0) {
        xml_begin(w, "genid", NULL);
        xml_end(w);
    }

    xml_write_metadata(w, vm);

    (void) snprintf(number, sizeof(number), "%u", vm->mem_mib);
    xml_begin(w, "memory", "unit", "MiB", NULL);
    (void) xmlTextWriterWriteString(w, BAD_CAST number);
    xml_end(w);

    (void) snprintf(number, sizeof(number), "%u", vm->vcpu_count);
    xml_text(w, "vcpu", number);

    xml_write_os(w, vm, domain);

    xml_begin(w, "features", NULL);
    xml_begin(w, "acpi", NULL);
    xml_end(w);
    xml_end(w);

    xml_write_cpu(w, domain);
    xml_empty(w, "clock", "offset", "utc");
    xml_text(w, "on_poweroff", "destroy");
    xml_text(w, "on_reboot", "restart");
    xml_text(w, "on_crash", "destroy");

    /* a guest that suspends itself is asleep, and nobody here was asked */
    xml_begin(w, "pm", NULL);
    xml_empty(w, "suspend-to-mem", "enabled", "no");
    xml_empty(w, "suspend-to-disk", "enabled", "no");
    xml_end(w);

    xml_write_devices(w, vm, domain);

    return xml_close(w, buffer);
}


/* --- changes to one --- */

/* Replaces the text of a child element, where there is one. */
static void
xml_set_text(xmlNodePtr parent, const char *name, const char *text)
{
    xmlNodePtr  node = xml_child(parent, name);

    if (node != NULL) {
        xmlNodeSetContent(node, BAD_CAST text);
    }
}


static void
xml_set_attributes(xmlNodePtr root, const vm_t *vm)
{
    unsigned          i;
    xmlNodePtr        node;
    xml_attributes_t  a;

    node = xml_child(xml_child(root, "metadata"), "vm");

    if (node == NULL) {
        return;
    }

    xml_attributes(vm, &a);

    for (i = 0; i < a.n; i++) {
        (void) xmlSetProp(node, BAD_CAST a.name[i], BAD_CAST a.value[i]);
    }
}


char *
xml_edit_domain(const char *text, const vm_t *vm)
{
    int                       size;
    char                      number[16], *copy = NULL;
    xmlChar                  *out = NULL;
    xmlNodePtr                root;
    cleanup_xmldoc xmlDocPtr  doc = xml_parse(text);

    root = doc != NULL ? xmlDocGetRootElement(doc) : NULL;

    if (root == NULL) {
        return NULL;
    }

    /* libvirt writes KiB */
    (void) snprintf(number, sizeof(number), "%u", vm->mem_mib * 1024u);
    xml_set_text(root, "memory", number);
    xml_set_text(root, "currentMemory", number);

    (void) snprintf(number, sizeof(number), "%u", vm->vcpu_count);
    xml_set_text(root, "vcpu", number);

    (void) xmlUnsetProp(xml_child(root, "vcpu"), BAD_CAST "current");
    xml_set_attributes(root, vm);

    xmlDocDumpMemory(doc, &out, &size);

    if (out != NULL) {
        copy = strdup((const char *) out);
        xmlFree(out);
    }

    return copy;
}


char *
xml_memory_snapshot(const char *path, int has_disk, int has_seed)
{
    xmlBufferPtr      buffer;
    xmlTextWriterPtr  w = xml_open(&buffer);

    if (w == NULL) {
        return NULL;
    }

    xml_begin(w, "domainsnapshot", NULL);
    xml_begin(w, "memory", "snapshot", "external", "file", path, NULL);
    xml_end(w);
    xml_begin(w, "disks", NULL);

    if (has_disk) {
        xml_begin(w, "disk", "name", "vda", "snapshot", "no", NULL);
        xml_end(w);
    }

    if (has_seed) {
        xml_begin(w, "disk", "name", "vdb", "snapshot", "no", NULL);
        xml_end(w);
    }

    xml_end(w);
    xml_end(w);

    return xml_close(w, buffer);
}
