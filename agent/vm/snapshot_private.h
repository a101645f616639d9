/* What snapshot.c and snapshot_take.c share; nobody else. */

#ifndef HATCH_AGENT_SNAPSHOT_PRIVATE_H_INCLUDED
#define HATCH_AGENT_SNAPSHOT_PRIVATE_H_INCLUDED

#include "store/records.h"


#define SNAPSHOT_FOLDER  "snapshots"


extern records_t  snapshots;

#endif /* HATCH_AGENT_SNAPSHOT_PRIVATE_H_INCLUDED */
