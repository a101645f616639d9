/*
 * store-hold: holds the write lock of a route store until its input ends.
 *
 *   store-hold DIR      prints "held" when it has the lock
 */

#include "hatch_route_store.h"

#include <stdio.h>
#include <unistd.h>


int
main(int argc, char **argv)
{
    char               c;
    hatch_err_t        err;
    hatch_store_t     *store;
    hatch_store_txn_t  txn;

    if (argc != 2 || hatch_store_open(&store, argv[1], 0, &err) != 0
        || hatch_store_begin(store, &txn, &err) != 0)
    {
        fprintf(stderr, "store-hold: cannot hold the lock\n");
        return 1;
    }

    printf("held\n");
    fflush(stdout);

    while (read(STDIN_FILENO, &c, 1) > 0) {
        /* void */
    }

    hatch_store_abort(&txn);
    hatch_store_close(store);

    return 0;
}
