#define _GNU_SOURCE

#include "virt.h"
#include "clock.h"
#include "net.h"
#include "core/cleanup.h"
#include "core/place.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>


/* libvirt's keepalive: a dead or hung daemon is noticed after 4 x 5 s. */
#define VIRT_KEEPALIVE_INTERVAL  5
#define VIRT_KEEPALIVE_COUNT     3

/* How many connections wait for the next operation. */
#define VIRT_IDLE  16

/*
 * A callback as libvirt takes all of them, and its own macros make them, but by
 * way of the type that stands for any function: clang 19 warns without.
 */
#define VIRT_DOMAIN_CALLBACK(function)                                        \
    ((virConnectDomainEventGenericCallback) (void (*)(void)) (function))
#define VIRT_NETWORK_CALLBACK(function)                                       \
    ((virConnectNetworkEventGenericCallback) (void (*)(void)) (function))


static struct {
    pthread_mutex_t         lock;
    virConnectPtr           conn;           /* NULL: not connected */
    int                     lifecycle;      /* callback id, or -1 */
    int                     reboot;         /* the same */
    int                     agent;          /* the same */
    int                     network;        /* the same */
    const virt_handlers_t  *handlers;
    char                    uri[256];
    virConnectPtr           idle[VIRT_IDLE];
    unsigned                n;              /* in idle */
    unsigned                epoch;          /* of the connections in idle */
} virt = { .lock = PTHREAD_MUTEX_INITIALIZER, .lifecycle = -1, .reboot = -1,
           .agent = -1, .network = -1 };


static void
virt_quiet(void *data, virErrorPtr error)
{
    /* errors are taken from the failing call; libvirt must not print them */
    (void) data;
    (void) error;
}


static void
virt_tick(int timer, void *data)
{
    (void) timer;
    (void) data;
}


static void *
virt_loop(void *data)
{
    (void) data;

    for ( ;; ) {
        (void) virEventRunDefaultImpl();
    }

    return NULL;
}


int
virt_init(const virt_handlers_t *handlers, hatch_err_t *err)
{
    int        rc;
    pthread_t  thread;

    virt.handlers = handlers;
    virSetErrorFunc(NULL, virt_quiet);

    if (virEventRegisterDefaultImpl() == -1 || virInitialize() == -1) {
        return virt_error(err, "cannot initialize libvirt");
    }

    /* the loop must never sleep for good: new handles wake it by this, too */
    if (virEventAddTimeout(1000, virt_tick, NULL, NULL) == -1) {
        return virt_error(err, "cannot start libvirt's event loop");
    }

    rc = pthread_create(&thread, NULL, virt_loop, NULL);
    if (rc != 0) {
        return hatch_err_errno(err, rc, "cannot start libvirt's event loop");
    }

    (void) pthread_detach(thread);

    return 0;
}


static void
virt_on_close(virConnectPtr conn, int reason, void *data)
{
    (void) conn;
    (void) reason;
    (void) data;

    virt.handlers->connection_lost();
}


static int
virt_on_lifecycle(virConnectPtr conn, virDomainPtr domain, int event,
    int detail, void *data)
{
    (void) conn;
    (void) event;
    (void) detail;
    (void) data;

    virt.handlers->domain_changed(virDomainGetName(domain));

    return 0;
}


static void
virt_on_reboot(virConnectPtr conn, virDomainPtr domain, void *data)
{
    (void) conn;
    (void) data;

    virt.handlers->domain_rebooted(virDomainGetName(domain));
}


static void
virt_on_agent(virConnectPtr conn, virDomainPtr domain, int state, int reason,
    void *data)
{
    (void) conn;
    (void) reason;
    (void) data;

    if (state == VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED) {
        clock_connected(virDomainGetName(domain));
    }
}


static void
virt_on_network(virConnectPtr conn, virNetworkPtr network, int event,
    int detail, void *data)
{
    (void) conn;
    (void) network;
    (void) event;
    (void) detail;
    (void) data;

    net_forget();
}


/*
 * What the agent can do without.  Without reboots, kept connections to a guest
 * that reboots fail; without guest agents, a clock is not set where they were
 * late; without networks, a wake after one was stopped fails once.
 */
static void
virt_register_more(virConnectPtr conn)
{
    int  reboot, agent, network;

    reboot = virConnectDomainEventRegisterAny(
                        conn, NULL, VIR_DOMAIN_EVENT_ID_REBOOT,
                        VIRT_DOMAIN_CALLBACK(virt_on_reboot), NULL, NULL);
    agent = virConnectDomainEventRegisterAny(
                        conn, NULL, VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
                        VIRT_DOMAIN_CALLBACK(virt_on_agent), NULL, NULL);
    network = virConnectNetworkEventRegisterAny(
                        conn, NULL, VIR_NETWORK_EVENT_ID_LIFECYCLE,
                        VIRT_NETWORK_CALLBACK(virt_on_network), NULL, NULL);
    net_forget();

    pthread_mutex_lock(&virt.lock);
    virt.reboot = reboot;
    virt.agent = agent;
    virt.network = network;
    pthread_mutex_unlock(&virt.lock);
}


int
virt_open(const char *uri, hatch_err_t *err)
{
    int            lifecycle;
    virConnectPtr  conn;

    virt_close();

    conn = virConnectOpen(uri);
    if (conn == NULL) {
        return virt_error(err, "cannot connect to libvirt");
    }

    /* the test driver has neither; for it there is nobody to lose */
    (void) virConnectRegisterCloseCallback(conn, virt_on_close, NULL, NULL);
    (void) virConnectSetKeepAlive(conn, VIRT_KEEPALIVE_INTERVAL,
                                  VIRT_KEEPALIVE_COUNT);

    lifecycle = virConnectDomainEventRegisterAny(
                        conn, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                        VIRT_DOMAIN_CALLBACK(virt_on_lifecycle), NULL, NULL);
    if (lifecycle == -1) {
        (void) virt_error(err, "cannot register for libvirt's events");
        (void) virConnectClose(conn);
        return HATCH_ERR_LIBVIRT;
    }

    virt_register_more(conn);

    pthread_mutex_lock(&virt.lock);
    (void) snprintf(virt.uri, sizeof(virt.uri), "%s", uri);
    virt.conn = conn;
    virt.lifecycle = lifecycle;
    pthread_mutex_unlock(&virt.lock);

    return 0;
}


void
virt_close(void)
{
    int            lifecycle, reboot, agent, network;
    unsigned       i, n;
    virConnectPtr  conn, idle[VIRT_IDLE];

    pthread_mutex_lock(&virt.lock);
    conn = virt.conn;
    lifecycle = virt.lifecycle;
    reboot = virt.reboot;
    agent = virt.agent;
    network = virt.network;
    n = virt.n;
    memcpy(idle, virt.idle, sizeof(idle));
    virt.conn = NULL;
    virt.lifecycle = -1;
    virt.reboot = -1;
    virt.agent = -1;
    virt.network = -1;
    virt.n = 0;
    virt.epoch++;
    pthread_mutex_unlock(&virt.lock);

    for (i = 0; i < n; i++) {
        (void) virConnectClose(idle[i]);
    }

    if (conn == NULL) {
        return;
    }

    (void) virConnectUnregisterCloseCallback(conn, virt_on_close);
    (void) virConnectDomainEventDeregisterAny(conn, lifecycle);

    if (reboot != -1) {
        (void) virConnectDomainEventDeregisterAny(conn, reboot);
    }

    if (agent != -1) {
        (void) virConnectDomainEventDeregisterAny(conn, agent);
    }

    if (network != -1) {
        (void) virConnectNetworkEventDeregisterAny(conn, network);
    }

    (void) virConnectClose(conn);
}


virConnectPtr
virt_get(hatch_err_t *err)
{
    virConnectPtr  conn;

    pthread_mutex_lock(&virt.lock);

    conn = virt.conn;

    if (conn != NULL) {
        (void) virConnectRef(conn);
    }

    pthread_mutex_unlock(&virt.lock);

    if (conn == NULL) {
        (void) hatch_err_set(err, HATCH_ERR_UNAVAILABLE,
                             "libvirt is not connected");
    }

    return conn;
}


int
virt_lease(virt_lease_t *lease, hatch_err_t *err)
{
    int   connected;
    char  uri[sizeof(virt.uri)];

    pthread_mutex_lock(&virt.lock);

    connected = virt.conn != NULL;
    lease->epoch = virt.epoch;
    lease->conn = connected && virt.n != 0 ? virt.idle[--virt.n] : NULL;
    memcpy(uri, virt.uri, sizeof(uri));

    pthread_mutex_unlock(&virt.lock);

    if (!connected) {
        return hatch_err_set(err, HATCH_ERR_UNAVAILABLE,
                             "libvirt is not connected");
    }

    if (lease->conn == NULL) {
        lease->conn = virConnectOpen(uri);

        if (lease->conn == NULL) {
            (void) virt_error(err, "cannot connect to libvirt");
            err->code = HATCH_ERR_UNAVAILABLE;
            return err->code;
        }

        (void) virConnectSetKeepAlive(lease->conn, VIRT_KEEPALIVE_INTERVAL,
                                      VIRT_KEEPALIVE_COUNT);
    }

    return 0;
}


void
virt_release(virt_lease_t *lease)
{
    int  alive;

    if (lease->conn == NULL) {
        return;
    }

    alive = virConnectIsAlive(lease->conn) == 1;

    pthread_mutex_lock(&virt.lock);

    if (alive && virt.conn != NULL && virt.epoch == lease->epoch
        && virt.n < VIRT_IDLE)
    {
        virt.idle[virt.n++] = lease->conn;
        lease->conn = NULL;
    }

    pthread_mutex_unlock(&virt.lock);

    if (lease->conn != NULL) {
        (void) virConnectClose(lease->conn);
        lease->conn = NULL;
    }
}


int
virt_is_remote(virConnectPtr conn)
{
    char               *p;
    cleanup_free char  *uri = virConnectGetURI(conn);

    p = uri != NULL ? strstr(uri, "://") : NULL;

    return p != NULL && p[3] != '/' && p[3] != '\0';
}


const char *
virt_place(const char *uri)
{
    static _Thread_local place_t  place;

    place_read(uri, &place);

    return place.place;
}
