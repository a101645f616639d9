/* What libvirt says that QEMU can do (virConnectGetDomainCapabilities()). */

#ifndef HATCH_AGENT_XML_CAPABILITIES_H_INCLUDED
#define HATCH_AGENT_XML_CAPABILITIES_H_INCLUDED


typedef struct {
    char  emulator[256];            /* QEMU's path */
    char  machine[64];              /* "pc-q35-7.2" */
} xml_capabilities_t;


/* 0, or -1 if it is not that. */
int xml_read_capabilities(const char *text, xml_capabilities_t *capabilities);

#endif /* HATCH_AGENT_XML_CAPABILITIES_H_INCLUDED */
