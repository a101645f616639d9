/*
 * Scope-bound cleanup of what libvirt and libxml2 give (core/cleanup.h).
 */

#ifndef HATCH_AGENT_VIRT_CLEANUP_H_INCLUDED
#define HATCH_AGENT_VIRT_CLEANUP_H_INCLUDED

#include <libvirt/libvirt.h>
#include <libxml/tree.h>

#include "core/cleanup.h"


#define cleanup_conn     __attribute__((cleanup(cleanup_conn_p)))
#define cleanup_domain   __attribute__((cleanup(cleanup_domain_p)))
#define cleanup_network  __attribute__((cleanup(cleanup_network_p)))
#define cleanup_xmldoc   __attribute__((cleanup(cleanup_xmldoc_p)))


static inline void
cleanup_conn_p(virConnectPtr *p)
{
    if (*p != NULL) {
        (void) virConnectClose(*p);
    }
}


static inline void
cleanup_domain_p(virDomainPtr *p)
{
    if (*p != NULL) {
        (void) virDomainFree(*p);
    }
}


static inline void
cleanup_network_p(virNetworkPtr *p)
{
    if (*p != NULL) {
        (void) virNetworkFree(*p);
    }
}


static inline void
cleanup_xmldoc_p(xmlDocPtr *p)
{
    if (*p != NULL) {
        xmlFreeDoc(*p);
    }
}

#endif /* HATCH_AGENT_VIRT_CLEANUP_H_INCLUDED */
