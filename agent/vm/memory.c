/* Memory images: starting a guest with one, or from one. */

#define _GNU_SOURCE

#include "memory.h"
#include "memory_private.h"
#include "operation.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/pages.h"
#include "core/text.h"
#include "core/work.h"
#include "table/table_stats.h"
#include "virt/host.h"
#include "virt/monitor.h"
#include "virt/qemu_user.h"
#include "virt/virt_cleanup.h"
#include "virt/xml.h"

#include "hatch_json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>


static uint64_t
memory_bytes(unsigned mib)
{
    return (uint64_t) mib * 1024 * 1024;
}


int
memory_process(const vm_op_t *op, pid_t *pid, hatch_err_t *err)
{
    char  path[STATEDIR_PATH];

    memory_path(op->config, op->vm.id, MEMORY_RAM, path);
    *pid = 0;

    return pages_find(path, pid, err);
}


int
memory_has_image(const vm_op_t *op)
{
    char         path[STATEDIR_PATH];
    pid_t        pid;
    hatch_err_t  ignored;

    memory_path(op->config, op->vm.id, MEMORY_RAM, path);

    return access(path, F_OK) == 0
           && memory_process(op, &pid, &ignored) == 0;
}


int
memory_use(const vm_op_t *op, hatch_err_t *err)
{
    return memory_mark(op->config, op->vm.id, MEMORY_USED, err);
}


int
memory_drop(const vm_op_t *op, hatch_err_t *err)
{
    return memory_delete(op->config, op->vm.id, err);
}


void
memory_seen_running(const config_t *config, const char *vm)
{
    char         path[STATEDIR_PATH];
    pid_t        pid = 0;
    hatch_err_t  err;

    if (!memory_is_valid(vm)) {
        return;
    }

    memory_path(config, vm, MEMORY_RAM, path);

    if (pages_find(path, &pid, &err) == 0) {
        /* it goes on from there, by another's doing */
        if (memory_mark(config, vm, MEMORY_USED, &err) != 0) {
            log_event(LOG_WARN, "%s: it runs, and its memory image cannot be "
                      "marked used: %s", vm, err.text);
        }

    } else if (memory_put_aside(config, vm, path, &err) == 0) {
        log_event(LOG_WARN, "%s: another program has started it without its "
                  "memory, which is kept as \"%s\"", vm, path);
    } else {
        log_event(LOG_WARN, "%s: another program has started it without its "
                  "memory: %s", vm, err.text);
    }
}


/* --- from the disk --- */

/* May the agent look into QEMU's memory? */
static int
memory_may_trace(void)
{
    struct __user_cap_data_struct    data[2];
    struct __user_cap_header_struct  head = { _LINUX_CAPABILITY_VERSION_3, 0 };

    return syscall(SYS_capget, &head, data) == 0
           && (data[0].effective & (1u << CAP_SYS_PTRACE)) != 0;
}


/* There a hole that is read takes room, and a power cut loses all. */
static int
memory_is_in_memory(const config_t *config)
{
    char           path[STATEDIR_PATH];
    struct statfs  st;

    memory_path(config, "", "", path);

    return statfs(path, &st) == 0
           && (st.f_type == TMPFS_MAGIC || st.f_type == RAMFS_MAGIC);
}


/* NULL, or why its memory is not to be an image. */
static const char *
memory_refuses(const vm_op_t *op, const char *xml)
{
    if (!virt_driver(op->lease.conn)->has_guests) {
        return "libvirt's test driver has no guests";
    }

    if (virt_is_remote(op->lease.conn)) {
        return "libvirt is on another host";
    }

    if (!memory_may_trace()) {
        return "the agent has not CAP_SYS_PTRACE";
    }

    if (memory_is_in_memory(op->config)) {
        return "\"state_dir\" is in memory itself";
    }

    return xml_no_image(xml);
}


/* QEMU opens it by its name, as its own user. */
static int
memory_make_file(const vm_op_t *op, unsigned mem_mib, hatch_err_t *err)
{
    uid_t         uid = (uid_t) -1;
    qemu_user_t  *user = calloc(1, sizeof(*user));

    if (user != NULL && qemu_user_find(op->lease.conn, user) == 0
        && user->uid != geteuid())
    {
        uid = user->uid;
    }

    free(user);

    return memory_make(op->config, op->vm.id, memory_bytes(mem_mib), uid, err);
}


/* The domain of the same definition, with this XML while it runs. */
static int
memory_create(vm_op_t *op, const char *xml, unsigned mem_mib, int incoming,
    hatch_err_t *err)
{
    char                 path[STATEDIR_PATH];
    virDomainPtr         domain;
    cleanup_free char   *text = NULL;

    memory_path(op->config, op->vm.id, MEMORY_RAM, path);
    text = xml_with_memory(xml, path, memory_bytes(mem_mib), incoming);

    if (text == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot start the VM");
    }

    work_step("starting the VM", host_save_timeout(op->config));
    domain = virDomainCreateXML(op->lease.conn, text,
                                incoming ? VIR_DOMAIN_START_PAUSED : 0);

    if (domain == NULL) {
        return vm_start_error(op, err);
    }

    (void) virDomainFree(op->domain);
    op->domain = domain;

    return 0;
}


/* As libvirt does it; what was there of an image is worth nothing now. */
static int
memory_boot_classic(vm_op_t *op, hatch_err_t *err)
{
    hatch_err_t  ignored;

    work_step("starting the VM", host_save_timeout(op->config));

    if (virDomainCreate(op->domain) == -1) {
        return vm_start_error(op, err);
    }

    (void) memory_delete(op->config, op->vm.id, &ignored);

    return 0;
}


int
memory_boot(vm_op_t *op, hatch_err_t *err)
{
    int                  rc;
    const char          *why;
    cleanup_free char   *xml = NULL;

    rc = memory_use(op, err);

    if (rc != 0 || op->vm.memory != VM_MEMORY_IMAGE) {
        return rc != 0 ? rc : memory_boot_classic(op, err);
    }

    xml = virDomainGetXMLDesc(op->domain, VIR_DOMAIN_XML_INACTIVE
                                          | VIR_DOMAIN_XML_SECURE);
    if (xml == NULL) {
        return virt_error(err, "cannot read the domain");
    }

    why = memory_refuses(op, xml);

    if (why == NULL) {
        rc = memory_make_file(op, op->vm.mem_mib, err);
        rc = rc == 0 ? memory_create(op, xml, op->vm.mem_mib, 0, err) : rc;

        if (rc == 0 || table_forced(op->vm.id)
            || virConnectIsAlive(op->lease.conn) != 1)
        {
            return rc;
        }

        /* AppArmor's rules, say, do not know the file */
        why = err->text;
    }

    log_event(LOG_WARN, "%s: its memory is no image, it is saved by libvirt: "
              "%s", op->vm.id, why);

    return memory_boot_classic(op, err);
}


int
memory_prepare(const vm_op_t *op, const char *xml, unsigned mem_mib,
    hatch_err_t *err)
{
    char         path[STATEDIR_PATH];
    struct stat  st;

    memory_path(op->config, op->vm.id, MEMORY_RAM, path);

    if (strstr(xml, path) == NULL
        || (stat(path, &st) == 0
            && (uint64_t) st.st_size == memory_bytes(mem_mib)))
    {
        return 0;
    }

    return memory_make_file(op, mem_mib, err);
}


/* --- from the image --- */

/* Has the file the checksum that the record has under that name? */
static int
memory_check_file(const vm_op_t *op, const char *suffix, const char *name,
    json_object *record, hatch_err_t *err)
{
    int           fd, rc;
    char          path[STATEDIR_PATH];
    uint64_t      sum;
    json_object  *was;

    memory_path(op->config, op->vm.id, suffix, path);

    if (!json_object_object_get_ex(record, name, &was)) {
        return hatch_err_set(err, HATCH_ERR_CORRUPT, "its record does not "
                             "have \"%s\"", name);
    }

    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd == -1) {
        return hatch_err_errno(err, errno, "cannot read \"%s\"", path);
    }

    rc = memory_checksum(fd, &sum, err);
    (void) close(fd);

    if (rc == 0 && (int64_t) sum != json_object_get_int64(was)) {
        rc = hatch_err_set(err, HATCH_ERR_CORRUPT, "\"%s\" has been changed "
                           "since", path);
    }

    return rc;
}


/* Image, devices, firmware and disks: are they of the same instant? */
static int
memory_check(const vm_op_t *op, json_object *record, hatch_err_t *err)
{
    int           rc;
    char          path[STATEDIR_PATH];
    json_object  *ram = NULL, *disks = NULL;

    if (!json_object_object_get_ex(record, "ram", &ram)
        || !json_object_object_get_ex(record, "disks", &disks)
        || hatch_json_string(record, "xml", NULL) == NULL)
    {
        return hatch_err_set(err, HATCH_ERR_CORRUPT, "its record is not "
                             "whole");
    }

    memory_path(op->config, op->vm.id, MEMORY_RAM, path);
    rc = memory_is_same(path, ram, err);

    if (rc == 0) {
        rc = memory_check_file(op, MEMORY_DEVICES, "devices", record, err);
    }

    if (rc == 0) {
        rc = memory_check_file(op, MEMORY_FIRMWARE, "firmware", record, err);
    }

    json_object_object_foreach(disks, disk, id) {
        if (rc == 0) {
            rc = memory_is_same(disk, id, err);
        }
    }

    return rc;
}


/* The bytes that an incoming QEMU leaves as zeroes. */
static int
memory_put_firmware(const vm_op_t *op, hatch_err_t *err)
{
    int                  rc;
    char                 path[STATEDIR_PATH];
    pid_t                pid;
    size_t               len;
    uint64_t             address;
    cleanup_free char   *bytes = NULL;

    memory_path(op->config, op->vm.id, MEMORY_FIRMWARE, path);
    rc = text_read(path, MEMORY_FIRMWARE_MAX, &bytes, &len, err);

    if (rc == 0) {
        rc = memory_process(op, &pid, err);
    }

    if (rc != 0) {
        return rc;
    }

    address = monitor_address(op->domain, MEMORY_FIRMWARE_END - len);

    return address != 0
           ? pages_write(pid, address, bytes, len, err)
           : hatch_err_set(err, HATCH_ERR_LIBVIRT, "QEMU has no place for the "
                           "firmware");
}


/* Of a QEMU that waits for it. */
static int
memory_load(vm_op_t *op, hatch_err_t *err)
{
    int   fd, rc;
    char  path[STATEDIR_PATH];

    memory_path(op->config, op->vm.id, MEMORY_DEVICES, path);
    fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd == -1) {
        return hatch_err_errno(err, errno, "cannot read \"%s\"", path);
    }

    rc = monitor_load_devices(op->domain, fd,
                              (unsigned) host_call_timeout(op->config) * 1000,
                              err);
    (void) close(fd);

    return rc == 0 ? memory_put_firmware(op, err) : rc;
}


/* --- the steps of it; op->arg is the record --- */

static int
load_step_start(vm_op_t *op, hatch_err_t *err)
{
    int           rc;
    json_object  *record = op->arg;

    rc = memory_mark(op->config, op->vm.id, MEMORY_LOAD, err);

    if (rc == 0) {
        rc = memory_create(op, hatch_json_string(record, "xml", ""),
                           (unsigned) hatch_json_integer(record, "mem_mib", 0),
                           1, err);
    }

    /* that is said of devices alone */
    return rc == HATCH_ERR_CORRUPT ? HATCH_ERR_HOST : rc;
}


/* Its process has not run, and goes: the image is as good as it was. */
static int
load_undo_start(vm_op_t *op, hatch_err_t *err)
{
    if (virDomainIsActive(op->domain) != 0) {
        vm_step_kill(op->config);

        if (virDomainDestroy(op->domain) == -1
            && virDomainIsActive(op->domain) != 0)
        {
            return virt_error(err, "cannot end the VM's process");
        }
    }

    return memory_settle(op->config, op->vm.id, err);
}


/* From then on a guest may run that goes on from it. */
static int
load_step_use(vm_op_t *op, hatch_err_t *err)
{
    return memory_use(op, err);
}


static const step_t  load_steps[] = {
    { .name = "started", .run = load_step_start, .undo = load_undo_start },
    { .name = "loaded", .doing = "loading the devices", .deadline = STEP_CALL,
      .run = memory_load },
    { .name = "used", .run = load_step_use },
    { .name = NULL }
};

const operation_t  load_operation = { .name = "load", .steps = load_steps };


static int
memory_start_once(vm_op_t *op, json_object *record, hatch_err_t *err)
{
    int    rc;
    void  *arg = op->arg;

    op->arg = record;
    rc = operation_run(&load_operation, op, err);
    op->arg = arg;

    return rc;
}


static int
memory_kept(const vm_op_t *op, hatch_err_t *err)
{
    char         end[381];
    hatch_err_t  why = *err;

    if (why.code == HATCH_ERR_BRIDGE) {
        return HATCH_ERR_BRIDGE;        /* that says what to do */
    }

    return hatch_err_set(err, HATCH_ERR_KEPT, "the memory image is kept, it "
                         "could not be loaded now (POST /vms/%s/stop gives it "
                         "up): %s", op->vm.id,
                         hatch_err_end(why.text, end, sizeof(end)));
}


/* It is proved that a guest must not, or cannot, go on from it. */
static int
memory_give_up(const vm_op_t *op, hatch_err_t *err)
{
    char         aside[STATEDIR_PATH];
    hatch_err_t  why = *err, failed;

    if (memory_put_aside(op->config, op->vm.id, aside, &failed) != 0) {
        *err = failed;
        return memory_kept(op, err);
    }

    log_event(LOG_WARN, "%s: its memory image cannot be used, it boots "
              "without: %s; the image is kept as \"%s\"", op->vm.id, why.text,
              aside);
    table_count(TABLE_LOST_SAVE);

    return 1;
}


/*
 * Twice, lest a passing trouble cost a request.  Only what QEMU says of the
 * devices' state, of files that are what they were, proves anything.
 */
int
memory_wake(vm_op_t *op, hatch_err_t *err)
{
    int                        rc, tries;
    cleanup_json json_object  *record = NULL;

    rc = memory_read(op->config, op->vm.id, &record, err);

    if (rc == 0) {
        rc = memory_check(op, record, err);
    }

    for (tries = 0; rc == 0 && tries < 2; tries++) {
        rc = memory_start_once(op, record, err);

        if (rc == 0) {
            return 0;
        }

        if (tries == 0 && virConnectIsAlive(op->lease.conn) == 1
            && !table_forced(op->vm.id))
        {
            rc = 0;
        }
    }

    if (virConnectIsAlive(op->lease.conn) != 1) {
        return (int) err->code;
    }

    return rc == HATCH_ERR_CORRUPT ? memory_give_up(op, err)
                                   : memory_kept(op, err);
}


/* --- what an agent before us left --- */

typedef struct {
    const config_t  *config;
    virConnectPtr    conn;
} memory_recover_t;


/* Its process was started to load an image, and never ran. */
static void
memory_recover_vm(const memory_recover_t *recover, const char *vm)
{
    hatch_err_t                  err;
    cleanup_domain virDomainPtr  domain = NULL;

    domain = virDomainLookupByName(recover->conn, vm);

    if (domain != NULL && virDomainIsActive(domain) == 1
        && virDomainDestroy(domain) == -1)
    {
        (void) virt_error(&err, "cannot end its process");

    } else if (memory_settle(recover->config, vm, &err) == 0) {
        log_event(LOG_INFO, "%s: a start from its memory image did not end; "
                  "the image is as it was", vm);
        return;
    }

    log_event(LOG_WARN, "%s: a start from its memory image did not end: %s",
              vm, err.text);
}


static void
memory_recover_entry(void *ctx, const char *name)
{
    char    vm[HATCH_ID_SIZE];
    size_t  n = strcspn(name, ".");

    if (hatch_id_valid(HATCH_ID_VM, name, n)
        && strcmp(name + n, MEMORY_RECORD) == 0)
    {
        (void) snprintf(vm, sizeof(vm), "%.*s", (int) n, name);

        if (memory_word(vm) == MEMORY_LOAD) {
            memory_recover_vm(ctx, vm);
        }
    }
}


void
memory_recover(const config_t *config, virConnectPtr conn)
{
    memory_recover_t  recover = { config, conn };

    (void) statedir_each(config, MEMORY_FOLDER, memory_recover_entry,
                         &recover);
}
