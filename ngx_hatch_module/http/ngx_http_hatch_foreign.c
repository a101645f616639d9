
/*
 * What the directives of other modules say in a location whose requests may go
 * to a guest.
 *
 * Their configurations are private structs; but a directive's command says
 * where in its module's struct the value is.
 */


#include "ngx_http_hatch_conf.h"


static void ngx_http_hatch_foreign_location(ngx_conf_t *cf, void **loc_conf);
static void ngx_http_hatch_foreign_command(ngx_http_hatch_loc_conf_t *hlcf,
    ngx_command_t *cmd, u_char *value);
static ngx_uint_t ngx_http_hatch_to_guests(ngx_http_hatch_loc_conf_t *hlcf,
    u_char *ignore_headers);
static ngx_uint_t ngx_http_hatch_ends_with(ngx_str_t *name,
    const char *suffix);


void
ngx_http_hatch_foreign(ngx_conf_t *cf, ngx_array_t *locations)
{
    void        ***loc_conf;
    ngx_uint_t     i;

    loc_conf = locations->elts;

    for (i = 0; i < locations->nelts; i++) {
        ngx_http_hatch_foreign_location(cf, loc_conf[i]);
    }
}


static void
ngx_http_hatch_foreign_location(ngx_conf_t *cf, void **loc_conf)
{
    u_char                     *conf;
    ngx_uint_t                  i;
    ngx_module_t               *module;
    ngx_command_t              *cmd;
    ngx_http_hatch_loc_conf_t  *hlcf;

    hlcf = loc_conf[ngx_http_hatch_module.ctx_index];

    for (i = 0; cf->cycle->modules[i] != NULL; i++) {

        module = cf->cycle->modules[i];

        if (module->type != NGX_HTTP_MODULE || module->commands == NULL
            || loc_conf[module->ctx_index] == NULL)
        {
            continue;
        }

        conf = loc_conf[module->ctx_index];

        for (cmd = module->commands; cmd->name.len != 0; cmd++) {
            if (cmd->conf == NGX_HTTP_LOC_CONF_OFFSET) {
                ngx_http_hatch_foreign_command(hlcf, cmd, conf + cmd->offset);
            }
        }
    }
}


static void
ngx_http_hatch_foreign_command(ngx_http_hatch_loc_conf_t *hlcf,
    ngx_command_t *cmd, u_char *value)
{
    size_t  offset;

    if (cmd->post == &ngx_http_upstream_ignore_headers_masks) {
        if (ngx_http_hatch_to_guests(hlcf, value)) {
            *(ngx_uint_t *) value |= NGX_HTTP_HATCH_IGNORED;
        }

    } else if (ngx_strcmp(cmd->name.data, "memcached_connect_timeout") == 0) {

        /* it has no headers, so no directive to ignore them either */

        offset = offsetof(ngx_http_upstream_conf_t, ignore_headers)
                 - offsetof(ngx_http_upstream_conf_t, connect_timeout);

        if (ngx_http_hatch_to_guests(hlcf, value + offset)) {
            *(ngx_uint_t *) (value + offset) |= NGX_HTTP_HATCH_IGNORED;
        }

    } else if (cmd->set == ngx_conf_set_flag_slot
               && ngx_http_hatch_ends_with(&cmd->name, "_ignore_client_abort"))
    {
        if (*(ngx_flag_t *) value == 1) {
            hlcf->ignore_abort = 1;
        }

    } else if (cmd->set == ngx_conf_set_size_slot
               && cmd->name.len == sizeof("slice") - 1
               && ngx_strncmp(cmd->name.data, "slice", cmd->name.len) == 0)
    {
        hlcf->sliced = *(size_t *) value != 0;
    }
}


/*
 * Without "hatch_route" requests get here that had it elsewhere, through an
 * "error_page".
 */

static ngx_uint_t
ngx_http_hatch_to_guests(ngx_http_hatch_loc_conf_t *hlcf,
    u_char *ignore_headers)
{
    ngx_http_upstream_conf_t  *ucf;

    if (hlcf->role == NGX_HTTP_HATCH_ROUTE) {
        return 1;
    }

    ucf = (ngx_http_upstream_conf_t *)
              (ignore_headers - offsetof(ngx_http_upstream_conf_t,
                                         ignore_headers));

    return ucf->upstream != NULL && ngx_http_hatch_is_upstream(ucf->upstream);
}


static ngx_uint_t
ngx_http_hatch_ends_with(ngx_str_t *name, const char *suffix)
{
    size_t  len;

    len = ngx_strlen(suffix);

    return name->len > len
           && ngx_strncmp(name->data + name->len - len, suffix, len) == 0;
}
