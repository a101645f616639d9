/* The configuration read again, while the agent runs. */

#define _GNU_SOURCE

#include "config_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define CONFIG_SHOWN  (CONFIG_TEXT + 2)


const config_t *
config_image(const config_t *config)
{
    return config->image;
}


static const void *
config_value(const config_t *config, const config_key_t *key)
{
    return (const char *) config + key->offset;
}


/* A value as text, as it would stand in the file. */
static void
config_show(const config_t *config, const config_key_t *key,
    char text[CONFIG_SHOWN])
{
    int64_t      n;
    const void  *value = config_value(config, key);

    if (key->type == CONFIG_STRING) {
        (void) snprintf(text, CONFIG_SHOWN, "\"%s\"", (const char *) value);
        return;
    }

    n = *(const config_number_t *) value;

    if (key->type == CONFIG_INTEGER) {
        (void) snprintf(text, CONFIG_SHOWN, "%" PRId64, n);

    } else if (key->type == CONFIG_BOOLEAN) {
        (void) snprintf(text, CONFIG_SHOWN, "%s", n ? "true" : "false");

    } else if (n == -1) {
        (void) snprintf(text, CONFIG_SHOWN, "\"never\"");

    } else {
        (void) snprintf(text, CONFIG_SHOWN, "%.12g", (double) n / 1000);
    }
}


static int
config_differs(const config_t *a, const config_t *b, const config_key_t *key)
{
    const void  *x = config_value(a, key), *y = config_value(b, key);

    return key->type == CONFIG_STRING
           ? strcmp(x, y) != 0
           : *(const config_number_t *) x != *(const config_number_t *) y;
}


/*
 * Those who read the one before may do so for as long as they like, so it
 * stays, and can be found; the operator's patience bounds how many there are.
 */
static int
config_set_image(config_t *config, const config_t *fresh, hatch_err_t *err)
{
    config_t  *image = malloc(sizeof(*image));

    if (image == NULL) {
        return hatch_err_errno(err, errno, "cannot take the configuration "
                               "over");
    }

    memcpy(image, fresh, sizeof(*image));
    image->image = image;
    image->before = config_image(config);
    config->image = image;

    return 0;
}


/* Is it another image? */
static int
config_new_image(const config_t *old, const config_t *fresh)
{
    const config_key_t  *key;

    for (key = config_keys; key->name != NULL; key++) {
        if (key->when == CONFIG_IMAGE && config_differs(old, fresh, key)) {
            return 1;
        }
    }

    return 0;
}


static void
config_take(config_t *config, const config_t *fresh, const config_key_t *key)
{
    void        *to = (char *) config + key->offset;
    const void  *from = config_value(fresh, key);

    if (key->type == CONFIG_STRING) {
        memcpy(to, from, CONFIG_TEXT);

    } else {
        *(config_number_t *) to = *(const config_number_t *) from;
    }
}


int
config_reload(config_t *config, int argc, char **argv, config_told_t told,
    hatch_err_t *err)
{
    int                  rc;
    char                 before[CONFIG_SHOWN], now[CONFIG_SHOWN];
    config_t             fresh;
    const config_t      *old = config_image(config), *counted;
    const config_key_t  *key;

    rc = config_load(&fresh, argc, argv, err);

    if (rc == 0 && config_new_image(old, &fresh)) {
        rc = config_set_image(config, &fresh, err);
    }

    if (rc != 0) {
        return rc;
    }

    for (key = config_keys; key->name != NULL; key++) {
        counted = key->when == CONFIG_IMAGE ? old : config;

        if (!config_differs(counted, &fresh, key)) {
            continue;
        }

        config_show(counted, key, before);
        config_show(&fresh, key, now);

        if (key->when == CONFIG_LIVE) {
            config_take(config, &fresh, key);
        }

        told(key->name, key->when != CONFIG_RESTART, before, now);
    }

    config->libvirt_timeout_set = fresh.libvirt_timeout_set;
    config->save_timeout_set = fresh.save_timeout_set;

    return 0;
}
