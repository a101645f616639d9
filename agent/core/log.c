#define _GNU_SOURCE

#include "log.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>


static _Atomic log_level_t  log_level = LOG_INFO;
static int  log_journal;                /* standard error is journald's */

static const char *const  log_names[] = { "error", "warn", "info", "debug" };


void
log_open(log_level_t level)
{
    char         name[64];
    const char  *journal = getenv("JOURNAL_STREAM");
    struct stat  st;

    log_level = level;

    /* whoever sent standard error elsewhere has left the variable behind */
    if (journal != NULL && fstat(STDERR_FILENO, &st) == 0) {
        (void) snprintf(name, sizeof(name), "%ju:%ju", (uintmax_t) st.st_dev,
                        (uintmax_t) st.st_ino);
        log_journal = strcmp(name, journal) == 0;
    }
}


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


/*
 * journald has a clock of its own, and reads syslog's number of a level in
 * front of a line.
 */
static int
log_prefix(char *line, size_t size, log_level_t level)
{
    int              n;
    struct tm        tm;
    struct timespec  ts;

    static const int  syslog_levels[] = { 3, 4, 6, 7 };

    if (log_journal) {
        return snprintf(line, size, "<%d>", syslog_levels[level]);
    }

    (void) clock_gettime(CLOCK_REALTIME, &ts);
    (void) gmtime_r(&ts.tv_sec, &tm);

    n = (int) strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);

    return n + snprintf(line + n, size - (size_t) n, ".%03ldZ %s: ",
                        ts.tv_nsec / 1000000, log_names[level]);
}


void
log_event(log_level_t level, const char *format, ...)
{
    int      n, len, i;
    char     line[1024];
    va_list  args;

    if (level > log_level) {
        return;
    }

    n = log_prefix(line, sizeof(line), level);

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
