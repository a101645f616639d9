#define _GNU_SOURCE

#include "stats_record.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>


/* What becomes of libvirt's fields; those of a group's devices are added. */
static const struct stats_rule {
    const char  *group;         /* "net.N.", or NULL: a field of its own */
    const char  *field;
    size_t       offset;        /* in hatch_zone_stats_t */
    unsigned     scale;
} stats_rules[] = {
#define RULE(group, field, member, scale)                                     \
    { group, field, offsetof(hatch_zone_stats_t, member), scale }

    RULE(NULL, "cpu.time", cpu_time, 1),
    RULE(NULL, "balloon.current", memory_current, 1024),
    RULE(NULL, "balloon.rss", memory_resident, 1024),
    RULE("net.", "rx.bytes", rx_bytes, 1),
    RULE("net.", "rx.pkts", rx_packets, 1),
    RULE("net.", "tx.bytes", tx_bytes, 1),
    RULE("net.", "tx.pkts", tx_packets, 1),
    RULE("block.", "rd.bytes", read_bytes, 1),
    RULE("block.", "rd.reqs", reads, 1),
    RULE("block.", "wr.bytes", written_bytes, 1),
    RULE("block.", "wr.reqs", writes, 1)

#undef RULE
};

#define STATS_RULES  (sizeof(stats_rules) / sizeof(stats_rules[0]))


/* Every name that libvirt ever used, once: VMs have the same ones. */
static void  *stats_names;


static int
stats_compare(const void *a, const void *b)
{
    return strcmp(a, b);
}


static const char *
stats_name(const char *field)
{
    char         *copy;
    const char  **found = tfind(field, &stats_names, stats_compare);

    if (found != NULL) {
        return *found;
    }

    copy = strdup(field);

    if (copy == NULL || tsearch(copy, &stats_names, stats_compare) == NULL) {
        free(copy);
        return NULL;
    }

    return copy;
}


static int
stats_value(const virTypedParameter *p, uint64_t *value)
{
    switch (p->type) {

    case VIR_TYPED_PARAM_INT:
        *value = p->value.i > 0 ? (uint64_t) p->value.i : 0;
        return 0;

    case VIR_TYPED_PARAM_UINT:
        *value = p->value.ui;
        return 0;

    case VIR_TYPED_PARAM_LLONG:
        *value = p->value.l > 0 ? (uint64_t) p->value.l : 0;
        return 0;

    case VIR_TYPED_PARAM_ULLONG:
        *value = p->value.ul;
        return 0;

    case VIR_TYPED_PARAM_BOOLEAN:
        *value = p->value.b != 0;
        return 0;

    default:
        return -1;
    }
}


static int
stats_matches(const struct stats_rule *rule, const char *name)
{
    if (rule->group != NULL) {
        if (strncmp(name, rule->group, strlen(rule->group)) != 0) {
            return 0;
        }

        name += strlen(rule->group);
        name += strspn(name, "0123456789");

        if (*name++ != '.') {
            return 0;
        }
    }

    return strcmp(name, rule->field) == 0;
}


static void
stats_add(table_sample_t *sample, const char *name, uint64_t value)
{
    size_t     i;
    uint64_t  *word;

    for (i = 0; i < STATS_RULES; i++) {
        if (stats_matches(&stats_rules[i], name)) {
            word = (uint64_t *) ((char *) &sample->stats
                                 + stats_rules[i].offset);
            *word += value * stats_rules[i].scale;
            sample->told |= 1u << (stats_rules[i].offset / sizeof(*word));
            return;
        }
    }
}


void
stats_record(const virDomainStatsRecord *record, table_sample_t *sample)
{
    int          i;
    uint64_t     value;
    const char  *name;

    memset(sample, 0, sizeof(*sample));
    sample->domain_id = (int) virDomainGetID(record->dom);
    sample->raw = malloc(((size_t) record->nparams + 1)
                         * sizeof(*sample->raw));

    for (i = 0; i < record->nparams; i++) {
        if (stats_value(&record->params[i], &value) != 0) {
            continue;
        }

        /* one that is not up uses nothing, whatever its definition says */
        if (sample->domain_id != -1) {
            stats_add(sample, record->params[i].field, value);
        }

        name = sample->raw != NULL ? stats_name(record->params[i].field)
                                   : NULL;
        if (name != NULL) {
            sample->raw[sample->n_raw].name = name;
            sample->raw[sample->n_raw++].value = value;
        }
    }
}
