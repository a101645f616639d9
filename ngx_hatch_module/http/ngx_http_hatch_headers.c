
/*
 * Header fields that end here.
 *
 * A guest is hostile: it must not learn the key that opened the location, and
 * must not get a client's connection as a tunnel for HTTP/2, in which nothing
 * of nginx's configuration would hold.  And what a guest says of its own
 * connection is nothing to a client whose protocol has no such header fields.
 */


#include "ngx_http_hatch_keys.h"


static ngx_int_t ngx_http_hatch_own_list(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_drop_h2c(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_without_h2c(ngx_http_request_t *r,
    ngx_table_elt_t *h);
static void ngx_http_hatch_forget_variable(ngx_http_request_t *r,
    ngx_str_t *key);
static u_char *ngx_http_hatch_next_token(u_char *p, u_char *last,
    ngx_str_t *token);
static ngx_uint_t ngx_http_hatch_is_hop(ngx_http_request_t *r,
    ngx_table_elt_t *h);


ngx_int_t
ngx_http_hatch_drop_client_headers(ngx_http_request_t *r)
{
    if (r != r->main && ngx_http_hatch_own_list(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (r->headers_in.upgrade != NULL && ngx_http_hatch_drop_h2c(r) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if ((ngx_http_hatch_loc_conf(r)->keys != NULL || r->internal)
        && ngx_http_hatch_keys_drop(r) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_OK;
}


/*
 * A subrequest has a copy of its parent's list, but of that only the first
 * part; the last one may even be in the parent.
 */

static ngx_int_t
ngx_http_hatch_own_list(ngx_http_request_t *r)
{
    ngx_list_t       *list;
    ngx_list_part_t  *part, *copy;

    list = &r->headers_in.headers;

    for (part = &list->part; part->next; part = part->next) {

        copy = ngx_palloc(r->pool, sizeof(ngx_list_part_t));
        if (copy == NULL) {
            return NGX_ERROR;
        }

        *copy = *part->next;
        part->next = copy;
    }

    list->last = part;

    /* what the parent adds is in the room behind the last one */

    list->nalloc = ngx_max(part->nelts, 1);

    return NGX_OK;
}


/* "websocket, h2c" becomes "websocket"; without any, there is no Upgrade. */

static ngx_int_t
ngx_http_hatch_drop_h2c(ngx_http_request_t *r)
{
    ngx_int_t         rc;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

again:

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != sizeof("upgrade") - 1
                || ngx_strncmp(h[i].lowcase_key, "upgrade", h[i].key.len) != 0)
            {
                continue;
            }

            rc = ngx_http_hatch_without_h2c(r, &h[i]);

            if (rc == NGX_ERROR) {
                return NGX_ERROR;
            }

            if (rc == NGX_OK) {

                /* the one that nginx knew may be gone */

                if (r->headers_in.upgrade == NULL) {
                    r->headers_in.upgrade = &h[i];
                }

                continue;
            }

            if (ngx_http_hatch_remove_header(r, part, i) != NGX_OK) {
                return NGX_ERROR;
            }

            goto again;
        }
    }

    return NGX_OK;
}


/* NGX_DECLINED: there was nothing else in it. */

static ngx_int_t
ngx_http_hatch_without_h2c(ngx_http_request_t *r, ngx_table_elt_t *h)
{
    u_char      *p, *last, *out, *value;
    ngx_str_t    token;
    ngx_uint_t   found;

    value = ngx_pnalloc(r->pool, 2 * h->value.len + 1);
    if (value == NULL) {
        return NGX_ERROR;
    }

    p = h->value.data;
    last = p + h->value.len;
    out = value;
    found = 0;

    while (p < last) {
        p = ngx_http_hatch_next_token(p, last, &token);

        if (token.len == 3
            && ngx_strncasecmp(token.data, (u_char *) "h2c", 3) == 0)
        {
            found = 1;
            continue;
        }

        if (token.len != 0) {
            if (out != value) {
                *out++ = ',';
                *out++ = ' ';
            }

            out = ngx_cpymem(out, token.data, token.len);
        }
    }

    if (!found) {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "hatch: \"h2c\" of Upgrade is not for guests");

    if (out == value) {
        return NGX_DECLINED;
    }

    *out = '\0';
    h->value.data = value;
    h->value.len = out - value;
    ngx_http_hatch_forget_variable(r, &h->key);

    return NGX_OK;
}


/* The next one of a comma-separated list, without the space around it. */

static u_char *
ngx_http_hatch_next_token(u_char *p, u_char *last, ngx_str_t *token)
{
    u_char  *end;

    while (p < last && (*p == ' ' || *p == '\t' || *p == ',')) {
        p++;
    }

    token->data = p;

    while (p < last && *p != ',') {
        p++;
    }

    for (end = p; end > token->data && (end[-1] == ' ' || end[-1] == '\t');
         end--)
    {
        /* void */
    }

    token->len = end - token->data;

    return p;
}


/*
 * The list is cut into two at the field, so that no other one moves: pointers
 * lead to many of them.  No part of it is left empty, which nginx's loops do
 * not expect.
 */

ngx_int_t
ngx_http_hatch_remove_header(ngx_http_request_t *r, ngx_list_part_t *part,
    ngx_uint_t i)
{
    ngx_list_t        *list;
    ngx_list_part_t   *rest, *prev;
    ngx_table_elt_t   *h;

    list = &r->headers_in.headers;
    h = part->elts;
    h += i;

    if (r->headers_in.upgrade == h) {
        r->headers_in.upgrade = NULL;
    }

    if (r->headers_in.authorization == h) {
        r->headers_in.authorization = NULL;
    }

    ngx_http_hatch_forget_variable(r, &h->key);

    rest = part->next;

    if (i + 1 < part->nelts) {
        rest = ngx_palloc(r->pool, sizeof(ngx_list_part_t));
        if (rest == NULL) {
            return NGX_ERROR;
        }

        rest->elts = h + 1;
        rest->nelts = part->nelts - i - 1;
        rest->next = part->next;

        if (list->last == part) {
            list->last = rest;
        }
    }

    part->nelts = i;
    part->next = rest;

    if (i == 0 && part == &list->part && rest != NULL) {

        /* the first one is in the list itself */

        if (list->last == rest) {
            list->last = part;
        }

        *part = *rest;

    } else if (i == 0 && part != &list->part) {

        for (prev = &list->part; prev->next != part; prev = prev->next) {
            /* void */
        }

        prev->next = rest;

        if (list->last == part) {
            list->last = prev;
        }
    }

    /* a field that nginx adds goes into a new part, behind the last one */

    list->nalloc = ngx_max(list->last->nelts, 1);

    return NGX_OK;
}


/*
 * nginx keeps what $http_NAME was when it was first asked for, maybe in an
 * "if" or by "limit_req"; "proxy_set_header" must not find that again.
 */

static void
ngx_http_hatch_forget_variable(ngx_http_request_t *r, ngx_str_t *key)
{
    u_char                     *name, c;
    size_t                      n;
    ngx_uint_t                  i;
    ngx_http_variable_t        *v;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);
    v = cmcf->variables.elts;

    for (i = 0; i < cmcf->variables.nelts; i++) {

        if (!(v[i].flags & NGX_HTTP_VAR_PREFIX)
            || v[i].name.len != sizeof("http_") - 1 + key->len
            || ngx_strncmp(v[i].name.data, "http_", sizeof("http_") - 1) != 0)
        {
            continue;
        }

        name = v[i].name.data + sizeof("http_") - 1;

        for (n = 0; n < key->len; n++) {
            c = ngx_tolower(key->data[n]);

            if (name[n] != (c == '-' ? '_' : c)) {
                break;
            }
        }

        if (n == key->len) {
            r->variables[i].valid = 0;
            r->variables[i].not_found = 0;
        }
    }
}


void
ngx_http_hatch_drop_guest_headers(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &r->headers_out.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].hash != 0 && ngx_http_hatch_is_hop(r, &h[i])) {
                h[i].hash = 0;
            }
        }
    }
}


/* One of the known ones, or one that the guest named in Connection. */

static ngx_uint_t
ngx_http_hatch_is_hop(ngx_http_request_t *r, ngx_table_elt_t *header)
{
    u_char           *p, *last;
    ngx_str_t         token;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    static const ngx_str_t  names[] = {
        ngx_string("Connection"),
        ngx_string("Keep-Alive"),
        ngx_string("Proxy-Connection"),
        ngx_string("TE"),
        ngx_string("Transfer-Encoding"),
        ngx_string("Upgrade")
    };

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (header->key.len == names[i].len
            && ngx_strncasecmp(header->key.data, names[i].data, names[i].len)
               == 0)
        {
            return 1;
        }
    }

    for (part = &r->upstream->headers_in.headers.part; part;
         part = part->next)
    {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != sizeof("connection") - 1
                || ngx_strncasecmp(h[i].key.data, (u_char *) "connection",
                                   h[i].key.len)
                   != 0)
            {
                continue;
            }

            p = h[i].value.data;
            last = p + h[i].value.len;

            while (p < last) {
                p = ngx_http_hatch_next_token(p, last, &token);

                if (token.len == header->key.len
                    && ngx_strncasecmp(token.data, header->key.data, token.len)
                       == 0)
                {
                    return 1;
                }
            }
        }
    }

    return 0;
}
