#define _GNU_SOURCE

#include "image_base.h"
#include "statedir.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/text.h"
#include "core/work.h"

#include "hatch_hash.h"
#include "hatch_id.h"
#include "hatch_json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


#define BASE_SUFFIX    ".base"
#define BASE_FILE_MAX  4096
#define BASE_BLOCK     65536        /* of zeros: no part of the content */
#define BASE_KNOWN     32           /* files that are remembered in memory */


typedef struct {
    char      path[CONFIG_TEXT];
    uint64_t  inode;
    int64_t   size;
    int64_t   changed;              /* ns since 1970 */
    uint64_t  content;              /* a hash of it */
} base_t;


/*
 * Files that were read, the oldest of which is forgotten first: a file that is
 * refused at each start is not read at each.
 */
static struct {
    pthread_mutex_t  lock;
    base_t           files[BASE_KNOWN];
    unsigned         next;
} known = { .lock = PTHREAD_MUTEX_INITIALIZER };


/* --- a file --- */

static void
base_from_stat(const struct stat *st, base_t *base)
{
    base->inode = st->st_ino;
    base->size = st->st_size;
    base->changed = st->st_mtim.tv_sec * INT64_C(1000000000)
                    + st->st_mtim.tv_nsec;
}


/* Nobody has changed it; whose it is, and on which device, is no matter. */
static int
base_is_same_file(const base_t *a, const base_t *b)
{
    return a->inode == b->inode && a->size == b->size
           && a->changed == b->changed && strcmp(a->path, b->path) == 0;
}


static uint64_t
base_hash_block(uint64_t hash, const uint64_t *words, size_t n)
{
    size_t  i;

    for (i = 0; i < n; i++) {
        hash = hatch_hash_word(hash, words[i]);
    }

    return hash;
}


static int
base_is_zero(const uint64_t *words, size_t n)
{
    return words[0] == 0
           && memcmp(words, words + 1, (n - 1) * sizeof(*words)) == 0;
}


/*
 * The data of an open file.  Zeros are left out, whether they are holes or
 * not: a copy may have others.
 */
static int
base_hash_file(int fd, off_t size, uint64_t *hash)
{
    off_t     at = 0, data;
    size_t    n;
    ssize_t   got;
    uint64_t  words[BASE_BLOCK / sizeof(uint64_t)];

    *hash = hatch_hash_word(0, (uint64_t) size);

    while (at < size) {
        data = lseek(fd, at, SEEK_DATA);

        if (data == -1 && errno == ENXIO) {
            break;
        }

        /* a file system that knows no holes has data everywhere */
        if (data > at) {
            at = data - data % BASE_BLOCK;
        }

        for (n = 0; n < sizeof(words); n += (size_t) got) {
            got = pread(fd, (char *) words + n, sizeof(words) - n,
                        at + (off_t) n);

            if (got == -1) {
                return errno;
            }

            if (got == 0) {
                memset((char *) words + n, 0, sizeof(words) - n);
                break;
            }
        }

        n = sizeof(words) / sizeof(words[0]);

        if (!base_is_zero(words, n)) {
            *hash = hatch_hash_word(*hash, (uint64_t) at);
            *hash = base_hash_block(*hash, words, n);
        }

        at += BASE_BLOCK;
    }

    return 0;
}


static int
base_read(const config_t *config, base_t *base, hatch_err_t *err)
{
    int          fd, errnum = 0;
    base_t       after = *base;
    struct stat  st;

    work_step("reading the image", config->save_timeout);
    fd = open(base->path, O_RDONLY | O_CLOEXEC);

    if (fd == -1 || fstat(fd, &st) == -1) {
        errnum = errno;

    } else {
        base_from_stat(&st, base);
        errnum = base_hash_file(fd, st.st_size, &base->content);

        if (errnum == 0 && fstat(fd, &st) == 0) {
            base_from_stat(&st, &after);
        }
    }

    if (fd != -1) {
        (void) close(fd);
    }

    if (errnum != 0) {
        return hatch_err_errno(err, errnum, "cannot read \"%s\"", base->path);
    }

    return base_is_same_file(base, &after)
           ? 0 : hatch_err_set(err, HATCH_ERR_BUSY, "\"%s\" changes while it "
                               "is read; wait until it is written",
                               base->path);
}


/* Was it read before, as it is now? */
static int
base_recall(base_t *base)
{
    int     found = 0;
    size_t  i;

    pthread_mutex_lock(&known.lock);

    for (i = 0; i < BASE_KNOWN && !found; i++) {
        if (base_is_same_file(base, &known.files[i])) {
            base->content = known.files[i].content;
            found = 1;
        }
    }

    pthread_mutex_unlock(&known.lock);

    return found;
}


/*
 * What is at path now; of a file that is the one before, or NULL, by its
 * looks.
 */
static int
base_look(const config_t *config, const char *path, const base_t *before,
    base_t *base, hatch_err_t *err)
{
    int          rc;
    struct stat  st;

    memset(base, 0, sizeof(*base));
    (void) snprintf(base->path, sizeof(base->path), "%s", path);

    if (stat(path, &st) == -1) {
        return hatch_err_errno(err, errno, "cannot read \"%s\"", path);
    }

    base_from_stat(&st, base);

    if (before != NULL && base_is_same_file(base, before)) {
        base->content = before->content;
        return 0;
    }

    if (base_recall(base)) {
        return 0;
    }

    rc = base_read(config, base, err);

    if (rc == 0) {
        pthread_mutex_lock(&known.lock);
        known.files[known.next++ % BASE_KNOWN] = *base;
        pthread_mutex_unlock(&known.lock);
    }

    return rc;
}


/* --- what is noted --- */

static void
base_path(const config_t *config, const char *folder, const char *id,
    char *path)
{
    statedir_path(config, folder, id, BASE_SUFFIX, path);
}


static int
base_save(const config_t *config, const char *folder, const char *id,
    const char *image, const base_t *base, hatch_err_t *err)
{
    char                       path[STATEDIR_PATH], content[24];
    const char                *text;
    cleanup_json json_object  *o = json_object_new_object();

    (void) snprintf(content, sizeof(content), "%016" PRIx64, base->content);

#define ADD(name, value)  (void) json_object_object_add(o, name, value)

    ADD("image_id", json_object_new_string(image));
    ADD("path", json_object_new_string(base->path));
    ADD("inode", json_object_new_int64((int64_t) base->inode));
    ADD("size", json_object_new_int64(base->size));
    ADD("changed", json_object_new_int64(base->changed));
    ADD("content", json_object_new_string(content));

#undef ADD

    base_path(config, folder, id, path);
    text = json_object_to_json_string_ext(o, STATEDIR_JSON);

    return statedir_write(path, text, strlen(text), err);
}


/* 0 if there is none that can be read: it is of before, or damaged. */
static int
base_load(const config_t *config, const char *folder, const char *id,
    char image[HATCH_ID_SIZE], base_t *base)
{
    char                       path[STATEDIR_PATH];
    size_t                     len;
    hatch_err_t                err;
    cleanup_free char         *text = NULL;
    cleanup_json json_object  *o = NULL;

    base_path(config, folder, id, path);

    if (access(path, F_OK) == -1) {
        return 0;
    }

    if (text_read(path, BASE_FILE_MAX, &text, &len, &err) != 0
        || hatch_json_parse(text, len, &o, &err) != 0)
    {
        log_event(LOG_WARN, "%s is ignored: %s", path, err.text);
        return 0;
    }

    memset(base, 0, sizeof(*base));
    (void) snprintf(image, HATCH_ID_SIZE, "%s",
                    hatch_json_string(o, "image_id", ""));
    (void) snprintf(base->path, sizeof(base->path), "%s",
                    hatch_json_string(o, "path", ""));
    base->inode = (uint64_t) hatch_json_integer(o, "inode", 0);
    base->size = hatch_json_integer(o, "size", 0);
    base->changed = hatch_json_integer(o, "changed", 0);
    base->content = strtoull(hatch_json_string(o, "content", ""), NULL, 16);

    return 1;
}


static void
base_forget(const config_t *config, const char *folder, const char *id)
{
    char  path[STATEDIR_PATH];

    base_path(config, folder, id, path);
    (void) unlink(path);
    statedir_path(config, folder, id, BASE_SUFFIX ".tmp", path);
    (void) unlink(path);
}


/*
 * Is what is at path the same as what was noted?  1 or 0; an error, without
 * an answer; or HATCH_ERR_ABSENT.  A file that was only touched, or put back,
 * is noted as it looks now: should that fail, it is read again next time.
 */
static int
base_compare(const config_t *config, const char *folder, const char *id,
    const char *image, const base_t *noted, base_t *now, hatch_err_t *err)
{
    int          rc;
    hatch_err_t  why;

    rc = base_look(config, noted->path, noted, now, err);
    if (rc != 0) {
        return rc;
    }

    if (now->size != noted->size || now->content != noted->content) {
        return 0;
    }

    if (!base_is_same_file(now, noted)) {
        (void) base_save(config, folder, id, image, now, &why);
    }

    return 1;
}


/* --- images --- */

#define BASE_IMAGES  "images"
#define BASE_DISKS   "disks"


int
image_base_note(const config_t *config, const char *image, const char *path,
    hatch_err_t *err)
{
    int     rc;
    base_t  base;

    rc = base_look(config, path, NULL, &base, err);

    return rc == 0
           ? base_save(config, BASE_IMAGES, image, image, &base, err) : rc;
}


void
image_base_forget(const config_t *config, const char *image)
{
    base_forget(config, BASE_IMAGES, image);
}


int
image_base_check(const config_t *config, const char *image, const char *path,
    hatch_err_t *err)
{
    int     rc;
    char    of[HATCH_ID_SIZE];
    base_t  noted, now;

    if (!base_load(config, BASE_IMAGES, image, of, &noted)
        || strcmp(noted.path, path) != 0)
    {
        return 0;
    }

    rc = base_compare(config, BASE_IMAGES, image, image, &noted, &now, err);

    if (rc == 0) {
        return hatch_err_set(err, HATCH_ERR_CONFLICT, "\"image_id\": \"%.100s\""
                             " is another file than when image %s was "
                             "registered; register it under another id", path,
                             image);
    }

    return rc < 0 ? rc : 0;
}


/* --- VMs --- */

int
image_base_note_vm(const config_t *config, const char *vm, const char *image,
    const char *path, hatch_err_t *err)
{
    int     rc, has;
    char    of[HATCH_ID_SIZE];
    base_t  noted, now;

    has = base_load(config, BASE_IMAGES, image, of, &noted);
    rc = base_look(config, path, has ? &noted : NULL, &now, err);

    /* the default image of the configuration is registered by nobody */
    if (rc == 0 && (!has || !base_is_same_file(&now, &noted))) {
        rc = base_save(config, BASE_IMAGES, image, image, &now, err);
    }

    return rc == 0
           ? base_save(config, BASE_DISKS, vm, image, &now, err) : rc;
}


void
image_base_forget_vm(const config_t *config, const char *vm)
{
    base_forget(config, BASE_DISKS, vm);
}


/* "its size was 4096, now 8192", or that its content is another. */
static void
base_difference(const base_t *noted, const base_t *now, char *text,
    size_t size)
{
    if (now->size != noted->size) {
        (void) snprintf(text, size, "its size was %" PRId64 " and is %" PRId64,
                        noted->size, now->size);
    } else {
        (void) snprintf(text, size, "its content is another one");
    }
}


int
image_check_base(const config_t *config, const char *vm, hatch_err_t *err)
{
    int     rc;
    char    image[HATCH_ID_SIZE], difference[96];
    base_t  noted, now;

    if (!base_load(config, BASE_DISKS, vm, image, &noted)
        || access(noted.path, F_OK) == -1)
    {
        return 0;
    }

    rc = base_compare(config, BASE_DISKS, vm, image, &noted, &now, err);

    if (rc == 0) {
        base_difference(&noted, &now, difference, sizeof(difference));

        return hatch_err_set(err, HATCH_ERR_CONFLICT, "cannot start the VM: "
                             "\"%.80s\" of image %s has been replaced since "
                             "the VM's disk was made on it, %s; put it back, "
                             "or delete the VM", noted.path, image,
                             difference);
    }

    return rc < 0 ? rc : 0;
}
