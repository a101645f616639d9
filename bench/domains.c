/*
 * domains: many libvirt domains that Hatch manages, for measuring the agent.
 *
 *   domains URI hold N       defines and starts N, says how long libvirt needs
 *                            to list them, and keeps them until it is told
 *                            to end by the end of its standard input
 *   domains URI change N PORT
 *                            undefines and defines a domain N times; for each,
 *                            the time until /healthz on PORT says so
 *
 * URI is test+unix:///default: libvirt's test driver in libvirtd, so that its
 * domains are in libvirtd's memory and not in the agent's.  They live as long
 * as somebody is connected.
 */

#define _GNU_SOURCE

#include "latency.h"

#include <arpa/inet.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>


/*
 * Between two requests, us: who asks without one takes the processor that
 * libvirtd and the agent need.
 */
#define ASK_PAUSE  50


static virConnectPtr  conn;


static uint64_t
now_us(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000u + (uint64_t) ts.tv_nsec / 1000;
}


static void
die(const char *what)
{
    fprintf(stderr, "domains: %s: %s\n", what, virGetLastErrorMessage());
    exit(1);
}


static void
quiet(void *data, virErrorPtr error)
{
    (void) data;
    (void) error;
}


static virDomainPtr
define(unsigned n)
{
    int   i;
    char  id[] = "vm_aaaaaaaaaaaaaaaa", xml[2048];

    for (i = 18; n != 0; i--, n /= 26) {
        id[i] = (char) ('a' + n % 26);
    }

    (void) snprintf(xml, sizeof(xml),
        "<domain type='test'><name>%s</name><memory unit='MiB'>512</memory>"
        "<vcpu>1</vcpu><os><type>hvm</type></os><metadata>"
        "<hatch:vm xmlns:hatch='https://hatch.invalid/xmlns/vm/1'"
        " name='bench' image_id='img_default' template_id='' disk_mib='0'"
        " enable_network='0' seed='0' created='1700000000000'"
        " updated='1700000000000' idle_timeout='never' save_after='never'"
        " boot_args=''/></metadata></domain>", id);

    return virDomainDefineXML(conn, xml);
}


static int
hold(unsigned n)
{
    int            count;
    char           c;
    unsigned       i;
    uint64_t       began;
    virDomainPtr   domain, *domains;

    for (i = 0; i < n; i++) {
        domain = define(i);

        if (domain == NULL || virDomainCreate(domain) != 0) {
            die("cannot make a domain");
        }

        (void) virDomainFree(domain);
    }

    began = now_us();
    count = virConnectListAllDomains(conn, &domains, 0);

    if (count < 0) {
        die("cannot list the domains");
    }

    printf("{\"domains\":%d,\"list_ms\":%.1f}\n", count,
           (double) (now_us() - began) / 1000);
    fflush(stdout);

    while (read(STDIN_FILENO, &c, 1) > 0) {
        /* void */
    }

    return 0;
}


static int
client(unsigned port)
{
    int                 fd, on = 1;
    struct sockaddr_in  to = { .sin_family = AF_INET };

    to.sin_port = htons((uint16_t) port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd == -1 || connect(fd, (struct sockaddr *) &to, sizeof(to)) == -1) {
        die("cannot connect to /healthz");
    }

    (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));

    return fd;
}


/* What /healthz says now. */
static unsigned
vm_count(int *fd, unsigned port)
{
    char      text[4096], *at;
    ssize_t   n;

    static const char  request[] = "GET /healthz HTTP/1.1\r\n"
                                   "Host: localhost\r\n\r\n";

    n = send(*fd, request, sizeof(request) - 1, MSG_NOSIGNAL);
    n = n > 0 ? recv(*fd, text, sizeof(text) - 1, 0) : n;

    if (n <= 0) {
        /* a thousand requests are all that nginx takes on one connection */
        (void) close(*fd);
        *fd = client(port);
        return vm_count(fd, port);
    }

    text[n] = '\0';
    at = strstr(text, "\"vm_count\":");

    if (at == NULL) {
        die("/healthz says something else");
    }

    return (unsigned) strtoul(at + 11, NULL, 10);
}


static int
change(unsigned n, unsigned port)
{
    int            fd = client(port);
    unsigned       i, before;
    uint64_t       began;
    latency_t      took;
    virDomainPtr   domain = define(1000000);

    if (latency_init(&took, n) != 0 || domain == NULL) {
        die("cannot make a domain");
    }

    (void) usleep(500000);

    for (i = 0; i < n; i++) {
        latency_begin(&took);
        before = vm_count(&fd, port);
        began = now_us();

        if (i & 1) {
            domain = define(1000000);

        } else {
            (void) virDomainUndefine(domain);
            (void) virDomainFree(domain);
            domain = NULL;
        }

        while (vm_count(&fd, port) == before && now_us() - began < 10000000) {
            (void) usleep(ASK_PAUSE);
        }

        latency_note(&took, (double) (now_us() - began) / 1000);

        /* what else the agent does because of it is not to be measured */
        (void) usleep(3000);
    }

    if (domain != NULL) {
        (void) virDomainUndefine(domain);
    }

    latency_print(&took);

    return 0;
}


int
main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: domains URI hold|change N [PORT]\n");
        return 2;
    }

    virSetErrorFunc(NULL, quiet);
    conn = virConnectOpen(argv[1]);

    if (conn == NULL) {
        die(argv[1]);
    }

    if (strcmp(argv[2], "hold") == 0) {
        return hold((unsigned) atoi(argv[3]));
    }

    if (strcmp(argv[2], "change") == 0 && argc == 5) {
        return change((unsigned) atoi(argv[3]), (unsigned) atoi(argv[4]));
    }

    return 2;
}
