/* Which disks a domain has, beside those that the agent gave it. */

#define _GNU_SOURCE

#include "xml.h"
#include "virt_cleanup.h"
#include "xml_private.h"

#include <string.h>


/* The file of a <source>, or "". */
static void
disks_file(xmlNodePtr disk, char *path, size_t size)
{
    if (xml_get_string(xml_child(disk, "source"), "file", path, size) != 0) {
        path[0] = '\0';
    }
}


/* Is this file one of the layers below the disk? */
static int
disks_is_below(xmlNodePtr disk, const char *wanted)
{
    char        path[1024];
    xmlNodePtr  layer = xml_child(disk, "backingStore");

    while (layer != NULL) {
        disks_file(layer, path, sizeof(path));

        if (strcmp(path, wanted) == 0) {
            return 1;
        }

        layer = xml_child(layer, "backingStore");
    }

    return 0;
}


/* A disk that a guest may write to, and that is not `ours`. */
static int
disks_look(xmlNodePtr disk, const char *ours, xml_other_disk_t *other)
{
    char  device[16];

    if (xml_get_string(disk, "device", device, sizeof(device)) == 0
        && strcmp(device, "disk") != 0 && strcmp(device, "lun") != 0)
    {
        return 0;
    }

    disks_file(disk, other->path, sizeof(other->path));

    if (xml_child(disk, "readonly") != NULL
        || strcmp(other->path, ours) == 0)
    {
        return 0;
    }

    if (xml_get_string(xml_child(disk, "target"), "dev", other->target,
                       sizeof(other->target))
        != 0)
    {
        other->target[0] = '?';
        other->target[1] = '\0';
    }

    other->is_layer = disks_is_below(disk, ours);

    return 1;
}


int
xml_other_disk(const char *text, const char *ours, xml_other_disk_t *other)
{
    int                       found = 0;
    xmlNodePtr                node;
    cleanup_xmldoc xmlDocPtr  doc = xml_parse(text);

    if (doc == NULL) {
        return -1;
    }

    node = xml_child(xmlDocGetRootElement(doc), "devices");

    for (node = node != NULL ? node->children : NULL; node != NULL && !found;
         node = node->next)
    {
        if (node->type == XML_ELEMENT_NODE
            && xmlStrcmp(node->name, BAD_CAST "disk") == 0)
        {
            found = disks_look(node, ours, other);
        }
    }

    return found;
}


int
xml_each_disk(const char *text, int (*each)(void *ctx, const char *path),
    void *ctx)
{
    int                       rc = 0;
    char                      path[1024];
    xmlNodePtr                node;
    cleanup_xmldoc xmlDocPtr  doc = xml_parse(text);

    if (doc == NULL) {
        return -1;
    }

    node = xml_child(xmlDocGetRootElement(doc), "devices");

    for (node = node != NULL ? node->children : NULL; node != NULL && rc == 0;
         node = node->next)
    {
        if (node->type != XML_ELEMENT_NODE
            || xmlStrcmp(node->name, BAD_CAST "disk") != 0
            || xml_child(node, "readonly") != NULL)
        {
            continue;
        }

        disks_file(node, path, sizeof(path));
        rc = path[0] != '\0' ? each(ctx, path) : 0;
    }

    return rc;
}
