#define _GNU_SOURCE

#include "qemu_user.h"
#include "virt.h"
#include "xml.h"
#include "core/cleanup.h"

#include <endian.h>
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>


/* Of the child: it could not become that user. */
#define QEMU_USER_UNTRIED  255

/* An access list as the kernel gives it: a version, then entries. */
#define QEMU_USER_ACL      "system.posix_acl_access"
#define QEMU_USER_ACL_MAX  512
#define ACL_USER_OBJ       0x01
#define ACL_USER           0x02
#define ACL_GROUP_OBJ      0x04
#define ACL_GROUP          0x08
#define ACL_MASK           0x10
#define ACL_OTHER          0x20

typedef struct {
    uint16_t  tag;
    uint16_t  rights;
    uint32_t  id;
} acl_entry_t;


/* --- who it is --- */

int
qemu_user_find(virConnectPtr conn, qemu_user_t *user)
{
    gid_t               gid;
    char                text[4096];
    struct passwd       entry, *found = NULL;
    cleanup_free char  *xml = NULL;

    if (virt_is_remote(conn)) {
        return -1;
    }

    xml = virConnectGetCapabilities(conn);

    if (xml == NULL || xml_read_qemu_user(xml, &user->uid, &gid) != 0) {
        return -1;
    }

    user->n = QEMU_USER_GROUPS - 1;
    (void) snprintf(user->name, sizeof(user->name), "%d", (int) user->uid);

    if (getpwuid_r(user->uid, &entry, text, sizeof(text), &found) != 0
        || found == NULL)
    {
        user->n = 0;

    } else {
        (void) snprintf(user->name, sizeof(user->name), "%s", found->pw_name);

        if (getgrouplist(found->pw_name, found->pw_gid, user->group, &user->n)
            == -1)
        {
            user->n = 0;
        }
    }

    user->group[user->n++] = gid;

    return 0;
}


/* --- what is tried --- */

/* Not by the C library, which would have the threads follow. */
static int
qemu_user_become(const qemu_user_t *user)
{
    const long  uid = (long) user->uid;
    const long  gid = (long) user->group[user->n - 1];

    return syscall(SYS_setgroups, (long) user->n, user->group) == 0
           && syscall(SYS_setresgid, gid, gid, gid) == 0
           && syscall(SYS_setresuid, uid, uid, uid) == 0 ? 0 : -1;
}


int
qemu_user_run(const qemu_user_t *user, int (*run)(const void *arg),
    const void *arg)
{
    int    status;
    pid_t  pid = fork();

    if (pid == 0) {
        _exit(qemu_user_become(user) == 0 ? run(arg) : QEMU_USER_UNTRIED);
    }

    if (pid == -1) {
        return -1;
    }

    while (waitpid(pid, &status, 0) == -1) {
        if (errno != EINTR) {
            return -1;
        }
    }

    return WIFEXITED(status) && WEXITSTATUS(status) != QEMU_USER_UNTRIED
           ? WEXITSTATUS(status) : -1;
}


/* --- what a file says --- */

static int
qemu_user_in(const qemu_user_t *user, gid_t gid)
{
    int  i;

    for (i = 0; i < user->n; i++) {
        if (user->group[i] == gid) {
            return 1;
        }
    }

    return 0;
}


/* By acl(5), "access check algorithm"; -1 if the file has no list. */
static int
qemu_user_acl(const qemu_user_t *user, const char *path,
    const struct stat *st, unsigned rights)
{
    char          text[QEMU_USER_ACL_MAX];
    size_t        i, n;
    ssize_t       len = getxattr(path, QEMU_USER_ACL, text, sizeof(text));
    unsigned      has, mask = 7, other = 0, group = 0, in_group = 0;
    acl_entry_t   e;

    if (len < 4) {
        return -1;
    }

    n = ((size_t) len - 4) / sizeof(e);

    for (i = 0; i < n; i++) {
        memcpy(&e, text + 4 + i * sizeof(e), sizeof(e));

        if (le16toh(e.tag) == ACL_MASK) {
            mask = le16toh(e.rights);
        }
    }

    for (i = 0; i < n; i++) {
        memcpy(&e, text + 4 + i * sizeof(e), sizeof(e));
        has = le16toh(e.rights);

        switch (le16toh(e.tag)) {

        case ACL_USER:
            if (le32toh(e.id) == user->uid) {
                return (has & mask & rights) == rights;
            }
            break;

        case ACL_GROUP_OBJ:
        case ACL_GROUP:
            if (qemu_user_in(user, le16toh(e.tag) == ACL_GROUP
                                   ? le32toh(e.id) : st->st_gid))
            {
                in_group = 1;
                group |= (has & mask & rights) == rights;
            }
            break;

        case ACL_OTHER:
            other = has;
            break;
        }
    }

    return in_group ? (int) group : (other & rights) == rights;
}


int
qemu_user_may(const qemu_user_t *user, const char *path, int rights)
{
    int          listed;
    unsigned     mode, wanted = (unsigned) rights;
    struct stat  st;

    if (stat(path, &st) == -1) {
        return -1;
    }

    mode = st.st_mode & 07777;

    if (st.st_uid == user->uid) {
        return (mode >> 6 & wanted) == wanted;
    }

    listed = qemu_user_acl(user, path, &st, wanted);

    if (listed != -1) {
        return listed;
    }

    return (mode >> (qemu_user_in(user, st.st_gid) ? 3 : 0) & wanted)
           == wanted;
}


/* --- the way to a file --- */

/* As far as it is there, without links, dot and dot-dot. */
static void
qemu_user_resolve(const char *path, char real[PATH_MAX])
{
    char  *end, prefix[PATH_MAX];

    (void) snprintf(prefix, sizeof(prefix), "%s", path);

    while (realpath(prefix, real) == NULL) {
        end = strrchr(prefix, '/');

        if (end == NULL || end == prefix) {
            (void) snprintf(real, PATH_MAX, "/");
            return;
        }

        *end = '\0';
    }
}


/* The first n bytes of a path, which end with a component. */
static void
qemu_user_prefix(const char *path, size_t n, char prefix[PATH_MAX])
{
    memcpy(prefix, path, n);
    prefix[n] = '\0';
}


/* The length of the next prefix after one of n bytes; 0: there is none. */
static size_t
qemu_user_next(const char *path, size_t n)
{
    if (path[n] == '\0' || path[n + 1] == '\0') {
        return 0;
    }

    return n + 1 + strcspn(path + n + 1, "/");
}


/* For qemu_user_run(): the number of the first folder that stops him. */
static int
qemu_user_walk(const void *arg)
{
    int          i = 1;
    char         prefix[PATH_MAX];
    size_t       n = 0;
    struct stat  st;
    const char  *path = arg;

    while ((n = qemu_user_next(path, n)) != 0 && i < QEMU_USER_UNTRIED) {
        qemu_user_prefix(path, n, prefix);

        if (stat(prefix, &st) == -1) {
            return errno == EACCES ? i - 1 : 0;
        }

        if (S_ISDIR(st.st_mode) && access(prefix, X_OK) == -1) {
            return i;
        }

        i++;
    }

    return 0;
}


/* The same by what the folders say. */
static int
qemu_user_read_way(const qemu_user_t *user, const char *path)
{
    int          i = 1;
    char         prefix[PATH_MAX];
    size_t       n = 0;
    struct stat  st;

    while ((n = qemu_user_next(path, n)) != 0) {
        qemu_user_prefix(path, n, prefix);

        if (stat(prefix, &st) == 0 && S_ISDIR(st.st_mode)
            && qemu_user_may(user, prefix, X_OK) == 0)
        {
            return i;
        }

        i++;
    }

    return 0;
}


int
qemu_user_reach(const qemu_user_t *user, const char *path, hatch_err_t *err)
{
    int     stopped;
    char    real[PATH_MAX], prefix[PATH_MAX];
    size_t  n = 0;

    if (user->uid == 0) {
        return 0;
    }

    qemu_user_resolve(path, real);
    stopped = qemu_user_run(user, qemu_user_walk, real);

    if (stopped == -1) {
        stopped = qemu_user_read_way(user, real);
    }

    if (stopped == 0) {
        return 0;
    }

    while (stopped-- > 0) {
        n = qemu_user_next(real, n);
    }

    qemu_user_prefix(real, n, prefix);

    return hatch_err_set(err, HATCH_ERR_DENIED, "QEMU's user, %s, cannot pass "
                         "through \"%.80s\"; mend it with \"chmod o+x %.80s\"",
                         user->name, prefix, prefix);
}


/* --- a VM that could not be started --- */

typedef struct {
    const qemu_user_t  *user;
    hatch_err_t        *err;
} explain_t;


static int
qemu_user_explain_file(void *ctx, const char *path)
{
    explain_t  *e = ctx;

    return qemu_user_reach(e->user, path, e->err) != 0;
}


int
qemu_user_explain(virConnectPtr conn, const char *xml, hatch_err_t *err)
{
    hatch_err_t  why;
    qemu_user_t  user;
    explain_t    explain = { &user, &why };

    if (qemu_user_find(conn, &user) != 0
        || xml_each_file(xml, qemu_user_explain_file, &explain) != 1)
    {
        return 0;
    }

    return hatch_err_set(err, err->code, "cannot start the VM: %s", why.text);
}
