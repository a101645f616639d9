#define _GNU_SOURCE

#include "virt_error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>


/* As QEMU says it when it cannot load a guest's memory, whatever the reason. */
#define VIRT_LOAD_FAILED  "load of migration failed"

/* strerror() of these in QEMU, which does not translate. */
#define VIRT_TEXT_ENOSPC  "No space left on device"
#define VIRT_TEXT_ENOMEM  "Cannot allocate memory"

/* QEMU says first which of its arguments it could not do, as JSON. */
#define VIRT_ARGUMENT      "qemu-system-"
#define VIRT_ARGUMENT_END  "}: "
#define VIRT_QEMU          "QEMU: "

/* So much of what libvirt says is told in any case, bytes. */
#define VIRT_TEXT_MIN     32


/* libvirt has a code, or it is one of the system's, which it numbers. */
static virt_class_t
virt_classify_code(int code, int errnum)
{
    switch (code) {

    case VIR_ERR_NO_DOMAIN:
    case VIR_ERR_NO_NETWORK:
    case VIR_ERR_NO_DOMAIN_METADATA:
        return VIRT_GONE;

    case VIR_ERR_OPERATION_TIMEOUT:
        return VIRT_BUSY;

    case VIR_ERR_AGENT_UNRESPONSIVE:
    case VIR_ERR_AGENT_UNSYNCED:
        return VIRT_NO_AGENT;

    case VIR_ERR_OPERATION_INVALID:
        return VIRT_REFUSED;

    case VIR_ERR_NO_SUPPORT:
    case VIR_ERR_OPERATION_UNSUPPORTED:
    case VIR_ERR_ARGUMENT_UNSUPPORTED:
        return VIRT_UNSUPPORTED;

    case VIR_ERR_NO_CONNECT:
    case VIR_ERR_INVALID_CONN:
    case VIR_ERR_RPC:
        return VIRT_LOST;

    case VIR_ERR_SYSTEM_ERROR:
        /* EXFULL: the kernel's own for a bridge with all ports taken */
        return errnum == ENOSPC || errnum == EDQUOT ? VIRT_NO_ROOM
               : errnum == EXFULL ? VIRT_NO_PORT : VIRT_HOST;

    /* a QEMU that ended, a job that failed; also a lock of virtlockd's */
    case VIR_ERR_INTERNAL_ERROR:
    case VIR_ERR_OPERATION_FAILED:
    case VIR_ERR_OPERATION_ABORTED:
    case VIR_ERR_RESOURCE_BUSY:
    case VIR_ERR_HOOK_SCRIPT_FAILED:
    case VIR_ERR_DBUS_SERVICE:
    /* what was defined once, and this host cannot do now: KVM, an emulator */
    case VIR_ERR_CONFIG_UNSUPPORTED:
        return VIRT_HOST;

    default:
        return VIRT_OTHER;
    }
}


/* Only errors that quote QEMU, or the tool that writes for it. */
static virt_class_t
virt_classify_text(const virError *error, virt_class_t found)
{
    const char  *text = error->message;

    if (text == NULL) {
        return found;
    }

    /* memory that the host has not got is no fault of the image's */
    if (strstr(text, VIRT_LOAD_FAILED) != NULL
        && strstr(text, VIRT_TEXT_ENOMEM) == NULL)
    {
        return VIRT_BAD_IMAGE;
    }

    return strstr(text, VIRT_TEXT_ENOSPC) != NULL ? VIRT_NO_ROOM : found;
}


virt_class_t
virt_classify(const virError *error)
{
    virt_class_t  found;

    if (error == NULL || error->code == VIR_ERR_OK) {
        return VIRT_OTHER;
    }

    /* what the client's side says of its socket */
    if (error->domain == VIR_FROM_RPC || error->domain == VIR_FROM_REMOTE) {
        return VIRT_LOST;
    }

    found = virt_classify_code(error->code, error->int1);

    return found != VIRT_OTHER && found != VIRT_HOST
           ? found : virt_classify_text(error, found);
}


virt_class_t
virt_last_class(void)
{
    return virt_classify(virGetLastError());
}


/* One line, without a blank at its end. */
static void
virt_one_line(char *text)
{
    char  *p, *end = text;

    for (p = text; *p != '\0'; p++) {
        if ((unsigned char) *p <= ' ' || *p == 0x7f) {
            *p = ' ';
        } else {
            end = p + 1;
        }
    }

    *end = '\0';
}


/*
 * What to tell of an error, in one line.  QEMU's last line names a whole
 * argument, which would leave no room for the reason behind it.
 */
static void
virt_reason(const virError *error, char *text, size_t size)
{
    const char  *from, *end;

    from = strstr(error->message, VIRT_ARGUMENT);

    if (from == NULL) {
        (void) hatch_err_end(error->message, text, size);

    } else {
        end = strstr(from, VIRT_ARGUMENT_END);
        from = end != NULL ? end + strlen(VIRT_ARGUMENT_END)
                           : from + strcspn(from, " ");
        memcpy(text, VIRT_QEMU, sizeof(VIRT_QEMU));
        (void) hatch_err_end(from + strspn(from, " "),
                             text + sizeof(VIRT_QEMU) - 1,
                             size - (sizeof(VIRT_QEMU) - 1));
    }

    virt_one_line(text);
}


int
virt_error(hatch_err_t *err, const char *doing)
{
    char          text[sizeof(err->text)];
    size_t        said = strlen(doing) + 2;
    virErrorPtr   last = virGetLastError();
    virt_class_t  class = virt_classify(last);
    const size_t  room = said + VIRT_TEXT_MIN < sizeof(text)
                         ? sizeof(text) - said : VIRT_TEXT_MIN;

    static const hatch_err_code_t  codes[] = {
        [VIRT_OTHER] = HATCH_ERR_LIBVIRT,
        [VIRT_HOST] = HATCH_ERR_HOST,
        [VIRT_GONE] = HATCH_ERR_NOT_FOUND,
        [VIRT_BUSY] = HATCH_ERR_TIMEOUT,
        [VIRT_NO_ROOM] = HATCH_ERR_FULL,
        [VIRT_NO_PORT] = HATCH_ERR_BRIDGE,
        [VIRT_BAD_IMAGE] = HATCH_ERR_LIBVIRT,
        [VIRT_REFUSED] = HATCH_ERR_CONFLICT,
        [VIRT_UNSUPPORTED] = HATCH_ERR_LIBVIRT,
        [VIRT_LOST] = HATCH_ERR_UNAVAILABLE,
        [VIRT_NO_AGENT] = HATCH_ERR_LIBVIRT
    };

    if (class == VIRT_NO_PORT) {
        return hatch_err_set(err, HATCH_ERR_BRIDGE, "%s: the network's bridge "
                             "has no port left; a Linux bridge has 1023, and "
                             "each VM that runs or is paused has one", doing);
    }

    if (last == NULL || last->message == NULL) {
        return hatch_err_set(err, codes[VIRT_OTHER], "%s: libvirt gave no "
                             "reason", doing);
    }

    virt_reason(last, text, room);

    return hatch_err_set(err, codes[class], "%s: %s", doing, text);
}
