#define _GNU_SOURCE

#include "recover.h"
#include "operation.h"
#include "vm_private.h"
#include "core/log.h"
#include "core/work.h"
#include "store/pending.h"
#include "virt/sync.h"
#include "virt/virt_cleanup.h"

#include "hatch_json.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define RECOVER_TURN_TIMEOUT  1000      /* ms */

/* Nothing can be done, nor need be, before the VM is back. */
#define RECOVER_WAITS         1


typedef struct {
    vm_op_t       op;
    int           rc;
    hatch_err_t   err;
} recover_t;


static int
recover_operation(recover_t *r, hatch_err_t *err)
{
    int                 rc;
    const char         *name;
    const operation_t  *o;

    name = hatch_json_string(r->op.note, "operation", "");
    o = operation_find(name);

    /* pending.h could not read it, or it is of an agent that knew more */
    if (o == NULL) {
        return RECOVER_WAITS;
    }

    /* renamed or undefined meanwhile: what it ran with last is not known */
    if (o->needs_domain && r->op.domain == NULL) {
        return RECOVER_WAITS;
    }

    rc = operation_recover(o, &r->op, err);

    if (rc < 0) {
        return rc;
    }

    if (!table_has(r->op.vm.id)) {
        table_forget_orphan(r->op.vm.id);
    }

    log_event(LOG_INFO, "%s: to %s had not ended, and was %s", r->op.vm.id,
              name, rc == 1 ? "done to its end" : "undone");

    return 0;
}


/* Connection and domain; a domain that is not there is fine. */
static int
recover_open(vm_op_t *op, hatch_err_t *err)
{
    int                          rc;
    cleanup_domain virDomainPtr  domain = NULL;

    vm_step(op, "looking up the VM");
    rc = virt_lease(&op->lease, err);

    if (rc == 0) {
        rc = sync_vm(op->lease.conn, op->vm.id, err);
    }

    if (rc == 0) {
        op->domain = virDomainLookupByName(op->lease.conn, op->vm.id);
        (void) table_get(op->vm.id, &op->vm);
    }

    if (rc != HATCH_ERR_NOT_FOUND) {
        return rc;
    }

    /* one without our metadata is no VM of ours, but may have its files */
    domain = virDomainLookupByName(op->lease.conn, op->vm.id);

    if (domain != NULL) {
        return RECOVER_WAITS;
    }

    rc = virt_error(err, "cannot look up the VM");

    return rc == HATCH_ERR_NOT_FOUND ? 0 : rc;
}


static void
recover_run(void *arg)
{
    recover_t   *r = arg;
    hatch_err_t  ignored;

    r->rc = table_begin(r->op.vm.id, 1, RECOVER_TURN_TIMEOUT, &r->op.vm,
                        &r->err);

    if (r->rc != 0 && r->rc != HATCH_ERR_NOT_FOUND) {
        return;
    }

    r->rc = recover_open(&r->op, &r->err);

    if (r->rc == 0) {
        r->rc = recover_operation(r, &r->err);
    }

    if (r->op.lease.conn != NULL) {
        (void) sync_vm(r->op.lease.conn, r->op.vm.id, &ignored);
    }

    vm_drop(&r->op);
}


static void
recover_release(void *arg)
{
    free(arg);
}


/* Of a VM that may have no domain; one that has says it itself. */
static void
recover_read_address(vm_t *vm, json_object *details)
{
    const char  *ip = hatch_json_string(details, "guest_ip", "");

    if (inet_pton(AF_INET, ip, &vm->guest_ip) == 1) {
        vm->enable_network = 1;
        (void) snprintf(vm->guest_mac, sizeof(vm->guest_mac), "%s",
                        hatch_json_string(details, "guest_mac", ""));
    }
}


/* Once for each VM: it may be so for long.  Only the tidy thread is here. */
static void
recover_tell(const char *id, const char *what)
{
    static json_object  *told;

    if (told == NULL) {
        told = json_object_new_object();
    }

    if (!json_object_object_get_ex(told, id, NULL)) {
        (void) json_object_object_add(told, id, NULL);
        log_event(LOG_WARN, "%s: %s", id, what);
    }
}


/* Tried again each second; a reason is told once.  The tidy thread alone. */
static void
recover_tell_why(const char *id, const char *why)
{
    json_object  *before;

    static json_object  *told;

    if (told == NULL) {
        told = json_object_new_object();
    }

    if (!json_object_object_get_ex(told, id, &before)
        || strcmp(json_object_get_string(before), why) != 0)
    {
        (void) json_object_object_add(told, id, json_object_new_string(why));
        log_event(LOG_WARN, "%s: not recovered yet: %s", id, why);
    }
}


static int
recover_vm(const config_t *config, const char *id, json_object *details)
{
    int          rc;
    recover_t   *r = calloc(1, sizeof(*r));
    hatch_err_t  err;

    if (r == NULL || json_object_deep_copy(details, &r->op.note, NULL) != 0) {
        free(r);
        return -1;
    }

    r->op.config = config;
    (void) snprintf(r->op.vm.id, sizeof(r->op.vm.id), "%s", id);
    recover_read_address(&r->op.vm, details);

    rc = work_run(recover_run, recover_release, r, &err);

    if (rc == 0) {
        rc = r->rc;
        err = r->err;
        recover_release(r);
    }

    if (rc == RECOVER_WAITS) {
        recover_tell(id, "an operation on it did not end, and it is not as "
                     "that left it; what there is of it is kept until it is "
                     "back, or deleted");
        return 0;
    }

    if (rc != 0) {
        recover_tell_why(id, err.text);
    }

    return rc;
}


/*
 * A note of another libvirt's, or driver's, is of VMs that this one never had:
 * what it does not find says nothing.  A directory that was moved here with
 * --adopt may have some, and to undo one would delete the disk of a VM that
 * the other libvirt has.
 */
static int
recover_is_foreign(const char *id, json_object *details, const char *place,
    int test)
{
    if (hatch_json_boolean(details, "test", 0) == test
        && strcmp(hatch_json_string(details, "place", place), place) == 0)
    {
        return 0;
    }

    recover_tell(id, "an operation on it did not end, with another libvirt; "
                 "it waits for that");

    return 1;
}


unsigned
recover_all(const config_t *config, int test)
{
    unsigned                   left = 0;
    cleanup_json json_object  *all = pending_list();

    json_object_object_foreach(all, id, details) {
        if (!recover_is_foreign(id, details, virt_place(config->connect),
                                test))
        {
            left += recover_vm(config, id, details) != 0;
        }
    }

    return left;
}
