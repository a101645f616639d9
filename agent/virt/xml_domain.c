/* Domains: the XML of a new one, and changes to it. */

#define _GNU_SOURCE

#include "spoof.h"
#include "virt_cleanup.h"
#include "xml_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>


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


/* Its port has a name before it is there: the rules are by name (spoof.h). */
static void
xml_write_interface(xmlTextWriterPtr w, const vm_t *vm,
    const xml_domain_t *domain)
{
    char  port[IFNAMSIZ];

    spoof_port(vm->guest_ip, port);

    xml_begin(w, "interface", "type", "network", NULL);
    xml_empty(w, "mac", "address", vm->guest_mac);
    xml_empty(w, "source", "network", domain->network);
    xml_empty(w, "target", "dev", port);
    xml_empty(w, "model", "type", "virtio");

    if (domain->isolated) {
        xml_empty(w, "port", "isolated", "yes");
    }

    xml_empty(w, "rom", "enabled", "no");
    xml_write_slot(w, domain, XML_SLOT_NETWORK);
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
        xml_write_interface(w, vm, domain);
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


/* The interface with the VM's MAC; NULL if there is none. */
static xmlNodePtr
xml_find_interface(xmlNodePtr root, const vm_t *vm)
{
    char        mac[VM_MAC_SIZE];
    xmlNodePtr  node = xml_child(root, "devices");

    for (node = node != NULL ? node->children : NULL; node != NULL;
         node = node->next)
    {
        if (node->type == XML_ELEMENT_NODE
            && xmlStrcmp(node->name, BAD_CAST "interface") == 0
            && xml_get_string(xml_child(node, "mac"), "address", mac,
                              sizeof(mac)) == 0
            && strcasecmp(mac, vm->guest_mac) == 0)
        {
            break;
        }
    }

    return node;
}


/* The child element with that name, which is made if it is not there. */
static xmlNodePtr
xml_make_child(xmlNodePtr parent, const char *name)
{
    xmlNodePtr  node = xml_child(parent, name);

    return node != NULL ? node
                        : xmlNewChild(parent, NULL, BAD_CAST name, NULL);
}


static void
xml_set_interface(xmlNodePtr root, const vm_t *vm, int isolated)
{
    char        port[IFNAMSIZ];
    xmlNodePtr  node = xml_find_interface(root, vm);

    if (!vm->enable_network || node == NULL) {
        return;
    }

    spoof_port(vm->guest_ip, port);
    (void) xmlSetProp(xml_make_child(node, "target"), BAD_CAST "dev",
                      BAD_CAST port);

    if (isolated || xml_child(node, "port") != NULL) {
        (void) xmlSetProp(xml_make_child(node, "port"), BAD_CAST "isolated",
                          BAD_CAST (isolated ? "yes" : "no"));
    }
}


char *
xml_edit_domain(const char *text, const vm_t *vm, int isolated)
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
    xml_set_interface(root, vm, isolated);

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
