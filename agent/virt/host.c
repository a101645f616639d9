#define _GNU_SOURCE

#include "host.h"
#include "host_kvm.h"
#include "qemu_user.h"
#include "virt.h"
#include "virt_cleanup.h"
#include "core/cond.h"
#include "core/log.h"
#include "core/work.h"
#include "table/table.h"

#include "hatch_clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>


/*
 * A look that takes so long, ms, although the one before it has just been, was
 * not remembered.  One that was takes a few.
 */
#define HOST_SLOW      200

/* So slow, ms, is no host that is only busy. */
#define HOST_SURE      1000

/* How many looks the slowest of libvirt's calls may take: a definition. */
#define HOST_LOOKS     20


/* What was found out on one connection. */
typedef struct {
    const char      *type;              /* "kvm" or "qemu" */
    hatch_notice_t   notice;
    uint32_t         look;              /* ms, if there is a notice */
    char             reason[HOST_TEXT]; /* why this type */
} host_answer_t;


static struct {
    pthread_mutex_t   lock;
    pthread_cond_t    changed;
    host_answer_t     answer;
    uint32_t          look;             /* ms, 0: libvirt remembers */
    unsigned          measured:1;       /* look is known, or never will be */
    unsigned          known:1;          /* answer is one */
    unsigned          asking:1;
} host = { .lock = PTHREAD_MUTEX_INITIALIZER };


/* --- asking --- */

/* One look at QEMU's capabilities: 0, and how long it took. */
static int
host_look(virConnectPtr conn, const char *type, uint32_t *ms)
{
    uint64_t            began = hatch_clock_ms();
    cleanup_free char  *text = NULL;

    text = virConnectGetDomainCapabilities(conn, NULL, NULL, NULL, type, 0);
    *ms = (uint32_t) (hatch_clock_ms() - began);

    return text != NULL ? 0 : -1;
}


/*
 * How long a look takes after another one; 0: libvirt remembers.  A host that
 * is only busy is not always so: one that seems slow is asked once more.
 */
static uint32_t
host_measure(virConnectPtr conn)
{
    int       i;
    uint32_t  ms, least = UINT32_MAX;

    if (host_look(conn, "qemu", &ms) != 0) {
        return 0;
    }

    for (i = 0; i < 2 && least >= HOST_SLOW; i++) {
        if (host_look(conn, "qemu", &ms) != 0) {
            return 0;
        }

        least = ms < least ? ms : least;

        if (least >= HOST_SURE) {
            break;
        }
    }

    return least >= HOST_SLOW ? least : 0;
}


/* Of this host's QEMU, by libvirt: 0, an errno, or -1: cannot be said. */
static int
host_kvm_error(virConnectPtr conn, uid_t *uid)
{
    int          rc;
    qemu_user_t  user;

    rc = qemu_user_find(conn, &user);
    *uid = rc == 0 ? user.uid : (uid_t) -1;

    return rc == 0 ? host_kvm_open_as(&user) : -1;
}


static hatch_notice_t
host_cause(int local, int error)
{
    if (!local || error <= 0) {
        return HATCH_NOTICE_SLOW;
    }

    return error == EACCES || error == EPERM ? HATCH_NOTICE_KVM_DENIED
                                             : HATCH_NOTICE_KVM_ABSENT;
}


/*
 * "auto" is KVM only if libvirt offers it, and, on this host, the processor
 * has it and QEMU's user can open it.
 */
static void
host_choose(host_answer_t *answer, int offered, int local, uid_t uid,
    int error)
{
    answer->type = "qemu";

    if (!offered) {
        (void) snprintf(answer->reason, HOST_TEXT, "libvirt does not offer "
                        "KVM");

    } else if (!local) {
        answer->type = "kvm";
        (void) snprintf(answer->reason, HOST_TEXT, "libvirt offers KVM, and "
                        "the agent, which sees no /dev/kvm here, believes it");

    } else if (!host_kvm_flag()) {
        (void) snprintf(answer->reason, HOST_TEXT, "the processor has neither "
                        "vmx nor svm");

    } else if (error > 0) {
        (void) snprintf(answer->reason, HOST_TEXT, "QEMU's user, uid %d, "
                        "cannot open /dev/kvm: %s", (int) uid,
                        strerror(error));

    } else {
        answer->type = "kvm";
        (void) snprintf(answer->reason, HOST_TEXT, "libvirt offers KVM, the "
                        "processor has it, and QEMU's user %s /dev/kvm",
                        error == 0 ? "can open"
                                   : "should, says libvirt, be able to open");
    }
}


/* All other questions, one after the other; each may take seconds. */
static void
host_find_out(virConnectPtr conn, uint32_t look, host_answer_t *answer)
{
    int       offered, local, error = 0;
    uid_t     uid = (uid_t) -1;
    uint32_t  ms;

    memset(answer, 0, sizeof(*answer));
    answer->look = look;

    offered = host_look(conn, "kvm", &ms) == 0;
    local = !virt_is_remote(conn) && host_kvm_seen();

    if (local && (offered || answer->look != 0)) {
        error = host_kvm_error(conn, &uid);
    }

    if (answer->look != 0) {
        answer->notice = host_cause(local, error);
    }

    host_choose(answer, offered, local, uid, error);
}


/* Is something amiss?  Says what, in warning[HOST_TEXT]. */
static int
host_warning(const config_t *config, const host_answer_t *answer,
    char *warning)
{
    if (answer->notice != HATCH_NOTICE_NONE) {
        hatch_notice_text(answer->notice, answer->look, warning);
        return 1;
    }

    if (strcmp(config->virt_type, "kvm") == 0
        && strcmp(answer->type, "kvm") != 0)
    {
        (void) snprintf(warning, HOST_TEXT, "\"virt_type\" is kvm, but %.400s",
                        answer->reason);
        return 1;
    }

    return 0;
}


int
host_check(const config_t *config, char *choice, char *warning)
{
    hatch_err_t                 err;
    host_answer_t               answer;
    cleanup_conn virConnectPtr  conn = virt_get(&err);

    if (conn == NULL || virt_driver(conn)->domain_type != NULL) {
        (void) snprintf(choice, HOST_TEXT, "test, as libvirt's test driver "
                        "has no other");
        return 0;
    }

    host_find_out(conn, host_measure(conn), &answer);

    if (strcmp(config->virt_type, "auto") == 0) {
        (void) snprintf(choice, HOST_TEXT, "%s: %.480s", answer.type,
                        answer.reason);
    } else {
        (void) snprintf(choice, HOST_TEXT, "%.100s, as configured",
                        config->virt_type);
    }

    return host_warning(config, &answer, warning);
}


/* --- the answer --- */

/* Logged where it is news: an agent connects again and again. */
static void
host_publish(const config_t *config, const host_answer_t *answer)
{
    int   news;
    char  warning[HOST_TEXT];

    pthread_mutex_lock(&host.lock);
    news = !host.known || host.answer.type != answer->type
           || host.answer.notice != answer->notice
           || strcmp(host.answer.reason, answer->reason) != 0;
    host.answer = *answer;
    host.known = 1;
    pthread_cond_broadcast(&host.changed);
    pthread_mutex_unlock(&host.lock);

    table_set_notice(answer->notice, answer->look);

    if (news && strcmp(config->virt_type, "auto") == 0) {
        log_event(LOG_INFO, "\"virt_type\" auto is %s: %s", answer->type,
                  answer->reason);
    }

    if (news && host_warning(config, answer, warning)) {
        log_event(LOG_WARN, "%s", warning);
    }
}


/* First: operations that begin now take their deadlines from it. */
static void
host_publish_look(uint32_t look)
{
    pthread_mutex_lock(&host.lock);
    host.look = look;
    host.measured = 1;
    pthread_cond_broadcast(&host.changed);
    pthread_mutex_unlock(&host.lock);
}


static void
host_end(void)
{
    pthread_mutex_lock(&host.lock);
    host.asking = 0;
    pthread_cond_broadcast(&host.changed);
    pthread_mutex_unlock(&host.lock);
}


static void *
host_run(void *data)
{
    int            fixed;
    uint32_t       look;
    virt_lease_t   lease = { NULL, 0 };
    hatch_err_t    err;
    host_answer_t  answer;

    if (virt_lease(&lease, &err) != 0) {
        host_publish_look(0);
        host_end();                     /* whoever needs it asks again */
        return NULL;
    }

    fixed = virt_driver(lease.conn)->domain_type != NULL;
    look = fixed ? 0 : host_measure(lease.conn);
    host_publish_look(look);

    if (!fixed) {
        host_find_out(lease.conn, look, &answer);

        /* what a connection that was lost meanwhile said is worth nothing */
        if (virConnectIsAlive(lease.conn) == 1) {
            host_publish(data, &answer);
        }
    }

    virt_release(&lease);
    host_end();

    return NULL;
}


void
host_init(void)
{
    cond_init(&host.changed);
}


void
host_ask(const config_t *config)
{
    int  rc;

    pthread_mutex_lock(&host.lock);
    host.asking = 1;
    pthread_mutex_unlock(&host.lock);

    rc = work_detach(host_run, (void *) config);

    if (rc != 0) {
        host_publish_look(0);
        host_end();
        log_event(LOG_WARN, "libvirt is not asked what QEMU can do: %s",
                  strerror(rc));
    }
}


void
host_wait(void)
{
    struct timespec  deadline = cond_deadline(HOST_WAIT);

    pthread_mutex_lock(&host.lock);

    while (!host.measured
           && pthread_cond_timedwait(&host.changed, &host.lock, &deadline)
              != ETIMEDOUT)
    {
        /* void */
    }

    pthread_mutex_unlock(&host.lock);
}


const char *
host_type(const config_t *config, virConnectPtr conn)
{
    const char      *type = virt_driver(conn)->domain_type;
    struct timespec  deadline = cond_deadline(HOST_WAIT);

    if (type != NULL) {
        return type;
    }

    if (strcmp(config->virt_type, "auto") != 0) {
        return config->virt_type;
    }

    /* this far nobody need be asked */
    if (!virt_is_remote(conn) && host_kvm_seen() && !host_kvm_flag()) {
        return "qemu";
    }

    pthread_mutex_lock(&host.lock);

    /* an attempt that failed is made again */
    if (!host.known && !host.asking) {
        pthread_mutex_unlock(&host.lock);
        host_ask(config);
        pthread_mutex_lock(&host.lock);
    }

    while (!host.known && host.asking
           && pthread_cond_timedwait(&host.changed, &host.lock, &deadline)
              != ETIMEDOUT)
    {
        /* void */
    }

    type = host.known ? host.answer.type : NULL;
    pthread_mutex_unlock(&host.lock);

    return type;
}


/* What a host on which libvirt is slow gets on top, s. */
static int64_t
host_extra(void)
{
    int64_t  ms;

    pthread_mutex_lock(&host.lock);
    ms = (int64_t) host.look * HOST_LOOKS;
    pthread_mutex_unlock(&host.lock);

    return (ms + 999) / 1000;
}


int64_t
host_call_timeout(const config_t *config)
{
    return config->libvirt_timeout
           + (config->libvirt_timeout_set ? 0 : host_extra());
}


int64_t
host_save_timeout(const config_t *config)
{
    return config->save_timeout
           + (config->save_timeout_set ? 0 : host_extra());
}
