/*
 * Scope-bound cleanup: a variable declared with one of these gives back what
 * it holds when its scope ends.  All tolerate NULL; take() hands ownership
 * out and leaves NULL behind.  Those of libvirt are in virt/virt_cleanup.h.
 */

#ifndef HATCH_AGENT_CLEANUP_H_INCLUDED
#define HATCH_AGENT_CLEANUP_H_INCLUDED

#include <json-c/json.h>
#include <stdlib.h>


#define cleanup_free  __attribute__((cleanup(cleanup_free_p)))
#define cleanup_json  __attribute__((cleanup(cleanup_json_p)))

#define take(p)  ({ __typeof__(p) taken_ = (p); (p) = NULL; taken_; })


static inline void
cleanup_free_p(void *p)
{
    free(*(void **) p);
}


static inline void
cleanup_json_p(json_object **p)
{
    json_object_put(*p);
}

#endif /* HATCH_AGENT_CLEANUP_H_INCLUDED */
