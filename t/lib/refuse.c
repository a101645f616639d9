/*
 * Loaded into an agent by LD_PRELOAD: lets one call of libvirt's, or of the
 * system, fail.  REFUSE names a file with the order "NUMBER NAME NTH CODE": the
 * NTH call of NAME from now on fails, with that code of libvirt's or errno; the
 * file is gone then.  NUMBER tells one order from the next.  REFUSE_LOG names
 * a file in which each call is noted while it is there.
 *
 * Of the system's calls only the agent's own are taken: what libvirt and other
 * libraries do is their business.
 */

#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>


#define REFUSE_TEXT  "refused by a test"

static pthread_mutex_t    refuse_lock = PTHREAD_MUTEX_INITIALIZER;
static const char        *refuse_file, *refuse_log;
static const void        *refuse_agent;
static long               refuse_pid, refuse_number;
static int                refuse_seen;

static __thread virError  refuse_error;
static __thread int       refuse_failed;


/* Not in what the agent starts: its tools have this loaded, too. */
static void __attribute__((constructor))
refuse_start(void)
{
    Dl_info      info;
    const void  *entry = (const void *) getauxval(AT_ENTRY);

    if (strcmp(program_invocation_short_name, "hatch-agent") == 0
        && dladdr(entry, &info) != 0)
    {
        refuse_agent = info.dli_fbase;
        refuse_file = getenv("REFUSE");
        refuse_log = getenv("REFUSE_LOG");
        refuse_pid = syscall(SYS_getpid);
    }
}


static int
refuse_is_agent(const void *caller)
{
    Dl_info  info;

    return dladdr(caller, &info) != 0 && info.dli_fbase == refuse_agent;
}


static void
refuse_note(const char *name)
{
    char  line[64];
    long  fd = refuse_log == NULL ? -1
               : syscall(SYS_openat, AT_FDCWD, refuse_log,
                         O_WRONLY | O_APPEND | O_CLOEXEC);

    if (fd != -1) {
        (void) snprintf(line, sizeof(line), "%s\n", name);
        (void) syscall(SYS_write, fd, line, strlen(line));
        (void) syscall(SYS_close, fd);
    }
}


/* The code with which this call is to fail, or 0. */
static int
refuse_code(const char *name)
{
    int   nth, code = 0;
    long  fd, n, number;
    char  order[128], wanted[64];

    fd = syscall(SYS_openat, AT_FDCWD, refuse_file, O_RDONLY | O_CLOEXEC);
    if (fd == -1) {
        return 0;
    }

    n = syscall(SYS_read, fd, order, sizeof(order) - 1);
    (void) syscall(SYS_close, fd);
    order[n > 0 ? n : 0] = '\0';

    if (sscanf(order, "%ld %63s %d %d", &number, wanted, &nth, &code) != 4
        || strcmp(wanted, name) != 0)
    {
        return 0;
    }

    refuse_seen = number == refuse_number ? refuse_seen + 1 : 1;
    refuse_number = number;

    if (refuse_seen != nth) {
        return 0;
    }

    (void) syscall(SYS_unlinkat, AT_FDCWD, refuse_file, 0);

    return code;
}


/* Is this call to fail?  Then errno is set, as libc's calls have it. */
static int
refuse(const char *name, const void *caller)
{
    int  code, saved = errno;

    if (refuse_file == NULL || syscall(SYS_getpid) != refuse_pid
        || (caller != NULL && !refuse_is_agent(caller)))
    {
        return 0;
    }

    (void) pthread_mutex_lock(&refuse_lock);
    refuse_note(name);
    code = refuse_code(name);
    (void) pthread_mutex_unlock(&refuse_lock);
    errno = code != 0 ? code : saved;

    return code;
}


/* The same for libvirt, which has an error for each thread. */
static int
refuse_virt(const char *name)
{
    int  code = refuse(name, NULL);

    refuse_failed = code != 0;

    if (code != 0) {
        refuse_error.code = code;
        refuse_error.domain = VIR_FROM_DOMAIN;
        refuse_error.message = (char *) REFUSE_TEXT;
        refuse_error.level = VIR_ERR_ERROR;
    }

    return code;
}


virErrorPtr
virGetLastError(void)
{
    virErrorPtr  (*real)(void) = (virErrorPtr (*)(void))
                                 dlsym(RTLD_NEXT, "virGetLastError");

    return refuse_failed ? &refuse_error : real();
}


/*
 * All that they are given, at most six of it, is passed on as it came: in
 * registers, as the ABIs of 64-bit machines have it.
 */
typedef long  (*refuse_call_t)(long, long, long, long, long, long);

#define VIRT(name, failed)                                                    \
    long refused_##name(long a, long b, long c, long d, long e, long f)       \
        __asm__(#name);                                                       \
    long refused_##name(long a, long b, long c, long d, long e, long f)       \
    {                                                                         \
        refuse_call_t  real = (refuse_call_t) dlsym(RTLD_NEXT, #name);        \
                                                                              \
        return refuse_virt(#name) != 0 ? (failed) : real(a, b, c, d, e, f);   \
    }

VIRT(virConnectGetAllDomainStats, -1)
VIRT(virConnectGetCapabilities, 0)
VIRT(virConnectGetDomainCapabilities, 0)
VIRT(virConnectIsAlive, -1)
VIRT(virConnectListAllDomains, -1)
VIRT(virConnectListAllNetworks, -1)
VIRT(virDomainCreate, -1)
VIRT(virDomainDefineXMLFlags, 0)
VIRT(virDomainDestroy, -1)
VIRT(virDomainGetInfo, -1)
VIRT(virDomainGetMetadata, 0)
VIRT(virDomainGetState, -1)
VIRT(virDomainGetXMLDesc, 0)
VIRT(virDomainHasManagedSaveImage, -1)
VIRT(virDomainIsActive, -1)
VIRT(virDomainIsPersistent, -1)
VIRT(virDomainLookupByName, 0)
VIRT(virDomainManagedSave, -1)
VIRT(virDomainManagedSaveRemove, -1)
VIRT(virDomainRestore, -1)
VIRT(virDomainRestoreFlags, -1)
VIRT(virDomainResume, -1)
VIRT(virDomainSave, -1)
VIRT(virDomainSetMetadata, -1)
VIRT(virDomainShutdown, -1)
VIRT(virDomainSuspend, -1)
VIRT(virDomainUndefineFlags, -1)
VIRT(virNetworkCreate, -1)
VIRT(virNetworkDefineXML, 0)
VIRT(virNetworkGetXMLDesc, 0)
VIRT(virNetworkIsActive, -1)
VIRT(virNetworkLookupByName, 0)
VIRT(virNetworkUpdate, -1)


/* libc's, by their own types, which headers would say as well. */
#define LIBC(type, name, failed, parameters, ...)                             \
    type refused_##name parameters __asm__(#name);                            \
    type refused_##name parameters                                            \
    {                                                                         \
        type  (*real) parameters = (type (*) parameters)                      \
                                   dlsym(RTLD_NEXT, #name);                   \
                                                                              \
        return refuse(#name, __builtin_return_address(0)) != 0                \
               ? (failed) : real(__VA_ARGS__);                                \
    }

LIBC(int, chmod, -1, (const char *path, mode_t mode), path, mode)
LIBC(ssize_t, copy_file_range, -1, (int from, off64_t *at, int to,
     off64_t *to_at, size_t n, unsigned flags), from, at, to, to_at, n, flags)
LIBC(int, fchmod, -1, (int fd, mode_t mode), fd, mode)
LIBC(int, fsync, -1, (int fd), fd)
LIBC(int, ftruncate, -1, (int fd, off_t size), fd, size)
LIBC(ssize_t, getrandom, -1, (void *p, size_t n, unsigned flags), p, n, flags)
LIBC(int, link, -1, (const char *from, const char *to), from, to)
LIBC(int, mkdir, -1, (const char *path, mode_t mode), path, mode)
LIBC(ssize_t, pread, -1, (int fd, void *p, size_t n, off_t at), fd, p, n, at)
LIBC(int, rename, -1, (const char *from, const char *to), from, to)
LIBC(int, rmdir, -1, (const char *path), path)
LIBC(ssize_t, sendfile, -1, (int to, int from, off_t *at, size_t n),
     to, from, at, n)
LIBC(int, unlink, -1, (const char *path), path)
LIBC(ssize_t, write, -1, (int fd, const void *p, size_t n), fd, p, n)
LIBC(void *, opendir, NULL, (const char *path), path)

/* these return what errno would be */
LIBC(int, pthread_create, errno, (pthread_t *thread, const void *attr,
     void *(*run)(void *), void *arg), thread, attr, run, arg)
LIBC(int, posix_spawnp, errno, (pid_t *pid, const char *file,
     const void *actions, const void *attr, char *const *argv,
     char *const *env), pid, file, actions, attr, argv, env)


static int
refuse_open(const char *name, const char *path, int flags, mode_t mode,
    const void *caller)
{
    int  (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))
                                           dlsym(RTLD_NEXT, "open");

    return refuse(name, caller) != 0 ? -1 : real(path, flags, mode);
}


int refused_open(const char *path, int flags, ...) __asm__("open");

int
refused_open(const char *path, int flags, ...)
{
    mode_t   mode;
    va_list  args;

    va_start(args, flags);
    mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);

    return refuse_open("open", path, flags, mode, __builtin_return_address(0));
}


int refused_open_2(const char *path, int flags) __asm__("__open_2");

int
refused_open_2(const char *path, int flags)
{
    return refuse_open("open", path, flags, 0, __builtin_return_address(0));
}
