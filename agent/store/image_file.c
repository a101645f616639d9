#define _GNU_SOURCE

#include "image_file.h"
#include "core/cleanup.h"
#include "core/tool.h"

#include "hatch_json.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


#define IMAGE_HEAD  512


static int
image_file_check_name(const char *key, const char *path, hatch_err_t *err)
{
    const unsigned char  *p;

    for (p = (const unsigned char *) path; *p != '\0'; p++) {
        if (*p < 0x20 || *p == 0x7f) {
            return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must not "
                                 "contain control characters", key);
        }
    }

    return 0;
}


static int
image_file_check_content(const char *key, const char *path, const char *real,
    hatch_err_t *err)
{
    struct stat  st;

    if (stat(real, &st) == -1 || access(real, R_OK) == -1) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\": cannot read "
                             "\"%.80s\": %s", key, path, strerror(errno));
    }

    if (!S_ISREG(st.st_mode) || st.st_size == 0) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\": \"%.80s\" is %s",
                             key, path, S_ISREG(st.st_mode)
                                        ? "empty" : "not a regular file");
    }

    return 0;
}


int
image_file_resolve(const config_t *config, const char *key, const char *path,
    char real[CONFIG_TEXT], hatch_err_t *err)
{
    int                  rc;
    char                 full[PATH_MAX];
    size_t               len;
    cleanup_free char   *dir = NULL, *found = NULL;

    rc = image_file_check_name(key, path, err);
    if (rc != 0) {
        return rc;
    }

    dir = realpath(config->image_dir, NULL);

    if (dir == NULL) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\": there is no "
                             "image directory \"%s\"", key, config->image_dir);
    }

    if (path[0] == '/') {
        (void) snprintf(full, sizeof(full), "%s", path);
    } else {
        (void) snprintf(full, sizeof(full), "%s/%s", dir, path);
    }

    found = realpath(full, NULL);
    len = strlen(dir);

    /* outside, what is there and what is not look the same */
    if (found == NULL || strncmp(found, dir, len) != 0 || found[len] != '/'
        || strlen(found) >= CONFIG_TEXT)
    {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must be a file "
                             "in the image directory, not \"%.100s\"", key,
                             path);
    }

    rc = image_file_check_content(key, path, found, err);

    if (rc == 0) {
        (void) snprintf(real, CONFIG_TEXT, "%s", found);
    }

    return rc;
}


static uint32_t
image_be32(const unsigned char *p)
{
    uint32_t  n;

    memcpy(&n, p, sizeof(n));

    return be32toh(n);
}


static uint64_t
image_be64(const unsigned char *p)
{
    uint64_t  n;

    memcpy(&n, p, sizeof(n));

    return be64toh(n);
}


/* The fields of the header that say what QEMU would open or refuse. */
static const char *
image_qcow2_problem(const unsigned char *head)
{
    uint32_t  version = image_be32(head + 4);
    uint64_t  features = version == 3 ? image_be64(head + 72) : 0;

    return version != 2 && version != 3 ? "is qcow2 of another version"
           : image_be64(head + 8) != 0 ? "has a backing file"
           : image_be32(head + 32) != 0 ? "is encrypted"
           : (features & 4) != 0 ? "has an external data file"
           : (features & 2) != 0 ? "is marked as corrupt" : NULL;
}


/* Formats that would be taken for a raw disk otherwise. */
static const char *
image_other_format(const unsigned char *head)
{
    size_t  i;

    static const struct {
        size_t       offset;
        size_t       len;
        const char  *magic;
        const char  *problem;
    } formats[] = {
        { 0, 4, "KDMV", "is VMDK" },
        { 0, 4, "COWD", "is VMDK" },
        { 0, 21, "# Disk DescriptorFile", "is VMDK" },
        { 64, 4, "\x7f\x10\xda\xbe", "is VDI" },
        { 0, 8, "vhdxfile", "is VHDX" },
        { 0, 8, "conectix", "is VHD" },
        { 0, 4, "QED", "is QED" },
        { 0, 2, "\x1f\x8b", "is compressed (gzip)" },
        { 0, 6, "\xfd" "7zXZ", "is compressed (xz)" },
        { 0, 4, "\x28\xb5\x2f\xfd", "is compressed (zstd)" },
        { 0, 3, "BZh", "is compressed (bzip2)" },
        { 0, 4, "\x7f" "ELF", "is a program" }
    };

    for (i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (memcmp(head + formats[i].offset, formats[i].magic,
                   formats[i].len) == 0)
        {
            return formats[i].problem;
        }
    }

    return NULL;
}


static int
image_file_refuse(const char *path, const char *problem, hatch_err_t *err)
{
    return hatch_err_set(err, HATCH_ERR_INVALID, "\"rootfs_path\" must be a "
                         "qcow2 image that stands alone or a raw one; "
                         "\"%.100s\" %s", strrchr(path, '/') + 1, problem);
}


/* What QEMU itself says of it, told the format. */
static int
image_qcow2_size(const char *path, uint64_t *size, hatch_err_t *err)
{
    int                        rc;
    char                       out[8192];
    const char                *argv[] = {
        "qemu-img", "info", "-U", "-f", "qcow2", "--output=json", path, NULL
    };
    hatch_err_t                why;
    cleanup_json json_object  *info = NULL;

    rc = tool_run(argv, "cannot look at the image", out, sizeof(out), &why);

    if (rc == 0) {
        rc = hatch_json_parse(out, strlen(out), &info, &why);
    }

    if (rc != 0) {
        return hatch_err_set(err, rc, "\"rootfs_path\": \"%.60s\": %s",
                             strrchr(path, '/') + 1, why.text);
    }

    *size = (uint64_t) hatch_json_integer(info, "virtual-size", 0);

    return 0;
}


int
image_file_look(const char *path, char format[8], uint64_t *size,
    hatch_err_t *err)
{
    int            fd;
    ssize_t        n = -1;
    const char    *problem;
    struct stat    st;
    unsigned char  head[IMAGE_HEAD];

    memset(head, 0, sizeof(head));
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd != -1) {
        n = fstat(fd, &st) == 0 ? read(fd, head, sizeof(head)) : -1;
        (void) close(fd);
    }

    if (n < 0) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"rootfs_path\": cannot "
                             "read \"%.100s\": %s", path, strerror(errno));
    }

    if (memcmp(head, "QFI\xfb", 4) == 0) {
        (void) snprintf(format, 8, "qcow2");
        problem = image_qcow2_problem(head);

        return problem != NULL ? image_file_refuse(path, problem, err)
                               : image_qcow2_size(path, size, err);
    }

    problem = image_other_format(head);

    if (problem == NULL && st.st_size % 512 != 0) {
        problem = "is not a whole number of sectors";
    }

    if (problem != NULL) {
        return image_file_refuse(path, problem, err);
    }

    (void) snprintf(format, 8, "raw");
    *size = (uint64_t) st.st_size;

    return 0;
}
