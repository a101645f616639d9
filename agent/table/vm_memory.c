/* The names of vm_memory_t, as users and our metadata write them. */

#include "table.h"

#include <string.h>


static const char *const  names[] = {
    [VM_MEMORY_AUTO] = "auto",
    [VM_MEMORY_IMAGE] = "image",
    [VM_MEMORY_CLASSIC] = "classic"
};


const char *
vm_memory_name(vm_memory_t memory)
{
    return names[memory];
}


int
vm_memory_parse(const char *text, vm_memory_t *memory)
{
    unsigned  i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *memory = (vm_memory_t) i;
            return 0;
        }
    }

    return -1;
}
