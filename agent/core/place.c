#define _GNU_SOURCE

#include "place.h"

#include <stdio.h>
#include <string.h>


void
place_read(const char *uri, place_t *place)
{
    const char  *p = strstr(uri, "://");

    (void) snprintf(place->driver, sizeof(place->driver), "%.*s",
                    p != NULL ? (int) strcspn(uri, "+:") : 0, uri);

    p = p != NULL ? p + 3 : uri;

    (void) snprintf(place->place, sizeof(place->place), "%.*s",
                    (int) strcspn(p, "?#"), p);
}
