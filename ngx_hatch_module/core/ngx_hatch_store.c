
#include "ngx_hatch_store.h"

#include <grp.h>
#include <sys/wait.h>


/* How long after a failed opening it is tried again, ms. */
#define NGX_HATCH_STORE_RETRY  1000


static ngx_int_t ngx_hatch_store_make_dir(ngx_cycle_t *cycle,
    ngx_hatch_store_t *hs, ngx_uid_t uid, ngx_gid_t gid);
static void ngx_hatch_store_check_child(ngx_hatch_store_t *hs,
    ngx_core_conf_t *ccf, int fd);
static ngx_int_t ngx_hatch_store_open(ngx_hatch_store_t *hs);
static void ngx_hatch_store_cleanup(void *data);


/* The stores that this process has open, of all its cycles. */

static ngx_queue_t  ngx_hatch_stores;


ngx_int_t
ngx_hatch_store_check(ngx_cycle_t *cycle, ngx_hatch_store_t *hs)
{
    int               fd[2];
    pid_t             pid;
    ssize_t           n;
    hatch_err_t       err;
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (ngx_hatch_store_make_dir(cycle, hs, ccf->user, ccf->group)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    /*
     * A process of its own: it has a worker's rights, not ours, and the LMDB
     * handles of this process, which may serve requests, stay untouched.
     */

    if (pipe(fd) == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno, "pipe() failed");
        return NGX_ERROR;
    }

    pid = fork();

    if (pid == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno, "fork() failed");
        (void) close(fd[0]);
        (void) close(fd[1]);
        return NGX_ERROR;
    }

    if (pid == 0) {
        ngx_hatch_store_check_child(hs, ccf, fd[1]);
    }

    (void) close(fd[1]);

    ngx_memzero(&err, sizeof(hatch_err_t));

    do {
        n = read(fd[0], &err, sizeof(hatch_err_t));
    } while (n == -1 && ngx_errno == NGX_EINTR);

    (void) close(fd[0]);

    while (waitpid(pid, NULL, 0) == -1 && ngx_errno == NGX_EINTR) {
        /* void */
    }

    if (n != sizeof(hatch_err_t)) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "\"hatch_route_store\": "
                      "opening \"%V\" ended without an answer", &hs->dir);
        return NGX_ERROR;
    }

    if (err.code != 0) {
        err.text[sizeof(err.text) - 1] = '\0';
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "\"hatch_route_store\" \"%V\": %s", &hs->dir, err.text);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_hatch_store_check_child(ngx_hatch_store_t *hs, ngx_core_conf_t *ccf,
    int fd)
{
    ssize_t         n;
    hatch_err_t     err;
    hatch_store_t  *store;

    ngx_memzero(&err, sizeof(hatch_err_t));

    /* as nginx's workers do, with the user's other groups */

    if (geteuid() == 0
        && (setgid(ccf->group) == -1
            || initgroups(ccf->username, ccf->group) == -1
            || setuid(ccf->user) == -1))
    {
        (void) hatch_err_errno(&err, ngx_errno, "cannot become user \"%s\"",
                               ccf->username);

    } else if (hatch_store_open(&store, (char *) hs->dir.data, hs->size, &err)
               == 0)
    {
        hatch_store_close(store);
        err.code = 0;
    }

    n = write(fd, &err, sizeof(hatch_err_t));

    _exit(n == sizeof(hatch_err_t) ? 0 : 1);
}


static ngx_int_t
ngx_hatch_store_make_dir(ngx_cycle_t *cycle, ngx_hatch_store_t *hs,
    ngx_uid_t uid, ngx_gid_t gid)
{
    u_char           parent[NGX_MAX_PATH];
    ngx_file_info_t  fi;

    /* a copy: ngx_create_full_path() leaves a path cut where it failed */

    (void) ngx_cpystrn(parent, hs->dir.data, NGX_MAX_PATH);

    if (ngx_create_full_path(parent, 0755) != 0) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "\"hatch_route_store\": cannot create parent directory "
                      "of \"%V\"", &hs->dir);
        return NGX_ERROR;
    }

    if (ngx_create_dir(hs->dir.data, 0700) == NGX_FILE_ERROR) {

        if (ngx_errno != NGX_EEXIST) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                          "\"hatch_route_store\": cannot create directory "
                          "\"%V\"", &hs->dir);
            return NGX_ERROR;
        }

        /* what is there already keeps its owner */

        if (ngx_file_info(hs->dir.data, &fi) == NGX_FILE_ERROR
            || !ngx_is_dir(&fi))
        {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                          "\"hatch_route_store\": \"%V\" is not a directory",
                          &hs->dir);
            return NGX_ERROR;
        }

        return NGX_OK;
    }

    if (geteuid() == 0 && chown((char *) hs->dir.data, uid, gid) == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "\"hatch_route_store\": chown(\"%V\") failed",
                      &hs->dir);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_hatch_store_init_module(ngx_cycle_t *cycle, ngx_hatch_store_t *hs)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(cycle->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_hatch_store_cleanup;
    cln->data = hs;

    return NGX_OK;
}


static void
ngx_hatch_store_cleanup(void *data)
{
    ngx_hatch_store_t  *hs = data;

    ngx_hatch_opened_t  *opened;

    opened = hs->opened;
    hs->opened = NULL;

    /* a task under way keeps it: the process is about to exit anyway */

    if (opened == NULL || --opened->refs > 0 || opened->busy
        || opened->indexing || opened->finish.posted)
    {
        return;
    }

    ngx_queue_remove(&opened->queue);
    hatch_store_close(opened->store);
    ngx_free(opened->task);
    ngx_free(opened->index_task);
    ngx_free(opened);
}


hatch_store_t *
ngx_hatch_store_get(ngx_hatch_store_t *hs)
{
    if (hs->opened != NULL) {
        return hs->opened->store;
    }

    if (hs->reason.code != 0
        && (ngx_msec_int_t) (ngx_current_msec - hs->retry) < 0)
    {
        return NULL;
    }

    if (ngx_hatch_store_open(hs) == NGX_OK) {
        return hs->opened->store;
    }

    hs->retry = ngx_current_msec + NGX_HATCH_STORE_RETRY;
    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "hatch: %s",
                  hs->reason.text);

    return NULL;
}


ngx_int_t
ngx_hatch_store_count(ngx_hatch_store_t *hs, uint64_t *count, hatch_err_t *err)
{
    if (hs->opened == NULL && ngx_hatch_store_get(hs) == NULL) {
        *err = hs->reason;
        return NGX_ERROR;
    }

    return hatch_store_count(hs->opened->store, count, err) == 0
           ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_hatch_store_open(ngx_hatch_store_t *hs)
{
    ngx_queue_t         *q;
    ngx_file_info_t      fi;
    ngx_hatch_opened_t  *opened;

    if (ngx_hatch_stores.next == NULL) {
        ngx_queue_init(&ngx_hatch_stores);
    }

    if (ngx_file_info(hs->dir.data, &fi) == NGX_FILE_ERROR) {
        (void) hatch_err_errno(&hs->reason, ngx_errno,
                               "cannot open route store \"%s\"",
                               (char *) hs->dir.data);
        return NGX_ERROR;
    }

    for (q = ngx_queue_head(&ngx_hatch_stores);
         q != ngx_queue_sentinel(&ngx_hatch_stores);
         q = ngx_queue_next(q))
    {
        opened = ngx_queue_data(q, ngx_hatch_opened_t, queue);

        if (opened->dev == fi.st_dev && opened->ino == fi.st_ino) {
            opened->refs++;
            hs->opened = opened;
            return NGX_OK;
        }
    }

    opened = ngx_calloc(sizeof(ngx_hatch_opened_t), ngx_cycle->log);
    if (opened == NULL) {
        return NGX_ERROR;
    }

    if (hatch_store_open(&opened->store, (char *) hs->dir.data, hs->size,
                         &hs->reason)
        != 0)
    {
        ngx_free(opened);
        return NGX_ERROR;
    }

    if (ngx_hatch_store_write_init(opened) != NGX_OK
        || ngx_hatch_store_index_init(opened) != NGX_OK)
    {
        hatch_store_close(opened->store);
        ngx_free(opened);
        return NGX_ERROR;
    }

    opened->refs = 1;
    opened->dev = fi.st_dev;
    opened->ino = fi.st_ino;
    ngx_queue_insert_tail(&ngx_hatch_stores, &opened->queue);

    hs->opened = opened;
    hs->reason.code = 0;

    return NGX_OK;
}
