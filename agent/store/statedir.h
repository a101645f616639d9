/*
 * The agent's state directory: its folders, and files that are written whole
 * or not at all.  Who owns what is in it:
 *
 *   images/ID.json          image.c         templates/ID.json   template.c
 *   images/ID.base          image_base.c    disks/VM.base       image_base.c
 *   snapshots/ID.json, ID/  snapshot.c      disks/VM.qcow2      disk.c
 *   seeds/VM.iso            seed.c          pending/VM.json     pending.c
 *   saved/VM.json           saved.c         test/VM             files.c
 *   vms/VM.json             orphan_note.c   lock                here
 *   owner.json              statedir_owner.c    running/VM          again.c
 *   boot_id                 again.c         memory/VM.*         memory_record.c
 */

#ifndef HATCH_AGENT_STATEDIR_H_INCLUDED
#define HATCH_AGENT_STATEDIR_H_INCLUDED

#include <stddef.h>
#include <sys/types.h>

#include "core/config.h"
#include "hatch_err.h"


#define STATEDIR_PATH  512

/* How json-c writes what lies in a file: for people, too. */
#define STATEDIR_JSON  (JSON_C_TO_STRING_PRETTY                               \
                        | JSON_C_TO_STRING_NOSLASHESCAPE)


/*
 * Makes state_dir and its folders, and image_dir.  Folders that QEMU's user
 * must go through have mode 0711, all others 0700.
 */
int statedir_open(const config_t *config, hatch_err_t *err);

/*
 * Locks state_dir for this process, so that no other agent uses it, whatever
 * its zone; statedir_open() does, too.  HATCH_ERR_BUSY names the process that
 * has it.  0 if the directory is not there yet, or it is locked already.  The
 * main thread, at start.
 */
int statedir_lock(const config_t *config, hatch_err_t *err);

/* Could it?  Makes nothing. */
int statedir_check(const config_t *config, hatch_err_t *err);

/* state_dir/FOLDER/NAME+SUFFIX, into path[STATEDIR_PATH]. */
void statedir_path(const config_t *config, const char *folder, const char *name,
    const char *suffix, char *path);

/*
 * Replaces a file by this text, mode 0600; on disk when it returns.  Of one
 * that was not there before nothing is left when that fails.
 */
int statedir_write(const char *path, const char *text, size_t len,
    hatch_err_t *err);

/* A file that another program has written, and its name, are on disk then. */
int statedir_sync(const char *path, hatch_err_t *err);

/* Removes a file, also from the disk.  It is no error if there is none. */
int statedir_unlink(const char *path, hatch_err_t *err);

/* Renames a file, also on the disk. */
int statedir_rename(const char *from, const char *to, hatch_err_t *err);

/*
 * Could a file of `bytes` bytes be written here?  For whoever has had it
 * written by a tool, which failed: HATCH_ERR_FULL if there is no room, another
 * code if nothing can be written at all, 0 if that was not the reason.
 */
int statedir_room(const char *path, off_t bytes, hatch_err_t *err);

/*
 * Copies a file, which nobody writes meanwhile: as a clone that shares its
 * blocks where the file system can, else its data without the holes.  On disk
 * when it returns; nothing is left of a copy that fails.
 */
int statedir_copy(const char *from, const char *to, hatch_err_t *err);

/*
 * Calls entry(ctx, name) for each file of a folder, which may delete it.  A
 * folder that is not there has none; -1 for one that cannot be read.
 */
int statedir_each(const config_t *config, const char *folder,
    void (*entry)(void *ctx, const char *name), void *ctx);

#endif /* HATCH_AGENT_STATEDIR_H_INCLUDED */
