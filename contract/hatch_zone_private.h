/* What hatch_zone.c (reading) and hatch_zone_writer.c share; nobody else. */

#ifndef HATCH_ZONE_PRIVATE_H_INCLUDED
#define HATCH_ZONE_PRIVATE_H_INCLUDED

#include "hatch_zone.h"


extern const hatch_file_kind_t  hatch_zone_kind;


/* Points the fields of zone into its mapped file. */
void hatch_zone_layout(hatch_zone_t *zone);

/* The bucket where the search for an id begins. */
uint32_t hatch_zone_bucket(const hatch_zone_t *zone, const char *id);

#endif /* HATCH_ZONE_PRIVATE_H_INCLUDED */
