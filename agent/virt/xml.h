/*
 * The XML that goes to libvirt and comes back: domains with our metadata,
 * and the network.  libxml2 writes and reads it, so nothing that a client
 * sends can become markup.  Pure functions: no libvirt calls.
 */

#ifndef HATCH_AGENT_XML_H_INCLUDED
#define HATCH_AGENT_XML_H_INCLUDED

#include <netinet/in.h>

#include "hatch_err.h"
#include "table/table.h"


/* The namespace of our element in a domain's <metadata>. */
#define XML_NAMESPACE  "https://hatch.invalid/xmlns/vm/1"
#define XML_PREFIX     "hatch"


/* What the domain XML needs beside the VM. */
typedef struct {
    const char  *type;              /* "kvm", "qemu", "test" */
    const char  *network;
    int          isolated;          /* its port, from all that are, too */
    const char  *kernel_path;       /* "": it boots from its disk */
    const char  *initrd_path;       /* "" for none */
    const char  *seed_path;         /* of the VM's seed, if it has one */
    const char  *disk_path;         /* of its overlay, if it has a disk */
    const char  *base_path;         /* of the image below it, "" for none */
    const char  *base_format;       /* "qcow2" or "raw" */
} xml_domain_t;


/* What we read of a network. */
typedef struct {
    struct in_addr  gateway;
    unsigned        prefix;
    int             index;          /* which <ip> that is */
    char            bridge[16];     /* "": none */
    char            mac[VM_MAC_SIZE];   /* the gateway's, "": not said */
    unsigned        ours:1;         /* it is as xml_network() makes it */
    unsigned        hosts;          /* in host[], which the caller frees */
    vm_address_t   *host;
} xml_network_t;


/* Each returns text that the caller frees, or NULL without memory. */
char *xml_domain(const vm_t *vm, const xml_domain_t *domain);
char *xml_metadata(const vm_t *vm);
char *xml_network(const char *name, const char *bridge,
    struct in_addr gateway, unsigned prefix);
char *xml_host(const char *mac, struct in_addr ip);

/* A libvirt snapshot of the memory alone, into a file. */
char *xml_memory_snapshot(const char *path, int has_disk, int has_seed);

/*
 * A domain's XML, as libvirt gives it, with our metadata, vCPUs, memory, and
 * the port of its network set to what vm and isolated say.  All else stays,
 * also what somebody added to it.
 */
char *xml_edit_domain(const char *text, const vm_t *vm, int isolated);

/*
 * A domain's XML with its memory a private mapping of file, of that many bytes;
 * incoming: for a QEMU that loads the state of its devices first.  What it had
 * of this before is replaced.  What the caller frees, or NULL.
 */
char *xml_with_memory(const char *text, const char *file, uint64_t bytes,
    int incoming);

/* Why this domain's memory cannot be an image, or NULL: it can. */
const char *xml_no_image(const char *text);

/* A disk that a guest can write to and the agent did not make. */
typedef struct {
    char      target[16];           /* "vdb" */
    char      path[1024];           /* of its file, "" if it is none */
    unsigned  is_layer:1;           /* the agent's disk is below it */
} xml_other_disk_t;

/*
 * Looks for one in a domain's XML; `ours` is the agent's disk, or "".  1 and
 * fills it, 0 if there is none, -1 if the XML cannot be read.
 */
int xml_other_disk(const char *text, const char *ours,
    xml_other_disk_t *other);

/*
 * Reads our metadata element, as virDomainGetMetadata() gives it, into vm
 * (whose id is set already; vCPUs and memory are libvirt's to say).
 * HATCH_ERR_CORRUPT if it is not what we write, HATCH_ERR_NOT_FOUND if it is
 * another VM's: the domain was renamed, or made from a copy of its XML.
 */
int xml_read_metadata(const char *text, vm_t *vm, hatch_err_t *err);

/* QEMU's user and group, of the host's capabilities.  0, or -1. */
int xml_read_qemu_user(const char *text, uid_t *uid, gid_t *gid);

/*
 * Calls each(ctx, path) for every file that a domain's XML names: disks and
 * what is below them, kernel, initrd, firmware, emulator; until it returns
 * non-zero, which is returned.  -1 if the XML cannot be read.
 */
int xml_each_file(const char *text, int (*each)(void *ctx, const char *path),
    void *ctx);

/*
 * The same for the uppermost file of every disk that the guest may write to.
 */
int xml_each_disk(const char *text, int (*each)(void *ctx, const char *path),
    void *ctx);

/*
 * The first IPv4 address of a network and its reservations.  HATCH_ERR_CONFLICT
 * if it has none.
 */
int xml_read_network(const char *text, xml_network_t *network,
    hatch_err_t *err);

#endif /* HATCH_AGENT_XML_H_INCLUDED */
