
/*
 * The file has a line for each key: its name and the SHA-256 of the key, in
 * hexadecimal.  It is read when the configuration is; a request's key is
 * hashed and searched for, so the time that takes says nothing of the keys.
 */


#include "ngx_http_hatch_keys.h"

#include <openssl/sha.h>


#define NGX_HTTP_HATCH_KEYS_FILE  (1024 * 1024)
#define NGX_HTTP_HATCH_KEY_NAME   64


typedef struct {
    u_char       digest[SHA256_DIGEST_LENGTH];
    ngx_str_t    name;
} ngx_http_hatch_key_t;


static ngx_http_hatch_key_t *ngx_http_hatch_keys_find(ngx_array_t *keys,
    u_char *key, size_t len);
static ngx_http_hatch_key_t *ngx_http_hatch_keys_get(ngx_http_request_t *r,
    ngx_array_t *keys);
static ngx_int_t ngx_http_hatch_keys_note(ngx_http_request_t *r,
    ngx_array_t *keys);
static void ngx_http_hatch_keys_opened(void *data);
static ngx_http_hatch_key_t *ngx_http_hatch_keys_header(ngx_array_t *keys,
    ngx_table_elt_t *h);
static ngx_http_hatch_key_t *ngx_http_hatch_keys_of_request(
    ngx_http_request_t *r, ngx_table_elt_t *h);
static void ngx_http_hatch_keys_dropped(void *data);
static ngx_int_t ngx_http_hatch_keys_deny(ngx_http_request_t *r);
static ngx_int_t ngx_http_hatch_keys_read(ngx_conf_t *cf, ngx_str_t *path,
    ngx_str_t *text);
static ngx_int_t ngx_http_hatch_keys_parse(ngx_conf_t *cf, ngx_array_t *keys,
    ngx_str_t *path, ngx_str_t *text);
static const char *ngx_http_hatch_keys_line(ngx_http_hatch_key_t *key,
    u_char *p, u_char *end);
static int ngx_libc_cdecl ngx_http_hatch_keys_compare(const void *one,
    const void *two);


ngx_int_t
ngx_http_hatch_keys_handler(ngx_http_request_t *r)
{
    ngx_array_t  *keys;

    keys = ngx_http_hatch_loc_conf(r)->keys;

    if (keys == NULL) {
        return NGX_DECLINED;
    }

    /* probes have no key, and these say nothing of any VM */

    if (r->content_handler == ngx_http_hatch_healthz_handler
        || r->content_handler == ngx_http_hatch_readyz_handler)
    {
        return NGX_DECLINED;
    }

    if (ngx_http_hatch_keys_get(r, keys) != NULL) {
        return ngx_http_hatch_keys_note(r, keys);
    }

    return ngx_http_hatch_keys_deny(r);
}


/* For where "try_files" or "error_page" may lead, which has other keys. */

static ngx_int_t
ngx_http_hatch_keys_note(ngx_http_request_t *r, ngx_array_t *keys)
{
    ngx_pool_cleanup_t  *cln;

    if (!(ngx_http_hatch_main_conf(r)->use & NGX_HTTP_HATCH_USE_ROUTE)) {
        return NGX_OK;
    }

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_hatch_keys_opened;
    cln->data = keys;

    return NGX_OK;
}


/* Only marks an entry of the pool, whose data is an array of keys. */

static void
ngx_http_hatch_keys_opened(void *data)
{
    return;
}


ngx_str_t *
ngx_http_hatch_keys_name(ngx_http_request_t *r)
{
    ngx_array_t           *keys;
    ngx_http_hatch_key_t  *key;

    keys = ngx_http_hatch_loc_conf(r)->keys;
    key = keys ? ngx_http_hatch_keys_get(r, keys) : NULL;

    return key ? &key->name : NULL;
}


/* The request's key of these: in a header field, or in one that was dropped. */

static ngx_http_hatch_key_t *
ngx_http_hatch_keys_get(ngx_http_request_t *r, ngx_array_t *keys)
{
    ngx_uint_t             i;
    ngx_list_part_t       *part;
    ngx_table_elt_t       *h;
    ngx_pool_cleanup_t    *cln;
    ngx_http_hatch_key_t  *key;

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            key = ngx_http_hatch_keys_header(keys, &h[i]);

            if (key != NULL) {
                return key;
            }
        }
    }

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler != ngx_http_hatch_keys_dropped) {
            continue;
        }

        key = bsearch(cln->data, keys->elts, keys->nelts,
                      sizeof(ngx_http_hatch_key_t),
                      ngx_http_hatch_keys_compare);

        if (key != NULL) {
            return key;
        }
    }

    return NULL;
}


ngx_int_t
ngx_http_hatch_keys_drop(ngx_http_request_t *r)
{
    ngx_uint_t             i;
    ngx_list_part_t       *part;
    ngx_table_elt_t       *h;
    ngx_pool_cleanup_t    *cln;
    ngx_http_hatch_key_t  *key;

again:

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            key = ngx_http_hatch_keys_of_request(r, &h[i]);

            if (key == NULL) {
                continue;
            }

            /* it holds for the client's request to its end, see above */

            cln = ngx_pool_cleanup_add(r->pool, 0);
            if (cln == NULL) {
                return NGX_ERROR;
            }

            cln->handler = ngx_http_hatch_keys_dropped;
            cln->data = key;

            if (ngx_http_hatch_remove_header(r, part, i) != NGX_OK) {
                return NGX_ERROR;
            }

            goto again;
        }
    }

    return NGX_OK;
}


/* Only marks an entry of the pool, whose data is a key. */

static void
ngx_http_hatch_keys_dropped(void *data)
{
    return;
}


/* The key that is in this header field, or NULL. */

static ngx_http_hatch_key_t *
ngx_http_hatch_keys_header(ngx_array_t *keys, ngx_table_elt_t *h)
{
    u_char  *p;
    size_t   len;

    p = h->value.data;
    len = h->value.len;

    if (h->key.len == sizeof("x-api-key") - 1
        && ngx_strncmp(h->lowcase_key, "x-api-key", h->key.len) == 0)
    {
        return ngx_http_hatch_keys_find(keys, p, len);
    }

    if (h->key.len != sizeof("authorization") - 1
        || ngx_strncmp(h->lowcase_key, "authorization", h->key.len) != 0
        || len <= sizeof("Bearer ") - 1
        || ngx_strncasecmp(p, (u_char *) "Bearer ", sizeof("Bearer ") - 1)
           != 0)
    {
        return NULL;
    }

    p += sizeof("Bearer ") - 1;
    len -= sizeof("Bearer ") - 1;

    while (len && *p == ' ') {
        p++;
        len--;
    }

    return ngx_http_hatch_keys_find(keys, p, len);
}


/* The same of this location's keys, and of those that the request has met. */

static ngx_http_hatch_key_t *
ngx_http_hatch_keys_of_request(ngx_http_request_t *r, ngx_table_elt_t *h)
{
    ngx_array_t           *keys;
    ngx_pool_cleanup_t    *cln;
    ngx_http_hatch_key_t  *key;

    keys = ngx_http_hatch_loc_conf(r)->keys;
    key = keys ? ngx_http_hatch_keys_header(keys, h) : NULL;

    /* with many subrequests there are many entries */

    if (!r->internal
        || (h->key.len != sizeof("x-api-key") - 1
            && h->key.len != sizeof("authorization") - 1))
    {
        return key;
    }

    for (cln = r->pool->cleanup; cln && key == NULL; cln = cln->next) {
        if (cln->handler == ngx_http_hatch_keys_opened) {
            key = ngx_http_hatch_keys_header(cln->data, h);
        }
    }

    return key;
}


static ngx_http_hatch_key_t *
ngx_http_hatch_keys_find(ngx_array_t *keys, u_char *text, size_t len)
{
    ngx_http_hatch_key_t  key;

    if (len == 0 || SHA256(text, len, key.digest) == NULL) {
        return NULL;
    }

    return bsearch(&key, keys->elts, keys->nelts, sizeof(key),
                   ngx_http_hatch_keys_compare);
}


static ngx_int_t
ngx_http_hatch_keys_deny(ngx_http_request_t *r)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    h->hash = 1;
#if (nginx_version >= 1023000)
    h->next = NULL;
#endif
    ngx_str_set(&h->key, "WWW-Authenticate");
    ngx_str_set(&h->value, "Bearer realm=\"hatch\"");

    /* "satisfy any" takes it back if another rule lets the request pass */

    r->headers_out.www_authenticate = h;

    return NGX_HTTP_UNAUTHORIZED;
}


char *
ngx_http_hatch_api_keys(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hatch_loc_conf_t *hlcf = conf;

    ngx_str_t                   *value, text;
    ngx_array_t                 *keys;
    ngx_http_hatch_main_conf_t  *hmcf;

    if (hlcf->keys != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        hlcf->keys = NULL;
        return NGX_CONF_OK;
    }

    if (ngx_conf_full_name(cf->cycle, &value[1], 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    keys = ngx_array_create(cf->pool, 16, sizeof(ngx_http_hatch_key_t));

    if (keys == NULL
        || ngx_http_hatch_keys_read(cf, &value[1], &text) != NGX_OK
        || ngx_http_hatch_keys_parse(cf, keys, &value[1], &text) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    hlcf->keys = keys;

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hatch_module);
    hmcf->use |= NGX_HTTP_HATCH_USE_KEYS;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_hatch_keys_read(ngx_conf_t *cf, ngx_str_t *path, ngx_str_t *text)
{
    ssize_t          n;
    ngx_file_t       file;
    ngx_file_info_t  fi;

    ngx_memzero(&file, sizeof(ngx_file_t));
    file.name = *path;
    file.log = cf->log;

    file.fd = ngx_open_file(path->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (file.fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"hatch_api_keys\": cannot open \"%V\"", path);
        return NGX_ERROR;
    }

    n = NGX_ERROR;

    if (ngx_fd_info(file.fd, &fi) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"hatch_api_keys\": cannot read \"%V\"", path);

    } else if (!ngx_is_file(&fi)
               || ngx_file_size(&fi) > NGX_HTTP_HATCH_KEYS_FILE)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"hatch_api_keys\": \"%V\" is not a file of at "
                           "most 1 MiB", path);

    } else {
        text->len = (size_t) ngx_file_size(&fi);
        text->data = ngx_pnalloc(cf->pool, text->len + 1);

        n = text->data ? ngx_read_file(&file, text->data, text->len, 0)
                       : NGX_ERROR;

        /* it was made shorter meanwhile */

        text->len = n > 0 ? (size_t) n : 0;
    }

    (void) ngx_close_file(file.fd);

    return n == NGX_ERROR ? NGX_ERROR : NGX_OK;
}


static ngx_int_t
ngx_http_hatch_keys_parse(ngx_conf_t *cf, ngx_array_t *keys, ngx_str_t *path,
    ngx_str_t *text)
{
    u_char                *p, *end, *last;
    ngx_uint_t             i, line;
    const char            *wrong;
    ngx_http_hatch_key_t  *key, parsed;

    last = text->data + text->len;
    line = 0;

    for (p = text->data; p < last; p = end + 1) {

        line++;
        end = ngx_strlchr(p, last, LF);
        end = end ? end : last;

        while (p < end && (*p == ' ' || *p == '\t')) {
            p++;
        }

        if (p == end || *p == '#' || *p == CR) {
            continue;
        }

        wrong = ngx_http_hatch_keys_line(&parsed, p, end);

        if (wrong != NULL) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"hatch_api_keys\": \"%V\" line %ui: %s",
                               path, line, wrong);
            return NGX_ERROR;
        }

        key = ngx_array_push(keys);
        if (key == NULL) {
            return NGX_ERROR;
        }

        *key = parsed;
    }

    if (keys->nelts == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"hatch_api_keys\": \"%V\" holds no key", path);
        return NGX_ERROR;
    }

    key = keys->elts;
    ngx_qsort(key, keys->nelts, sizeof(ngx_http_hatch_key_t),
              ngx_http_hatch_keys_compare);

    for (i = 1; i < keys->nelts; i++) {

        if (ngx_http_hatch_keys_compare(&key[i - 1], &key[i]) == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"hatch_api_keys\": \"%V\": \"%V\" and "
                               "\"%V\" are the same key", path,
                               &key[i - 1].name, &key[i].name);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* NAME SHA256; or what is wrong with it. */

static const char *
ngx_http_hatch_keys_line(ngx_http_hatch_key_t *key, u_char *p, u_char *end)
{
    ngx_int_t   n;
    ngx_uint_t  i;

    key->name.data = p;

    while (p < end && *p > ' ' && *p < 0x7f) {
        p++;
    }

    key->name.len = p - key->name.data;

    if (key->name.len == 0 || key->name.len > NGX_HTTP_HATCH_KEY_NAME) {
        return "the name must be 1 to 64 printable ASCII characters";
    }

    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }

    while (end > p && (end[-1] == CR || end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }

    if (end - p != 2 * SHA256_DIGEST_LENGTH) {
        return "behind the name there must be a SHA-256 of 64 hexadecimal "
               "digits";
    }

    for (i = 0; i < SHA256_DIGEST_LENGTH; i++) {

        n = ngx_hextoi(p + 2 * i, 2);

        if (n == NGX_ERROR) {
            return "the SHA-256 must be 64 hexadecimal digits";
        }

        key->digest[i] = (u_char) n;
    }

    return NULL;
}


static int ngx_libc_cdecl
ngx_http_hatch_keys_compare(const void *one, const void *two)
{
    const ngx_http_hatch_key_t *a = one;
    const ngx_http_hatch_key_t *b = two;

    return ngx_memcmp(a->digest, b->digest, SHA256_DIGEST_LENGTH);
}
