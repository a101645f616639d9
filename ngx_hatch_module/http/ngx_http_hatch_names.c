
/*
 * Whose a text is, that decides where an answer is kept and found again: the
 * key of a cache, or the path of a file.
 *
 * It belongs to the request's VM if it has the request's host, or the id of
 * its VM or route, as a whole element: no name character stands directly
 * before or behind it, and it does not stand in the request's URI.  And it
 * must have no other host under a base domain and no id of another VM or
 * route, wherever in it: so no text belongs to two VMs, even if a client has
 * found a way to put their names into it.
 */


#include "ngx_http_hatch_module.h"


/* The longest host is a label, a dot, and a base domain. */

#define NGX_HTTP_HATCH_NAMES_MAX  (HATCH_LABEL_MAX + 1 + 253)


/* Whose a name in a text is. */

typedef enum {
    ngx_http_hatch_names_nobodys = 0,
    ngx_http_hatch_names_own,
    ngx_http_hatch_names_others
} ngx_http_hatch_names_whose_e;


static ngx_uint_t ngx_http_hatch_names_within(ngx_str_t *text, ngx_str_t *uri,
    ngx_str_t *name);
static ngx_http_hatch_names_whose_e ngx_http_hatch_names_whose(
    ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx, ngx_str_t *name);
static ngx_uint_t ngx_http_hatch_names_is(ngx_str_t *name, const void *text,
    size_t len);
static ngx_int_t ngx_http_hatch_names_path(ngx_http_request_t *r,
    ngx_str_t *path, size_t *root);


ngx_int_t
ngx_http_hatch_names_merge(ngx_http_hatch_main_conf_t *hmcf,
    ngx_http_hatch_loc_conf_t *conf)
{
    ngx_str_t   *domain;
    ngx_uint_t   i;

    domain = hmcf->domains.elts;

    for (i = 0; i < hmcf->domains.nelts; i++) {
        if (domain[i].len == conf->base_domain.len
            && ngx_memcmp(domain[i].data, conf->base_domain.data,
                          conf->base_domain.len)
               == 0)
        {
            return NGX_OK;
        }
    }

    if (conf->base_domain.len == 0) {
        return NGX_OK;
    }

    domain = ngx_array_push(&hmcf->domains);
    if (domain == NULL) {
        return NGX_ERROR;
    }

    *domain = conf->base_domain;

    return NGX_OK;
}


ngx_uint_t
ngx_http_hatch_names_alone(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx,
    ngx_str_t *text, size_t root)
{
    u_char      c, *p, *last;
    ngx_str_t   name;
    ngx_uint_t  own;

    own = 0;
    name.len = 0;
    last = text->data + text->len;

    for (p = text->data; p <= last; p++) {
        c = p < last ? ngx_tolower(*p) : 0;

        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.'
            || c == '_' || c == '-')
        {
            name.len++;
            continue;
        }

        name.data = p - name.len;

        switch (ngx_http_hatch_names_whose(r, ctx, &name)) {

        case ngx_http_hatch_names_others:
            ngx_log_debug1(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                           "hatch names of others: \"%V\"", &name);
            return 0;

        case ngx_http_hatch_names_own:
            if (p <= text->data + root
                && !ngx_http_hatch_names_within(text, &r->unparsed_uri, &name)
                && !ngx_http_hatch_names_within(text, &r->uri, &name))
            {
                own = 1;
            }

            break;

        default:
            break;
        }

        name.len = 0;
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "hatch names of its own: %ui in \"%V\"", own, text);

    return own;
}


/* Is the name, which is in the text, in the part of it that is the URI? */

static ngx_uint_t
ngx_http_hatch_names_within(ngx_str_t *text, ngx_str_t *uri, ngx_str_t *name)
{
    u_char  *p;

    /* searches in linear time, whatever a client has made up */

    p = memmem(text->data, text->len, uri->data, uri->len);

    return p != NULL && name->data >= p
           && name->data + name->len <= p + uri->len;
}


static ngx_http_hatch_names_whose_e
ngx_http_hatch_names_whose(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx,
    ngx_str_t *name)
{
    size_t        len;
    u_char       *dot;
    ngx_str_t    *host, *domain, tail;
    const char   *route;
    ngx_uint_t    i;
    ngx_array_t  *domains;

    if (name->len == 0 || name->len > NGX_HTTP_HATCH_NAMES_MAX) {
        return ngx_http_hatch_names_nobodys;
    }

    host = &r->headers_in.server;
    route = hatch_target_id(&ctx->route);

    if (ngx_http_hatch_names_is(name, host->data, host->len)
        || ngx_http_hatch_names_is(name, ctx->route.vm,
                                   ngx_strlen(ctx->route.vm))
        || ngx_http_hatch_names_is(name, route, ngx_strlen(route)))
    {
        return ngx_http_hatch_names_own;
    }

    if (name->len == HATCH_ID_VM_SIZE - 1
        && (ngx_strncasecmp(name->data, (u_char *) HATCH_ID_VM,
                            sizeof(HATCH_ID_VM) - 1)
            == 0
            || ngx_strncasecmp(name->data, (u_char *) HATCH_ID_ROUTE,
                               sizeof(HATCH_ID_ROUTE) - 1)
               == 0))
    {
        return ngx_http_hatch_names_others;
    }

    domains = &ngx_http_hatch_main_conf(r)->domains;
    domain = domains->elts;

    for (i = 0; i < domains->nelts; i++) {
        len = domain[i].len;

        if (name->len < len + 2) {
            continue;
        }

        dot = name->data + name->len - len - 1;
        tail.data = dot + 1;
        tail.len = len;

        if (*dot == '.'
            && ngx_http_hatch_names_is(&tail, domain[i].data, len))
        {
            return ngx_http_hatch_names_others;
        }
    }

    return ngx_http_hatch_names_nobodys;
}


static ngx_uint_t
ngx_http_hatch_names_is(ngx_str_t *name, const void *text, size_t len)
{
    return name->len == len
           && ngx_strncasecmp(name->data, (u_char *) text, len) == 0;
}


ngx_uint_t
ngx_http_hatch_names_store(ngx_http_request_t *r, ngx_http_hatch_ctx_t *ctx)
{
    size_t                       root;
    ngx_str_t                    path;
    ngx_http_hatch_main_conf_t  *hmcf;

    if (ngx_http_hatch_names_path(r, &path, &root) != NGX_OK) {
        return 0;
    }

    if (ngx_http_hatch_names_alone(r, ctx, &path, root)) {
        return 1;
    }

    hmcf = ngx_http_hatch_main_conf(r);

    if (!hmcf->not_stored) {
        hmcf->not_stored = 1;

        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "hatch: answers are not stored where the path does not "
                      "name their host alone, use \"root\" or "
                      "\"proxy_store\" with $host");
    }

    return 0;
}


/* As ngx_http_upstream_store() makes it; root: how much is not of the URI. */

static ngx_int_t
ngx_http_hatch_names_path(ngx_http_request_t *r, ngx_str_t *path, size_t *root)
{
    u_char                    *last;
    ngx_http_upstream_conf_t  *ucf;

    ucf = r->upstream->conf;

    if (ucf->store_lengths == NULL) {
        last = ngx_http_map_uri_to_path(r, path, root, 0);

    } else {
        last = ngx_http_script_run(r, path, ucf->store_lengths->elts, 0,
                                   ucf->store_values->elts);
        *root = path->len;
    }

    if (last == NULL) {
        return NGX_ERROR;
    }

    /* without the NUL behind it */

    path->len = ngx_strlen(path->data);

    return NGX_OK;
}
