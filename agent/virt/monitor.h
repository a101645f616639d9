/*
 * QEMU's own monitor, through libvirt, for what libvirt has no call for: the
 * state of a guest's devices without its memory.  libvirt marks a domain that
 * was talked to so as tainted in its log ("custom-monitor"), which is harmless.
 * Calls block as libvirt's do.  Any thread.
 */

#ifndef HATCH_AGENT_MONITOR_H_INCLUDED
#define HATCH_AGENT_MONITOR_H_INCLUDED

#include <json-c/json.h>
#include <libvirt/libvirt.h>
#include <stdint.h>

#include "hatch_err.h"


/*
 * Carries out a QMP command with arguments (or NULL; they are given away).
 * *result is what it returned, which the caller puts; result may be NULL.
 * HATCH_ERR_LIBVIRT if QEMU refuses, with what it says.
 */
int monitor_run(virDomainPtr domain, const char *command,
    json_object *arguments, json_object **result, hatch_err_t *err);

/*
 * Writes the state of all devices of a guest that stands, without memory and
 * disks, to the file fd, which is open for writing only.
 */
int monitor_save_devices(virDomainPtr domain, int fd, hatch_err_t *err);

/*
 * Loads it from the file fd into a QEMU that was started for that
 * ("-incoming defer"); it stands afterwards.  ms bounds it.
 */
int monitor_load_devices(virDomainPtr domain, int fd, unsigned ms,
    hatch_err_t *err);

/* Its version and package, as text. */
int monitor_version(virDomainPtr domain, char *version, size_t size,
    hatch_err_t *err);

/*
 * May the memory of this guest be an image?  Every block of its RAM has to be
 * one that is known, and nothing may keep it from being moved; else
 * HATCH_ERR_CONFLICT with the reason.
 */
int monitor_check_memory(virDomainPtr domain, hatch_err_t *err);

/* How long its firmware is, bytes; 0: not known. */
size_t monitor_firmware(virDomainPtr domain);

/*
 * Where QEMU has the byte of this guest's physical address in its own memory;
 * 0 if there is none.
 */
uint64_t monitor_address(virDomainPtr domain, uint64_t physical);

#endif /* HATCH_AGENT_MONITOR_H_INCLUDED */
