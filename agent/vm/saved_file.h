/* The file of saved memory: where it is, and whether it can be one. */

#ifndef HATCH_AGENT_SAVED_FILE_H_INCLUDED
#define HATCH_AGENT_SAVED_FILE_H_INCLUDED

#include "vm_private.h"
#include "store/statedir.h"


typedef enum {
    SAVED_FILE_GOOD = 0,        /* as far as can be seen */
    SAVED_FILE_OUT_OF_REACH,    /* or its place is not known */
    SAVED_FILE_BAD,             /* proved */
    SAVED_FILE_TROUBLE          /* not there, or it cannot be read */
} saved_file_t;


/* What stands between a VM's id and the time in the name of one put aside. */
#define SAVED_ASIDE  ".save.aside-"


/*
 * Where libvirt has them, by its own rules (virQEMUDriverConfigNew()), into
 * path[STATEDIR_PATH].  -1 for a libvirt on another host, or of another driver.
 */
int saved_folder(const char *uri, char *path);

/* The same for the definitions of its domains. */
int saved_definitions(const char *uri, char *path);

/* The VM's file of saved memory, where libvirt has it; -1 as above. */
int saved_path(const vm_op_t *op, char *path);

/* Fills err with what is wrong if it is bad, or in trouble. */
saved_file_t saved_file_look(const vm_op_t *op, hatch_err_t *err);

/*
 * Bytes that are free where libvirt writes it, or -1: out of reach.
 */
int64_t saved_file_room(const vm_op_t *op);

/* Is there one, in the agent's reach? */
int saved_file_exists(const vm_op_t *op);

/*
 * Gives the file another name beside it, aside[STATEDIR_PATH], and has
 * libvirt forget it.
 */
int saved_file_put_aside(vm_op_t *op, char *aside, hatch_err_t *err);

/* Puts an empty file in the place of one that is not there. */
int saved_file_stand_in(const vm_op_t *op);

#endif /* HATCH_AGENT_SAVED_FILE_H_INCLUDED */
