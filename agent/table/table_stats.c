#define _GNU_SOURCE

#include "table_stats.h"
#include "table_private.h"

#include "hatch_clock.h"

#include <stdlib.h>
#include <string.h>


#define STATS_WORDS  (sizeof(hatch_zone_stats_t) / sizeof(uint64_t))


/* --- samples --- */

/*
 * What libvirt did not tell of the same run of the guest is kept.  Returns 1
 * if there was nothing of the kind.
 */
static int
stats_merge(entry_t *e, table_sample_t *sample)
{
    size_t           i;
    unsigned         missing = 0;
    uint64_t        *words = (uint64_t *) &sample->stats;
    const uint64_t  *before = (const uint64_t *) &e->sample.stats;

    if (e->sample.domain_id == sample->domain_id) {
        missing = e->sample.told & ~sample->told;
    }

    for (i = 0; i < STATS_WORDS; i++) {
        if (missing & (1u << i)) {
            words[i] = before[i];
        }
    }

    sample->told |= missing;

    return missing == 0;
}


/*
 * The first sample of a VM by this agent: what the one before published is
 * kept where libvirt does not tell, or a counter would be 0 for one sample.
 */
static void
stats_adopt(entry_t *e, int domain_id)
{
    size_t               i;
    hatch_zone_stats_t   before;
    const uint64_t      *words = (const uint64_t *) &e->sample.stats;

    if (e->sample.stats.sampled != 0 || e->slotless || domain_id == -1
        || hatch_zone_stats(&table.writer.zone, e->slot, e->generation,
                            &before) != 0)
    {
        return;
    }

    e->sample.stats = before;
    e->sample.domain_id = domain_id;

    for (i = 2; i < STATS_WORDS; i++) {
        e->sample.told |= (unsigned) (words[i] != 0) << i;
    }
}


/* Percent of the processors since the sample before, if that was of it. */
static void
stats_utilize(entry_t *e, const table_sample_t *sample, uint64_t now)
{
    double  used, had;

    if (e->sample.domain_id != sample->domain_id || sample->domain_id == -1
        || e->cpu_sampled == 0)
    {
        e->utilization = 0;

    } else if (now > e->cpu_sampled
               && sample->stats.cpu_time >= e->sample.stats.cpu_time)
    {
        used = (double) (sample->stats.cpu_time - e->sample.stats.cpu_time);
        had = (double) (now - e->cpu_sampled) * 1e6 * e->vm.vcpu_count;
        e->utilization = 100 * used / had;
    }

    e->cpu_sampled = now;
}


/*
 * It is not up any more: it uses nothing, from now on and not only from the
 * next sample on, of which there may be none.
 */
void
table_note_end(entry_t *e)
{
    stats_adopt(e, 0);

    if (e->sample.domain_id == -1 || e->sample.stats.sampled == 0) {
        return;
    }

    free(e->sample.raw);
    memset(&e->sample, 0, sizeof(e->sample));
    e->sample.domain_id = -1;
    e->sample.stats.sampled = hatch_clock_ms();
    e->utilization = 0;
    e->cpu_sampled = 0;
    table_publish_stats(e);
}


void
table_sample(const char *id, table_sample_t *sample, uint64_t now)
{
    entry_t   *e;
    unsigned   told = sample->told;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    /* of a run that has ended since: it would come to life again */
    if (e != NULL && e->domain_id == -1 && sample->domain_id != -1) {
        e = NULL;
    }

    if (e != NULL) {
        stats_adopt(e, sample->domain_id);
        sample->stats.sampled = e->sample.stats.sampled;

        if (stats_merge(e, sample)) {
            sample->stats.sampled = now;
        }

        if (sample->domain_id == -1 || (told & TABLE_TOLD(cpu_time))) {
            stats_utilize(e, sample, now);
        }

        if (sample->stats.sampled == now) {
            free(e->sample.raw);
            e->sample.raw = sample->raw;
            e->sample.n_raw = sample->n_raw;
            sample->raw = NULL;
        }

        e->sample.stats = sample->stats;
        e->sample.domain_id = sample->domain_id;
        e->sample.told = sample->told;
        table_publish_stats(e);
    }

    pthread_mutex_unlock(&table.lock);

    free(sample->raw);
    sample->raw = NULL;
}


void
table_publish_stats(entry_t *e)
{
    if (!e->slotless && e->generation != 0 && e->sample.stats.sampled != 0) {
        e->sample.stats.generation = e->generation;
        hatch_zone_set_stats(&table.writer, e->slot, &e->sample.stats);
    }
}


int
table_wants_sample(const char *id)
{
    int       wants;
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);
    wants = e != NULL && e->domain_id >= 0
            && e->domain_id != e->sample.domain_id;

    pthread_mutex_unlock(&table.lock);

    return wants;
}


int
table_last_sample(const char *id, table_sample_t *sample, double *utilization)
{
    int       rc = HATCH_ERR_NOT_FOUND;
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL) {
        *sample = e->sample;
        *utilization = e->utilization;

        sample->raw = malloc((sample->n_raw + 1) * sizeof(*sample->raw));

        if (sample->raw == NULL || e->sample.raw == NULL) {
            sample->n_raw = 0;

        } else {
            memcpy(sample->raw, e->sample.raw,
                   sample->n_raw * sizeof(*sample->raw));
        }

        rc = 0;
    }

    pthread_mutex_unlock(&table.lock);

    return rc;
}


void
table_sampled(uint64_t now, uint64_t took)
{
    pthread_mutex_lock(&table.lock);

    table.counters.samples++;
    table.counters.sample_time = took;
    hatch_zone_set_counters(&table.writer, &table.counters);
    hatch_zone_set_sampled(&table.writer, now);

    pthread_mutex_unlock(&table.lock);
}


void
table_sample_failed(void)
{
    pthread_mutex_lock(&table.lock);

    table.counters.sample_failures++;
    hatch_zone_set_counters(&table.writer, &table.counters);

    pthread_mutex_unlock(&table.lock);
}


/* --- counters --- */

void
table_count_wake(const char *id, hatch_wake_kind_t kind, uint64_t since)
{
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    table.counters.wakes[kind]++;
    hatch_zone_set_counters(&table.writer, &table.counters);

    e = *table_find(id);

    if (e != NULL) {
        e->wakes++;
        e->woken_by = kind;
        e->woken_since = since;
        table_publish_entry(e);
    }

    pthread_mutex_unlock(&table.lock);
}


void
table_count_answer(const char *id, uint64_t now)
{
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    e = *table_find(id);

    if (e != NULL && e->woken_by != HATCH_WAKE_KIND_NONE) {
        hatch_zone_histogram_add(&table.counters.wake_time[e->woken_by],
                                 now - e->woken_since);
        hatch_zone_set_counters(&table.writer, &table.counters);
        e->woken_by = HATCH_WAKE_KIND_NONE;
    }

    pthread_mutex_unlock(&table.lock);
}


void
table_count_failure(const char *id, hatch_wake_failure_t failure)
{
    entry_t  *e;

    pthread_mutex_lock(&table.lock);

    table.counters.wake_failures[failure]++;
    hatch_zone_set_counters(&table.writer, &table.counters);

    e = *table_find(id);

    if (e != NULL) {
        e->wake_failures++;
        e->woken_by = HATCH_WAKE_KIND_NONE;
        table_publish_entry(e);
    }

    pthread_mutex_unlock(&table.lock);
}


void
table_count(table_event_t event)
{
    pthread_mutex_lock(&table.lock);

    table.counters.pauses += event == TABLE_PAUSED;
    table.counters.saves += event == TABLE_SAVED;
    table.counters.lost_saves += event == TABLE_LOST_SAVE;
    hatch_zone_set_counters(&table.writer, &table.counters);

    pthread_mutex_unlock(&table.lock);
}
