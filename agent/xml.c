#define _GNU_SOURCE

#include "xml.h"
#include "cleanup.h"

#include "hatch_id.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <libxml/parser.h>
#include <libxml/xmlwriter.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>


/* --- writing --- */

static void xml_begin(xmlTextWriterPtr w, const char *element, ...)
    __attribute__((sentinel));


/* Element and attributes: name, value, ..., NULL.  Values are escaped. */
static void
xml_begin(xmlTextWriterPtr w, const char *element, ...)
{
    va_list      args;
    const char  *name, *value;

    (void) xmlTextWriterStartElement(w, BAD_CAST element);

    va_start(args, element);

    while ((name = va_arg(args, const char *)) != NULL) {
        value = va_arg(args, const char *);
        (void) xmlTextWriterWriteAttribute(w, BAD_CAST name, BAD_CAST value);
    }

    va_end(args);
}


static void
xml_end(xmlTextWriterPtr w)
{
    (void) xmlTextWriterEndElement(w);
}


static void
xml_text(xmlTextWriterPtr w, const char *element, const char *text)
{
    (void) xmlTextWriterWriteElement(w, BAD_CAST element, BAD_CAST text);
}


/* An empty element with one attribute. */
static void
xml_empty(xmlTextWriterPtr w, const char *element, const char *name,
    const char *value)
{
    xml_begin(w, element, name, value, NULL);
    xml_end(w);
}


static void
xml_number(xmlTextWriterPtr w, const char *attribute, uint64_t n)
{
    (void) xmlTextWriterWriteFormatAttribute(w, BAD_CAST attribute,
                                             "%" PRIu64, n);
}


static xmlTextWriterPtr
xml_open(xmlBufferPtr *buffer)
{
    xmlTextWriterPtr  w;

    *buffer = xmlBufferCreate();
    if (*buffer == NULL) {
        return NULL;
    }

    w = xmlNewTextWriterMemory(*buffer, 0);
    if (w == NULL) {
        xmlBufferFree(*buffer);
    }

    return w;
}


static char *
xml_close(xmlTextWriterPtr w, xmlBufferPtr buffer)
{
    char  *text;

    (void) xmlTextWriterEndDocument(w);
    xmlFreeTextWriter(w);

    text = strdup((const char *) xmlBufferContent(buffer));
    xmlBufferFree(buffer);

    return text;
}


static void
xml_write_metadata(xmlTextWriterPtr w, const vm_t *vm)
{
    char  ip[INET_ADDRSTRLEN];

    xml_begin(w, "metadata", NULL);

    (void) xmlTextWriterStartElementNS(w, BAD_CAST XML_PREFIX, BAD_CAST "vm",
                                       BAD_CAST XML_NAMESPACE);
    (void) xmlTextWriterWriteAttribute(w, BAD_CAST "image_id",
                                       BAD_CAST vm->image_id);
    xml_number(w, "vcpu_count", vm->vcpu_count);
    xml_number(w, "mem_mib", vm->mem_mib);
    xml_number(w, "enable_network", vm->enable_network != 0);
    xml_number(w, "seed", vm->has_seed != 0);
    xml_number(w, "created", vm->created);
    xml_number(w, "updated", vm->updated);

    if (vm->enable_network) {
        (void) inet_ntop(AF_INET, &vm->guest_ip, ip, sizeof(ip));
        (void) xmlTextWriterWriteAttribute(w, BAD_CAST "guest_ip",
                                           BAD_CAST ip);
        (void) xmlTextWriterWriteAttribute(w, BAD_CAST "guest_mac",
                                           BAD_CAST vm->guest_mac);
    }

    (void) xmlTextWriterWriteAttribute(w, BAD_CAST "boot_args",
                                       BAD_CAST vm->boot_args);
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

    xml_text(w, "kernel", domain->kernel_path);

    if (domain->initrd_path[0] != '\0') {
        xml_text(w, "initrd", domain->initrd_path);
    }

    if (vm->boot_args[0] != '\0') {
        xml_text(w, "cmdline", vm->boot_args);
    }

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
    }

    if (vm->has_seed) {
        xml_begin(w, "disk", "type", "file", "device", "cdrom", NULL);
        xml_begin(w, "driver", "name", "qemu", "type", "raw", NULL);
        xml_end(w);
        xml_empty(w, "source", "file", domain->seed_path);
        xml_begin(w, "target", "dev", "sda", "bus", "sata", NULL);
        xml_end(w);
        xml_begin(w, "readonly", NULL);
        xml_end(w);
        xml_end(w);
    }

    if (vm->enable_network) {
        xml_begin(w, "interface", "type", "network", NULL);
        xml_empty(w, "mac", "address", vm->guest_mac);
        xml_empty(w, "source", "network", domain->network);
        xml_empty(w, "model", "type", "virtio");
        xml_empty(w, "rom", "enabled", "no");
        xml_end(w);
    }

    xml_end(w);
}


char *
xml_domain(const vm_t *vm, const xml_domain_t *domain)
{
    char              number[16];
    xmlBufferPtr      buffer;
    xmlTextWriterPtr  w;

    w = xml_open(&buffer);
    if (w == NULL) {
        return NULL;
    }

    xml_begin(w, "domain", "type", domain->type, NULL);
    xml_text(w, "name", vm->id);
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

    if (strcmp(domain->type, "kvm") == 0) {
        xml_empty(w, "cpu", "mode", "host-model");
    }

    xml_empty(w, "clock", "offset", "utc");
    xml_text(w, "on_poweroff", "destroy");
    xml_text(w, "on_reboot", "restart");
    xml_text(w, "on_crash", "destroy");

    xml_write_devices(w, vm, domain);

    return xml_close(w, buffer);
}


char *
xml_network(const char *name, const char *bridge, struct in_addr gateway,
    unsigned prefix)
{
    char              ip[INET_ADDRSTRLEN], number[16];
    xmlBufferPtr      buffer;
    xmlTextWriterPtr  w;

    w = xml_open(&buffer);
    if (w == NULL) {
        return NULL;
    }

    (void) inet_ntop(AF_INET, &gateway, ip, sizeof(ip));
    (void) snprintf(number, sizeof(number), "%u", prefix);

    xml_begin(w, "network", NULL);
    xml_text(w, "name", name);
    xml_empty(w, "forward", "mode", "nat");

    /* with STP a new port of the bridge is deaf for four seconds */
    xml_begin(w, "bridge", "name", bridge, "stp", "off", "delay", "0", NULL);
    xml_end(w);

    xml_begin(w, "ip", "address", ip, "prefix", number, NULL);
    xml_begin(w, "dhcp", NULL);
    xml_end(w);
    xml_end(w);
    xml_end(w);

    return xml_close(w, buffer);
}


char *
xml_host(const char *mac, struct in_addr ip)
{
    char              text[INET_ADDRSTRLEN];
    xmlBufferPtr      buffer;
    xmlTextWriterPtr  w;

    w = xml_open(&buffer);
    if (w == NULL) {
        return NULL;
    }

    (void) inet_ntop(AF_INET, &ip, text, sizeof(text));

    xml_begin(w, "host", "mac", mac, "ip", text, NULL);
    xml_end(w);

    return xml_close(w, buffer);
}


/* --- reading --- */

static xmlDocPtr
xml_parse(const char *text)
{
    return xmlReadMemory(text, (int) strlen(text), NULL, NULL,
                         XML_PARSE_NONET | XML_PARSE_NOERROR
                         | XML_PARSE_NOWARNING);
}


static int
xml_get_string(xmlNodePtr node, const char *name, char *to, size_t size)
{
    int       ok;
    xmlChar  *value;

    value = xmlGetNoNsProp(node, BAD_CAST name);
    if (value == NULL) {
        return -1;
    }

    ok = (size_t) xmlStrlen(value) < size;

    if (ok) {
        memcpy(to, value, (size_t) xmlStrlen(value) + 1);
    }

    xmlFree(value);

    return ok ? 0 : -1;
}


static int
xml_get_number(xmlNodePtr node, const char *name, uint64_t max, uint64_t *n)
{
    char                 text[32], *end;
    unsigned long long   value;

    if (xml_get_string(node, name, text, sizeof(text)) != 0) {
        return -1;
    }

    errno = 0;
    value = strtoull(text, &end, 10);

    if (errno != 0 || end == text || *end != '\0' || value > max) {
        return -1;
    }

    *n = value;

    return 0;
}


static int
xml_get_ip(xmlNodePtr node, const char *name, struct in_addr *ip)
{
    char  text[INET_ADDRSTRLEN];

    return xml_get_string(node, name, text, sizeof(text)) == 0
           && inet_pton(AF_INET, text, ip) == 1 ? 0 : -1;
}


int
xml_read_metadata(const char *text, vm_t *vm, hatch_err_t *err)
{
    uint64_t                  vcpus = 0, memory = 0, network = 0, seed = 0;
    xmlNodePtr                node;
    const char               *bad = NULL;
    cleanup_xmldoc xmlDocPtr  doc = xml_parse(text);

    node = doc != NULL ? xmlDocGetRootElement(doc) : NULL;

    if (node == NULL || xmlStrcmp(node->name, BAD_CAST "vm") != 0) {
        bad = "vm";

    } else if (xml_get_string(node, "image_id", vm->image_id,
                              sizeof(vm->image_id)) != 0)
    {
        bad = "image_id";

    } else if (xml_get_number(node, "vcpu_count", 1024, &vcpus) != 0) {
        bad = "vcpu_count";

    } else if (xml_get_number(node, "mem_mib", UINT32_MAX, &memory) != 0) {
        bad = "mem_mib";

    } else if (xml_get_number(node, "enable_network", 1, &network) != 0) {
        bad = "enable_network";

    } else if (xml_get_number(node, "seed", 1, &seed) != 0) {
        bad = "seed";

    } else if (xml_get_number(node, "created", UINT64_MAX, &vm->created) != 0
               || xml_get_number(node, "updated", UINT64_MAX, &vm->updated)
                  != 0)
    {
        bad = "created or updated";

    } else if (network && (xml_get_ip(node, "guest_ip", &vm->guest_ip) != 0
                           || xml_get_string(node, "guest_mac", vm->guest_mac,
                                             sizeof(vm->guest_mac)) != 0))
    {
        bad = "guest_ip or guest_mac";

    } else if (xml_get_string(node, "boot_args", vm->boot_args,
                              sizeof(vm->boot_args)) != 0)
    {
        bad = "boot_args";
    }

    if (bad != NULL) {
        return hatch_err_set(err, HATCH_ERR_CORRUPT, "the metadata of domain "
                             "%s is not Hatch's: %s", vm->id, bad);
    }

    vm->vcpu_count = (unsigned) vcpus;
    vm->mem_mib = (unsigned) memory;
    vm->enable_network = network != 0;
    vm->has_seed = seed != 0;

    return 0;
}


static xmlNodePtr
xml_child(xmlNodePtr node, const char *name)
{
    xmlNodePtr  child;

    for (child = node != NULL ? node->children : NULL; child != NULL;
         child = child->next)
    {
        if (child->type == XML_ELEMENT_NODE
            && xmlStrcmp(child->name, BAD_CAST name) == 0)
        {
            break;
        }
    }

    return child;
}


static int
xml_read_ip(xmlNodePtr ip, xml_network_t *network)
{
    uint64_t        prefix;
    struct in_addr  netmask;

    if (ip == NULL || xml_get_ip(ip, "address", &network->gateway) != 0) {
        return -1;
    }

    if (xml_get_number(ip, "prefix", 32, &prefix) == 0) {
        network->prefix = (unsigned) prefix;
        return 0;
    }

    if (xml_get_ip(ip, "netmask", &netmask) != 0) {
        return -1;
    }

    network->prefix = (unsigned) __builtin_popcount(netmask.s_addr);

    return 0;
}


int
xml_read_network(const char *text, xml_network_t *network, hatch_err_t *err)
{
    xmlNodePtr                ip, node;
    struct xml_host_s        *host;
    cleanup_xmldoc xmlDocPtr  doc = xml_parse(text);

    memset(network, 0, sizeof(*network));

    ip = xml_child(doc != NULL ? xmlDocGetRootElement(doc) : NULL, "ip");

    if (xml_read_ip(ip, network) != 0) {
        return hatch_err_set(err, HATCH_ERR_CONFLICT, "the network has no "
                             "IPv4 address; define it otherwise, or name "
                             "another in \"network_name\"");
    }

    node = xml_child(ip, "dhcp");

    for (node = node != NULL ? node->children : NULL; node != NULL;
         node = node->next)
    {
        if (node->type != XML_ELEMENT_NODE
            || xmlStrcmp(node->name, BAD_CAST "host") != 0)
        {
            continue;
        }

        host = reallocarray(network->host, network->hosts + 1,
                            sizeof(*host));
        if (host == NULL) {
            free(take(network->host));
            return hatch_err_errno(err, ENOMEM, "cannot read the network");
        }

        network->host = host;
        memset(&host[network->hosts], 0, sizeof(*host));

        if (xml_get_string(node, "mac", host[network->hosts].mac,
                           VM_MAC_SIZE) == 0
            && xml_get_ip(node, "ip", &host[network->hosts].ip) == 0)
        {
            network->hosts++;
        }
    }

    return 0;
}
