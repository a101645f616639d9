/*
 * zone-poke: makes a zone for the module's tests, without an agent.
 *
 *   zone-poke PATH SLOTS [ID STATE ADDRESS]...    publishes these VMs
 *
 * ADDRESS is IPv4, IPv6 or "-" for none.
 */

#include "hatch_clock.h"
#include "hatch_zone.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>


int
main(int argc, char **argv)
{
    int                  i;
    hatch_err_t          err;
    hatch_zone_vm_t      vm;
    hatch_zone_writer_t  writer;

    if (argc < 3 || (argc - 3) % 3 != 0) {
        fprintf(stderr, "usage: zone-poke PATH SLOTS [ID STATE ADDRESS]...\n");
        return 2;
    }

    if (hatch_zone_own(&writer, argv[1], (uint32_t) atoi(argv[2]),
                       (gid_t) -1, &err) != 0)
    {
        fprintf(stderr, "zone-poke: %s\n", err.text);
        return 1;
    }

    for (i = 3; i < argc; i += 3) {
        memset(&vm, 0, sizeof(vm));
        (void) snprintf(vm.id, sizeof(vm.id), "%s", argv[i]);
        vm.vcpus = 1;

        if (inet_pton(AF_INET, argv[i + 2], vm.address) == 1) {
            vm.family = 4;

        } else if (inet_pton(AF_INET6, argv[i + 2], vm.address) == 1) {
            vm.family = 6;
        }

        (void) hatch_zone_put(&writer, &vm, hatch_state_parse(argv[i + 1]),
                              hatch_clock_ms());
    }

    hatch_zone_publish(&writer, hatch_clock_ms());
    (void) chmod(argv[1], 0644);

    return 0;
}
