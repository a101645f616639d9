/* libFuzzer: the XML of a network. */

#define _GNU_SOURCE

#include "kit.h"
#include "virt/xml.h"

#include <stdlib.h>
#include <string.h>


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char           *text = kit_text(data, size), *host;
    unsigned        i;
    hatch_err_t     err;
    xml_network_t   network;

    if (xml_read_network(text, &network, &err) == 0) {
        kit_must(network.prefix <= 32);

        for (i = 0; i < network.hosts; i++) {
            kit_must(strlen(network.host[i].mac) < VM_MAC_SIZE);
            host = xml_host(network.host[i].mac, network.host[i].ip);
            kit_must(host != NULL);
            free(host);
        }

        free(network.host);
    }

    free(text);

    return 0;
}
