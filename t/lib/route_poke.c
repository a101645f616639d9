/*
 * route-poke: puts routes with known ids into a store, for the tests.
 *
 *   route-poke DIR [ID VM SUBDOMAIN PORT]...
 *
 * A PORT with "!" behind it makes a route that does not wake its VM.
 */

#include "hatch_route_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


int
main(int argc, char **argv)
{
    int                rc, i;
    hatch_err_t        err;
    hatch_route_t      route;
    hatch_store_t     *store;
    hatch_store_txn_t  txn;

    if (argc < 2 || (argc - 2) % 4 != 0) {
        fprintf(stderr, "usage: route-poke DIR [ID VM SUBDOMAIN PORT]...\n");
        return 2;
    }

    rc = hatch_store_open(&store, argv[1], 64 << 20, &err);

    if (rc == 0) {
        rc = hatch_store_begin(store, &txn, &err);
    }

    for (i = 2; rc == 0 && i < argc; i += 4) {
        memset(&route, 0, sizeof(route));
        (void) snprintf(route.id, sizeof(route.id), "%s", argv[i]);
        (void) snprintf(route.vm, sizeof(route.vm), "%s", argv[i + 1]);
        (void) snprintf(route.subdomain, sizeof(route.subdomain), "%s",
                        argv[i + 2]);
        route.target_port = (uint16_t) atoi(argv[i + 3]);
        route.auto_wake = strchr(argv[i + 3], '!') == NULL;
        route.created = 1700000000123;
        route.updated = 1700000000123;
        rc = hatch_store_create(&txn, &route, &err);
    }

    if (rc == 0) {
        rc = hatch_store_commit(&txn, &err);
    }

    if (rc != 0) {
        fprintf(stderr, "route-poke: %s\n", err.text);
        return 1;
    }

    hatch_store_close(store);

    return 0;
}
