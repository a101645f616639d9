/*
 * Hashing in 64-bit words, for tables of our own: a multiplication for each
 * word, and one at the end, so that every bit of the input is in every bit of
 * the result.  No defence against made-up input by itself: where a client
 * chooses it, begin with a random seed.
 */

#ifndef HATCH_HASH_H_INCLUDED
#define HATCH_HASH_H_INCLUDED

#include <stdint.h>


#define HATCH_HASH_MULTIPLIER  0x9e3779b97f4a7c15ull


static inline uint64_t
hatch_hash_word(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * HATCH_HASH_MULTIPLIER;

    return hash ^ hash >> 32;
}


static inline uint32_t
hatch_hash_end(uint64_t hash)
{
    return (uint32_t) (hash * HATCH_HASH_MULTIPLIER >> 32);
}

#endif /* HATCH_HASH_H_INCLUDED */
