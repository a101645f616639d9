
/*
 * /metrics: ngx_http_hatch_metrics.c streams, ngx_http_hatch_metrics_text.c
 * and ngx_http_hatch_metrics_vm.c say what.
 */


#ifndef _NGX_HTTP_HATCH_METRICS_H_INCLUDED_
#define _NGX_HTTP_HATCH_METRICS_H_INCLUDED_


#include "ngx_http_hatch_accept.h"
#include "ngx_hatch_work.h"


/*
 * One answer that is being written.  It goes from chunk to chunk, and other
 * requests are served between two of them.
 */

typedef struct {
    ngx_http_request_t          *request;
    ngx_http_hatch_main_conf_t  *conf;
    ngx_hatch_zone_map_t        *map;       /* kept for all chunks; or NULL */
    ngx_chain_t                 *free;
    ngx_chain_t                 *busy;
    ngx_hatch_work_t             work;      /* between two chunks */
    ngx_http_hatch_format_t      format;
    u_char                      *last;      /* of the chunk; see below */

    /* where the next chunk begins */
    ngx_uint_t                   family;
    uint32_t                     slot;

    unsigned                     summary:1; /* no figures of single VMs */
    unsigned                     begun:1;   /* what is not of a VM is out */
    unsigned                     done:1;
} ngx_http_hatch_metrics_t;


/*
 * The size of a chunk, and of the first one: all that is not of a VM has to
 * fit into it, which is 9 KiB with each number at its longest.
 */
#define NGX_HTTP_HATCH_METRICS_CHUNK  8192
#define NGX_HTTP_HATCH_METRICS_FIRST  16384


/*
 * Writes the next part, as much as fits before `last`, and says by m->done
 * that it was the last one.  Returns the end of what it wrote.
 */
u_char *ngx_http_hatch_metrics_text(ngx_http_hatch_metrics_t *m, u_char *p,
    u_char *last);


/* --- between the two that say what --- */

/* The HELP and TYPE lines.  A counter's name comes without its "_total". */
u_char *ngx_http_hatch_metrics_family(ngx_http_hatch_metrics_t *m, u_char *p,
    const char *name, const char *type, const char *help);

/* The figures of single VMs; as ngx_http_hatch_metrics_text(). */
u_char *ngx_http_hatch_metrics_vms(ngx_http_hatch_metrics_t *m, u_char *p,
    u_char *last);


#endif /* _NGX_HTTP_HATCH_METRICS_H_INCLUDED_ */
