/*
 * Memory images on disk: the memory of a guest that stands, with all that was
 * true at the same instant.  In state_dir/memory, for each VM:
 *
 *   VM.ram       its memory, which QEMU maps privately: read, never written by
 *                it.  Of QEMU's user, mode 0600, sparse.
 *   VM.devices   the state of its devices, as QEMU writes it
 *   VM.firmware  the bytes of its firmware, which an incoming QEMU does not
 *                load
 *   VM.json      the record, which ties these and the disk together
 *
 * The record begins with one word.  "valid": a guest may be started from the
 * image.  "load": a process is about to load it, and has not run; the image may
 * be used once that process is gone.  "used": a guest runs, or ran, that went
 * on from it; its disk has moved on since, so that the image is worth nothing.
 * The word is used, on disk, before any guest of the VM runs, and valid again
 * only where the process is proved to have ended without running.
 *
 * VM.ram is kept all the time that a QEMU maps it: what the guest has not
 * changed is nowhere else.
 *
 * Only one thread is here for one VM: whoever has its turn.
 */

#ifndef HATCH_AGENT_MEMORY_RECORD_H_INCLUDED
#define HATCH_AGENT_MEMORY_RECORD_H_INCLUDED

#include <json-c/json.h>
#include <stdint.h>

#include "statedir.h"


#define MEMORY_FOLDER    "memory"
#define MEMORY_RAM       ".ram"
#define MEMORY_DEVICES   ".devices"
#define MEMORY_FIRMWARE  ".firmware"
#define MEMORY_RECORD    ".json"


/* Whose records memory_is_valid() reads.  The main thread, at start. */
void memory_open(const config_t *config);

/* path[STATEDIR_PATH] */
void memory_path(const config_t *config, const char *vm, const char *suffix,
    char *path);

typedef enum {
    MEMORY_NONE = 0,            /* there is no record, or none of ours */
    MEMORY_VALID,
    MEMORY_LOAD,
    MEMORY_USED
} memory_word_t;

/* The word of its record.  Any thread. */
memory_word_t memory_word(const char *vm);

/* May a guest be started from the image of this VM?  Any thread. */
int memory_is_valid(const char *vm);

/* Is there a VM.ram?  Any thread. */
int memory_is_there(const char *vm);

/* The record, valid or not.  HATCH_ERR_ABSENT, HATCH_ERR_CORRUPT. */
int memory_read(const config_t *config, const char *vm, json_object **record,
    hatch_err_t *err);

/* Replaces it by this one, which is valid; on disk when it returns. */
int memory_write(const config_t *config, const char *vm, json_object *record,
    hatch_err_t *err);

/*
 * Changes the word, on disk when it returns if it is, or was, used.  Nothing if
 * there is no record, or it says so already.
 */
int memory_mark(const config_t *config, const char *vm, memory_word_t word,
    hatch_err_t *err);

/*
 * An empty file of that many bytes in place of VM.ram, which belongs to uid;
 * -1: to us.  No record may be valid.
 */
int memory_make(const config_t *config, const char *vm, uint64_t bytes,
    uid_t uid, hatch_err_t *err);

/* Removes image and record, which nobody wants any more. */
int memory_delete(const config_t *config, const char *vm, hatch_err_t *err);

/* The same with what was put aside, of a VM that a user deleted. */
void memory_purge(const config_t *config, const char *vm);

/*
 * Gives image and record other names, VM.ram.aside-TIME and so on, of which
 * aside[STATEDIR_PATH] is the first.  The record goes first.
 */
int memory_put_aside(const config_t *config, const char *vm, char *aside,
    hatch_err_t *err);

/*
 * What tells a file from every other one, and from itself before a change.  Not
 * its device: the host may number those anew when it boots.
 */
int memory_identify(const char *path, json_object **id, hatch_err_t *err);

/*
 * Is the file what it was?  HATCH_ERR_CORRUPT names what has changed;
 * HATCH_ERR_ABSENT and others: it cannot be seen.
 */
int memory_is_same(const char *path, json_object *id, hatch_err_t *err);

/* A checksum of a whole file, from its descriptor. */
int memory_checksum(int fd, uint64_t *sum, hatch_err_t *err);

#endif /* HATCH_AGENT_MEMORY_RECORD_H_INCLUDED */
