/*
 * libFuzzer: a record of libvirt's statistics.  Names are made of libvirt's
 * own parts: whoever keeps each name once would else keep all of them.
 */

#define _GNU_SOURCE

#include "kit.h"
#include "virt/stats_record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define PARAMETERS  64

static virConnectPtr  conn;
static virDomainPtr   domain;


int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void) argc;
    (void) argv;

    conn = virConnectOpen("test:///default");
    domain = conn != NULL ? virDomainLookupByName(conn, "test") : NULL;
    kit_must(domain != NULL);

    return 0;
}


/* Two bytes a name, one a type, eight a value. */
static void
make(const uint8_t *data, virTypedParameter *p)
{
    static const char *const  groups[] = {
        "", "net.", "block.", "vcpu.", "net.0", "block.18446744073709551616.",
        "net..", "."
    };
    static const char *const  fields[] = {
        "rx.bytes", "rx.pkts", "tx.bytes", "tx.pkts", "rd.bytes", "rd.reqs",
        "wr.bytes", "wr.reqs", "cpu.time", "balloon.current", "balloon.rss",
        "count", "name", "", ".", "state"
    };

    if (data[0] & 0x80) {
        (void) snprintf(p->field, sizeof(p->field), "%s%u.%s",
                        groups[data[0] & 7], data[1] & 7u,
                        fields[data[1] >> 4]);
    } else {
        (void) snprintf(p->field, sizeof(p->field), "%s%s",
                        groups[data[0] & 7], fields[data[1] >> 4]);
    }

    p->type = data[2] & 15;
    memcpy(&p->value, data + 3, sizeof(p->value));

    if (p->type == VIR_TYPED_PARAM_STRING) {
        p->value.s = p->field;
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t                  i;
    table_sample_t          sample;
    virTypedParameter      *p = calloc(PARAMETERS, sizeof(*p));
    virDomainStatsRecord    record = { domain, p, 0 };

    for (i = 0; i < PARAMETERS && size >= 11; i++) {
        make(data, &p[i]);
        data += 11;
        size -= 11;
    }

    record.nparams = (int) i;
    stats_record(&record, &sample);
    kit_must(sample.n_raw <= i);

    for (i = 0; sample.raw != NULL && i < sample.n_raw; i++) {
        kit_must(strlen(sample.raw[i].name) < VIR_TYPED_PARAM_FIELD_LENGTH);
    }

    free(sample.raw);
    free(p);

    return 0;
}
