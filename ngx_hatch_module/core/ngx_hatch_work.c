
#include "ngx_hatch_work.h"


/* As long as nginx itself waits for its own threads, ms. */
#define NGX_HATCH_WORK_TIME  60000


static void ngx_hatch_work_timer_handler(ngx_event_t *ev);


void
ngx_hatch_work_begin(ngx_hatch_work_t *work, const char *what)
{
    work->what = what;
    work->timer.handler = ngx_hatch_work_timer_handler;
    work->timer.data = work;
    work->timer.log = ngx_cycle->log;

    ngx_add_timer(&work->timer, NGX_HATCH_WORK_TIME);
}


void
ngx_hatch_work_end(ngx_hatch_work_t *work)
{
    if (work->timer.timer_set) {
        ngx_del_timer(&work->timer);
    }
}


static void
ngx_hatch_work_timer_handler(ngx_event_t *ev)
{
    ngx_hatch_work_t *work = ev->data;

    ngx_log_error(NGX_LOG_ALERT, ev->log, 0,
                  "hatch: %s has not ended within a minute", work->what);
}
