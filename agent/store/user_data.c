#define _GNU_SOURCE

#include "user_data.h"

#include "hatch_json.h"

#include <ctype.h>
#include <string.h>


/* cloud-init looks for the header of a MIME message in that many bytes. */
#define USER_DATA_MIME_HEAD  4096

#define USER_DATA_BOM  "\xef\xbb\xbf"


static int
user_data_begins(const char *text, const char *words)
{
    return strncasecmp(text, words, strlen(words)) == 0;
}


/*
 * What a text may begin with.  cloud-init passes over white space before it,
 * but the kernel does not before "#!", and Jinja's line must be the first.
 */
static int
user_data_is_known(const char *text)
{
    size_t  i;

    static const char *const  known[] = {
        "#cloud-config", "#cloud-boothook", "#include", "#part-handler"
    };

    if (user_data_begins(text, "#!")) {
        return 1;
    }

    text += strspn(text, " \t\r\n");

    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (user_data_begins(text, known[i])) {
            return 1;
        }
    }

    return 0;
}


/*
 * A template whose first line says that it is Jinja's.  What it makes has to
 * be cloud-config or a script; if a statement of Jinja's stands there, only
 * the guest can tell.
 */
static int
user_data_is_jinja(const char *text)
{
    if (!user_data_begins(text, "## template: jinja")) {
        return 0;
    }

    text = strchr(text, '\n');

    if (text == NULL) {
        return 0;
    }

    text++;

    if (user_data_begins(text, "#!")) {
        return 1;
    }

    text += strspn(text, " \t\r\n");

    return *text == '{' || user_data_begins(text, "#cloud-config");
}


/* A line "Name: value" of a header, at p? */
static int
user_data_is_field(const char *p)
{
    size_t  n = 0;

    while (isalnum((unsigned char) p[n]) || p[n] == '-') {
        n++;
    }

    return n != 0 && p[n] == ':';
}


/* A message with MIME-Version and Content-Type in its header. */
static int
user_data_is_mime(const char *text)
{
    int          version = 0, type = 0;
    const char  *p, *end;

    for (p = text; *p != '\0' && *p != '\n' && *p != '\r'; p = end + 1) {

        if (*p == ' ' || *p == '\t') {
            if (p == text) {
                return 0;
            }

        } else if (!user_data_is_field(p)) {
            return 0;
        }

        if (user_data_begins(p, "mime-version:")) {
            version = p - text + sizeof("mime-version:") - 1
                      <= USER_DATA_MIME_HEAD;
        }

        type |= user_data_begins(p, "content-type:");
        end = strchr(p, '\n');

        if (end == NULL) {
            return 0;
        }
    }

    return version && type;
}


/* Long enough, and of nothing but base64's characters? */
static int
user_data_is_base64(const char *text)
{
    size_t  n;

    n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                     "0123456789+/\r\n");

    return n >= 8 && text[n + strspn(text + n, "=\r\n")] == '\0';
}


#define USER_DATA_RULE                                                        \
    "it must begin with #cloud-config, #!, #include, #cloud-boothook, "       \
    "#part-handler or \"## template: jinja\", or be a MIME message"


static int
user_data_refuse(const char *text, hatch_err_t *err)
{
    /* what is left of gzip's first bytes in text */
    if (strncmp(text, "\x1f\xc2\x8b", 3) == 0
        || strncmp(text, "\x1f\xef\xbf\xbd", 4) == 0)
    {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"" USER_DATA "\" is "
                             "gzip, whose bytes JSON cannot carry; give the "
                             "text itself");
    }

    if (user_data_is_base64(text)) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"" USER_DATA "\" is "
                             "base64, which cloud-init does not decode; give "
                             "the text itself");
    }

    if (user_data_begins(text, "## template: jinja")) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"" USER_DATA "\" would "
                             "be ignored by cloud-init: behind the line of "
                             "the Jinja template must come #cloud-config or "
                             "#!");
    }

    return hatch_err_set(err, HATCH_ERR_INVALID, "\"" USER_DATA "\" would be "
                         "ignored by cloud-init: " USER_DATA_RULE
                         "; \"" USER_DATA_FORMAT "\": \"raw\" passes it on "
                         "as it is");
}


int
user_data_check(json_object *fields, const char **text, hatch_err_t *err)
{
    int          raw = 0;
    const char  *format = hatch_json_string(fields, USER_DATA_FORMAT, NULL);

    *text = hatch_json_string(fields, USER_DATA, NULL);

    if (format != NULL) {
        raw = strcmp(format, "raw") == 0;

        if (!raw && strcmp(format, "cloud-init") != 0) {
            return hatch_err_set(err, HATCH_ERR_INVALID, "\"" USER_DATA_FORMAT
                                 "\" must be \"cloud-init\" or \"raw\", not "
                                 "\"%s\"", format);
        }

        if (*text == NULL) {
            return hatch_err_set(err, HATCH_ERR_INVALID, "\"" USER_DATA_FORMAT
                                 "\" needs \"" USER_DATA "\"");
        }
    }

    if (*text == NULL || raw) {
        return 0;
    }

    if (strncmp(*text, USER_DATA_BOM, 3) == 0) {
        *text += 3;
    }

    return user_data_is_known(*text) || user_data_is_jinja(*text)
           || user_data_is_mime(*text)
           ? 0 : user_data_refuse(*text, err);
}
