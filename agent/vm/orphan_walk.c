/* Every file of every VM, wherever it lies. */

#define _GNU_SOURCE

#include "orphan.h"
#include "orphan_private.h"
#include "saved_file.h"
#include "snapshot.h"
#include "core/cleanup.h"
#include "store/memory_record.h"
#include "store/pending.h"
#include "store/records.h"
#include "table/table.h"

#include "hatch_json.h"

#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>


#define WALK_SNAPSHOTS  "snapshots"

/* libvirt's save image: a header, then the domain's XML. */
#define WALK_SAVE_XML   92
#define WALK_SAVE_READ  65536

/* The first bytes of a qcow2 file, all big-endian. */
typedef struct {
    char      magic[4];
    uint32_t  version;
    uint64_t  below_offset;
    uint32_t  below_size;
    uint32_t  cluster_bits;
    uint64_t  size;
} walk_qcow2_t;


typedef struct {
    const config_t  *config;
    const char      *folder;
    const char      *what;
    void           (*visit)(void *ctx, const orphan_file_t *file);
    void            *ctx;
} walk_t;


/* --- qcow2 --- */

static int
walk_qcow2(const char *path, walk_qcow2_t *head, char *below, size_t size)
{
    int       fd, rc = -1;
    uint32_t  len;

    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd == -1) {
        return -1;
    }

    if (pread(fd, head, sizeof(*head), 0) == (ssize_t) sizeof(*head)
        && memcmp(head->magic, "QFI\xfb", 4) == 0)
    {
        rc = 0;
        len = be32toh(head->below_size);
        below[0] = '\0';

        if (be64toh(head->below_offset) != 0 && len < size
            && pread(fd, below, len, (off_t) be64toh(head->below_offset))
               == (ssize_t) len)
        {
            below[len] = '\0';
        }
    }

    (void) close(fd);

    return rc;
}


unsigned
orphan_disk_mib(const char *path)
{
    char          below[STATEDIR_PATH];
    walk_qcow2_t  head;

    if (walk_qcow2(path, &head, below, sizeof(below)) != 0) {
        return 0;
    }

    return (unsigned) ((be64toh(head.size) + (1 << 20) - 1) >> 20);
}


int
orphan_disk_below(const char *file, char *path)
{
    walk_qcow2_t  head;

    return walk_qcow2(file, &head, path, STATEDIR_PATH) == 0
           && path[0] == '/' ? 0 : -1;
}


/* --- whose --- */

int
orphan_is_missing(const char *vm)
{
    return !table_has(vm) && (!pending_known(vm) || pending_waits(vm));
}


const char *
orphan_owner(const orphan_file_t *file)
{
    if (file->vm[0] != '\0' && orphan_is_missing(file->vm)) {
        return file->vm;
    }

    if (file->snapshot[0] != '\0' && !file->recorded) {
        return file->snapshot;
    }

    return file->aside && table_has(file->vm) ? file->vm : "";
}


/* --- the state directory --- */

static void
walk_entry(void *ctx, const char *name)
{
    size_t         n = strcspn(name, ".");
    walk_t        *walk = ctx;
    orphan_file_t  file = { .what = walk->what };

    if (hatch_id_valid(HATCH_ID_VM, name, n)) {
        /* what a disk lies on is noted beside it */
        if (strcmp(name + n, ".base") == 0) {
            file.what = "note";
        }

        file.aside = strstr(name, ".aside-") != NULL;
        (void) snprintf(file.vm, sizeof(file.vm), "%.*s", (int) n, name);
        statedir_path(walk->config, walk->folder, name, "", file.path);
        walk->visit(walk->ctx, &file);
    }
}


/* A memory image has the domain's XML in it, which names the VM. */
static void
walk_read_vm(const orphan_file_t *memory, char vm[HATCH_ID_SIZE])
{
    int                 fd;
    ssize_t             n = -1;
    const char         *name;
    cleanup_free char  *text = calloc(1, WALK_SAVE_READ + 1);

    fd = text != NULL ? open(memory->path, O_RDONLY | O_CLOEXEC) : -1;

    if (fd != -1) {
        n = pread(fd, text, WALK_SAVE_READ, WALK_SAVE_XML);
        (void) close(fd);
    }

    name = n > 0 ? strstr(text, "<name>") : NULL;

    if (name != NULL) {
        name += strlen("<name>");

        if (hatch_id_valid(HATCH_ID_VM, name, strcspn(name, "<"))) {
            (void) snprintf(vm, HATCH_ID_SIZE, "%.*s",
                            (int) strcspn(name, "<"), name);
        }
    }
}


static void
walk_snapshot_file(const walk_t *walk, orphan_file_t *file,
    const char *suffix)
{
    snapshot_path(walk->config, file->snapshot, suffix, file->path);

    if (access(file->path, F_OK) == 0) {
        walk->visit(walk->ctx, file);
    }
}


/* Each snapshot once: by its folder, or by its record where it has none. */
static void
walk_snapshot(void *ctx, const char *name)
{
    char                       path[STATEDIR_PATH];
    size_t                     n = strcspn(name, ".");
    walk_t                    *walk = ctx;
    orphan_file_t              file = { .what = "snapshot" };
    cleanup_json json_object  *record = NULL;

    if (!hatch_id_valid(HATCH_ID_SNAPSHOT, name, n)
        || (name[n] != '\0' && strcmp(name + n, ".json") != 0))
    {
        return;
    }

    (void) snprintf(file.snapshot, sizeof(file.snapshot), "%.*s", (int) n,
                    name);
    snapshot_path(walk->config, file.snapshot, "", path);

    if (name[n] != '\0' && access(path, F_OK) == 0) {
        return;
    }

    snapshot_path(walk->config, file.snapshot, RECORDS_GONE, path);

    /* in this order: one that is being taken gets its record before its note
     * goes */
    if (access(path, F_OK) == 0
        || pending_mentions("snapshot_id", file.snapshot))
    {
        return;
    }

    record = snapshot_get(file.snapshot);
    file.recorded = record != NULL;
    snapshot_path(walk->config, file.snapshot, SNAPSHOT_MEMORY, file.path);

    if (record != NULL) {
        (void) snprintf(file.vm, sizeof(file.vm), "%s",
                        hatch_json_string(record, "vm_id", ""));
    } else {
        walk_read_vm(&file, file.vm);
    }

    walk_snapshot_file(walk, &file, SNAPSHOT_MEMORY);
    walk_snapshot_file(walk, &file, SNAPSHOT_DISK);
    walk_snapshot_file(walk, &file, ".json");
}


/* --- beside libvirt's saved memory --- */

static void
walk_saved(const walk_t *walk)
{
    DIR            *dir;
    char            folder[STATEDIR_PATH];
    size_t          n;
    orphan_file_t   file = { .what = "saved_memory" };
    struct dirent  *e;

    dir = saved_folder(walk->config->connect, folder) == 0
          ? opendir(folder) : NULL;

    while (dir != NULL && (e = readdir(dir)) != NULL) {
        n = strcspn(e->d_name, ".");
        file.aside = strncmp(e->d_name + n, SAVED_ASIDE,
                             strlen(SAVED_ASIDE)) == 0;

        if (hatch_id_valid(HATCH_ID_VM, e->d_name, n)
            && (file.aside || strcmp(e->d_name + n, ".save") == 0)
            && snprintf(file.path, sizeof(file.path), "%s/%s", folder,
                        e->d_name) < (int) sizeof(file.path))
        {
            (void) snprintf(file.vm, sizeof(file.vm), "%.*s", (int) n,
                            e->d_name);
            walk->visit(walk->ctx, &file);
        }
    }

    if (dir != NULL) {
        (void) closedir(dir);
    }
}


void
orphan_walk(const config_t *config,
    void (*visit)(void *ctx, const orphan_file_t *file), void *ctx)
{
    size_t  i;
    walk_t  walk = { config, "", "", visit, ctx };

    static const struct {
        const char  *folder;
        const char  *what;
    } folders[] = {
        { "disks", "disk" }, { "seeds", "seed" }, { "saved", "note" },
        { MEMORY_FOLDER, "saved_memory" },
        { ORPHAN_FOLDER, "note" }
    };

    for (i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        walk.folder = folders[i].folder;
        walk.what = folders[i].what;
        (void) statedir_each(config, walk.folder, walk_entry, &walk);
    }

    (void) statedir_each(config, WALK_SNAPSHOTS, walk_snapshot, &walk);
    walk_saved(&walk);
}
