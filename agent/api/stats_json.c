#define _GNU_SOURCE

#include "api.h"
#include "table/table_stats.h"
#include "virt/stats.h"

#include "hatch_clock.h"

#include <stdlib.h>


static void
add_number(json_object *object, const char *name, uint64_t value)
{
    (void) json_object_object_add(object, name, json_object_new_uint64(value));
}


static json_object *
add_object(json_object *object, const char *name)
{
    json_object  *part = json_object_new_object();

    (void) json_object_object_add(object, name, part);

    return part;
}


/* When the figures were taken: null if they never were. */
static json_object *
stats_time(uint64_t sampled)
{
    return sampled == 0 ? NULL
           : api_time(hatch_clock_wall_ms() - (hatch_clock_ms() - sampled));
}


static json_object *
stats_json(const vm_t *vm, const table_sample_t *sample, double utilization)
{
    size_t                     i;
    uint64_t                   booted = table_booted(vm->id);
    uint64_t                   now = hatch_clock_ms();
    json_object               *o = json_object_new_object(), *part;
    const hatch_zone_stats_t  *s = &sample->stats;

    (void) json_object_object_add(o, "vm_id", json_object_new_string(vm->id));
    (void) json_object_object_add(o, "state", json_object_new_string(
                                             hatch_state_name(vm->state)));
    add_number(o, "vcpu_count", vm->vcpu_count);
    add_number(o, "mem_mib", vm->mem_mib);
    add_number(o, "uptime_seconds",
               booted != 0 && booted < now ? (now - booted) / 1000 : 0);
    (void) json_object_object_add(o, "sampled_at", stats_time(s->sampled));

    part = add_object(o, "net");
    add_number(part, "rx_bytes", s->rx_bytes);
    add_number(part, "tx_bytes", s->tx_bytes);
    add_number(part, "rx_packets", s->rx_packets);
    add_number(part, "tx_packets", s->tx_packets);

    part = add_object(o, "block");
    add_number(part, "read_bytes", s->read_bytes);
    add_number(part, "write_bytes", s->written_bytes);

    part = add_object(o, "vcpu");
    add_number(part, "cpu_time_micros", s->cpu_time / 1000);
    (void) json_object_object_add(part, "utilization_percent",
                                  json_object_new_double(utilization));

    part = add_object(o, "raw");

    for (i = 0; i < sample->n_raw; i++) {
        add_number(part, sample->raw[i].name, sample->raw[i].value);
    }

    return o;
}


int
stats_get(const char *id, json_object **metrics, hatch_err_t *err)
{
    vm_t            vm;
    double          utilization;
    table_sample_t  sample;

    if (table_wants_sample(id)) {
        stats_refresh();
    }

    if (table_get(id, &vm) != 0
        || table_last_sample(id, &sample, &utilization) != 0)
    {
        return hatch_err_set(err, HATCH_ERR_NOT_FOUND, "no VM \"%s\"", id);
    }

    *metrics = stats_json(&vm, &sample, utilization);
    free(sample.raw);

    return 0;
}
