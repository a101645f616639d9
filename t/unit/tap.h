/* TAP for C: ok(), is_int(), is_str(), and tap_done() at the end of main. */

#ifndef HATCH_TAP_H_INCLUDED
#define HATCH_TAP_H_INCLUDED

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


static int  tap_n, tap_failed;


#define ok(cond, ...)  tap_ok((cond) != 0, __FILE__, __LINE__, __VA_ARGS__)

#define is_int(got, want, ...)                                                \
    do {                                                                      \
        long long  got_ = (long long) (got), want_ = (long long) (want);      \
        if (!ok(got_ == want_, __VA_ARGS__)) {                                \
            printf("#   got: %lld\n#  want: %lld\n", got_, want_);            \
        }                                                                     \
    } while (0)

#define is_str(got, want, ...)                                                \
    do {                                                                      \
        const char  *got_ = (got), *want_ = (want);                           \
        if (!ok(strcmp(got_, want_) == 0, __VA_ARGS__)) {                     \
            printf("#   got: %s\n#  want: %s\n", got_, want_);                \
        }                                                                     \
    } while (0)

/* The text contains the words. */
#define like(got, words, ...)                                                 \
    do {                                                                      \
        const char  *got_ = (got), *words_ = (words);                         \
        if (!ok(strstr(got_, words_) != NULL, __VA_ARGS__)) {                 \
            printf("#   got: %s\n#  without: %s\n", got_, words_);            \
        }                                                                     \
    } while (0)


static inline int __attribute__((format(printf, 4, 5)))
tap_ok(int cond, const char *file, int line, const char *format, ...)
{
    __builtin_va_list  args;

    printf("%sok %d - ", cond ? "" : "not ", ++tap_n);
    __builtin_va_start(args, format);
    vprintf(format, args);
    __builtin_va_end(args);
    printf("\n");

    if (!cond) {
        tap_failed++;
        printf("# failed at %s:%d\n", file, line);
    }

    fflush(stdout);

    return cond;
}


static inline int
tap_done(void)
{
    printf("1..%d\n", tap_n);

    return tap_failed != 0;
}


/* A scratch directory below $TMPDIR that tap_cleanup() removes. */
static inline const char *
tap_dir(void)
{
    static char  dir[128];

    if (dir[0] == '\0') {
        const char  *tmp = getenv("TMPDIR");

        (void) snprintf(dir, sizeof(dir), "%s/hatch-unit.XXXXXX",
                        tmp != NULL ? tmp : "/tmp");

        if (mkdtemp(dir) == NULL) {
            printf("Bail out! cannot make a directory\n");
            exit(1);
        }
    }

    return dir;
}


static inline void
tap_cleanup(void)
{
    char  command[160];

    (void) snprintf(command, sizeof(command), "rm -rf '%s'", tap_dir());
    (void) !system(command);
}

#endif /* HATCH_TAP_H_INCLUDED */
