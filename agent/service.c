#define _GNU_SOURCE

#include "service.h"
#include "core/notify.h"
#include "table/table.h"

#include "hatch_clock.h"

#include <stdint.h>
#include <stdio.h>


/* How long READY=1 waits for libvirt, ms. */
#define SERVICE_PATIENCE  10000


/* The main thread's. */
static uint64_t  service_began;
static int       service_ready;


/* Is libvirt connected, and are its VMs published?  Says so. */
static int
service_status(void)
{
    int       connected;
    char      text[128];
    unsigned  vms, running;

    connected = table_summary(&vms, &running);

    if (!table_is_complete()) {
        (void) snprintf(text, sizeof(text), "%s", service_ready
                        ? "libvirt is away, no VM is known yet"
                        : "asking libvirt for its VMs");

    } else {
        (void) snprintf(text, sizeof(text), "%s%u VM%s, %u running",
                        connected ? "" : "libvirt is away; ", vms,
                        vms == 1 ? "" : "s", running);
    }

    notify_status(text);

    return connected && table_is_complete();
}


int
service_beat(void)
{
    int       published = service_status();
    uint64_t  now = hatch_clock_ms();

    service_began = service_began != 0 ? service_began : now;

    if (!service_ready
        && (published || now - service_began >= SERVICE_PATIENCE))
    {
        service_ready = 1;
        notify_send("READY=1");
    }

    return service_ready;
}


void
service_reloading(void)
{
    notify_reloading();
}


void
service_reloaded(void)
{
    notify_send("READY=1");
}


void
service_stopping(void)
{
    notify_send("STOPPING=1\nSTATUS=stopping; the VMs keep running");
}
