#define _GNU_SOURCE

#include "notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>


#define NOTIFY_TEXT  512


static struct {
    int                 fd;             /* -1: nobody is to be told */
    socklen_t           len;            /* of address */
    struct sockaddr_un  address;
    unsigned            watchdog;       /* ms */
    char                status[NOTIFY_TEXT];
} notify = { .fd = -1 };


/* A path, or "@" and a name that is in no file system. */
static int
notify_address(const char *name)
{
    size_t  len = strlen(name);

    if ((name[0] != '/' && name[0] != '@') || len < 2
        || len >= sizeof(notify.address.sun_path))
    {
        return -1;
    }

    notify.address.sun_family = AF_UNIX;
    memcpy(notify.address.sun_path, name, len);

    if (name[0] == '@') {
        notify.address.sun_path[0] = '\0';
    }

    notify.len = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + len);

    return 0;
}


/* WATCHDOG_PID says whose it is: a parent may have left it behind. */
static unsigned
notify_interval(void)
{
    char        *end;
    uint64_t     usec;
    const char  *text = getenv("WATCHDOG_USEC");
    const char  *pid = getenv("WATCHDOG_PID");

    if (text == NULL
        || (pid != NULL && strtol(pid, NULL, 10) != (long) getpid()))
    {
        return 0;
    }

    errno = 0;
    usec = strtoull(text, &end, 10);

    return errno != 0 || end == text || *end != '\0' || usec < 2000
           || usec / 1000 > UINT32_MAX ? 0 : (unsigned) (usec / 1000);
}


void
notify_open(void)
{
    const char  *name = getenv("NOTIFY_SOCKET");

    if (name != NULL && notify_address(name) == 0) {
        notify.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        notify.watchdog = notify.fd != -1 ? notify_interval() : 0;
    }

    (void) unsetenv("NOTIFY_SOCKET");
    (void) unsetenv("WATCHDOG_USEC");
    (void) unsetenv("WATCHDOG_PID");
}


void
notify_send(const char *format, ...)
{
    int      n;
    char     text[NOTIFY_TEXT];
    va_list  args;

    if (notify.fd == -1) {
        return;
    }

    va_start(args, format);
    n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);

    n = n < (int) sizeof(text) ? n : (int) sizeof(text) - 1;

    /* a manager that does not listen is no reason to wait, or to fail */
    (void) sendto(notify.fd, text, (size_t) n, MSG_DONTWAIT | MSG_NOSIGNAL,
                  (struct sockaddr *) &notify.address, notify.len);
}


void
notify_status(const char *text)
{
    if (strcmp(notify.status, text) != 0) {
        (void) snprintf(notify.status, sizeof(notify.status), "%s", text);
        notify_send("STATUS=%s", text);
    }
}


void
notify_reloading(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);
    notify_send("RELOADING=1\nMONOTONIC_USEC=%lld",
                (long long) ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
}


unsigned
notify_watchdog(void)
{
    return notify.watchdog;
}
