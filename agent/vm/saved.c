#define _GNU_SOURCE

#include "durable.h"
#include "memory.h"
#include "saved.h"
#include "saved_file.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/work.h"
#include "store/memory_record.h"
#include "table/table_sleep.h"
#include "table/table_stats.h"
#include "virt/host.h"
#include "virt/xml.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>


/* Why a start failed, and what that says of the memory. */
typedef enum {
    SAVED_STARTED,
    SAVED_UNKNOWN,              /* nothing: another trouble */
    SAVED_REFUSED               /* QEMU could not load it */
} saved_start_t;


/* The domain that was saved may have an image for its memory. */
static int
saved_prepare(vm_op_t *op, hatch_err_t *err)
{
    cleanup_free char  *xml = virDomainManagedSaveGetXMLDesc(op->domain, 0);

    return xml != NULL ? memory_prepare(op, xml, op->vm.mem_mib, err) : 0;
}


static saved_start_t
saved_try(vm_op_t *op, hatch_err_t *err)
{
    virt_class_t  class;

    /* whatever comes up now, the image is of before */
    if (memory_use(op, err) != 0 || saved_prepare(op, err) != 0) {
        return SAVED_UNKNOWN;
    }

    work_step("starting the VM", host_save_timeout(op->config));

    if (virDomainCreate(op->domain) == 0) {
        return SAVED_STARTED;
    }

    class = virt_last_class();
    (void) vm_start_error(op, err);

    return class == VIRT_BAD_IMAGE ? SAVED_REFUSED : SAVED_UNKNOWN;
}


/* For xml_each_file(): 0 if it can be opened. */
static int
saved_can_open(void *ctx, const char *path)
{
    int  fd;

    (void) ctx;

    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd == -1) {
        return -1;
    }

    (void) close(fd);

    return 0;
}


/*
 * Can every file that the guest needs be opened: by its definition, and by
 * the one that is in the saved image?  Else one of them may be the trouble.
 */
static int
saved_files_open(vm_op_t *op)
{
    cleanup_free char  *defined = NULL, *image = NULL;

    defined = virDomainGetXMLDesc(op->domain, VIR_DOMAIN_XML_INACTIVE);
    image = virDomainManagedSaveGetXMLDesc(op->domain, 0);

    return defined != NULL
           && xml_each_file(defined, saved_can_open, NULL) == 0
           && (image == NULL
               || xml_each_file(image, saved_can_open, NULL) == 0);
}


/* What a start that failed says when the memory is still there. */
static int
saved_kept(const vm_op_t *op, hatch_err_t *err)
{
    char         end[381];
    hatch_err_t  why = *err;

    if (why.code == HATCH_ERR_BRIDGE) {
        return HATCH_ERR_BRIDGE;        /* that says what to do */
    }

    return hatch_err_set(err, HATCH_ERR_KEPT, "the saved memory is kept, it "
                         "could not be restored now (POST /vms/%s/stop gives "
                         "it up): %s", op->vm.id,
                         hatch_err_end(why.text, end, sizeof(end)));
}


/* The memory is bad: it gets another name, and the VM boots. */
static int
saved_give_up(vm_op_t *op, const char *why, hatch_err_t *err)
{
    char         aside[STATEDIR_PATH], begin[181], end[181];
    hatch_err_t  failed;

    if (saved_file_put_aside(op, aside, &failed) != 0) {
        (void) hatch_err_set(err, HATCH_ERR_LIBVIRT, "it is bad (%s), and %s",
                             hatch_err_end(why, begin, sizeof(begin)),
                             hatch_err_end(failed.text, end, sizeof(end)));
        return saved_kept(op, err);
    }

    log_event(LOG_WARN, "%s: its saved memory cannot be restored, it boots "
              "without: %s; the memory is kept as \"%s\"", op->vm.id, why,
              aside);
    table_count(TABLE_LOST_SAVE);

    return memory_boot(op, err);
}


/* Where the agent does not see the file, libvirt does: it only reads here. */
static int
saved_can_be_read(vm_op_t *op, hatch_err_t *err)
{
    cleanup_free char  *xml = virDomainManagedSaveGetXMLDesc(op->domain, 0);

    /* the test driver's cannot be read, nor be bad */
    if (xml != NULL || virt_last_class() == VIRT_UNSUPPORTED) {
        return 1;
    }

    (void) virt_error(err, "cannot read the saved memory");

    return 0;
}


/* It is used, and must not be used again: libvirt may have failed to remove
 * it, and what it has removed is there again after a power cut. */
static void
saved_is_used(vm_op_t *op)
{
    char         aside[STATEDIR_PATH];
    hatch_err_t  err;

    if (!saved_file_exists(op)) {
        if (durable_memory(op, &err) != 0) {
            log_event(LOG_WARN, "%s: its saved memory is used, and may be "
                      "there again after a power cut: %s", op->vm.id,
                      err.text);
        }

        return;
    }

    if (saved_file_put_aside(op, aside, &err) == 0) {
        log_event(LOG_WARN, "%s: libvirt left its saved memory behind, which "
                  "is used; it is kept as \"%s\"", op->vm.id, aside);
    } else {
        log_event(LOG_WARN, "%s: libvirt left its saved memory behind, which "
                  "is used: %s", op->vm.id, err.text);
    }
}


/* There is saved memory. */
static int
saved_restore(vm_op_t *op, hatch_err_t *err)
{
    hatch_err_t    first;
    saved_start_t  before, after;

    /*
     * libvirt deletes an image that is cut off or was not finished, and boots
     * without a word; so it must not see one.
     */
    switch (saved_file_look(op, err)) {

    case SAVED_FILE_BAD:
        first = *err;
        return saved_give_up(op, first.text, err);

    case SAVED_FILE_TROUBLE:
        return saved_kept(op, err);

    case SAVED_FILE_OUT_OF_REACH:
        if (!saved_can_be_read(op, err)) {
            return saved_kept(op, err);
        }
        break;

    default:
        break;
    }

    before = saved_try(op, &first);

    if (before == SAVED_STARTED) {
        saved_is_used(op);
        return 0;
    }

    *err = first;
    after = SAVED_UNKNOWN;

    /* again, lest a passing trouble cost a request */
    if (virConnectIsAlive(op->lease.conn) == 1 && !table_forced(op->vm.id)) {
        after = saved_try(op, err);
    }

    if (after == SAVED_STARTED) {
        saved_is_used(op);
        return 0;
    }

    if (virConnectIsAlive(op->lease.conn) != 1) {
        return (int) err->code;
    }

    if (before == SAVED_REFUSED && after == SAVED_REFUSED
        && saved_files_open(op))
    {
        first = *err;
        return saved_give_up(op, first.text, err);
    }

    return saved_kept(op, err);
}


int
saved_start(vm_op_t *op, hatch_err_t *err)
{
    int  rc, saved;

    saved = virDomainHasManagedSaveImage(op->domain, 0);

    if (saved == -1) {
        return virt_error(err, "cannot look for saved memory");
    }

    /* one that was away when libvirt began it does not know of, and uses */
    if (saved == 1 || saved_file_exists(op)) {
        return saved_restore(op, err);
    }

    if (memory_is_valid(op->vm.id)) {
        rc = memory_wake(op, err);

        if (rc <= 0) {
            return rc;
        }
    }

    return memory_boot(op, err);
}


int
saved_drop(vm_op_t *op, hatch_err_t *err)
{
    int  rc;

    if (memory_is_valid(op->vm.id)) {
        rc = memory_drop(op, err);

        if (rc != 0 || virDomainHasManagedSaveImage(op->domain, 0) != 1) {
            return rc;
        }
    }

    if (virDomainManagedSaveRemove(op->domain, 0) == 0) {
        return durable_memory(op, err);
    }

    (void) virt_error(err, "cannot remove the saved memory");

    /* libvirt cannot remove what somebody has moved away */
    return saved_file_stand_in(op) == 0
           && virDomainManagedSaveRemove(op->domain, 0) == 0
           ? durable_memory(op, err) : (int) err->code;
}
