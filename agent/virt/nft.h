/*
 * Messages to the kernel's nf_tables, as many as are to take effect at once.
 *
 * Straight over netlink: it costs a system call where nft(8) costs a process,
 * and it needs nothing that a host may not have.
 */

#ifndef HATCH_AGENT_NFT_H_INCLUDED
#define HATCH_AGENT_NFT_H_INCLUDED

#include <stddef.h>
#include <stdint.h>


/* Begins as all zeroes, except for fd; data is freed by nft_commit(). */
typedef struct {
    int       fd;
    char     *data;
    size_t    used;
    size_t    size;
    size_t    message;              /* where the last message begins */
    uint32_t  sequence;
    unsigned  failed:1;             /* no memory */
} nft_batch_t;


/* A socket for batches, or for listening; -1 with errno. */
int nft_open(int listens);

/* Begins a message about a table of the bridge family; NFT_MSG_*, NLM_F_*. */
void nft_message(nft_batch_t *batch, unsigned type, unsigned flags,
    const char *table);

/* Attributes of the last message. */
void nft_put(nft_batch_t *batch, unsigned type, const void *data, size_t len);
void nft_text(nft_batch_t *batch, unsigned type, const char *text);
void nft_number(nft_batch_t *batch, unsigned type, uint32_t n);

/* Attributes in an attribute: nft_end() takes what nft_begin() returned. */
size_t nft_begin(nft_batch_t *batch, unsigned type);
void nft_end(nft_batch_t *batch, size_t begun);

/*
 * Sends all of it: it is done as a whole or not at all.  0, or an errno: EPERM
 * without CAP_NET_ADMIN, ENOENT if what it is about is not there.
 */
int nft_commit(nft_batch_t *batch);

/*
 * What a listening socket got: 1 if it says that somebody else took something
 * away from this table (or that messages were lost), else 0.
 */
int nft_heard_deletion(int fd, int own, const char *table);

#endif /* HATCH_AGENT_NFT_H_INCLUDED */
