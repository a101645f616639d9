/* What both parts share, and the network.  xml_domain.c has the domain. */

#define _GNU_SOURCE

#include "virt_cleanup.h"
#include "xml_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <libxml/parser.h>
#include <libxml/xmlwriter.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>


/* --- writing --- */

void
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


void
xml_end(xmlTextWriterPtr w)
{
    (void) xmlTextWriterEndElement(w);
}


void
xml_text(xmlTextWriterPtr w, const char *element, const char *text)
{
    (void) xmlTextWriterWriteElement(w, BAD_CAST element, BAD_CAST text);
}


void
xml_empty(xmlTextWriterPtr w, const char *element, const char *name,
    const char *value)
{
    xml_begin(w, element, name, value, NULL);
    xml_end(w);
}


xmlTextWriterPtr
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


char *
xml_close(xmlTextWriterPtr w, xmlBufferPtr buffer)
{
    char  *text;

    (void) xmlTextWriterEndDocument(w);
    xmlFreeTextWriter(w);

    text = strdup((const char *) xmlBufferContent(buffer));
    xmlBufferFree(buffer);

    return text;
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

xmlDocPtr
xml_parse(const char *text)
{
    return xmlReadMemory(text, (int) strlen(text), NULL, NULL,
                         XML_PARSE_NONET | XML_PARSE_NOERROR
                         | XML_PARSE_NOWARNING);
}


int
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


int
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


int
xml_get_ip(xmlNodePtr node, const char *name, struct in_addr *ip)
{
    char  text[INET_ADDRSTRLEN];

    return xml_get_string(node, name, text, sizeof(text)) == 0
           && inet_pton(AF_INET, text, ip) == 1 ? 0 : -1;
}


xmlNodePtr
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

    if (xml_get_ip(ip, "address", &network->gateway) != 0) {
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


/* The first <ip> that is IPv4; NULL if there is none. */
static xmlNodePtr
xml_find_ip(xmlNodePtr root, xml_network_t *network)
{
    xmlNodePtr  node;

    for (node = root != NULL ? root->children : NULL; node != NULL;
         node = node->next)
    {
        if (node->type != XML_ELEMENT_NODE
            || xmlStrcmp(node->name, BAD_CAST "ip") != 0)
        {
            continue;
        }

        if (xml_read_ip(node, network) == 0) {
            return node;
        }

        network->index++;
    }

    return NULL;
}


/* What else there is to know: the bridge, and who made it. */
static void
xml_read_bridge(xmlNodePtr root, xmlNodePtr ip, xml_network_t *network)
{
    char  mode[16] = "", stp[8] = "";

    (void) xml_get_string(xml_child(root, "bridge"), "name", network->bridge,
                          sizeof(network->bridge));
    (void) xml_get_string(xml_child(root, "mac"), "address", network->mac,
                          sizeof(network->mac));
    (void) xml_get_string(xml_child(root, "forward"), "mode", mode,
                          sizeof(mode));
    (void) xml_get_string(xml_child(root, "bridge"), "stp", stp, sizeof(stp));

    /* libvirt's default is STP, and a range for DHCP */
    network->ours = strcmp(mode, "nat") == 0 && strcmp(stp, "off") == 0
                    && xml_child(xml_child(ip, "dhcp"), "range") == NULL;
}


static int
xml_read_hosts(xmlNodePtr dhcp, xml_network_t *network, hatch_err_t *err)
{
    xmlNodePtr     node;
    vm_address_t  *host;

    for (node = dhcp != NULL ? dhcp->children : NULL; node != NULL;
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


int
xml_read_network(const char *text, xml_network_t *network, hatch_err_t *err)
{
    xmlNodePtr                root, ip;
    cleanup_xmldoc xmlDocPtr  doc = xml_parse(text);

    memset(network, 0, sizeof(*network));

    root = doc != NULL ? xmlDocGetRootElement(doc) : NULL;
    ip = xml_find_ip(root, network);

    if (ip == NULL) {
        return hatch_err_set(err, HATCH_ERR_CONFLICT, "the network has no "
                             "IPv4 address; define it otherwise, or name "
                             "another in \"network_name\"");
    }

    xml_read_bridge(root, ip, network);

    return xml_read_hosts(xml_child(ip, "dhcp"), network, err);
}


/* What an attribute of <source>, or the text of an element, names. */
static int
xml_call_file(xmlChar *path, int (*each)(void *ctx, const char *path),
    void *ctx)
{
    int  rc = 0;

    if (path != NULL && path[0] == '/') {
        rc = each(ctx, (const char *) path);
    }

    xmlFree(path);

    return rc;
}


static int
xml_walk_files(xmlNodePtr node, int (*each)(void *ctx, const char *path),
    void *ctx)
{
    int     rc = 0;
    size_t  i;

    static const char *const  texts[] = {
        "kernel", "initrd", "loader", "nvram", "emulator"
    };

    for ( /* void */ ; node != NULL && rc == 0; node = node->next) {
        if (node->type != XML_ELEMENT_NODE) {
            continue;
        }

        if (xmlStrcmp(node->name, BAD_CAST "source") == 0) {
            rc = xml_call_file(xmlGetProp(node, BAD_CAST "file"), each, ctx);

            if (rc == 0) {
                rc = xml_call_file(xmlGetProp(node, BAD_CAST "dev"), each,
                                   ctx);
            }
        }

        for (i = 0; rc == 0 && i < sizeof(texts) / sizeof(texts[0]); i++) {
            if (xmlStrcmp(node->name, BAD_CAST texts[i]) == 0) {
                rc = xml_call_file(xmlNodeGetContent(node), each, ctx);
            }
        }

        if (rc == 0) {
            rc = xml_walk_files(node->children, each, ctx);
        }
    }

    return rc;
}


int
xml_each_file(const char *text, int (*each)(void *ctx, const char *path),
    void *ctx)
{
    cleanup_xmldoc xmlDocPtr  doc = xml_parse(text);

    return doc != NULL ? xml_walk_files(xmlDocGetRootElement(doc), each, ctx)
                       : -1;
}


/* <secmodel> has <model>dac</model> and <baselabel type='kvm'>+64055:+64055 */
int
xml_read_qemu_user(const char *text, uid_t *uid, gid_t *gid)
{
    int                       rc = -1;
    unsigned                  u, g;
    xmlChar                  *model, *label;
    xmlNodePtr                node;
    cleanup_xmldoc xmlDocPtr  doc = xml_parse(text);

    node = doc != NULL ? xml_child(xmlDocGetRootElement(doc), "host") : NULL;

    for (node = node != NULL ? node->children : NULL; node != NULL && rc != 0;
         node = node->next)
    {
        if (node->type != XML_ELEMENT_NODE
            || xmlStrcmp(node->name, BAD_CAST "secmodel") != 0)
        {
            continue;
        }

        model = xmlNodeGetContent(xml_child(node, "model"));
        label = xmlNodeGetContent(xml_child(node, "baselabel"));

        if (model != NULL && label != NULL
            && xmlStrcmp(model, BAD_CAST "dac") == 0
            && sscanf((const char *) label, "+%u:+%u", &u, &g) == 2)
        {
            *uid = u;
            *gid = g;
            rc = 0;
        }

        xmlFree(model);
        xmlFree(label);
    }

    return rc;
}
