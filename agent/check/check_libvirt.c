/* libvirt, QEMU, and the tools that VMs are made with. */

#define _GNU_SOURCE

#include "check_private.h"
#include "core/cleanup.h"
#include "core/place.h"
#include "core/tool.h"
#include "virt/host.h"
#include "virt/host_kvm.h"
#include "virt/sync.h"
#include "virt/virt.h"
#include "virt/xml_capabilities.h"

#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>


/* From 10.4 on libvirt's networks may do with nft. */
#define CHECK_NFT     10004000

/* Where libvirt of the whole host listens. */
#define CHECK_SOCKET  "/run/libvirt/libvirt-sock"


/* Debian has them where a user's PATH may not look. */
static int
check_has_tool(const char *name)
{
    char  path[128];

    (void) snprintf(path, sizeof(path), "/usr/sbin/%s", name);

    return tool_is_there(name) || access(path, X_OK) == 0;
}


/* Is it the QEMU driver of this host, by its usual socket? */
static int
check_is_system(const config_t *config)
{
    place_t  place = { "", "" };

    place_read(config->connect, &place);

    return strcmp(place.driver, "qemu") == 0
           && strcmp(place.place, "/system") == 0
           && strchr(config->connect, '?') == NULL;
}


/* Why this host's libvirt cannot be reached, and what to do about it. */
static void
check_hint(check_t *check, const char *said)
{
    if (!check_is_system(check->config)) {
        check_error(check, "%s", said);

    } else if (access(CHECK_SOCKET, F_OK) == -1
               && !check_has_tool("libvirtd") && !check_has_tool("virtqemud"))
    {
        check_error(check, "%s; libvirt is not installed: \"apt install "
                    "libvirt-daemon-system\"", said);

    } else if (access(CHECK_SOCKET, F_OK) == -1) {
        check_error(check, "%s; libvirtd does not listen: \"systemctl start "
                    "libvirtd.socket\"", said);

    } else if (access(CHECK_SOCKET, R_OK | W_OK) == -1 || geteuid() != 0) {
        check_error(check, "%s; user %d may not use " CHECK_SOCKET ": "
                    "\"usermod -aG libvirt USER\", then log in anew", said,
                    (int) geteuid());

    } else {
        check_error(check, "%s; see \"journalctl -u libvirtd\"", said);
    }
}


/* libvirt's way to write a version. */
static void
check_version(unsigned long n, char text[32])
{
    (void) snprintf(text, 32, "%lu.%lu.%lu", n / 1000000, n / 1000 % 1000,
                    n % 1000);
}


void
check_libvirt(check_t *check)
{
    char           libvirt[32], hypervisor[32] = "";
    hatch_err_t    err;
    unsigned long  version = 0;

    if (virt_init(&sync_handlers, &err) != 0) {
        check_error(check, "%s", err.text);
        return;
    }

    if (virt_open(check->config->connect, &err) != 0) {
        check_hint(check, err.text);
        return;
    }

    check->conn = virt_get(&err);

    if (check->conn == NULL) {
        check_error(check, "%s", err.text);
        return;
    }

    (void) virConnectGetLibVersion(check->conn, &version);
    check->libvirt = version;
    check_version(version, libvirt);

    if (virConnectGetVersion(check->conn, &version) == 0) {
        check_version(version, hypervisor);
    }

    check->has_guests = virt_driver(check->conn)->has_guests;
    check->local = !virt_is_remote(check->conn) && check->has_guests;
    check_found("libvirt", "%s, version %s, driver %s %s",
                check->config->connect, libvirt,
                virConnectGetType(check->conn), hypervisor);
}


/* --- QEMU --- */

/* /dev/kvm is there, the processor has it, and nobody can use it. */
static void
check_kvm(check_t *check)
{
    if (!check->has_user || !host_kvm_seen() || !host_kvm_flag()
        || strcmp(check->config->virt_type, "qemu") == 0)
    {
        return;
    }

    if (host_kvm_open_as(&check->user) > 0) {
        check_warn("QEMU's user, %s, cannot open /dev/kvm, so VMs are slow; "
                   "mend it with \"chgrp kvm /dev/kvm && chmod 660 /dev/kvm\" "
                   "(and \"usermod -aG kvm %s\")", check->user.name,
                   check->user.name);
    }
}


void
check_qemu(check_t *check)
{
    char                choice[HOST_TEXT], warning[HOST_TEXT];
    hatch_err_t         err;
    xml_capabilities_t  can;
    cleanup_free char  *text = NULL;

    if (!check->has_guests) {
        check_found("VMs", "only played, by libvirt's test driver");
        return;
    }

    check->has_user = check->local
                      && qemu_user_find(check->conn, &check->user) == 0;

    text = virConnectGetDomainCapabilities(check->conn, NULL, "x86_64", "q35",
                                           NULL, 0);

    if (text == NULL) {
        (void) virt_error(&err, "libvirt has no QEMU for x86_64 guests");
        check_error(check, "%s: \"apt install qemu-system-x86\", then "
                    "\"systemctl restart libvirtd\"", err.text);
        return;
    }

    if (xml_read_capabilities(text, &can) == 0) {
        check_found("QEMU", "%s, machine %s", can.emulator, can.machine);
    }

    if (host_check(check->config, choice, warning)) {
        check_warn("%s", warning);

    } else {
        check_kvm(check);
    }

    check_found("virt_type", "%s", choice);

    if (check->has_user) {
        check_found("QEMU's user", "%s", check->user.name);
    }
}


/* --- tools --- */

/* Whether a VM can be made without depends on what the images have. */
static void
check_tool(check_t *check, const char *name, const char *use)
{
    if (tool_is_there(name)) {
        return;
    }

    if (check->has_disk) {
        check_error(check, "there is no %s in PATH, so no VM with a %s can be "
                    "created, as the default image's have; install it (Debian: "
                    "apt install %s)", name, use, tool_package(name));
    } else {
        check_warn("there is no %s in PATH, so no VM with a %s can be created; "
                   "install it (Debian: apt install %s)", name, use,
                   tool_package(name));
    }
}


void
check_tools(check_t *check)
{
    check_tool(check, "qemu-img", "disk");
    check_tool(check, "xorriso", "cloud-init drive");

    if (check->local && !check_has_tool("dnsmasq")) {
        check_error(check, "there is no dnsmasq, so libvirt cannot start a "
                    "network; install it (Debian: apt install %s)",
                    tool_package("dnsmasq"));
    }

    if (check->local && !check_has_tool("iptables")
        && (check->libvirt < CHECK_NFT || !check_has_tool("nft")))
    {
        check_error(check, "there is no iptables, so libvirt cannot start a "
                    "network; install it (Debian: apt install %s)",
                    tool_package("iptables"));
    }
}
