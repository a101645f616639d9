/*
 * hatch_file: what the zone, the activity file and the index of the routes
 * have in common, a mapped file of fixed-size slots.
 *
 * The owner creates it under a temporary name and renames it, so nobody ever
 * sees half a file.  Whoever opens it checks, in this order: that it is there
 * and readable, not empty, ours (magic), of this version, of this layout,
 * plausible (slots), whole (size).  The numbers that later code uses as
 * bounds are copied out of the file once, here, and checked; nothing reads
 * them from the mapping again.
 */

#ifndef HATCH_FILE_H_INCLUDED
#define HATCH_FILE_H_INCLUDED

#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "hatch_err.h"


#define HATCH_SLOTS_MAX  (1u << 20)


/* The first bytes of each.  Written once, before the rename. */
typedef struct {
    uint64_t  magic;
    uint32_t  version;
    uint32_t  layout;           /* computed from sizes and offsets */
    uint64_t  size;             /* of the file, bytes */
    uint32_t  slots;
    uint32_t  reserved;
} hatch_file_head_t;


/* What a kind of file looks like. */
typedef struct {
    const char  *what;          /* "zone": begins error texts */
    uint64_t     magic;
    uint32_t     version;
    uint32_t   (*layout)(void);
    size_t     (*size)(uint32_t slots);
    uint32_t     slots_max;
} hatch_file_kind_t;


/* A mapped file.  All zero (fd is then unused, base NULL) means not open. */
typedef struct {
    void      *base;
    size_t     size;
    uint32_t   slots;
    int        writable;
    int        fd;              /* held by the writer, for its lock; or -1 */
    dev_t      dev;
    ino_t      ino;
} hatch_file_t;


/*
 * Maps an existing file.  `writable` maps it for writing (the owner only).
 * Fails with HATCH_ERR_SLOTS if it has fewer than min_slots.
 */
int hatch_file_open(hatch_file_t *file, const hatch_file_kind_t *kind,
    const char *path, int writable, uint32_t min_slots, hatch_err_t *err);

/*
 * Creates a file of zeroes with a valid head, all of its blocks allocated,
 * and puts it at path, replacing what is there (hatch_file_may_replace()).
 * uid and gid of -1 leave the owner as it is.
 */
int hatch_file_create(hatch_file_t *file, const hatch_file_kind_t *kind,
    const char *path, uint32_t slots, mode_t mode, uid_t uid, gid_t gid,
    hatch_err_t *err);

/*
 * The same with a beginning: fill(file, data) writes to the mapped file before
 * it has its name.
 */
int hatch_file_create_filled(hatch_file_t *file, const hatch_file_kind_t *kind,
    const char *path, uint32_t slots, mode_t mode, uid_t uid, gid_t gid,
    void (*fill)(hatch_file_t *file, const void *data), const void *data,
    hatch_err_t *err);

/*
 * Why a file could not be opened for writing (the code and text of
 * hatch_file_open()) decides whether its owner may put a new one in its place:
 * 0 if there is none, if it is empty, or if it is ours by its magic, of any
 * version or damaged, and no other process holds it.  Else the file is
 * somebody's: returns why's code, or HATCH_ERR_BUSY, with err filled.
 */
int hatch_file_may_replace(const hatch_file_kind_t *kind, const char *path,
    const hatch_err_t *why, hatch_err_t *err);

/* Takes the writer's lock on an open file.  HATCH_ERR_BUSY if it is taken. */
int hatch_file_lock(hatch_file_t *file, const hatch_file_kind_t *kind,
    const char *path, hatch_err_t *err);

/*
 * Gives the lock up, before the same process makes a file in its place, and
 * takes it again if it could not.
 */
void hatch_file_unlock(hatch_file_t *file);
void hatch_file_relock(hatch_file_t *file);

/* Unmaps and closes; safe to call on a file that is not open. */
void hatch_file_close(hatch_file_t *file);

/* Of an open file: 1 if path now names another one, or none, or if the mapped
 * one is no more what it was: cut short, or (hatch_guard.h) zeroes. */
int hatch_file_replaced(const hatch_file_t *file, const char *path);

/* 1 while the mapping still begins as it should (see hatch_guard.h). */
static inline int
hatch_file_intact(const hatch_file_t *file, const hatch_file_kind_t *kind)
{
    return __atomic_load_n(&((hatch_file_head_t *) file->base)->magic,
                           __ATOMIC_RELAXED) == kind->magic;
}

/* The layout word: FNV-1a over n numbers. */
uint32_t hatch_file_layout(const uint32_t *numbers, unsigned n);

#endif /* HATCH_FILE_H_INCLUDED */
