/*
 * Ids: a prefix that tells the kind ("vm_", "rt_", ...) and 16 characters of
 * a-z and 2-7, 80 random bits.  Both sides make them: the module route ids,
 * the agent all others.
 */

#ifndef HATCH_ID_H_INCLUDED
#define HATCH_ID_H_INCLUDED

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>


#define HATCH_ID_RANDOM   16
#define HATCH_ID_SIZE     24    /* the longest prefix, 16 characters, NUL */

#define HATCH_ID_VM       "vm_"
#define HATCH_ID_VM_SIZE  20    /* with its NUL */
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


/* The random bits of an id, for where each byte counts. */
#define HATCH_ID_PACKED   10

/* 0, or -1: it is no id with this prefix. */
int hatch_id_pack(const char *prefix, const char *id, uint8_t *packed);

/* Eight characters at once: 40 bits become eight bytes of five bits each. */
static inline void
hatch_id_spread(uint64_t bits, char *out)
{
    uint64_t        x, digits;
    const uint64_t  each = 0x0101010101010101ull;

    x = (bits & 0xfffff) | (bits & 0xfffff00000ull) << 12;
    x = (x & 0x000003ff000003ffull) | (x & 0x000ffc00000ffc00ull) << 6;
    x = (x & 0x001f001f001f001full) | (x & 0x03e003e003e003e0ull) << 3;

    /* 0 to 25 are letters, 26 to 31 the digits from 2 on */
    digits = (x + each * (128 - 26)) >> 7 & each;
    x += each * 'a' - digits * ('a' + 26 - '2');

    x = htole64(x);
    memcpy(out, &x, sizeof(x));
}


/* Fills out, of HATCH_ID_SIZE bytes; any ten bytes are some id. */
static inline void
hatch_id_unpack(const char *prefix, const uint8_t *packed, char *out)
{
    size_t    len = strlen(prefix);
    uint64_t  low, high;

    memcpy(&low, packed, sizeof(low));
    memcpy(&high, packed + HATCH_ID_PACKED - sizeof(high), sizeof(high));

    memcpy(out, prefix, len);
    hatch_id_spread(le64toh(low) & 0xffffffffffull, out + len);
    hatch_id_spread(le64toh(high) >> 24, out + len + 8);
    out[len + HATCH_ID_RANDOM] = '\0';
}

#endif /* HATCH_ID_H_INCLUDED */
