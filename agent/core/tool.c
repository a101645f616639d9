#define _GNU_SOURCE

#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>


extern char  **environ;


/* Reads to the end; what does not fit is read and dropped. */
static void
tool_collect(int fd, char *out, size_t size)
{
    char     rest[512];
    size_t   used = 0;
    ssize_t  n;

    for ( ;; ) {
        n = used + 1 < size ? read(fd, out + used, size - 1 - used)
                            : read(fd, rest, sizeof(rest));

        if (n < 0 && errno == EINTR) {
            continue;
        }

        if (n <= 0) {
            break;
        }

        used += used + 1 < size ? (size_t) n : 0;
    }

    out[used] = '\0';
}


static int
tool_start(const char *const *argv, int fd, pid_t *pid)
{
    int                         rc;
    sigset_t                    none;
    posix_spawnattr_t           attr;
    posix_spawn_file_actions_t  actions;

    /* our threads block signals; the tool must not inherit that */
    (void) sigemptyset(&none);
    (void) posix_spawnattr_init(&attr);
    (void) posix_spawnattr_setsigmask(&attr, &none);
    (void) posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);

    (void) posix_spawn_file_actions_init(&actions);
    (void) posix_spawn_file_actions_addopen(&actions, STDIN_FILENO,
                                            "/dev/null", O_RDONLY, 0);
    (void) posix_spawn_file_actions_adddup2(&actions, fd, STDOUT_FILENO);
    (void) posix_spawn_file_actions_adddup2(&actions, fd, STDERR_FILENO);

    rc = posix_spawnp(pid, argv[0], &actions, &attr, (char **) argv, environ);

    (void) posix_spawn_file_actions_destroy(&actions);
    (void) posix_spawnattr_destroy(&attr);

    return rc;
}


const char *
tool_package(const char *name)
{
    size_t  i;

    static const struct {
        const char  *name;
        const char  *package;
    } tools[] = {
        { "qemu-img", "qemu-utils" },
        { "xorriso", "xorriso" },
        { "dnsmasq", "dnsmasq-base" },
        { "iptables", "iptables" },
        { "libvirtd", "libvirt-daemon-system" }
    };

    for (i = 0; i < sizeof(tools) / sizeof(tools[0]); i++) {
        if (strcmp(tools[i].name, name) == 0) {
            return tools[i].package;
        }
    }

    return NULL;
}


/* Why a tool could not be run. */
static int
tool_absent(const char *name, const char *doing, int errnum, hatch_err_t *err)
{
    const char  *package = tool_package(name);

    if (errnum != ENOENT) {
        return hatch_err_set(err, HATCH_ERR_SYSTEM, "%s: cannot run \"%s\": "
                             "%s", doing, name, strerror(errnum));
    }

    return hatch_err_set(err, HATCH_ERR_SYSTEM, "%s: cannot run \"%s\": it is "
                         "not installed%s%s%s", doing, name,
                         package != NULL ? " (Debian: apt install " : "",
                         package != NULL ? package : "",
                         package != NULL ? ")" : "");
}


int
tool_is_there(const char *name)
{
    char         full[PATH_MAX];
    size_t       len;
    const char  *path = getenv("PATH");

    /* what posix_spawnp() does without one */
    path = path != NULL ? path : "/bin:/usr/bin";

    do {
        len = strcspn(path, ":");
        (void) snprintf(full, sizeof(full), "%.*s/%s", (int) len, path, name);

        if (access(full, X_OK) == 0) {
            return 1;
        }

        path += len;
    } while (*path++ == ':');

    return 0;
}


static int
tool_refused(const char *name, const char *doing, int status, char *out,
    hatch_err_t *err)
{
    char  *line;

    if (WIFSIGNALED(status)) {
        return hatch_err_set(err, HATCH_ERR_SYSTEM, "%s: signal %d killed %s",
                             doing, WTERMSIG(status), name);
    }

    while (out[0] != '\0' && out[strlen(out) - 1] == '\n') {
        out[strlen(out) - 1] = '\0';
    }

    line = strrchr(out, '\n');
    line = line != NULL ? line + 1 : out;

    return line[0] != '\0'
           ? hatch_err_set(err, HATCH_ERR_INVALID, "%s: %s", doing, line)
           : hatch_err_set(err, HATCH_ERR_INVALID, "%s: %s ended with status "
                           "%d and said nothing", doing, name,
                           WEXITSTATUS(status));
}


int
tool_run(const char *const *argv, const char *doing, char *out, size_t size,
    hatch_err_t *err)
{
    int    fds[2], rc, status = 0;
    pid_t  pid;

    if (pipe2(fds, O_CLOEXEC) == -1) {
        return hatch_err_errno(err, errno, "%s", doing);
    }

    rc = tool_start(argv, fds[1], &pid);
    (void) close(fds[1]);

    if (rc != 0) {
        (void) close(fds[0]);
        return tool_absent(argv[0], doing, rc, err);
    }

    tool_collect(fds[0], out, size);
    (void) close(fds[0]);

    while (waitpid(pid, &status, 0) == -1 && errno == EINTR) {
        /* void */
    }

    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return 0;
    }

    return tool_refused(argv[0], doing, status, out, err);
}
