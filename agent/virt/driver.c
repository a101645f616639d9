#define _GNU_SOURCE

#include "driver.h"

#include <string.h>


/*
 * libvirt's external snapshot without disks: the process lives on, so whatever
 * fails later, the VM only has to be resumed.
 */
static int
driver_qemu_save(virDomainPtr domain, const char *path, const char *xml)
{
    virDomainSnapshotPtr  snapshot;

    (void) path;

    snapshot = virDomainSnapshotCreateXML(domain, xml,
                                     VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA);
    if (snapshot == NULL) {
        return -1;
    }

    (void) virDomainSnapshotFree(snapshot);

    return 0;
}


/* The test driver has no such thing; there, a save and a restore do. */
static int
driver_test_save(virDomainPtr domain, const char *path, const char *xml)
{
    (void) xml;

    return virDomainSave(domain, path) == -1
           || virDomainRestore(virDomainGetConnect(domain), path) == -1
           || virDomainSuspend(domain) == -1 ? -1 : 0;
}


static const virt_driver_t  driver_qemu = {
    .name = "QEMU",
    .undefine_flags = VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                      | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                      | VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
                      | VIR_DOMAIN_UNDEFINE_NVRAM
                      | VIR_DOMAIN_UNDEFINE_TPM,
    .restore_flags = VIR_DOMAIN_SAVE_RUNNING,
    .has_guests = 1,
    .save_memory = driver_qemu_save
};

static const virt_driver_t  driver_test = {
    .name = "TEST",
    .domain_type = "test",
    .undefine_flags = VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                      | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA,
    .forgets = 1,
    .save_memory = driver_test_save
};


const virt_driver_t *
virt_driver(virConnectPtr conn)
{
    const char  *type = virConnectGetType(conn);

    return type != NULL && strcmp(type, driver_test.name) == 0
           ? &driver_test : &driver_qemu;
}
