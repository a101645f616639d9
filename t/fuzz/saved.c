/*
 * libFuzzer: the note of a VM's saved memory and the file itself, with a NUL
 * between them.  The first byte: 1, and the note begins with what is true of
 * the file's inode.
 */

#define _GNU_SOURCE

#include "vm/saved_file.c"

#include "kit.h"


#define ID         "vm_aaaaaaaaaaaaaaaa"
#define NOTE_HEAD  192


int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    hatch_err_t  err;

    (void) argc;
    (void) argv;

    kit_must(statedir_open(kit_config(), &err) == 0);

    return 0;
}


/* With the numbers of the file in front, if they are to be real. */
static void
write_note(const char *text, int real)
{
    size_t      n = 0, len = strlen(text);
    saved_id_t  id;
    char       *note = malloc(NOTE_HEAD + len);

    kit_must(note != NULL);

    if (real && saved_identify(kit_path("memory"), &id) == 0) {
        n = (size_t) snprintf(note, NOTE_HEAD, "{\"device\":%" PRId64
                              ",\"inode\":%" PRId64 ",\"born\":%" PRId64 ",",
                              id.device, id.inode, id.born);
    }

    memcpy(note + n, text, len);
    kit_write("state-dir/saved/" ID ".json", note, n + len);
    free(note);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int            fd;
    char          *text, path[256];
    size_t         len;
    vm_op_t        op;
    hatch_err_t    err = { HATCH_OK, "" };
    saved_file_t   found;

    if (size == 0) {
        return 0;
    }

    text = kit_text(data + 1, size - 1);
    len = strlen(text);
    memset(&op, 0, sizeof(op));
    op.config = kit_config();
    memcpy(op.vm.id, ID, sizeof(ID));

    /* what is behind the NUL, if there is one */
    kit_write("memory", text + len + (len < size - 1),
              size - 1 - len - (len < size - 1));
    write_note(text, data[0] & 1);
    free(text);

    (void) snprintf(path, sizeof(path), "%s", kit_path("memory"));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    kit_must(fd != -1);
    found = saved_file_read(&op, path, fd, &err);
    (void) close(fd);

    kit_must(found == SAVED_FILE_GOOD || found == SAVED_FILE_BAD);
    kit_must((found == SAVED_FILE_BAD) == (err.text[0] != '\0'));

    return 0;
}
