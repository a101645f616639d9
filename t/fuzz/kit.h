/* What the targets of libFuzzer share: a folder in memory, files in it. */

#ifndef HATCH_FUZZ_KIT_H_INCLUDED
#define HATCH_FUZZ_KIT_H_INCLUDED

#include <stddef.h>
#include <stdint.h>

#include "core/config.h"


int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


/*
 * A folder of this process's own in /dev/shm, removed when it ends, and the
 * agent's configuration with all its files there.  The same at each call.
 */
const config_t *kit_config(void);

/* Replaces a file of that folder. */
void kit_write(const char *name, const void *data, size_t size);

void kit_unlink(const char *name);

/* FOLDER/NAME; valid until the next call. */
const char *kit_path(const char *name);

/* A copy with a NUL behind it, which the caller frees. */
char *kit_text(const uint8_t *data, size_t size);

/* What must be is not: the input is kept. */
#define kit_must(what)                                                        \
    do {                                                                      \
        if (!(what)) {                                                        \
            kit_failed(__FILE__, __LINE__, #what);                            \
        }                                                                     \
    } while (0)

void kit_failed(const char *file, int line, const char *what)
    __attribute__((noreturn));

#endif /* HATCH_FUZZ_KIT_H_INCLUDED */
