#define _GNU_SOURCE

#include "saved_file.h"
#include "durable.h"
#include "saved.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/text.h"

#include "hatch_json.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>


#define SAVED_FOLDER    "saved"
#define SAVED_NOTE_MAX  4096

/*
 * libvirt's header of a save image: it begins with one of these, of which the
 * second is written first and replaced when all the rest is there.
 */
#define SAVED_MAGIC       "LibvirtQemudSave"
#define SAVED_PARTIAL     "LibvirtQemudPart"
#define SAVED_MAGIC_SIZE  16
#define SAVED_HEADER      92

/* How many of one VM and second. */
#define SAVED_ASIDE_MAX   100


/* Which file it was: its name and its number are given away again. */
typedef struct {
    int64_t  size;
    int64_t  device;
    int64_t  inode;
    int64_t  born;              /* ns, 0: the file system does not say */
} saved_id_t;


/* The folder of one that runs for all, or that one which each user has. */
static int
saved_place(const char *uri, const char *system, const char *session,
    char *path)
{
    char         place[16];
    const char  *home = getenv("HOME");

    if (sscanf(uri, "qemu:///%15[a-z]", place) != 1
        && sscanf(uri, "qemu+unix:///%15[a-z]", place) != 1)
    {
        return -1;
    }

    if (strcmp(place, "system") == 0) {
        (void) snprintf(path, STATEDIR_PATH, "%s", system);
        return 0;
    }

    if (strcmp(place, "session") == 0 && home != NULL) {
        (void) snprintf(path, STATEDIR_PATH, "%s/%s", home, session);
        return 0;
    }

    return -1;
}


int
saved_folder(const char *uri, char *path)
{
    return saved_place(uri, "/var/lib/libvirt/qemu/save",
                       ".config/libvirt/qemu/save", path);
}


int
saved_definitions(const char *uri, char *path)
{
    return saved_place(uri, "/etc/libvirt/qemu", ".config/libvirt/qemu", path);
}


int
saved_path(const vm_op_t *op, char *path)
{
    char                folder[STATEDIR_PATH];
    cleanup_free char  *uri = virConnectGetURI(op->lease.conn);

    if (uri == NULL || saved_folder(uri, folder) != 0) {
        return -1;
    }

    (void) snprintf(path, STATEDIR_PATH, "%.400s/%s.save", folder, op->vm.id);

    return 0;
}


int64_t
saved_file_room(const vm_op_t *op)
{
    char            path[STATEDIR_PATH], *end;
    struct statvfs  st;

    if (saved_path(op, path) != 0) {
        return -1;
    }

    end = strrchr(path, '/');
    *end = '\0';

    return statvfs(path, &st) == 0 ? (int64_t) (st.f_bavail * st.f_frsize)
                                   : -1;
}


static int
saved_identify(const char *path, saved_id_t *id)
{
    struct statx  st;

    if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS
                                                   | STATX_BTIME, &st) == -1)
    {
        return -1;
    }

    id->size = (int64_t) st.stx_size;
    id->device = (int64_t) st.stx_dev_major << 32 | st.stx_dev_minor;
    id->inode = (int64_t) st.stx_ino;
    id->born = st.stx_mask & STATX_BTIME
               ? st.stx_btime.tv_sec * INT64_C(1000000000)
                 + st.stx_btime.tv_nsec
               : 0;

    return 0;
}


void
saved_note(const vm_op_t *op)
{
    char                       path[STATEDIR_PATH];
    saved_id_t                 id;
    const char                *text;
    hatch_err_t                err;
    cleanup_json json_object  *note = NULL;

    if (durable_memory(op, &err) != 0) {
        log_event(LOG_WARN, "%s: a power cut may cost its saved memory: %s",
                  op->vm.id, err.text);
        return;
    }

    if (saved_path(op, path) != 0 || saved_identify(path, &id) != 0) {
        return;
    }

    note = json_object_new_object();

    (void) json_object_object_add(note, "size", json_object_new_int64(id.size));
    (void) json_object_object_add(note, "device",
                                  json_object_new_int64(id.device));
    (void) json_object_object_add(note, "inode",
                                  json_object_new_int64(id.inode));
    (void) json_object_object_add(note, "born", json_object_new_int64(id.born));

    text = json_object_to_json_string_ext(note, STATEDIR_JSON);
    statedir_path(op->config, SAVED_FOLDER, op->vm.id, ".json", path);

    if (statedir_write(path, text, strlen(text), &err) != 0) {
        log_event(LOG_WARN, "%s: the size of its saved memory is not noted: "
                  "%s", op->vm.id, err.text);
    }
}


void
saved_forget(const config_t *config, const char *vm)
{
    char         path[STATEDIR_PATH];
    hatch_err_t  err;

    statedir_path(config, SAVED_FOLDER, vm, ".json", path);

    if (access(path, F_OK) == 0) {
        (void) statedir_unlink(path, &err);
    }
}


/* What was noted last; -1 if nothing was. */
static int
saved_noted(const vm_op_t *op, saved_id_t *id)
{
    char                       path[STATEDIR_PATH];
    size_t                     len;
    hatch_err_t                err;
    cleanup_free char         *text = NULL;
    cleanup_json json_object  *note = NULL;

    statedir_path(op->config, SAVED_FOLDER, op->vm.id, ".json", path);

    if (text_read(path, SAVED_NOTE_MAX, &text, &len, &err) != 0
        || hatch_json_parse(text, len, &note, &err) != 0)
    {
        return -1;
    }

    id->size = hatch_json_integer(note, "size", 0);
    id->device = hatch_json_integer(note, "device", 0);
    id->inode = hatch_json_integer(note, "inode", 0);
    id->born = hatch_json_integer(note, "born", 0);

    return 0;
}


/* The same file, and less of it?  An older note is of another one. */
static int
saved_is_cut(const vm_op_t *op, const char *path, hatch_err_t *err)
{
    saved_id_t  noted, now;

    if (saved_noted(op, &noted) != 0 || saved_identify(path, &now) != 0
        || noted.born == 0 || noted.born != now.born
        || noted.device != now.device || noted.inode != now.inode
        || now.size >= noted.size)
    {
        return 0;
    }

    (void) hatch_err_set(err, HATCH_ERR_TRUNCATED, "\"%s\" has %" PRId64
                         " of %" PRId64 " bytes", path, now.size, noted.size);

    return 1;
}


static saved_file_t
saved_file_read(const vm_op_t *op, const char *path, int fd, hatch_err_t *err)
{
    char     header[SAVED_HEADER];
    ssize_t  n;

    n = pread(fd, header, sizeof(header), 0);

    if (n < 0) {
        (void) hatch_err_errno(err, errno, "cannot read \"%s\"", path);
        return SAVED_FILE_TROUBLE;
    }

    if (n < SAVED_HEADER
        || (memcmp(header, SAVED_MAGIC, SAVED_MAGIC_SIZE) != 0
            && memcmp(header, SAVED_PARTIAL, SAVED_MAGIC_SIZE) != 0))
    {
        (void) hatch_err_set(err, HATCH_ERR_CORRUPT, "\"%s\" does not begin "
                             "as saved memory does", path);
        return SAVED_FILE_BAD;
    }

    if (memcmp(header, SAVED_PARTIAL, SAVED_MAGIC_SIZE) == 0) {
        (void) hatch_err_set(err, HATCH_ERR_CORRUPT, "\"%s\" was not saved "
                             "to its end", path);
        return SAVED_FILE_BAD;
    }

    return saved_is_cut(op, path, err) ? SAVED_FILE_BAD : SAVED_FILE_GOOD;
}


saved_file_t
saved_file_look(const vm_op_t *op, hatch_err_t *err)
{
    int           fd;
    char          path[STATEDIR_PATH];
    saved_file_t  found;

    if (saved_path(op, path) != 0) {
        return SAVED_FILE_OUT_OF_REACH;
    }

    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd == -1) {
        /* in a container, say, the folder is another one than libvirt's */
        found = errno == ENOENT ? SAVED_FILE_OUT_OF_REACH : SAVED_FILE_TROUBLE;
        (void) hatch_err_errno(err, errno, "cannot read \"%s\"", path);
        return found;
    }

    found = saved_file_read(op, path, fd, err);
    (void) close(fd);

    return found;
}


int
saved_file_exists(const vm_op_t *op)
{
    char  path[STATEDIR_PATH];

    return saved_path(op, path) == 0 && access(path, F_OK) == 0;
}


/* Is it the same file, by another name? */
static int
saved_is_same(const char *path, const char *other)
{
    struct stat  a, b;

    return lstat(path, &a) == 0 && lstat(other, &b) == 0
           && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}


/* Named after when it was saved: tried again, it gets the same name. */
static void
saved_aside_name(const char *path, unsigned n, char *aside)
{
    char         when[32] = "";
    struct tm    tm;
    struct stat  st;

    if (lstat(path, &st) == 0 && gmtime_r(&st.st_mtime, &tm) != NULL) {
        (void) strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &tm);
    }

    (void) snprintf(aside, STATEDIR_PATH, "%.400s.aside-%s%s%.0u", path,
                    when, n != 0 ? "-" : "", n);
}


/*
 * A second name first, and then libvirt's own call: it remembers that there
 * is an image, and would go on to say so of one that was renamed.
 */
int
saved_file_put_aside(vm_op_t *op, char *aside, hatch_err_t *err)
{
    int       rc = -1;
    char      path[STATEDIR_PATH];
    unsigned  n;

    if (saved_path(op, path) != 0 || access(path, F_OK) == -1) {
        return hatch_err_set(err, HATCH_ERR_LIBVIRT, "the agent cannot reach "
                             "libvirt's file to put it aside");
    }

    for (n = 0; rc == -1 && n < SAVED_ASIDE_MAX; n++) {
        saved_aside_name(path, n, aside);
        rc = link(path, aside);

        if (rc == -1 && errno == EEXIST) {
            rc = saved_is_same(path, aside) ? 0 : -1;

        } else if (rc == -1) {
            break;
        }
    }

    if (rc == -1) {
        return hatch_err_errno(err, errno, "cannot rename \"%s\"", path);
    }

    /* should this fail, the second name stays: it may be the last one */
    return virDomainManagedSaveRemove(op->domain, 0) == 0
           ? durable_memory(op, err)
           : virt_error(err, "cannot put the saved memory aside");
}


void
saved_delete_aside(const vm_op_t *op)
{
    char    path[STATEDIR_PATH], pattern[STATEDIR_PATH + 16];
    glob_t  found;
    size_t  i;

    if (saved_path(op, path) != 0) {
        return;
    }

    (void) snprintf(pattern, sizeof(pattern), "%s.aside-*", path);

    if (glob(pattern, GLOB_NOSORT, NULL, &found) == 0) {
        for (i = 0; i < found.gl_pathc; i++) {
            (void) unlink(found.gl_pathv[i]);
        }
    }

    globfree(&found);
}


int
saved_file_stand_in(const vm_op_t *op)
{
    int   fd;
    char  path[STATEDIR_PATH];

    if (saved_path(op, path) != 0) {
        return -1;
    }

    fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

    if (fd == -1) {
        return -1;
    }

    (void) close(fd);

    return 0;
}
