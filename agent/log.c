#define _GNU_SOURCE

#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>


static log_level_t  log_level = LOG_INFO;

static const char *const  log_names[] = { "error", "warn", "info", "debug" };


void
log_set_level(log_level_t level)
{
    log_level = level;
}


int
log_parse_level(const char *name)
{
    int  i;

    for (i = LOG_ERROR; i <= LOG_DEBUG; i++) {
        if (strcmp(log_names[i], name) == 0) {
            return i;
        }
    }

    return -1;
}


void
log_event(log_level_t level, const char *format, ...)
{
    int               n, len, i;
    char              line[1024];
    va_list           args;
    struct tm         tm;
    struct timespec   ts;

    if (level > log_level) {
        return;
    }

    (void) clock_gettime(CLOCK_REALTIME, &ts);
    (void) gmtime_r(&ts.tv_sec, &tm);

    n = (int) strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
    n += snprintf(line + n, sizeof(line) - (size_t) n, ".%03ldZ %s: ",
                  ts.tv_nsec / 1000000, log_names[level]);

    va_start(args, format);
    len = n + vsnprintf(line + n, sizeof(line) - (size_t) n - 1, format,
                        args);
    va_end(args);

    if (len > (int) sizeof(line) - 2) {
        len = (int) sizeof(line) - 2;
    }

    for (i = n; i < len; i++) {
        if ((unsigned char) line[i] < 0x20 || line[i] == 0x7f) {
            line[i] = '?';
        }
    }

    line[len++] = '\n';

    /* one write: lines of several threads do not mix */
    (void) !write(STDERR_FILENO, line, (size_t) len);
}
