/*
 * libFuzzer: the metadata of a domain, as libvirt gives it.  What is taken
 * can be written, and is then the same.
 */

#define _GNU_SOURCE

#include "kit.h"
#include "virt/xml.h"

#include <libxml/parser.h>
#include <stdlib.h>
#include <string.h>


#define ID  "vm_aaaaaaaaaaaaaaaa"


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    vm_t          vm, again;
    char         *text = kit_text(data, size), *written;
    hatch_err_t   err;

    memset(&vm, 0, sizeof(vm));
    memset(&again, 0, sizeof(again));
    memcpy(vm.id, ID, sizeof(ID));
    memcpy(again.id, ID, sizeof(ID));

    if (xml_read_metadata(text, &vm, &err) == 0) {
        written = xml_metadata(&vm);
        kit_must(written != NULL);
        kit_must(xml_read_metadata(written, &again, &err) == 0);
        kit_must(memcmp(&vm, &again, sizeof(vm)) == 0);
        free(written);
    }

    free(text);

    return 0;
}
