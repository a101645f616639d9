/*
 * libFuzzer: the XML of a domain and of libvirt's capabilities.  What is
 * edited is still XML, and has what was set.
 */

#define _GNU_SOURCE

#include "kit.h"
#include "virt/xml_private.h"

#include <stdlib.h>
#include <string.h>


static int
each_file(void *ctx, const char *path)
{
    unsigned  *n = ctx;

    kit_must(path[0] == '/');

    return ++*n == 3;
}


/* Only XML can be edited. */
static void
check_edited(const char *text, const vm_t *vm, int isolated)
{
    char  *again = xml_edit_domain(text, vm, isolated);

    kit_must(again != NULL);
    kit_must(strcmp(text, again) == 0);
    free(again);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int        isolated;
    vm_t       vm;
    char      *text = kit_text(data, size), *edited;
    uid_t      uid;
    gid_t      gid;
    unsigned   n = 0;

    memset(&vm, 0, sizeof(vm));
    memcpy(vm.id, "vm_aaaaaaaaaaaaaaaa", HATCH_ID_VM_SIZE);
    memcpy(vm.name, "a<&\"'>", 7);
    vm.vcpu_count = 2;
    vm.mem_mib = 65536;
    vm.idle_timeout = VM_NEVER;

    for (isolated = 0; isolated < 2; isolated++) {
        edited = xml_edit_domain(text, &vm, isolated);

        /*
         * Most of what is made up is not XML, which each function finds out
         * in the same way: one in eight of these goes to the others, too.
         */
        if (edited == NULL && size % 8 != 0) {
            free(text);
            return 0;
        }

        if (edited != NULL) {
            check_edited(edited, &vm, isolated);
            free(edited);
        }
    }

    (void) xml_each_file(text, each_file, &n);
    (void) xml_read_qemu_user(text, &uid, &gid);
    free(text);

    return 0;
}
