
/*
 * The rules of a subdomain that a client chooses.
 */


#include "ngx_http_hatch_api.h"


/* Names that must not look like a customer's VM. */

static const char *const  ngx_http_hatch_reserved[] = {
    "admin", "api", "app", "assets", "auth", "billing", "cdn", "console",
    "dashboard", "db", "docs", "ftp", "grafana", "hatch", "help", "internal",
    "login", "mail", "media", "minio", "ns1", "ns2", "oauth", "panel",
    "postgres", "prometheus", "redis", "smtp", "ssh", "static", "status",
    "support", "traefik", "www", NULL
};


/* ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$, and not one of ours. */

ngx_int_t
ngx_http_hatch_api_check_label(const char *label, hatch_err_t *err)
{
    size_t             i, len;
    const char *const *name;

    len = ngx_strlen(label);

    for (i = 0; i < len; i++) {

        if ((label[i] >= 'a' && label[i] <= 'z')
            || (label[i] >= '0' && label[i] <= '9')
            || (label[i] == '-' && i > 0 && i < len - 1))
        {
            continue;
        }

        (void) hatch_err_set(err, HATCH_ERR_INVALID, "\"subdomain\" must be "
                             "a-z, 0-9 and inner \"-\", not \"%s\"", label);
        return NGX_ERROR;
    }

    for (name = ngx_http_hatch_reserved; *name != NULL; name++) {

        if (ngx_strcmp(*name, label) == 0) {
            (void) hatch_err_set(err, HATCH_ERR_INVALID,
                                 "\"subdomain\" \"%s\" is reserved", label);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}
