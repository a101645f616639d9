/* Memory images: a guest that stands is written into its own. */

#define _GNU_SOURCE

#include "memory.h"
#include "memory_private.h"
#include "operation.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/pages.h"
#include "core/work.h"
#include "table/table_sleep.h"
#include "virt/host.h"
#include "virt/monitor.h"
#include "virt/xml.h"

#include "hatch_clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>


/*
 * File systems stamp their files by a clock that ticks this often at least, ns:
 * what is written later than that after a stamp has another one.
 */
#define MEMORY_TICK  20000000


/* What the steps of a save hand on; op->arg. */
typedef struct {
    pid_t         pid;
    json_object  *record;
    uint64_t      written;          /* pages */
} memory_save_t;


static uint64_t
memory_size(const vm_op_t *op)
{
    return (uint64_t) op->vm.mem_mib * 1024 * 1024;
}


/* --- memory --- */

static int
memory_stop(void *ctx)
{
    return table_wanted(ctx);
}


static int
memory_step_pages(vm_op_t *op, hatch_err_t *err)
{
    int             fd, rc;
    char            path[STATEDIR_PATH];
    pages_t         pages;
    memory_save_t  *save = op->arg;

    rc = monitor_check_memory(op->domain, err);

    if (rc == 0) {
        rc = memory_process(op, &save->pid, err);
    }

    memory_path(op->config, op->vm.id, MEMORY_RAM, path);

    if (rc == 0) {
        rc = pages_open(&pages, save->pid, path, memory_size(op), err);
    }

    if (rc != 0) {
        return rc;
    }

    fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd == -1) {
        rc = hatch_err_errno(err, errno, "cannot write \"%s\"", path);

    } else {
        rc = pages_save(&pages, fd, memory_stop, op->vm.id, &save->written,
                        err);
        (void) close(fd);
    }

    pages_close(&pages);

    return rc;
}


/* --- devices and firmware --- */

/* Opened by us for QEMU, which writes and never names it. */
static int
memory_create_file(const vm_op_t *op, const char *suffix, hatch_err_t *err)
{
    int   fd;
    char  path[STATEDIR_PATH];

    memory_path(op->config, op->vm.id, suffix, path);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    return fd != -1 ? fd : hatch_err_errno(err, errno, "cannot write \"%s\"",
                                           path);
}


/* On disk, with its checksum in the record. */
static int
memory_note_file(const vm_op_t *op, const char *suffix, const char *name,
    json_object *record, hatch_err_t *err)
{
    int       fd, rc = 0;
    char      path[STATEDIR_PATH];
    uint64_t  sum;

    memory_path(op->config, op->vm.id, suffix, path);
    fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd == -1 || fsync(fd) == -1) {
        rc = hatch_err_errno(err, errno, "cannot write \"%s\"", path);
    }

    if (rc == 0) {
        rc = memory_checksum(fd, &sum, err);
    }

    if (rc == 0) {
        (void) json_object_object_add(record, name,
                                      json_object_new_int64((int64_t) sum));
    }

    if (fd != -1) {
        (void) close(fd);
    }

    return rc;
}


static int
memory_save_firmware(const vm_op_t *op, const memory_save_t *save,
    hatch_err_t *err)
{
    int                  fd, rc;
    size_t               len = monitor_firmware(op->domain);
    uint64_t             address;
    cleanup_free char   *bytes = NULL;

    if (len == 0 || len > MEMORY_FIRMWARE_MAX) {
        return hatch_err_set(err, HATCH_ERR_CONFLICT, "its firmware is not "
                             "known");
    }

    bytes = malloc(len);
    address = monitor_address(op->domain, MEMORY_FIRMWARE_END - len);

    if (bytes == NULL || address == 0) {
        return hatch_err_set(err, HATCH_ERR_CONFLICT, "its firmware cannot be "
                             "read");
    }

    rc = pages_read(save->pid, address, bytes, len, err);
    fd = rc == 0 ? memory_create_file(op, MEMORY_FIRMWARE, err) : rc;

    if (fd < 0) {
        return fd;
    }

    if (write(fd, bytes, len) != (ssize_t) len) {
        rc = hatch_err_errno(err, errno != 0 ? errno : ENOSPC, "cannot write "
                             "the firmware");
    }

    (void) close(fd);

    return rc == 0 ? memory_note_file(op, MEMORY_FIRMWARE, "firmware",
                                      save->record, err)
                   : rc;
}


static int
memory_step_devices(vm_op_t *op, hatch_err_t *err)
{
    int             fd, rc;
    memory_save_t  *save = op->arg;

    fd = memory_create_file(op, MEMORY_DEVICES, err);
    if (fd < 0) {
        return fd;
    }

    rc = monitor_save_devices(op->domain, fd, err);
    (void) close(fd);

    if (rc == 0) {
        rc = memory_note_file(op, MEMORY_DEVICES, "devices", save->record,
                              err);
    }

    return rc == 0 ? memory_save_firmware(op, save, err) : rc;
}


/* --- the record --- */

/*
 * For xml_each_disk().  libvirt gives a disk to another user when a QEMU begins
 * and ends, which is a change, too: ctime counts only of one that has ended.
 */
typedef struct {
    json_object  *disks;
    hatch_err_t  *err;
} memory_disks_t;


static int
memory_note_disk(void *ctx, const char *path)
{
    int              rc;
    json_object     *id = NULL;
    memory_disks_t  *disks = ctx;

    rc = memory_identify(path, &id, disks->err);

    if (rc == 0) {
        json_object_object_del(id, "ctime");
        (void) json_object_object_add(disks->disks, path, id);
    }

    return rc;
}


static int
memory_note_disks(json_object *record, const char *xml, hatch_err_t *err)
{
    memory_disks_t  disks = { json_object_new_object(), err };

    (void) json_object_object_add(record, "disks", disks.disks);

    return xml_each_disk(xml, memory_note_disk, &disks) == 0
           ? 0 : (int) err->code;
}


/* One that is what it was, but for its ctime. */
static void
memory_settle_disk(const char *path, json_object *id)
{
    hatch_err_t                ignored;
    json_object               *ctime;
    cleanup_json json_object  *now = NULL;

    json_object_object_del(id, "ctime");

    if (memory_is_same(path, id, &ignored) == 0
        && memory_identify(path, &now, &ignored) == 0
        && json_object_object_get_ex(now, "ctime", &ctime))
    {
        (void) json_object_object_add(id, "ctime", json_object_get(ctime));
    }
}


int
memory_settle(const config_t *config, const char *vm, hatch_err_t *err)
{
    int                        rc;
    json_object               *disks;
    cleanup_json json_object  *record = NULL;

    rc = memory_read(config, vm, &record, err);

    if (rc != 0) {
        return rc == HATCH_ERR_ABSENT ? 0 : rc;
    }

    if (json_object_object_get_ex(record, "disks", &disks)) {
        json_object_object_foreach(disks, path, id) {
            memory_settle_disk(path, id);
        }
    }

    return memory_write(config, vm, record, err);
}


static int
memory_step_record(vm_op_t *op, hatch_err_t *err)
{
    int                    rc;
    char                   path[STATEDIR_PATH], version[128] = "";
    json_object           *ram = NULL;
    hatch_err_t            ignored;
    memory_save_t         *save = op->arg;
    cleanup_free char     *xml = NULL;
    const struct timespec  tick = { 0, MEMORY_TICK };

    xml = virDomainGetXMLDesc(op->domain, VIR_DOMAIN_XML_MIGRATABLE
                                          | VIR_DOMAIN_XML_SECURE);
    if (xml == NULL) {
        return virt_error(err, "cannot read the domain");
    }

    /* its disk was written to the last time before that */
    (void) nanosleep(&tick, NULL);

    memory_path(op->config, op->vm.id, MEMORY_RAM, path);
    rc = memory_identify(path, &ram, err);

    if (rc != 0) {
        return rc;
    }

    (void) monitor_version(op->domain, version, sizeof(version), &ignored);

#define ADD(name, value)                                                      \
    (void) json_object_object_add(save->record, name, value)

    ADD("ram", ram);
    ADD("mem_mib", json_object_new_int64(op->vm.mem_mib));
    ADD("written_pages", json_object_new_int64((int64_t) save->written));
    ADD("qemu", json_object_new_string(version));
    ADD("saved_at", json_object_new_int64((int64_t) hatch_clock_wall_ms()));
    ADD("xml", json_object_new_string(xml));

#undef ADD

    rc = memory_note_disks(save->record, xml, err);

    return rc == 0 ? memory_write(op->config, op->vm.id, save->record, err)
                   : rc;
}


/* --- its memory in RAM goes --- */

static int
memory_step_drop(vm_op_t *op, hatch_err_t *err)
{
    int      fd, rc;
    char     path[STATEDIR_PATH];
    pid_t    pid;
    pages_t  pages;

    memory_path(op->config, op->vm.id, MEMORY_RAM, path);
    rc = memory_process(op, &pid, err);
    rc = rc == 0 ? pages_open(&pages, pid, path, memory_size(op), err) : rc;

    if (rc != 0) {
        return rc;
    }

    fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd == -1) {
        rc = hatch_err_errno(err, errno, "cannot read \"%s\"", path);

    } else {
        rc = pages_drop(&pages, fd, err);
        (void) close(fd);
    }

    pages_close(&pages);

    return rc;
}


/* --- the end of its process --- */

static int
memory_step_end(vm_op_t *op, hatch_err_t *err)
{
    int          rc;
    hatch_err_t  why;

    if (table_wanted(op->vm.id)) {
        return hatch_err_set(err, HATCH_ERR_BUSY, "it was cancelled");
    }

    vm_step_kill(op->config);

    if (virDomainDestroy(op->domain) == -1) {
        rc = virt_error(err, "cannot end the VM's process");

        if (virDomainIsActive(op->domain) != 0) {
            return rc;
        }
    }

    if (memory_settle(op->config, op->vm.id, &why) != 0) {
        log_event(LOG_WARN, "%s: its memory image is not settled: %s",
                  op->vm.id, why.text);
    }

    return 0;
}


static const step_t  image_steps[] = {
    { .name = "pages", .doing = "saving the memory", .deadline = STEP_SAVE,
      .run = memory_step_pages },
    { .name = "devices", .doing = "saving the devices", .deadline = STEP_CALL,
      .run = memory_step_devices },
    { .name = "recorded", .run = memory_step_record },
    { .name = "ended", .run = memory_step_end },
    { .name = NULL }
};

static const step_t  park_steps[] = {
    { .name = "pages", .doing = "saving the memory", .deadline = STEP_SAVE,
      .run = memory_step_pages },
    { .name = "devices", .doing = "saving the devices", .deadline = STEP_CALL,
      .run = memory_step_devices },
    { .name = "recorded", .run = memory_step_record },
    { .name = "dropped", .run = memory_step_drop },
    { .name = NULL }
};

const operation_t  park_operation = { .name = "park", .steps = park_steps };

const operation_t  image_operation = { .name = "image", .steps = image_steps };


static int
memory_run(const operation_t *o, vm_op_t *op, hatch_err_t *err)
{
    int            rc;
    memory_save_t  save = { 0, json_object_new_object(), 0 };

    op->arg = &save;
    rc = operation_run(o, op, err);
    op->arg = NULL;
    json_object_put(save.record);

    return rc;
}


int
memory_sleep(vm_op_t *op, hatch_err_t *err)
{
    /* parked: nothing has changed since */
    return memory_is_valid(op->vm.id)
           ? memory_step_end(op, err)
           : memory_run(&image_operation, op, err);
}


int
memory_park(vm_op_t *op, hatch_err_t *err)
{
    return memory_run(&park_operation, op, err);
}
