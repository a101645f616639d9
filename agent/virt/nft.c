#define _GNU_SOURCE

#include "nft.h"
#include "netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>


/* A batch of four thousand VMs is one message to the socket. */
#define NFT_SEND_MAX     (8 * 1024 * 1024)
#define NFT_RECEIVE_MAX  (256 * 1024)

/* All messages about tables begin their attributes with the table's name. */
#define NFT_TABLE  1


int
nft_open(int listens)
{
    int                 fd, size = listens ? NFT_RECEIVE_MAX : NFT_SEND_MAX;
    int                 group = NFNLGRP_NFTABLES;
    struct sockaddr_nl  address = { .nl_family = AF_NETLINK };

    fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
                NETLINK_NETFILTER);
    if (fd == -1) {
        return -1;
    }

    (void) setsockopt(fd, SOL_SOCKET,
                      listens ? SO_RCVBUFFORCE : SO_SNDBUFFORCE, &size,
                      sizeof(size));

    if (bind(fd, (struct sockaddr *) &address, sizeof(address)) == -1
        || (listens && setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP,
                                  &group, sizeof(group)) == -1))
    {
        (void) close(fd);
        return -1;
    }

    return fd;
}


/* Room for len more bytes, aligned and zeroed; NULL without memory. */
static void *
nft_grow(nft_batch_t *batch, size_t len)
{
    char    *data;
    size_t   size = batch->size, used = NLMSG_ALIGN(len);

    while (batch->used + used > size) {
        size = size == 0 ? 4096 : size * 2;
    }

    if (size != batch->size) {
        data = realloc(batch->data, size);

        if (data == NULL) {
            batch->failed = 1;
            return NULL;
        }

        batch->data = data;
        batch->size = size;
    }

    data = batch->data + batch->used;
    memset(data, 0, used);
    batch->used += used;

    return data;
}


static void
nft_header(nft_batch_t *batch, unsigned type, unsigned flags, int family,
    uint16_t resource)
{
    size_t            begin = batch->used;
    struct nlmsghdr  *header;
    struct nfgenmsg  *message;

    header = nft_grow(batch, sizeof(*header) + sizeof(*message));

    if (header != NULL) {
        message = NLMSG_DATA(header);
        header->nlmsg_type = (uint16_t) type;
        header->nlmsg_flags = (uint16_t) (NLM_F_REQUEST | flags);
        header->nlmsg_seq = batch->sequence++;
        header->nlmsg_len = (uint32_t) (batch->used - begin);
        message->nfgen_family = (uint8_t) family;
        message->version = NFNETLINK_V0;
        message->res_id = htons(resource);
        batch->message = begin;
    }
}


void
nft_message(nft_batch_t *batch, unsigned type, unsigned flags,
    const char *table)
{
    if (batch->used == 0) {
        nft_header(batch, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC,
                   NFNL_SUBSYS_NFTABLES);
    }

    nft_header(batch, NFNL_SUBSYS_NFTABLES << 8 | type, flags,
               NFPROTO_BRIDGE, 0);
    nft_text(batch, NFT_TABLE, table);
}


/* The message is as long as what has been written of it. */
static void
nft_measure(nft_batch_t *batch)
{
    uint32_t  len = (uint32_t) (batch->used - batch->message);

    memcpy(batch->data + batch->message, &len, sizeof(len));
}


void
nft_put(nft_batch_t *batch, unsigned type, const void *data, size_t len)
{
    struct nlattr  *attr = nft_grow(batch, NLA_HDRLEN + len);

    if (attr != NULL) {
        attr->nla_type = (uint16_t) type;
        attr->nla_len = (uint16_t) (NLA_HDRLEN + len);
        memcpy((char *) attr + NLA_HDRLEN, data, len);
        nft_measure(batch);
    }
}


void
nft_text(nft_batch_t *batch, unsigned type, const char *text)
{
    nft_put(batch, type, text, strlen(text) + 1);
}


void
nft_number(nft_batch_t *batch, unsigned type, uint32_t n)
{
    n = htonl(n);
    nft_put(batch, type, &n, sizeof(n));
}


size_t
nft_begin(nft_batch_t *batch, unsigned type)
{
    size_t  begun = batch->used;

    nft_put(batch, type | NLA_F_NESTED, "", 0);

    return begun;
}


void
nft_end(nft_batch_t *batch, size_t begun)
{
    uint16_t  len = (uint16_t) (batch->used - begun);

    if (!batch->failed) {
        memcpy(batch->data + begun, &len, sizeof(len));
    }
}


/* The kernel has answered before send() returns: the first error, or 0. */
static int
nft_answers(int fd)
{
    int               n, rc = 0;
    char              buffer[16384];
    struct nlmsghdr  *header;
    struct nlmsgerr  *error;

    while ((n = (int) recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0) {
        for (header = (struct nlmsghdr *) buffer; netlink_ok(header, n);
             header = NLMSG_NEXT(header, n))
        {
            error = NLMSG_DATA(header);

            if (header->nlmsg_type == NLMSG_ERROR && rc == 0) {
                rc = -error->error;
            }
        }
    }

    return rc;
}


int
nft_commit(nft_batch_t *batch)
{
    int                 rc = 0;
    struct sockaddr_nl  kernel = { .nl_family = AF_NETLINK };

    nft_header(batch, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);

    (void) nft_answers(batch->fd);      /* nothing of before */

    if (batch->failed) {
        rc = ENOMEM;

    } else if (sendto(batch->fd, batch->data, batch->used, 0,
                      (struct sockaddr *) &kernel, sizeof(kernel)) == -1)
    {
        rc = errno;

    } else {
        rc = nft_answers(batch->fd);
    }

    free(batch->data);
    batch->data = NULL;
    batch->used = 0;
    batch->size = 0;

    return rc;
}


/* A deletion in this table, by somebody else? */
static int
nft_is_deletion(const struct nlmsghdr *header, uint32_t own,
    const char *table)
{
    const char           *name;
    const struct nlattr  *attr;

    switch (header->nlmsg_type) {
    case NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE:
    case NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELCHAIN:
    case NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELRULE:
    case NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELSET:
    case NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELSETELEM:
        break;

    default:
        return 0;
    }

    attr = (const void *) ((const char *) NLMSG_DATA(header)
                           + sizeof(struct nfgenmsg));
    name = (const char *) attr + NLA_HDRLEN;

    return header->nlmsg_pid != own
           && ((const struct nfgenmsg *) NLMSG_DATA(header))->nfgen_family
              == NFPROTO_BRIDGE
           && header->nlmsg_len >= NLMSG_LENGTH(sizeof(struct nfgenmsg))
                                   + NLA_HDRLEN + strlen(table) + 1
           && (attr->nla_type & NLA_TYPE_MASK) == NFT_TABLE
           && strcmp(name, table) == 0;
}


int
nft_heard_deletion(int fd, int own, const char *table)
{
    int                 n, heard = 0;
    char                buffer[65536];
    socklen_t           size = sizeof(struct sockaddr_nl);
    struct nlmsghdr    *header;
    struct sockaddr_nl  self = { .nl_pid = 0 };

    (void) getsockname(own, (struct sockaddr *) &self, &size);

    for ( ;; ) {
        n = (int) recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);

        if (n == -1 && errno == ENOBUFS) {
            heard = 1;                  /* too many to tell */
            continue;
        }

        if (n <= 0) {
            return heard;
        }

        for (header = (struct nlmsghdr *) buffer; netlink_ok(header, n);
             header = NLMSG_NEXT(header, n))
        {
            heard |= nft_is_deletion(header, self.nl_pid, table);
        }
    }
}
