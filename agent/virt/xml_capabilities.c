#define _GNU_SOURCE

#include "xml_capabilities.h"
#include "xml_private.h"
#include "virt_cleanup.h"

#include <stdio.h>


/* -1: there is no such element, or nothing in it. */
static int
xml_get_content(xmlNodePtr root, const char *name, char *to, size_t size)
{
    xmlChar  *text = xmlNodeGetContent(xml_child(root, name));

    (void) snprintf(to, size, "%s", text != NULL ? (const char *) text : "");
    xmlFree(text);

    return to[0] != '\0' ? 0 : -1;
}


int
xml_read_capabilities(const char *text, xml_capabilities_t *capabilities)
{
    xmlNodePtr                root;
    cleanup_xmldoc xmlDocPtr  doc = xml_parse(text);

    root = doc != NULL ? xmlDocGetRootElement(doc) : NULL;

    return root != NULL
           && xml_get_content(root, "path", capabilities->emulator,
                              sizeof(capabilities->emulator)) == 0
           && xml_get_content(root, "machine", capabilities->machine,
                              sizeof(capabilities->machine)) == 0 ? 0 : -1;
}
