/*
 * libFuzzer: what a worker sends to the wake socket, to the real thread over
 * the real socket.  The first byte says in pieces of which size.  Every answer
 * is whole, and one of those that there are.
 */

#define _GNU_SOURCE

#include "kit.h"
#include "sleep/wake.h"
#include "table/table.h"

#include "hatch_wake.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>


/* A VM of each kind that needs no libvirt to be answered. */
static void
add_vm(const char *id, hatch_state_t state)
{
    vm_t  vm;

    memset(&vm, 0, sizeof(vm));
    (void) snprintf(vm.id, sizeof(vm.id), "%s", id);
    vm.mem_mib = 128;
    vm.vcpu_count = 1;
    kit_must(table_observe(&vm, state, 0) == 1);
}


int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    hatch_err_t      err;
    const config_t  *config = kit_config();

    (void) argc;
    (void) argv;
    (void) signal(SIGPIPE, SIG_IGN);

    if (table_open(config, &err) != 0 || wake_start(config, &err) != 0) {
        kit_failed(__FILE__, __LINE__, err.text);
    }

    add_vm("vm_aaaaaaaaaaaaaaaa", HATCH_STATE_RUNNING);
    add_vm("vm_bbbbbbbbbbbbbbbb", HATCH_STATE_STOPPED);
    table_publish();

    return 0;
}


static void
check_answers(int fd)
{
    size_t   have = 0;
    ssize_t  n;

    union {
        hatch_wake_message_t  message;
        char                  bytes[sizeof(hatch_wake_message_t)];
    } in;

    while ((n = read(fd, in.bytes + have, sizeof(in) - have)) > 0) {
        have += (size_t) n;

        if (have == sizeof(in)) {
            have = 0;
            kit_must(in.message.magic == HATCH_WAKE_MAGIC);
            kit_must(in.message.type >= HATCH_WAKE_WAIT
                     && in.message.type <= HATCH_WAKE_FAILED);
            kit_must(in.message.failure <= HATCH_WAKE_KEPT);
            kit_must((in.message.failure != 0)
                     == (in.message.type == HATCH_WAKE_FAILED));
        }
    }

    /* reset with what was not read, or ended: never in a message */
    kit_must(have == 0);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int                 fd;
    size_t              piece, n;
    struct sockaddr_un  to = { .sun_family = AF_UNIX };

    if (size == 0) {
        return 0;
    }

    piece = data[0] != 0 ? data[0] : size;
    data++;
    size--;

    (void) snprintf(to.sun_path, sizeof(to.sun_path), "%s",
                    kit_config()->wake_socket);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    kit_must(fd != -1
             && connect(fd, (struct sockaddr *) &to, sizeof(to)) == 0);

    while (size > 0) {
        n = piece < size ? piece : size;

        if (write(fd, data, n) != (ssize_t) n) {
            break;
        }

        data += n;
        size -= n;
    }

    (void) shutdown(fd, SHUT_WR);
    check_answers(fd);
    (void) close(fd);

    return 0;
}
