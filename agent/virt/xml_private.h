/* What xml.c and xml_domain.c share; nobody else. */

#ifndef HATCH_AGENT_XML_PRIVATE_H_INCLUDED
#define HATCH_AGENT_XML_PRIVATE_H_INCLUDED

#include <libxml/tree.h>
#include <libxml/xmlwriter.h>
#include <stdint.h>

#include "xml.h"


/* A writer into memory; NULL if there is none. */
xmlTextWriterPtr xml_open(xmlBufferPtr *buffer);

/* Ends and frees both; the text, or NULL without memory. */
char *xml_close(xmlTextWriterPtr w, xmlBufferPtr buffer);

/* Element and attributes: name, value, ..., NULL.  Values are escaped. */
void xml_begin(xmlTextWriterPtr w, const char *element, ...)
    __attribute__((sentinel));
void xml_end(xmlTextWriterPtr w);

/* An element with text in it. */
void xml_text(xmlTextWriterPtr w, const char *element, const char *text);

/* An empty element with one attribute. */
void xml_empty(xmlTextWriterPtr w, const char *element, const char *name,
    const char *value);


xmlDocPtr xml_parse(const char *text);

/* The first child element of that name; node may be NULL. */
xmlNodePtr xml_child(xmlNodePtr node, const char *name);

/* An attribute's value.  0, or -1 if it is not there or breaks the rule. */
int xml_get_string(xmlNodePtr node, const char *name, char *to, size_t size);
int xml_get_number(xmlNodePtr node, const char *name, uint64_t max,
    uint64_t *n);
int xml_get_ip(xmlNodePtr node, const char *name, struct in_addr *ip);


/* --- xml_metadata.c --- */

#define XML_ATTRIBUTES  24
#define XML_VALUE_SIZE  24


/* The attributes of our element, and room for their text. */
typedef struct {
    const char  *name[XML_ATTRIBUTES];
    const char  *value[XML_ATTRIBUTES];
    char         text[XML_ATTRIBUTES][XML_VALUE_SIZE];
    unsigned     n;
} xml_attributes_t;


/* What our element says of a VM; a's values are valid as long as vm and a. */
void xml_attributes(const vm_t *vm, xml_attributes_t *a);

/* The same into the element that was begun. */
void xml_write_attributes(xmlTextWriterPtr w, const vm_t *vm);

#endif /* HATCH_AGENT_XML_PRIVATE_H_INCLUDED */
