/*
 * Parts of the agent that are functions of what they are given: libvirt's
 * errors and what the API makes of them, its XML and its statistics, and files
 * that are text.
 */

#define _GNU_SOURCE

#include "api/api.h"
#include "core/text.h"
#include "virt/stats_record.h"
#include "virt/virt_error.h"
#include "virt/xml.h"

#include "tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libvirt/virterror.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>


static void
test_errors(void)
{
    size_t    i;
    virError  error;

    static const struct {
        const char    *what;
        int            domain;
        int            code;
        int            errnum;
        const char    *text;
        virt_class_t   class;
    } rows[] = {
        { "a domain that is not there", VIR_FROM_QEMU, VIR_ERR_NO_DOMAIN, 0,
          "x", VIRT_GONE },
        { "a network", VIR_FROM_NETWORK, VIR_ERR_NO_NETWORK, 0, "x",
          VIRT_GONE },
        { "a job that does not end", VIR_FROM_QEMU, VIR_ERR_OPERATION_TIMEOUT,
          0, "cannot acquire state change lock", VIRT_BUSY },
        { "a lock of virtlockd's", VIR_FROM_LOCKING, VIR_ERR_RESOURCE_BUSY, 0,
          "x", VIRT_HOST },
        { "no guest agent", VIR_FROM_QEMU, VIR_ERR_AGENT_UNRESPONSIVE, 0, "x",
          VIRT_NO_AGENT },
        { "not in this state", VIR_FROM_QEMU, VIR_ERR_OPERATION_INVALID, 0,
          "domain is not running", VIRT_REFUSED },
        { "not by this driver", VIR_FROM_TEST, VIR_ERR_NO_SUPPORT, 0, "x",
          VIRT_UNSUPPORTED },
        { "not by this QEMU", VIR_FROM_QEMU, VIR_ERR_OPERATION_UNSUPPORTED, 0,
          "x", VIRT_UNSUPPORTED },
        { "no connection", VIR_FROM_NONE, VIR_ERR_NO_CONNECT, 0, "x",
          VIRT_LOST },
        { "whatever the socket says", VIR_FROM_RPC, VIR_ERR_SYSTEM_ERROR,
          EPIPE, "Broken pipe", VIRT_LOST },
        { "a full disk", VIR_FROM_QEMU, VIR_ERR_SYSTEM_ERROR, ENOSPC, "voll",
          VIRT_NO_ROOM },
        { "a quota", VIR_FROM_QEMU, VIR_ERR_SYSTEM_ERROR, EDQUOT, "x",
          VIRT_NO_ROOM },
        { "a file that is not there", VIR_FROM_QEMU, VIR_ERR_SYSTEM_ERROR,
          ENOENT, "x", VIRT_HOST },
        { "a hook that says no", VIR_FROM_HOOK, VIR_ERR_HOOK_SCRIPT_FAILED, 0,
          "x", VIRT_HOST },
        { "an emulator that is gone", VIR_FROM_QEMU,
          VIR_ERR_CONFIG_UNSUPPORTED, 0, "x", VIRT_HOST },
        { "a QEMU that ended", VIR_FROM_QEMU, VIR_ERR_INTERNAL_ERROR, 0,
          "process exited while connecting to monitor", VIRT_HOST },
        { "XML that is none", VIR_FROM_DOMAIN, VIR_ERR_XML_ERROR, 0, "x",
          VIRT_OTHER },
        { "memory that QEMU cannot load", VIR_FROM_QEMU,
          VIR_ERR_INTERNAL_ERROR, 0, "qemu: load of migration failed: "
          "Invalid argument", VIRT_BAD_IMAGE },
        { "memory that the host has not got", VIR_FROM_QEMU,
          VIR_ERR_INTERNAL_ERROR, 0, "qemu: load of migration failed: Cannot "
          "allocate memory", VIRT_HOST },
        { "an error without words", VIR_FROM_QEMU, VIR_ERR_INTERNAL_ERROR, 0,
          NULL, VIRT_HOST },
        { "no error", VIR_FROM_NONE, VIR_ERR_OK, 0, NULL, VIRT_OTHER }
    };

    is_int(virt_classify(NULL), VIRT_OTHER, "nothing is nothing known");

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        memset(&error, 0, sizeof(error));
        error.domain = rows[i].domain;
        error.code = rows[i].code;
        error.int1 = rows[i].errnum;
        error.message = (char *) rows[i].text;
        is_int(virt_classify(&error), rows[i].class, "%s", rows[i].what);
    }
}


/* What a client gets for each code, and so for each class of libvirt's. */
static void
test_statuses(void)
{
    size_t          i;
    hatch_err_t     err;
    api_response_t  response;

    static const struct {
        hatch_err_code_t  code;
        unsigned          status;
        const char       *name;
    } rows[] = {
        { HATCH_ERR_NOT_FOUND, 404, "vm_not_found" },
        { HATCH_ERR_HOST, 503, "host_trouble" },
        { HATCH_ERR_ABSENT, 503, "host_trouble" },
        { HATCH_ERR_DENIED, 503, "host_trouble" },
        { HATCH_ERR_UNAVAILABLE, 503, "libvirt_unavailable" },
        { HATCH_ERR_BUSY, 503, "busy" },
        { HATCH_ERR_BRIDGE, 503, "bridge_full" },
        { HATCH_ERR_MEMORY, 503, "insufficient_memory" },
        { HATCH_ERR_KEPT, 503, "restore_failed" },
        { HATCH_ERR_TIMEOUT, 504, "timeout" },
        { HATCH_ERR_FULL, 507, "full" },
        { HATCH_ERR_CONFLICT, 409, "conflict" },
        { HATCH_ERR_LIBVIRT, 500, "libvirt_error" },
        { HATCH_ERR_TRUNCATED, 500, "damaged" },
        { HATCH_ERR_SYSTEM, 500, "internal_error" }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        memset(&response, 0, sizeof(response));
        (void) hatch_err_set(&err, rows[i].code, "why");
        api_fail(&response, &err, "vm_not_found");
        is_int(response.status, rows[i].status, "code %d", rows[i].code);
        is_str(json_object_get_string(json_object_object_get(response.body,
                                                             "code")),
               rows[i].name, "is %s", rows[i].name);
        json_object_put(response.body);
    }
}


#define MAC(n)  "<host mac='52:54:00:00:00:0" n "' ip='10.0.0." n "'/>"

static void
test_network(void)
{
    hatch_err_t    err;
    xml_network_t  network;

    is_int(xml_read_network("<network><ip address='10.0.0.1' netmask="
                            "'255.255.240.0'><dhcp>" MAC("2") "<range/>"
                            "<host name='x'/>" MAC("3") "</dhcp></ip>"
                            "</network>", &network, &err), 0,
           "a network with a netmask");
    is_int(network.prefix, 20, "has its prefix");
    is_int(network.hosts, 2, "and those hosts that have an address");
    is_str(network.host[1].mac, "52:54:00:00:00:03", "as they are");
    free(network.host);

    is_int(xml_read_network("<network><ip address='10.0.0.1'/></network>",
                            &network, &err), HATCH_ERR_CONFLICT,
           "one without either is none");
    is_int(xml_read_network("<network/>", &network, &err),
           HATCH_ERR_CONFLICT, "nor is one without an address");
    is_int(xml_read_network("<network", &network, &err), HATCH_ERR_CONFLICT,
           "nor what is no XML");
    like(err.text, "has no IPv4 address", "and it is said");
}


/* Each attribute away, one by one. */
static void
test_metadata(void)
{
    char          text[1024], *at;
    size_t        i;
    vm_t          vm;
    hatch_err_t   err;

    static const char  whole[] =
        "<vm name='' image_id='a' template_id='' disk_mib='1' "
        "enable_network='1' seed='0' created='1' updated='2' "
        "idle_timeout='never' save_after='3' guest_ip='10.0.0.2' "
        "guest_mac='52:54:00:00:00:02' boot_args=''/>";

    static const char *const  names[] = {
        "name", "image_id", "template_id", "disk_mib", "enable_network",
        "seed", "created", "updated", "idle_timeout", "save_after",
        "guest_ip", "guest_mac", "boot_args"
    };

    memset(&vm, 0, sizeof(vm));
    (void) snprintf(vm.id, sizeof(vm.id), "vm_aaaaaaaaaaaaaaaa");
    is_int(xml_read_metadata(whole, &vm, &err), 0, "metadata");
    is_int(vm.idle_timeout, VM_NEVER, "never");
    is_int(vm.autostart, 0, "no autostart, as before there was one");
    is_int(vm.memory, VM_MEMORY_CLASSIC, "nor a memory image");
    is_int(vm.park_after, VM_NEVER, "nor is it parked");
    is_int(xml_read_metadata("<vm name='' image_id='a' template_id='' "
                             "disk_mib='1' enable_network='0' seed='0' "
                             "created='1' updated='2' idle_timeout='never' "
                             "save_after='3' boot_args='' memory='image' "
                             "park_after='500'/>", &vm, &err), 0,
           "metadata with them");
    is_int(vm.memory, VM_MEMORY_IMAGE, "which are read");
    is_int(vm.park_after, 500, "both");
    is_int(xml_read_metadata("<vm name='' image_id='a' template_id='' "
                             "disk_mib='1' enable_network='0' seed='0' "
                             "created='1' updated='2' idle_timeout='never' "
                             "save_after='3' boot_args='' memory='other' "
                             "park_after='500'/>", &vm, &err),
           HATCH_ERR_CORRUPT, "or are wrong");
    is_int(xml_read_metadata("<vm name='' image_id='a' template_id='' "
                             "disk_mib='1' enable_network='0' seed='0' "
                             "created='1' updated='2' idle_timeout='never' "
                             "save_after='3' boot_args='' autostart='1'/>",
                             &vm, &err), 0, "metadata with one");
    is_int(vm.autostart, 1, "which is read");
    is_int(xml_read_metadata("<vm name='' image_id='a' template_id='' "
                             "disk_mib='1' enable_network='0' seed='0' "
                             "created='1' updated='2' idle_timeout='never' "
                             "save_after='3' boot_args='' autostart='2'/>",
                             &vm, &err), HATCH_ERR_CORRUPT, "or is wrong");

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        memcpy(text, whole, sizeof(whole));
        at = strstr(text, names[i]);
        at[0] = 'X';
        is_int(xml_read_metadata(text, &vm, &err), HATCH_ERR_CORRUPT,
               "without %s it is none", names[i]);
        like(err.text, names[i], "and it is said");
    }
}


static void
test_statistics(void)
{
    size_t          i;
    virDomainPtr    domain;
    virConnectPtr   conn = virConnectOpen("test:///default");
    table_sample_t  sample;

    virTypedParameter  p[] = {
        { "cpu.time", VIR_TYPED_PARAM_ULLONG, { .ul = 5 } },
        { "net.0.rx.bytes", VIR_TYPED_PARAM_LLONG, { .l = 7 } },
        { "net.12.rx.bytes", VIR_TYPED_PARAM_LLONG, { .l = -7 } },
        { "net.12.rx.bytes", VIR_TYPED_PARAM_INT, { .i = 3 } },
        { "balloon.rss", VIR_TYPED_PARAM_UINT, { .ui = 2 } },
        { "x.on", VIR_TYPED_PARAM_BOOLEAN, { .b = 1 } },
        { "x.name", VIR_TYPED_PARAM_STRING, { .s = NULL } }
    };

    virDomainStatsRecord  record = { NULL, p, sizeof(p) / sizeof(p[0]) };

    domain = conn != NULL ? virDomainLookupByName(conn, "test") : NULL;

    if (!ok(domain != NULL, "the test driver's domain")) {
        return;
    }

    record.dom = domain;
    stats_record(&record, &sample);
    is_int(sample.stats.cpu_time, 5, "a counter");
    is_int(sample.stats.rx_bytes, 10, "those of all devices, none below 0");
    is_int(sample.stats.memory_resident, 2048, "KiB as bytes");
    is_int(sample.n_raw, 6, "all but the text");

    for (i = 0; i < sample.n_raw; i++) {
        ok(strlen(sample.raw[i].name) > 3, "with its name");
    }

    free(sample.raw);
    (void) virDomainFree(domain);
    (void) virConnectClose(conn);
}


/* How many bytes text_read() gets of so many, or its code. */
static int
text_of(int fd, size_t max)
{
    int          rc;
    char         path[32], *text;
    size_t       len;
    hatch_err_t  err;

    (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    rc = text_read(path, max, &text, &len, &err);

    if (rc != 0) {
        return text == NULL ? rc : 0;
    }

    rc = strlen(text) == len ? (int) len : -1;
    free(text);

    return rc;
}


static void
test_text(void)
{
    int     fd = memfd_create("text", MFD_CLOEXEC), ends[2], left;
    char    bytes[20000];
    size_t  i, len;

    static const size_t  sizes[] = { 0, 1, 4095, 4096, 4097, 20000 };

    memset(bytes, 'x', sizeof(bytes));

    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        len = sizes[i];
        ok(ftruncate(fd, 0) == 0
           && pwrite(fd, bytes, len, 0) == (ssize_t) len
           && text_of(fd, 30000) == (int) len && text_of(fd, len) == (int) len,
           "a text of %zu bytes", len);
        ok(len == 0 || text_of(fd, len - 1) == HATCH_ERR_INVALID,
           "is too large for less");
    }

    (void) close(fd);

    ok(pipe(ends) == 0 && write(ends[1], bytes, 100) == 100, "a pipe");

    if (fork() == 0) {
        (void) close(ends[0]);

        /* the rest when the first of it was taken */
        while (ioctl(ends[1], FIONREAD, &left) == 0 && left != 0) {
            (void) sched_yield();
        }

        _exit(write(ends[1], bytes, 100) == 100 ? 0 : 1);
    }

    (void) close(ends[1]);
    ok(text_of(ends[0], 1000) == 200, "in pieces, is read to its end");
    (void) close(ends[0]);
}


int
main(void)
{
    test_errors();
    test_statuses();
    test_network();
    test_metadata();
    test_statistics();
    test_text();

    return tap_done();
}
