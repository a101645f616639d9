#define _GNU_SOURCE

#include "hatch_id.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>


/* 32 characters, so that five random bits choose one without a bias. */
static const char hatch_id_alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";


int
hatch_random(char *out, size_t n)
{
    size_t         i;
    ssize_t        got;
    unsigned char  bytes[64];

    if (n > sizeof(bytes)) {
        return -1;
    }

    do {
        got = getrandom(bytes, n, 0);
    } while (got < 0 && errno == EINTR);

    if (got != (ssize_t) n) {
        return -1;
    }

    for (i = 0; i < n; i++) {
        out[i] = hatch_id_alphabet[bytes[i] & 31];
    }

    out[n] = '\0';

    return 0;
}


int
hatch_id_make(const char *prefix, char *out)
{
    size_t  len = strlen(prefix);

    if (len + HATCH_ID_RANDOM >= HATCH_ID_SIZE) {
        return -1;
    }

    memcpy(out, prefix, len);

    return hatch_random(out + len, HATCH_ID_RANDOM);
}


int
hatch_id_valid(const char *prefix, const char *s, size_t len)
{
    size_t  i, n = strlen(prefix);

    if (len != n + HATCH_ID_RANDOM || memcmp(s, prefix, n) != 0) {
        return 0;
    }

    for (i = n; i < len; i++) {
        if (s[i] == '\0' || strchr(hatch_id_alphabet, s[i]) == NULL) {
            return 0;
        }
    }

    return 1;
}


int
hatch_id_pack(const char *prefix, const char *id, uint8_t *packed)
{
    int          i, half;
    size_t       len = strnlen(id, HATCH_ID_SIZE);
    uint64_t     bits;
    const char  *c;

    if (!hatch_id_valid(prefix, id, len)) {
        return -1;
    }

    c = id + strlen(prefix);

    /* each half is a little-endian number of 40 bits, first character last */
    for (half = 0; half < 2; half++, c += 8) {
        for (bits = 0, i = 7; i >= 0; i--) {
            bits = bits << 5 | (uint64_t) (strchr(hatch_id_alphabet, c[i])
                                           - hatch_id_alphabet);
        }

        for (i = 0; i < 5; i++) {
            packed[half * 5 + i] = (uint8_t) (bits >> (8 * i));
        }
    }

    return 0;
}
