/*
 * Which libvirt a URI means, however it is reached: "qemu" and "/system" of
 * qemu:///system, of qemu+unix:///system?socket=/run/other and so on, and
 * "host/system" of qemu+ssh://host/system.  An alias of libvirt.conf, which
 * has no "://", stands for itself.
 */

#ifndef HATCH_AGENT_PLACE_H_INCLUDED
#define HATCH_AGENT_PLACE_H_INCLUDED

#include "config.h"


typedef struct {
    char  driver[CONFIG_TEXT];
    char  place[CONFIG_TEXT];
} place_t;


/* Any thread. */
void place_read(const char *uri, place_t *place);

#endif /* HATCH_AGENT_PLACE_H_INCLUDED */
