/* What all operations on VMs begin and end with, and share. */

#define _GNU_SOURCE

#include "durable.h"
#include "memory.h"
#include "vm_private.h"
#include "core/work.h"
#include "store/disk.h"
#include "store/image_base.h"
#include "store/pending.h"
#include "store/statedir.h"
#include "virt/host.h"
#include "virt/neighbor.h"
#include "virt/net.h"
#include "virt/qemu_user.h"
#include "virt/spoof.h"
#include "virt/sync.h"
#include "virt/virt_cleanup.h"
#include "virt/xml.h"

#include "hatch_clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


/*
 * libvirt asks a QEMU with SIGTERM and gives it 15 s before it sends SIGKILL;
 * that much longer may pulling the plug take.
 */
#define VM_KILL_TIMEOUT   20

/* How long an operation waits for the one before it on the same VM, ms. */
#define VM_TURN_TIMEOUT   30000

/* Until a guest that had suspended itself (S3) runs, ms. */
#define VM_WAKEUP_TIMEOUT  5000

/* How long one waits that then pulls the plug under it. */
#define VM_FORCE_TIMEOUT  2000


/* --- what all operations begin and end with --- */

void
vm_step(const vm_op_t *op, const char *what)
{
    work_step(what, host_call_timeout(op->config));
}


void
vm_step_kill(const config_t *config)
{
    work_step("stopping the VM",
              host_call_timeout(config) + VM_KILL_TIMEOUT);
}


int
vm_look(vm_op_t *op, hatch_err_t *err)
{
    int  rc;

    vm_step(op, "looking up the VM");
    rc = sync_vm(op->lease.conn, op->vm.id, err);

    if (rc == 0 && table_get(op->vm.id, &op->vm) != 0) {
        rc = hatch_err_set(err, HATCH_ERR_NOT_FOUND, "no VM \"%s\"",
                           op->vm.id);
    }

    return rc;
}


/* A connection and the domain. */
static int
vm_open(vm_op_t *op, hatch_err_t *err)
{
    int          rc;
    const char  *id = op->vm.id;

    if (pending_abandoned(id) && !op->deletes) {
        return hatch_err_set(err, HATCH_ERR_BUSY, "VM \"%s\" is being "
                             "recovered from an operation that did not end",
                             id);
    }

    vm_step(op, "looking up the VM");
    rc = virt_lease(&op->lease, err);

    if (rc == 0) {
        op->domain = virDomainLookupByName(op->lease.conn, id);

        if (op->domain == NULL) {
            rc = virt_error(err, "cannot look up the VM");
        }
    }

    return rc;
}


static int
vm_begin_within(vm_op_t *op, const config_t *config, const char *id,
    int urgent, unsigned timeout, hatch_err_t *err)
{
    int  rc;

    op->config = config;

    work_step("waiting for the operation before", timeout / 1000 + 10);

    rc = table_begin(id, urgent, timeout, &op->vm, err);
    if (rc != 0) {
        return rc;
    }

    rc = vm_open(op, err);

    /* also where there is no domain: the table forgets the VM then */
    if ((rc == 0 || rc == HATCH_ERR_NOT_FOUND) && !op->quick) {
        rc = vm_look(op, err);

        if (rc == 0 && op->domain == NULL) {
            rc = hatch_err_set(err, HATCH_ERR_NOT_FOUND, "no VM \"%s\"", id);
        }
    }

    if (rc != 0) {
        vm_drop(op);
    }

    return rc;
}


int
vm_begin_quick(vm_op_t *op, const config_t *config, const char *id,
    unsigned timeout, hatch_err_t *err)
{
    memset(op, 0, sizeof(*op));
    op->quick = 1;

    return vm_begin_within(op, config, id, 1, timeout, err);
}


int
vm_begin(vm_op_t *op, const config_t *config, const char *id,
    hatch_err_t *err)
{
    memset(op, 0, sizeof(*op));

    return vm_begin_within(op, config, id, 0, VM_TURN_TIMEOUT, err);
}


int
vm_begin_force(vm_op_t *op, const config_t *config, const char *id,
    int deletes, hatch_err_t *err)
{
    int                          rc;
    virt_lease_t                 lease = { NULL, 0 };
    cleanup_domain virDomainPtr  domain = NULL;

    memset(op, 0, sizeof(*op));
    op->deletes = deletes & 1;

    rc = vm_begin_within(op, config, id, 1, VM_FORCE_TIMEOUT, err);

    if (rc != HATCH_ERR_TIMEOUT) {
        return rc;
    }

    vm_step_kill(config);
    table_force(id);

    if (virt_lease(&lease, err) == 0) {
        domain = virDomainLookupByName(lease.conn, id);

        if (domain != NULL) {
            (void) virDomainDestroy(domain);
        }

        virt_release(&lease);
    }

    op->forced = 1;

    return vm_begin_within(op, config, id, 1, VM_TURN_TIMEOUT, err);
}


void
vm_drop(vm_op_t *op)
{
    if (op->domain != NULL) {
        (void) virDomainFree(op->domain);
        op->domain = NULL;
    }

    vm_end_start(op);
    virt_release(&op->lease);
    json_object_put(op->note);
    op->note = NULL;
    table_end(op->vm.id);
}


int
vm_forced(const vm_op_t *op, int rc, hatch_err_t *err)
{
    if ((rc != HATCH_ERR_LIBVIRT && rc != HATCH_ERR_HOST
         && rc != HATCH_ERR_KEPT)
        || !table_forced(op->vm.id))
    {
        return rc;
    }

    return hatch_err_set(err, HATCH_ERR_CONFLICT, "VM \"%s\" was stopped or "
                         "deleted by force meanwhile", op->vm.id);
}


int
vm_end(vm_op_t *op, int rc, vm_t *vm, hatch_err_t *err)
{
    int          synced;
    hatch_err_t  why;

    rc = vm_forced(op, rc, err);

    if (rc != 0) {
        net_forget();
    }

    vm_step(op, "looking up the VM");
    synced = sync_vm(op->lease.conn, op->vm.id, &why);
    vm_drop(op);

    if (rc != 0) {
        return rc;
    }

    if (synced != 0) {
        *err = why;
        return synced;
    }

    rc = table_get(op->vm.id, vm);

    return rc == 0
           ? 0 : hatch_err_set(err, rc, "no VM \"%s\"", op->vm.id);
}


json_object *
vm_note(const vm_op_t *op)
{
    char          ip[INET_ADDRSTRLEN];
    json_object  *details = json_object_new_object();

    (void) json_object_object_add(details, "test", json_object_new_boolean(
                                      virt_driver(op->lease.conn)->forgets));

    (void) json_object_object_add(details, "place", json_object_new_string(
                                      virt_place(op->config->connect)));

    if (op->vm.enable_network && op->vm.guest_ip.s_addr != 0) {
        (void) inet_ntop(AF_INET, &op->vm.guest_ip, ip, sizeof(ip));
        (void) json_object_object_add(details, "guest_ip",
                                      json_object_new_string(ip));
        (void) json_object_object_add(details, "guest_mac",
                                      json_object_new_string(
                                          op->vm.guest_mac));
    }

    return details;
}


int
vm_conflict(const vm_op_t *op, const char *what, hatch_err_t *err)
{
    /*
     * Who asks has its turn, so none of ours is.  A libvirtd that was killed
     * at the beginning of a start thinks so ever after, whatever it is asked.
     */
    if (op->vm.state == HATCH_STATE_STARTING) {
        return hatch_err_set(err, HATCH_ERR_CONFLICT, "cannot %s VM \"%s\": it "
                             "is starting, says libvirt; if that lasts, "
                             "libvirtd was killed over it: stop libvirtd, "
                             "remove /run/libvirt/qemu/%s.xml, and start it",
                             what, op->vm.id, op->vm.id);
    }

    return hatch_err_set(err, HATCH_ERR_CONFLICT, "cannot %s VM \"%s\": it is "
                         "%s", what, op->vm.id, hatch_state_name(op->vm.state));
}


int
vm_check_disks(vm_op_t *op, const char *what, hatch_err_t *err)
{
    int                  rc;
    char                 ours[STATEDIR_PATH] = "";
    xml_other_disk_t     other;
    cleanup_free char   *text = NULL;

    vm_step(op, "reading the domain");

    /* of the running domain, if it runs */
    text = virDomainGetXMLDesc(op->domain, 0);
    if (text == NULL) {
        return virt_error(err, "cannot read the domain");
    }

    if (op->vm.disk_mib != 0) {
        disk_path(op->config, op->vm.id, ours);
    }

    rc = xml_other_disk(text, ours, &other);

    if (rc <= 0) {
        return rc == 0 ? 0 : hatch_err_set(err, HATCH_ERR_LIBVIRT, "cannot "
                                           "read the domain");
    }

    if (other.is_layer) {
        return hatch_err_set(err, HATCH_ERR_CONFLICT, "cannot %s the VM: "
                             "another program's snapshot has put \"%.80s\" "
                             "over its disk %s; merge it first (virsh "
                             "blockcommit --shallow)", what, other.path,
                             other.target);
    }

    return hatch_err_set(err, HATCH_ERR_CONFLICT, "cannot %s the VM: its disk "
                         "%s, \"%.80s\", was not made by Hatch; detach it "
                         "first", what, other.target, other.path);
}


/* --- a start --- */

int
vm_prepare_start(vm_op_t *op, hatch_err_t *err)
{
    int   rc = 0, guests = virt_driver(op->lease.conn)->has_guests;
    char  bridge[IFNAMSIZ];

    work_start_begin(op->config, host_save_timeout(op->config));
    op->starts = 1;
    vm_step(op, "preparing the network");

    if (guests) {
        rc = table_check_memory(op->vm.id, op->vm.mem_mib, err);
    }

    if (rc == 0) {
        rc = image_check_base(op->config, op->vm.id, err);
    }

    /* somebody may have stopped the network, or made it anew */
    if (rc == 0 && op->vm.enable_network) {
        rc = net_reserve(op->lease.conn, op->config, op->vm.guest_mac,
                         op->vm.guest_ip, err);

        if (rc == 0 && guests) {
            net_bridge(op->config, bridge);
            neighbor_set(bridge, op->vm.guest_ip, op->vm.guest_mac);
            spoof_admit(&op->vm);
        }
    }

    return rc;
}


int
vm_start_error(vm_op_t *op, hatch_err_t *err)
{
    int                 rc = virt_error(err, "cannot start the VM");
    cleanup_free char  *xml = NULL;

    if (rc == HATCH_ERR_LIBVIRT || rc == HATCH_ERR_HOST) {
        xml = virDomainGetXMLDesc(op->domain, VIR_DOMAIN_XML_INACTIVE);

        if (xml != NULL) {
            (void) qemu_user_explain(op->lease.conn, xml, err);
        }
    }

    return rc;
}


void
vm_end_start(vm_op_t *op)
{
    if (op->starts) {
        op->starts = 0;
        work_start_end();
    }
}


int
vm_is_active(vm_op_t *op, hatch_err_t *err)
{
    int  active = op->domain != NULL ? virDomainIsActive(op->domain) : 0;

    return active >= 0 ? active : virt_error(err, "cannot look at the VM");
}


int
vm_resume_now(vm_op_t *op, hatch_err_t *err)
{
    int  rc = memory_use(op, err);

    if (rc != 0) {
        return rc;
    }

    return virDomainResume(op->domain) == 0
           ? 0 : virt_error(err, "cannot resume the VM");
}


int
vm_rouse(vm_op_t *op, int *state, hatch_err_t *err)
{
    int  reason;

    if (virDomainGetState(op->domain, state, &reason, 0) == -1) {
        return virt_error(err, "cannot look at the VM");
    }

    if (*state != VIR_DOMAIN_PMSUSPENDED) {
        return 0;
    }

    if (virDomainPMWakeup(op->domain, 0) == -1) {
        return virt_error(err, "cannot wake the guest, which has suspended "
                          "itself");
    }

    /* QEMU says so a moment later */
    (void) table_wait(op->vm.id, HATCH_STATE_RUNNING, VM_WAKEUP_TIMEOUT);

    return 0;
}


int
vm_unpause(vm_op_t *op, hatch_err_t *err)
{
    int  rc, state;

    vm_step(op, "resuming the VM");
    rc = vm_rouse(op, &state, err);

    return rc == 0 && state == VIR_DOMAIN_PAUSED ? vm_resume_now(op, err) : rc;
}


int
vm_redefine(vm_op_t *op, const vm_t *vm, unsigned flags, hatch_err_t *err)
{
    cleanup_free char           *text = NULL, *xml = NULL;
    cleanup_domain virDomainPtr  domain = NULL;

    text = virDomainGetXMLDesc(op->domain, VIR_DOMAIN_XML_INACTIVE
                                           | VIR_DOMAIN_XML_SECURE);
    if (text == NULL) {
        return virt_error(err, "cannot read the domain");
    }

    xml = xml_edit_domain(text, vm, op->config->guest_isolation != 0);
    if (xml == NULL) {
        return hatch_err_errno(err, ENOMEM, "cannot define the VM");
    }

    domain = virDomainDefineXMLFlags(op->lease.conn, xml, flags);

    return domain != NULL ? durable_definition(op, err)
                          : virt_error(err, "cannot define the VM");
}
