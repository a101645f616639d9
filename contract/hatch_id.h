/*
 * Ids: a prefix that tells the kind ("vm_", "rt_", ...) and 16 characters of
 * a-z and 2-7, 80 random bits.  Both sides make them: the module route ids,
 * the agent all others.
 */

#ifndef HATCH_ID_H_INCLUDED
#define HATCH_ID_H_INCLUDED

#include <stddef.h>


#define HATCH_ID_RANDOM   16
#define HATCH_ID_SIZE     24    /* the longest prefix, 16 characters, NUL */

#define HATCH_ID_VM       "vm_"
#define HATCH_ID_ROUTE    "rt_"
#define HATCH_ID_IMAGE    "img_"
#define HATCH_ID_TEMPLATE "tpl_"
#define HATCH_ID_SNAPSHOT "snap_"

#define HATCH_LABEL_MAX   63    /* a DNS label */
#define HATCH_LABEL_SIZE  64
#define HATCH_LABEL_AUTO  12    /* characters of a subdomain that we choose */


/* Fills out with n random characters and a NUL. 0, or -1 without entropy. */
int hatch_random(char *out, size_t n);

/* Fills out, of HATCH_ID_SIZE bytes.  0, or -1 if there is no entropy. */
int hatch_id_make(const char *prefix, char *out);

/* 1 if the len bytes at s are an id with this prefix. */
int hatch_id_valid(const char *prefix, const char *s, size_t len);

#endif /* HATCH_ID_H_INCLUDED */
