#define _GNU_SOURCE

#include "kit.h"
#include "core/log.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


static char      kit_folder[64];
static config_t  kit_configuration;


static int
kit_remove_one(const char *path, const struct stat *st, int type,
    struct FTW *ftw)
{
    (void) st;
    (void) type;
    (void) ftw;

    return remove(path);
}


static void
kit_remove(void)
{
    (void) nftw(kit_folder, kit_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}


void
kit_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    abort();
}


const char *
kit_path(const char *name)
{
    static char  path[256];

    if (kit_folder[0] == '\0') {
        (void) snprintf(kit_folder, sizeof(kit_folder),
                        "/dev/shm/hatch-fuzz.XXXXXX");
        kit_must(mkdtemp(kit_folder) != NULL);
        (void) atexit(kit_remove);
    }

    (void) snprintf(path, sizeof(path), "%s/%s", kit_folder, name);

    return path;
}


void
kit_write(const char *name, const void *data, size_t size)
{
    int  fd = open(kit_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    kit_must(fd != -1 && write(fd, data, size) == (ssize_t) size);
    (void) close(fd);
}


void
kit_unlink(const char *name)
{
    (void) unlink(kit_path(name));
}


char *
kit_text(const uint8_t *data, size_t size)
{
    char  *text = malloc(size + 1);

    kit_must(text != NULL);

    if (size > 0) {
        memcpy(text, data, size);
    }

    text[size] = '\0';

    return text;
}


/* "--zone" is the file "zone", and so on. */
const config_t *
kit_config(void)
{
    int           rc;
    hatch_err_t   err;
    char          argument[6][320];
    size_t        i;
    char         *argv[8] = { argument[5] };

    static const char *const  options[] = {
        "zone", "socket", "wake-socket", "state-dir", "image-dir"
    };

    if (kit_configuration.zone[0] != '\0') {
        return &kit_configuration;
    }

    (void) snprintf(argument[5], sizeof(argument[5]), "hatch-agent");

    for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        (void) snprintf(argument[i], sizeof(argument[i]), "--%s=%s",
                        options[i], kit_path(options[i]));
        argv[i + 1] = argument[i];
    }

    (void) setenv("HATCH_CONNECT", "test:///default", 1);
    (void) setenv("HATCH_ROUTE_STORE", kit_path("routes"), 1);
    rc = config_load(&kit_configuration, (int) i + 1, argv, &err);
    (void) unsetenv("HATCH_CONNECT");
    (void) unsetenv("HATCH_ROUTE_STORE");

    if (rc != 0) {
        kit_failed(__FILE__, __LINE__, err.text);
    }

    (void) mkdir(kit_configuration.image_dir, 0755);
    log_open(LOG_ERROR);

    return &kit_configuration;
}
