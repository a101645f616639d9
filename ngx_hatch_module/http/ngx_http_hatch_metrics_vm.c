
/*
 * What /metrics says of single VMs: one family after the other, in each all
 * VMs, as the formats demand.  A VM is read anew for each family; nothing is
 * kept of it between two chunks.
 */


#include "ngx_http_hatch_metrics.h"
#include "ngx_http_hatch_response.h"


/* No line, and no HELP and TYPE before it, is longer. */

#define NGX_HTTP_HATCH_LINE   1024

/* How many slots are looked at for one chunk, if they are empty. */

#define NGX_HTTP_HATCH_SLOTS  512


typedef enum {
    NGX_HTTP_HATCH_OF_VM = 0,       /* of hatch_zone_vm_t */
    NGX_HTTP_HATCH_OF_STATS,        /* of hatch_zone_stats_t */
    NGX_HTTP_HATCH_STATE,
    NGX_HTTP_HATCH_VCPUS,
    NGX_HTTP_HATCH_REQUESTS,
    NGX_HTTP_HATCH_STATS_AGE
} ngx_http_hatch_source_t;


typedef struct {
    const char               *name;
    const char               *type;
    const char               *help;
    ngx_http_hatch_source_t   source;
    size_t                    offset;
    uint64_t                  scale;        /* units in one */
} ngx_http_hatch_family_t;


static u_char *ngx_http_hatch_metrics_vm(ngx_http_hatch_metrics_t *m,
    u_char *p, const ngx_http_hatch_family_t *family, uint32_t slot);
static ngx_int_t ngx_http_hatch_metrics_value(ngx_http_hatch_metrics_t *m,
    const ngx_http_hatch_family_t *family, uint32_t slot, hatch_zone_vm_t *vm,
    uint64_t *value);
static u_char *ngx_http_hatch_metrics_label(u_char *p, const char *value);


#define ngx_http_hatch_vm(name, type, help, member)                           \
    { name, type, help, NGX_HTTP_HATCH_OF_VM,                                 \
      offsetof(hatch_zone_vm_t, member), 1 }

#define ngx_http_hatch_stats(name, type, help, member, scale)                 \
    { name, type, help, NGX_HTTP_HATCH_OF_STATS,                              \
      offsetof(hatch_zone_stats_t, member), scale }


static const ngx_http_hatch_family_t  ngx_http_hatch_families[] = {

    { "hatch_vm_state", "gauge", "1, with the state that the VM is in.",
      NGX_HTTP_HATCH_STATE, 0, 1 },

    { "hatch_vm_vcpus", "gauge", "Virtual processors.",
      NGX_HTTP_HATCH_VCPUS, 0, 1 },

    ngx_http_hatch_vm("hatch_vm_memory_bytes", "gauge",
                      "Memory that the VM was given.", memory),

    ngx_http_hatch_stats("hatch_vm_memory_current_bytes", "gauge",
                         "Memory that its balloon leaves it; 0: it is not up.",
                         memory_current, 1),

    ngx_http_hatch_stats("hatch_vm_memory_resident_bytes", "gauge",
                         "Memory of the host that it takes; 0: it is not up.",
                         memory_resident, 1),

    ngx_http_hatch_stats("hatch_vm_cpu_seconds", "counter",
                         "Processor time since it was started or restored.",
                         cpu_time, 1000000000),

    ngx_http_hatch_stats("hatch_vm_network_receive_bytes", "counter",
                         "Bytes that the guest received, since then.",
                         rx_bytes, 1),

    ngx_http_hatch_stats("hatch_vm_network_transmit_bytes", "counter",
                         "Bytes that the guest sent.", tx_bytes, 1),

    ngx_http_hatch_stats("hatch_vm_network_receive_packets", "counter",
                         "Packets that the guest received.", rx_packets, 1),

    ngx_http_hatch_stats("hatch_vm_network_transmit_packets", "counter",
                         "Packets that the guest sent.", tx_packets, 1),

    ngx_http_hatch_stats("hatch_vm_block_read_bytes", "counter",
                         "Bytes that the guest read from its disks.",
                         read_bytes, 1),

    ngx_http_hatch_stats("hatch_vm_block_written_bytes", "counter",
                         "Bytes that the guest wrote to its disks.",
                         written_bytes, 1),

    ngx_http_hatch_stats("hatch_vm_block_reads", "counter",
                         "Read requests to its disks.", reads, 1),

    ngx_http_hatch_stats("hatch_vm_block_writes", "counter",
                         "Write requests to its disks.", writes, 1),

    { "hatch_vm_stats_age_seconds", "gauge",
      "How old its statistics are; a VM that hangs has old ones.",
      NGX_HTTP_HATCH_STATS_AGE, 0, 1000 },

    { "hatch_vm_requests", "counter", "Requests for it, whatever came of "
      "them.", NGX_HTTP_HATCH_REQUESTS, 0, 1 },

    ngx_http_hatch_vm("hatch_vm_wakes", "counter",
                      "How often it was woken because a request came.",
                      wakes),

    ngx_http_hatch_vm("hatch_vm_wake_failures", "counter",
                      "How often that failed.", wake_failures)
};

#define NGX_HTTP_HATCH_FAMILIES                                               \
    (sizeof(ngx_http_hatch_families) / sizeof(ngx_http_hatch_families[0]))


u_char *
ngx_http_hatch_metrics_vms(ngx_http_hatch_metrics_t *m, u_char *p,
    u_char *last)
{
    ngx_uint_t                      looked;
    const ngx_http_hatch_family_t  *family;

    looked = 0;

    for ( /* void */ ; m->family < NGX_HTTP_HATCH_FAMILIES; m->family++) {

        family = &ngx_http_hatch_families[m->family];

        if (m->slot == 0) {

            /* and for one VM, lest all of this comes twice */

            if (last - p < 2 * NGX_HTTP_HATCH_LINE
                || looked >= NGX_HTTP_HATCH_SLOTS)
            {
                m->done = 0;
                return p;
            }

            p = ngx_http_hatch_metrics_family(m, p, family->name,
                                              family->type, family->help);
        }

        for ( /* void */ ; m->slot < m->map->zone.file.slots; m->slot++) {

            if (last - p < NGX_HTTP_HATCH_LINE
                || ++looked > NGX_HTTP_HATCH_SLOTS)
            {
                m->done = 0;
                return p;
            }

            p = ngx_http_hatch_metrics_vm(m, p, family, m->slot);
        }

        m->slot = 0;
    }

    return p;
}


static u_char *
ngx_http_hatch_metrics_vm(ngx_http_hatch_metrics_t *m, u_char *p,
    const ngx_http_hatch_family_t *family, uint32_t slot)
{
    uint64_t          value;
    hatch_zone_vm_t   vm;

    if (hatch_zone_read(&m->map->zone, slot, &vm) != 0
        || ngx_http_hatch_metrics_value(m, family, slot, &vm, &value)
           != NGX_OK)
    {
        return p;
    }

    p = ngx_cpymem(p, family->name, ngx_strlen(family->name));

    if (family->type[0] == 'c') {
        p = ngx_cpymem(p, "_total", sizeof("_total") - 1);
    }

    p = ngx_cpymem(p, "{id=\"", sizeof("{id=\"") - 1);
    p = ngx_http_hatch_metrics_label(p, vm.id);
    p = ngx_cpymem(p, "\",name=\"", sizeof("\",name=\"") - 1);
    p = ngx_http_hatch_metrics_label(p, vm.name);

    if (family->source == NGX_HTTP_HATCH_STATE) {
        return ngx_sprintf(p, "\",state=\"%s\"} 1\n",
                           hatch_state_name((hatch_state_t) value));
    }

    switch (family->scale) {

    case 1:
        return ngx_sprintf(p, "\"} %uL\n", value);

    case 1000:
        return ngx_sprintf(p, "\"} %uL.%03uL\n", value / 1000, value % 1000);

    default:
        return ngx_sprintf(p, "\"} %uL.%09uL\n", value / family->scale,
                           value % family->scale);
    }
}


/* NGX_DECLINED: it is not known of this VM. */

static ngx_int_t
ngx_http_hatch_metrics_value(ngx_http_hatch_metrics_t *m,
    const ngx_http_hatch_family_t *family, uint32_t slot, hatch_zone_vm_t *vm,
    uint64_t *value)
{
    hatch_zone_stats_t  stats;

    switch (family->source) {

    case NGX_HTTP_HATCH_OF_VM:
        *value = *(uint64_t *) ((u_char *) vm + family->offset);
        return NGX_OK;

    case NGX_HTTP_HATCH_STATE:
        *value = hatch_zone_state(&m->map->zone, slot);
        return *value != HATCH_STATE_NONE ? NGX_OK : NGX_DECLINED;

    case NGX_HTTP_HATCH_VCPUS:
        *value = vm->vcpus;
        return NGX_OK;

    case NGX_HTTP_HATCH_REQUESTS:
        *value = hatch_activity_requests(&m->conf->zone.activity, slot,
                                         vm->generation);
        return NGX_OK;

    default:
        break;
    }

    if (hatch_zone_stats(&m->map->zone, slot, vm->generation, &stats) != 0) {
        return NGX_DECLINED;
    }

    *value = family->source == NGX_HTTP_HATCH_STATS_AGE
             ? ngx_hatch_zone_age(stats.sampled)
             : *(uint64_t *) ((u_char *) &stats + family->offset);

    return NGX_OK;
}


/*
 * The value of a label.  A byte that is not UTF-8 would cost the whole
 * scrape, and nothing in the zone is trusted.
 */

static u_char *
ngx_http_hatch_metrics_label(u_char *p, const char *value)
{
    u_char  *s;
    size_t   n, len;

    s = (u_char *) value;
    len = ngx_strlen(s);

    for ( /* void */ ; len; s += n, len -= n) {

        n = ngx_http_hatch_utf8(s, len);

        if (n > 1) {
            p = ngx_cpymem(p, s, n);
            continue;
        }

        if (n == 0 || *s < 0x20 || *s == 0x7f) {
            *p++ = '?';
            n = 1;
            continue;
        }

        if (*s == '"' || *s == '\\') {
            *p++ = '\\';
        }

        *p++ = *s;
    }

    return p;
}
