/*
 * Scope-bound cleanup: a variable declared with one of these gives back what
 * it holds when its scope ends.  All tolerate NULL; take() hands ownership
 * out and leaves NULL behind.
 */

#ifndef HATCH_AGENT_CLEANUP_H_INCLUDED
#define HATCH_AGENT_CLEANUP_H_INCLUDED

#include <json-c/json.h>
#include <libvirt/libvirt.h>
#include <libxml/tree.h>
#include <stdlib.h>


#define cleanup_free     __attribute__((cleanup(cleanup_free_p)))
#define cleanup_json     __attribute__((cleanup(cleanup_json_p)))
#define cleanup_conn     __attribute__((cleanup(cleanup_conn_p)))
#define cleanup_domain   __attribute__((cleanup(cleanup_domain_p)))
#define cleanup_network  __attribute__((cleanup(cleanup_network_p)))
#define cleanup_xmldoc   __attribute__((cleanup(cleanup_xmldoc_p)))

#define take(p)  ({ __typeof__(p) taken_ = (p); (p) = NULL; taken_; })


static inline void
cleanup_free_p(void *p)
{
    free(*(void **) p);
}


static inline void
cleanup_json_p(json_object **p)
{
    json_object_put(*p);
}


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

#endif /* HATCH_AGENT_CLEANUP_H_INCLUDED */
