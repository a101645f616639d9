#define _GNU_SOURCE

#include "memory_record.h"
#include "core/cleanup.h"
#include "core/text.h"

#include "hatch_hash.h"
#include "hatch_json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>


/* The word that a record begins with is a line of so many bytes. */
#define MEMORY_WORD       6

#define MEMORY_RECORD_MAX (256 * 1024)

/* Each suffix; the record first, so that what is left is none. */
static const char *const  suffixes[] = {
    MEMORY_RECORD, MEMORY_DEVICES, MEMORY_FIRMWARE, MEMORY_RAM
};

static const char *const  words[] = {
    [MEMORY_VALID] = "valid\n",
    [MEMORY_LOAD] = "load \n",
    [MEMORY_USED] = "used \n"
};

#define SUFFIXES  (sizeof(suffixes) / sizeof(suffixes[0]))

static const config_t  *memory_config;


void
memory_open(const config_t *config)
{
    memory_config = config;
}


void
memory_path(const config_t *config, const char *vm, const char *suffix,
    char *path)
{
    statedir_path(config, MEMORY_FOLDER, vm, suffix, path);
}


static memory_word_t
memory_word_of(int fd)
{
    char           found[MEMORY_WORD];
    memory_word_t  word;

    if (pread(fd, found, sizeof(found), 0) == MEMORY_WORD) {
        for (word = MEMORY_VALID; word <= MEMORY_USED; word++) {
            if (memcmp(found, words[word], MEMORY_WORD) == 0) {
                return word;
            }
        }
    }

    return MEMORY_NONE;
}


memory_word_t
memory_word(const char *vm)
{
    int            fd;
    char           path[STATEDIR_PATH];
    memory_word_t  word;

    if (memory_config == NULL) {
        return MEMORY_NONE;
    }

    memory_path(memory_config, vm, MEMORY_RECORD, path);
    fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd == -1) {
        return MEMORY_NONE;
    }

    word = memory_word_of(fd);
    (void) close(fd);

    return word;
}


int
memory_is_valid(const char *vm)
{
    memory_word_t  word = memory_word(vm);

    return word == MEMORY_VALID || word == MEMORY_LOAD;
}


int
memory_is_there(const char *vm)
{
    char  path[STATEDIR_PATH];

    if (memory_config == NULL) {
        return 0;
    }

    memory_path(memory_config, vm, MEMORY_RAM, path);

    return access(path, F_OK) == 0;
}


int
memory_read(const config_t *config, const char *vm, json_object **record,
    hatch_err_t *err)
{
    int                  rc;
    char                 path[STATEDIR_PATH];
    size_t               len;
    hatch_err_t          why;
    cleanup_free char   *text = NULL;

    memory_path(config, vm, MEMORY_RECORD, path);
    rc = text_read(path, MEMORY_RECORD_MAX, &text, &len, err);

    if (rc == 0
        && (len < MEMORY_WORD
            || hatch_json_parse(text + MEMORY_WORD, len - MEMORY_WORD, record,
                                &why) != 0))
    {
        rc = hatch_err_set(err, HATCH_ERR_CORRUPT, "\"%s\" is no record of a "
                           "memory image", path);
    }

    return rc;
}


int
memory_write(const config_t *config, const char *vm, json_object *record,
    hatch_err_t *err)
{
    char                 path[STATEDIR_PATH];
    const char          *json;
    size_t               len;
    cleanup_free char   *text = NULL;

    json = json_object_to_json_string_ext(record, STATEDIR_JSON);
    len = strlen(json);
    text = malloc(MEMORY_WORD + len + 1);

    if (text == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot write the record of the "
                               "memory image");
    }

    memcpy(text, words[MEMORY_VALID], MEMORY_WORD);
    memcpy(text + MEMORY_WORD, json, len);
    memory_path(config, vm, MEMORY_RECORD, path);

    return statedir_write(path, text, MEMORY_WORD + len, err);
}


int
memory_mark(const config_t *config, const char *vm, memory_word_t word,
    hatch_err_t *err)
{
    int            fd, rc = 0;
    char           path[STATEDIR_PATH];
    memory_word_t  was;

    memory_path(config, vm, MEMORY_RECORD, path);
    fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd == -1) {
        return errno == ENOENT
               ? 0 : hatch_err_errno(err, errno, "cannot open \"%s\"", path);
    }

    /* six bytes of one block, in their place: either word, never between */
    was = memory_word_of(fd);

    if (was != word
        && (pwrite(fd, words[word], MEMORY_WORD, 0) != MEMORY_WORD
            || ((word == MEMORY_USED || was == MEMORY_USED)
                && fdatasync(fd) == -1)))
    {
        rc = hatch_err_errno(err, errno, "cannot mark \"%s\"", path);
    }

    (void) close(fd);

    return rc;
}


int
memory_make(const config_t *config, const char *vm, uint64_t bytes,
    uid_t uid, hatch_err_t *err)
{
    int   fd, rc = 0;
    char  path[STATEDIR_PATH], temp[STATEDIR_PATH + 8];

    memory_path(config, vm, MEMORY_RAM, path);
    (void) snprintf(temp, sizeof(temp), "%s.tmp", path);
    (void) unlink(temp);

    fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd == -1 || ftruncate(fd, (off_t) bytes) == -1
        || (uid != (uid_t) -1 && fchown(fd, uid, (gid_t) -1) == -1)
        || rename(temp, path) == -1)
    {
        rc = hatch_err_errno(err, errno, "cannot make \"%s\"", path);
        (void) unlink(temp);
    }

    if (fd != -1) {
        (void) close(fd);
    }

    return rc;
}


int
memory_delete(const config_t *config, const char *vm, hatch_err_t *err)
{
    int     rc = 0;
    char    path[STATEDIR_PATH];
    size_t  i;

    for (i = 0; rc == 0 && i < SUFFIXES; i++) {
        memory_path(config, vm, suffixes[i], path);
        rc = access(path, F_OK) == 0 ? statedir_unlink(path, err) : 0;
    }

    return rc;
}


typedef struct {
    const config_t  *config;
    const char      *vm;
} memory_purge_t;


static void
memory_purge_entry(void *ctx, const char *name)
{
    char             path[STATEDIR_PATH];
    size_t           n;
    memory_purge_t  *purge = ctx;

    n = strlen(purge->vm);

    if (strncmp(name, purge->vm, n) == 0 && name[n] == '.') {
        memory_path(purge->config, name, "", path);
        (void) unlink(path);
    }
}


void
memory_purge(const config_t *config, const char *vm)
{
    hatch_err_t     ignored;
    memory_purge_t  purge = { config, vm };

    /* the record first */
    (void) memory_delete(config, vm, &ignored);
    (void) statedir_each(config, MEMORY_FOLDER, memory_purge_entry, &purge);
}


int
memory_put_aside(const config_t *config, const char *vm, char *aside,
    hatch_err_t *err)
{
    int        rc = 0;
    char       when[32], path[STATEDIR_PATH], to[STATEDIR_PATH];
    size_t     i;
    time_t     now = time(NULL);
    struct tm  tm;

    (void) gmtime_r(&now, &tm);
    (void) strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &tm);

    for (i = 0; rc == 0 && i < SUFFIXES; i++) {
        memory_path(config, vm, suffixes[i], path);

        if (access(path, F_OK) == -1) {
            continue;
        }

        (void) snprintf(to, sizeof(to), "%.450s.aside-%s", path, when);
        rc = statedir_rename(path, to, err);
        (void) snprintf(aside, STATEDIR_PATH, "%s", to);
    }

    return rc;
}


/* --- is it the same file? --- */

static int64_t
memory_ns(const struct statx_timestamp *t)
{
    return t->tv_sec * INT64_C(1000000000) + t->tv_nsec;
}


int
memory_identify(const char *path, json_object **id, hatch_err_t *err)
{
    struct statx  st;

    if (statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &st) == -1) {
        return hatch_err_errno(err, errno, "cannot look at \"%s\"", path);
    }

    *id = json_object_new_object();

#define ADD(name, value)                                                      \
    (void) json_object_object_add(*id, name, json_object_new_int64(value))

    ADD("inode", (int64_t) st.stx_ino);
    ADD("size", (int64_t) st.stx_size);
    ADD("mtime", memory_ns(&st.stx_mtime));
    ADD("ctime", memory_ns(&st.stx_ctime));

#undef ADD

    return 0;
}


int
memory_is_same(const char *path, json_object *id, hatch_err_t *err)
{
    int                        rc;
    json_object               *was, *is;
    cleanup_json json_object  *now = NULL;

    rc = memory_identify(path, &now, err);
    if (rc != 0) {
        return rc;
    }

    /* what was not noted is not compared */
    json_object_object_foreach(id, field, value) {
        was = value;

        if (json_object_object_get_ex(now, field, &is)
            && !json_object_equal(was, is))
        {
            return hatch_err_set(err, HATCH_ERR_CORRUPT, "\"%s\" has been "
                                 "changed since (its %s is %s, it was %s)",
                                 path, field, json_object_get_string(is),
                                 json_object_get_string(was));
        }
    }

    return 0;
}


int
memory_checksum(int fd, uint64_t *sum, hatch_err_t *err)
{
    off_t      at = 0;
    size_t     i;
    ssize_t    n;
    uint64_t   part[1024];

    *sum = 0;

    for ( ;; ) {
        memset(part, 0, sizeof(part));
        n = pread(fd, part, sizeof(part), at);

        if (n == -1) {
            return hatch_err_errno(err, errno, "cannot read a memory image");
        }

        if (n == 0) {
            *sum = hatch_hash_word(*sum, (uint64_t) at);
            return 0;
        }

        for (i = 0; i < ((size_t) n + 7) / 8; i++) {
            *sum = hatch_hash_word(*sum, part[i]);
        }

        at += n;
    }
}
