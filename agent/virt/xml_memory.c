/* A domain whose memory is an image: what libvirt's XML has no words for. */

#define _GNU_SOURCE

#include "virt_cleanup.h"
#include "xml_private.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>


#define XML_QEMU  "http://libvirt.org/schemas/domain/qemu/1.0"

/* The name of the memory in QEMU. */
#define XML_MEMORY_ID   "hatchram"
#define XML_MEMORY_USE  "memory-backend=" XML_MEMORY_ID


/* libvirt's "qemu:commandline", made if there is none. */
static xmlNodePtr
xml_commandline(xmlNodePtr root)
{
    xmlNsPtr    ns;
    xmlNodePtr  node;

    for (node = root->children; node != NULL; node = node->next) {
        if (node->type == XML_ELEMENT_NODE && node->ns != NULL
            && xmlStrcmp(node->ns->href, BAD_CAST XML_QEMU) == 0
            && xmlStrcmp(node->name, BAD_CAST "commandline") == 0)
        {
            return node;
        }
    }

    ns = xmlSearchNsByHref(root->doc, root, BAD_CAST XML_QEMU);
    ns = ns != NULL ? ns : xmlNewNs(root, BAD_CAST XML_QEMU, BAD_CAST "qemu");

    return xmlNewChild(root, ns, BAD_CAST "commandline", NULL);
}


static void
xml_add_argument(xmlNodePtr line, const char *value)
{
    xmlNodePtr  node = xmlNewChild(line, line->ns, BAD_CAST "arg", NULL);

    (void) xmlNewProp(node, BAD_CAST "value", BAD_CAST value);
}


static int
xml_is_ours(xmlNodePtr node)
{
    size_t              i;
    int                 found = 0;
    xmlChar            *value;

    static const char *const  ours[] = {
        XML_MEMORY_USE, "migration.send-configuration=off", "defer"
    };

    value = xmlGetProp(node, BAD_CAST "value");

    for (i = 0; value != NULL && i < sizeof(ours) / sizeof(ours[0]); i++) {
        found |= strcmp((const char *) value, ours[i]) == 0;
    }

    found |= value != NULL
             && strstr((const char *) value, "\"" XML_MEMORY_ID "\"") != NULL;
    xmlFree(value);

    return found;
}


/* What an earlier start of this domain had: each an option and its value. */
static void
xml_remove_ours(xmlNodePtr line)
{
    xmlNodePtr  node, next, before = NULL;

    for (node = line->children; node != NULL; node = next) {
        next = node->next;

        if (node->type != XML_ELEMENT_NODE) {
            continue;
        }

        if (before != NULL && xml_is_ours(node)) {
            xmlUnlinkNode(before);
            xmlFreeNode(before);
            xmlUnlinkNode(node);
            xmlFreeNode(node);
            before = NULL;

        } else {
            before = node;
        }
    }
}


static void
xml_add_memory(xmlNodePtr line, const char *file, uint64_t bytes)
{
    json_object  *backend = json_object_new_object();

#define ADD(name, value)  (void) json_object_object_add(backend, name, value)

    ADD("qom-type", json_object_new_string("memory-backend-file"));
    ADD("id", json_object_new_string(XML_MEMORY_ID));
    ADD("size", json_object_new_int64((int64_t) bytes));
    ADD("mem-path", json_object_new_string(file));
    ADD("share", json_object_new_boolean(0));

#undef ADD

    xml_add_argument(line, "-object");
    xml_add_argument(line, json_object_to_json_string_ext(backend,
                                            JSON_C_TO_STRING_PLAIN
                                            | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(backend);

    xml_add_argument(line, "-machine");
    xml_add_argument(line, XML_MEMORY_USE);

    /* what loads the devices' state asks for the same as what saved it */
    xml_add_argument(line, "-global");
    xml_add_argument(line, "migration.send-configuration=off");
}


/* The guest sees another one, and reseeds what it draws random numbers from. */
static void
xml_renew_genid(xmlNodePtr root)
{
    char        text[37];
    uint16_t    n[8];
    xmlNodePtr  node = xml_child(root, "genid");

    if (node == NULL || getrandom(n, sizeof(n), 0) != sizeof(n)) {
        return;
    }

    /* a random UUID (RFC 9562, version 4) */
    (void) snprintf(text, sizeof(text), "%04x%04x-%04x-%04x-%04x-%04x%04x%04x",
                    n[0], n[1], n[2], (n[3] & 0x0fffu) | 0x4000u,
                    (n[4] & 0x3fffu) | 0x8000u, n[5], n[6], n[7]);
    xmlNodeSetContent(node, BAD_CAST text);
}


char *
xml_with_memory(const char *text, const char *file, uint64_t bytes,
    int incoming)
{
    int                       size;
    char                     *copy = NULL;
    xmlChar                  *out = NULL;
    xmlNodePtr                root, line;
    cleanup_xmldoc xmlDocPtr  doc = xml_parse(text);

    root = doc != NULL ? xmlDocGetRootElement(doc) : NULL;

    if (root == NULL) {
        return NULL;
    }

    line = xml_commandline(root);
    xml_remove_ours(line);
    xml_add_memory(line, file, bytes);

    if (incoming) {
        xml_add_argument(line, "-incoming");
        xml_add_argument(line, "defer");
        xml_renew_genid(root);
    }

    xmlDocDumpMemory(doc, &out, &size);

    if (out != NULL) {
        copy = strdup((const char *) out);
        xmlFree(out);
    }

    return copy;
}


const char *
xml_no_image(const char *text)
{
    xmlNodePtr                root, node;
    const char               *found = NULL;
    cleanup_xmldoc xmlDocPtr  doc = xml_parse(text);

    root = doc != NULL ? xmlDocGetRootElement(doc) : NULL;

    if (root == NULL) {
        return "its definition cannot be read";
    }

    if (xml_child(root, "memoryBacking") != NULL) {
        found = "<memoryBacking>";      /* huge pages, locked, shared */

    } else if (xml_child(root, "launchSecurity") != NULL) {
        found = "<launchSecurity>";

    } else if (xml_child(root, "maxMemory") != NULL) {
        found = "memory that can be plugged in";
    }

    node = xml_child(root, "devices");

    for (node = node != NULL ? node->children : NULL;
         node != NULL && found == NULL; node = node->next)
    {
        char  model[32] = "";

        if (node->type != XML_ELEMENT_NODE) {
            continue;
        }

        if (xmlStrcmp(node->name, BAD_CAST "memballoon") == 0) {
            (void) xml_get_string(node, "model", model, sizeof(model));
            found = strcmp(model, "none") == 0 ? NULL : "a memory balloon";

        } else if (xmlStrcmp(node->name, BAD_CAST "memory") == 0) {
            found = "memory that is plugged in";

        } else if (xmlStrcmp(node->name, BAD_CAST "hostdev") == 0) {
            found = "a device of the host";

        } else if (xmlStrcmp(node->name, BAD_CAST "filesystem") == 0) {
            found = "a file system of the host";

        } else if (xmlStrcmp(node->name, BAD_CAST "interface") == 0) {
            (void) xml_get_string(node, "type", model, sizeof(model));
            found = strcmp(model, "vhostuser") == 0
                    || strcmp(model, "hostdev") == 0 ? "such a network" : NULL;
        }
    }

    return found;
}
