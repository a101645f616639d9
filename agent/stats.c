#define _GNU_SOURCE

#include "stats.h"
#include "cleanup.h"
#include "table.h"
#include "virt.h"
#include "work.h"

#include "hatch_clock.h"

#include <stdio.h>
#include <string.h>


/* libvirt's groups: what they cost is no call to the guest. */
#define STATS_GROUPS  (VIR_DOMAIN_STATS_STATE | VIR_DOMAIN_STATS_CPU_TOTAL    \
                       | VIR_DOMAIN_STATS_BALLOON | VIR_DOMAIN_STATS_VCPU     \
                       | VIR_DOMAIN_STATS_INTERFACE | VIR_DOMAIN_STATS_BLOCK)


static uint64_t
stats_value(const virTypedParameter *p)
{
    switch (p->type) {

    case VIR_TYPED_PARAM_INT:
        return (uint64_t) p->value.i;

    case VIR_TYPED_PARAM_UINT:
        return p->value.ui;

    case VIR_TYPED_PARAM_LLONG:
        return (uint64_t) p->value.l;

    case VIR_TYPED_PARAM_ULLONG:
        return p->value.ul;

    default:
        return 0;
    }
}


/* The sum over all devices: net.0.rx.bytes, net.1.rx.bytes, ... */
static uint64_t
stats_sum(const virDomainStatsRecord *record, const char *group,
    const char *field)
{
    int          i;
    uint64_t     sum = 0;
    const char  *name, *rest;

    for (i = 0; i < record->nparams; i++) {
        name = record->params[i].field;

        if (strncmp(name, group, strlen(group)) != 0
            || name[strlen(group)] != '.')
        {
            continue;
        }

        rest = name + strlen(group) + 1;
        rest += strspn(rest, "0123456789");

        if (*rest == '.' && strcmp(rest + 1, field) == 0) {
            sum += stats_value(&record->params[i]);
        }
    }

    return sum;
}


static uint64_t
stats_one(const virDomainStatsRecord *record, const char *field)
{
    int  i;

    for (i = 0; i < record->nparams; i++) {
        if (strcmp(record->params[i].field, field) == 0) {
            return stats_value(&record->params[i]);
        }
    }

    return 0;
}


/* All that libvirt said, by its own names. */
static json_object *
stats_raw(const virDomainStatsRecord *record)
{
    int           i;
    json_object  *raw = json_object_new_object();

    for (i = 0; i < record->nparams; i++) {
        if (record->params[i].type != VIR_TYPED_PARAM_STRING) {
            (void) json_object_object_add(raw, record->params[i].field,
                      json_object_new_uint64(stats_value(&record->params[i])));
        }
    }

    return raw;
}


static json_object *
stats_json(const vm_t *vm, const virDomainStatsRecord *record)
{
    uint64_t      booted = table_booted(vm->id), up, cpu;
    json_object  *o = json_object_new_object(), *part;

#define ADD(name, value)                                                      \
    (void) json_object_object_add(part, name, json_object_new_uint64(value))

    up = booted != 0 ? hatch_clock_wall_ms() - booted : 0;
    cpu = stats_one(record, "cpu.time") / 1000;

    part = o;
    (void) json_object_object_add(o, "vm_id", json_object_new_string(vm->id));
    (void) json_object_object_add(o, "state", json_object_new_string(
                                             hatch_state_name(vm->state)));
    ADD("vcpu_count", vm->vcpu_count);
    ADD("mem_mib", vm->mem_mib);
    ADD("uptime_seconds", up / 1000);

    part = json_object_new_object();
    ADD("rx_bytes", stats_sum(record, "net", "rx.bytes"));
    ADD("tx_bytes", stats_sum(record, "net", "tx.bytes"));
    ADD("rx_packets", stats_sum(record, "net", "rx.pkts"));
    ADD("tx_packets", stats_sum(record, "net", "tx.pkts"));
    (void) json_object_object_add(o, "net", part);

    part = json_object_new_object();
    ADD("read_bytes", stats_sum(record, "block", "rd.bytes"));
    ADD("write_bytes", stats_sum(record, "block", "wr.bytes"));
    (void) json_object_object_add(o, "block", part);

    part = json_object_new_object();
    ADD("cpu_time_micros", cpu);
    (void) json_object_object_add(part, "utilization_percent",
        json_object_new_double(up != 0 ? (double) cpu / 10.0 / (double) up
                                         / vm->vcpu_count : 0.0));
    (void) json_object_object_add(o, "vcpu", part);

#undef ADD

    (void) json_object_object_add(o, "raw", stats_raw(record));

    return o;
}


int
stats_get(const config_t *config, const char *id, json_object **metrics,
    hatch_err_t *err)
{
    int                          rc;
    vm_t                         vm;
    virt_lease_t                 lease = { NULL, 0 };
    virDomainPtr                 domains[2] = { NULL, NULL };
    virDomainStatsRecordPtr     *records = NULL;
    virDomainStatsRecord         none = { NULL, NULL, 0 };
    cleanup_domain virDomainPtr  domain = NULL;

    if (table_get(id, &vm) != 0) {
        return hatch_err_set(err, HATCH_ERR_NOT_FOUND, "no VM \"%s\"", id);
    }

    work_step("reading the statistics", config->libvirt_timeout);

    rc = virt_lease(&lease, err);
    if (rc != 0) {
        return rc;
    }

    domain = virDomainLookupByName(lease.conn, id);
    domains[0] = domain;

    if (domain == NULL) {
        rc = virt_error(err, "cannot look up the VM");

    } else if (virDomainListGetStats(domains, STATS_GROUPS, &records,
                                     VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
               < 0)
    {
        rc = virt_error(err, "cannot read the statistics");

    } else {
        *metrics = stats_json(&vm, records[0] != NULL ? records[0] : &none);
        virDomainStatsRecordListFree(records);
    }

    virt_release(&lease);

    return rc;
}
