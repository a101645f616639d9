
/*
 * What /metrics says of Hatch as a whole.  HELP texts stand here, beside the
 * names: this is where each metric is documented.
 */


#include "ngx_http_hatch_metrics.h"

#include "hatch_clock.h"


/* An agent without a heartbeat for so long counts as down, ms. */

#define NGX_HTTP_HATCH_AGENT_DOWN  10000


static u_char *ngx_http_hatch_metrics_head(ngx_http_hatch_metrics_t *m,
    u_char *p);
static u_char *ngx_http_hatch_metrics_agent(ngx_http_hatch_metrics_t *m,
    u_char *p, hatch_zone_t *zone);
static u_char *ngx_http_hatch_metrics_counts(ngx_http_hatch_metrics_t *m,
    u_char *p, hatch_zone_t *zone);
static u_char *ngx_http_hatch_metrics_store(ngx_http_hatch_metrics_t *m,
    u_char *p);
static u_char *ngx_http_hatch_metrics_requests(ngx_http_hatch_metrics_t *m,
    u_char *p);
static u_char *ngx_http_hatch_metrics_counters(ngx_http_hatch_metrics_t *m,
    u_char *p, hatch_zone_t *zone);
static u_char *ngx_http_hatch_metrics_histogram(ngx_http_hatch_metrics_t *m,
    u_char *p, const char *kind, hatch_zone_histogram_t *histogram);
static u_char *ngx_http_hatch_metrics_gauge(ngx_http_hatch_metrics_t *m,
    u_char *p, const char *name, const char *help, uint64_t value);
static u_char *ngx_http_hatch_metrics_seconds(ngx_http_hatch_metrics_t *m,
    u_char *p, const char *name, const char *help, uint64_t ms);
static u_char *ngx_http_hatch_metrics_counter(ngx_http_hatch_metrics_t *m,
    u_char *p, const char *name, const char *help, uint64_t value);


u_char *
ngx_http_hatch_metrics_text(ngx_http_hatch_metrics_t *m, u_char *p,
    u_char *last)
{
    size_t  eof;

    eof = m->format == NGX_HTTP_HATCH_OPENMETRICS ? sizeof("# EOF\n") - 1 : 0;

    m->last = last;

    if (!m->begun) {
        m->begun = 1;
        p = ngx_http_hatch_metrics_head(m, p);
    }

    m->done = 1;

    if (!m->summary && m->map != NULL) {
        p = ngx_http_hatch_metrics_vms(m, p, last - eof);
    }

    return m->done ? ngx_cpymem(p, "# EOF\n", eof) : p;
}


static u_char *
ngx_http_hatch_metrics_head(ngx_http_hatch_metrics_t *m, u_char *p)
{
    hatch_zone_t  *zone;

    zone = m->map != NULL ? &m->map->zone : NULL;

    p = ngx_http_hatch_metrics_family(m, p, "hatch_build_info", "gauge",
                                      "1; the versions of Hatch's module and "
                                      "of nginx.");
    p = ngx_slprintf(p, m->last,
                     "hatch_build_info{version=\"%s\",nginx=\"%s\"} 1\n",
                     HATCH_VERSION, NGINX_VERSION);

    p = ngx_http_hatch_metrics_gauge(m, p, "hatch_zone_up",
                                     "1: the agent's zone can be read.",
                                     zone != NULL);

    p = ngx_http_hatch_metrics_agent(m, p, zone);

    if (zone != NULL) {
        p = ngx_http_hatch_metrics_counts(m, p, zone);
        p = ngx_http_hatch_metrics_counters(m, p, zone);
    }

    p = ngx_http_hatch_metrics_store(m, p);

    return ngx_http_hatch_metrics_requests(m, p);
}


static u_char *
ngx_http_hatch_metrics_counts(ngx_http_hatch_metrics_t *m, u_char *p,
    hatch_zone_t *zone)
{
    uint64_t             used;
    ngx_uint_t           state;
    hatch_zone_counts_t  counts;

    if (hatch_zone_counts(zone, &counts) != 0) {
        return p;
    }

    p = ngx_http_hatch_metrics_gauge(m, p, "hatch_vms",
                                     "VMs that Hatch manages, in any state.",
                                     counts.total);

    p = ngx_http_hatch_metrics_family(m, p, "hatch_vms_by_state", "gauge",
                                      "VMs in each state.");
    used = 0;

    for (state = HATCH_STATE_NONE + 1; state < HATCH_STATE_MAX; state++) {
        p = ngx_slprintf(p, m->last, "hatch_vms_by_state{state=\"%s\"} %uD\n",
                         hatch_state_name(state), counts.by_state[state]);
        used += counts.by_state[state];
    }

    p = ngx_http_hatch_metrics_gauge(m, p, "hatch_orphans",
                                     "VMs that libvirt does not have any more "
                                     "and of which something is kept, and "
                                     "what else GET /orphans has.",
                                     hatch_zone_orphans(zone));

    p = ngx_http_hatch_metrics_gauge(m, p, "hatch_zone_slots",
                                     "VMs that the zone has room for.",
                                     zone->file.slots);

    return ngx_http_hatch_metrics_gauge(m, p, "hatch_zone_used_slots",
                                        "VMs that are in the zone; others "
                                        "cannot be reached.", used);
}


/* Without a zone, both are down. */

static u_char *
ngx_http_hatch_metrics_agent(ngx_http_hatch_metrics_t *m, u_char *p,
    hatch_zone_t *zone)
{
    uint64_t    age, sampled;
    ngx_uint_t  up;

    age = zone != NULL ? ngx_hatch_zone_age(hatch_zone_heartbeat(zone)) : 0;
    up = zone != NULL && age <= NGX_HTTP_HATCH_AGENT_DOWN;

    p = ngx_http_hatch_metrics_gauge(m, p, "hatch_agent_up",
                                     "1: the agent gave a sign of life "
                                     "within 10 seconds.", up);
    p = ngx_http_hatch_metrics_gauge(m, p, "hatch_libvirt_up",
                                     "1: the agent is up and connected to "
                                     "libvirt.",
                                     up && hatch_zone_libvirt(zone)
                                           == HATCH_LIBVIRT_CONNECTED);

    if (zone == NULL) {
        return p;
    }

    p = ngx_http_hatch_metrics_seconds(m, p,
                                       "hatch_agent_heartbeat_age_seconds",
                                       "How old what the agent says is.", age);
    p = ngx_http_hatch_metrics_seconds(m, p, "hatch_agent_start_time_seconds",
                                       "When the agent was started, since "
                                       "1970.", hatch_zone_started(zone));

    sampled = hatch_zone_sampled(zone);

    if (sampled == 0) {
        return p;
    }

    return ngx_http_hatch_metrics_seconds(m, p, "hatch_stats_age_seconds",
                                          "How old the VMs' statistics are.",
                                          ngx_hatch_zone_age(sampled));
}


static u_char *
ngx_http_hatch_metrics_store(ngx_http_hatch_metrics_t *m, u_char *p)
{
    uint64_t        routes, used, size;
    hatch_err_t     err;
    hatch_store_t  *store;

    static const char  help[] = "1: the routes can be read.";

    store = ngx_hatch_store_get(&m->conf->store);

    if (store == NULL || hatch_store_count(store, &routes, &err) != 0
        || hatch_store_usage(store, &used, &size, &err) != 0)
    {
        return ngx_http_hatch_metrics_gauge(m, p, "hatch_store_up", help, 0);
    }

    p = ngx_http_hatch_metrics_gauge(m, p, "hatch_store_up", help, 1);
    p = ngx_http_hatch_metrics_gauge(m, p, "hatch_routes", "Proxy routes.",
                                     routes);
    p = ngx_http_hatch_metrics_gauge(m, p, "hatch_store_used_bytes",
                                     "What the routes take of the store.",
                                     used);

    return ngx_http_hatch_metrics_gauge(m, p, "hatch_store_size_bytes",
                                        "What the store may grow to.", size);
}


static u_char *
ngx_http_hatch_metrics_requests(ngx_http_hatch_metrics_t *m, u_char *p)
{
    hatch_activity_total_t  sum;

    hatch_activity_sum(&m->conf->zone.activity, &sum);

    p = ngx_http_hatch_metrics_counter(m, p, "hatch_requests",
                                       "Requests for VMs, whatever came of "
                                       "them.", sum.requests);

    return ngx_http_hatch_metrics_counter(m, p, "hatch_held_requests",
                                          "Requests that waited for their VM "
                                          "to become ready.", sum.held);
}


static u_char *
ngx_http_hatch_metrics_counters(ngx_http_hatch_metrics_t *m, u_char *p,
    hatch_zone_t *zone)
{
    ngx_uint_t             i;
    hatch_zone_counters_t  c;

    static const char *const  reasons[] = {
        "", "host", "gone", "timeout", "refused"
    };

    if (hatch_zone_counters(zone, &c) != 0) {
        return p;
    }

    p = ngx_http_hatch_metrics_family(m, p, "hatch_wakes", "counter",
                                      "VMs woken because a request came.");

    for (i = HATCH_WAKE_KIND_NONE + 1; i < HATCH_WAKE_KINDS; i++) {
        p = ngx_slprintf(p, m->last, "hatch_wakes_total{kind=\"%s\"} %uL\n",
                         hatch_wake_kind_name(i), c.wakes[i]);
    }

    p = ngx_http_hatch_metrics_family(m, p, "hatch_wake_failures", "counter",
                                      "VMs not woken: libvirt or the host "
                                      "refused, or the guest did not answer "
                                      "in time, or refused.");

    for (i = HATCH_WAKE_NO_FAILURE + 1; i < HATCH_WAKE_FAILURES; i++) {
        if (i != HATCH_WAKE_GONE) {
            p = ngx_slprintf(p, m->last,
                             "hatch_wake_failures_total{reason=\"%s\"} %uL\n",
                             reasons[i], c.wake_failures[i]);
        }
    }

    p = ngx_http_hatch_metrics_family(m, p, "hatch_wake_duration_seconds",
                                      "histogram",
                                      "From the first request for a sleeping "
                                      "VM until its guest accepted a "
                                      "connection.");

    for (i = HATCH_WAKE_KIND_NONE + 1; i < HATCH_WAKE_KINDS; i++) {
        p = ngx_http_hatch_metrics_histogram(m, p, hatch_wake_kind_name(i),
                                             &c.wake_time[i]);
    }

    p = ngx_http_hatch_metrics_family(m, p, "hatch_sleeps", "counter",
                                      "VMs put to sleep because nobody used "
                                      "them: paused, then saved.");
    p = ngx_slprintf(p, m->last, "hatch_sleeps_total{kind=\"pause\"} %uL\n"
                     "hatch_sleeps_total{kind=\"save\"} %uL\n",
                     c.pauses, c.saves);

    p = ngx_http_hatch_metrics_counter(m, p, "hatch_lost_saves",
                                       "Saved memory that could not be "
                                       "restored; the VM booted.",
                                       c.lost_saves);
    p = ngx_http_hatch_metrics_counter(m, p, "hatch_stats_samples",
                                       "Samples of the VMs' statistics.",
                                       c.samples);
    p = ngx_http_hatch_metrics_counter(m, p, "hatch_stats_failures",
                                       "Samples that failed, or came too "
                                       "late.", c.sample_failures);

    return ngx_http_hatch_metrics_seconds(m, p, "hatch_stats_duration_seconds",
                                          "How long libvirt took for the last "
                                          "sample.", c.sample_time);
}


static u_char *
ngx_http_hatch_metrics_histogram(ngx_http_hatch_metrics_t *m, u_char *p,
    const char *kind, hatch_zone_histogram_t *histogram)
{
    uint64_t    count;
    ngx_uint_t  i;

    static const ngx_uint_t  bounds[] = HATCH_WAKE_BUCKETS;

    count = 0;

    for (i = 0; i < HATCH_WAKE_N_BUCKETS; i++) {
        count += histogram->buckets[i];
        p = ngx_slprintf(p, m->last,
                         "hatch_wake_duration_seconds_bucket{kind=\"%s\","
                         "le=\"%ui.%03ui", kind, bounds[i] / 1000,
                         bounds[i] % 1000);

        /* 1.000 is 1.0: in OpenMetrics, a float in its shortest form */

        while (p[-1] == '0' && p[-2] != '.') {
            p--;
        }

        p = ngx_slprintf(p, m->last, "\"} %uL\n", count);
    }

    count += histogram->buckets[i];

    return ngx_slprintf(p, m->last,
                        "hatch_wake_duration_seconds_bucket{kind=\"%s\","
                        "le=\"+Inf\"} %uL\n"
                        "hatch_wake_duration_seconds_sum{kind=\"%s\"} "
                        "%uL.%03uL\n"
                        "hatch_wake_duration_seconds_count{kind=\"%s\"} %uL\n",
                        kind, count, kind, histogram->sum / 1000,
                        histogram->sum % 1000, kind, count);
}


static u_char *
ngx_http_hatch_metrics_gauge(ngx_http_hatch_metrics_t *m, u_char *p,
    const char *name, const char *help, uint64_t value)
{
    p = ngx_http_hatch_metrics_family(m, p, name, "gauge", help);

    return ngx_slprintf(p, m->last, "%s %uL\n", name, value);
}


/* A gauge as well. */

static u_char *
ngx_http_hatch_metrics_seconds(ngx_http_hatch_metrics_t *m, u_char *p,
    const char *name, const char *help, uint64_t ms)
{
    p = ngx_http_hatch_metrics_family(m, p, name, "gauge", help);

    return ngx_slprintf(p, m->last, "%s %uL.%03uL\n", name, ms / 1000,
                        ms % 1000);
}


static u_char *
ngx_http_hatch_metrics_counter(ngx_http_hatch_metrics_t *m, u_char *p,
    const char *name, const char *help, uint64_t value)
{
    p = ngx_http_hatch_metrics_family(m, p, name, "counter", help);

    return ngx_slprintf(p, m->last, "%s_total %uL\n", name, value);
}


u_char *
ngx_http_hatch_metrics_family(ngx_http_hatch_metrics_t *m, u_char *p,
    const char *name, const char *type, const char *help)
{
    const char  *suffix;

    /* to OpenMetrics "_total" is of the sample, to the older text of both */

    suffix = m->format == NGX_HTTP_HATCH_TEXT && type[0] == 'c' ? "_total"
                                                                : "";

    return ngx_slprintf(p, m->last, "# HELP %s%s %s\n# TYPE %s%s %s\n", name,
                        suffix, help, name, suffix, type);
}
