/* What clients say of VMs: every rule beyond type and range. */

#define _GNU_SOURCE

#include "api_vm.h"
#include "store/template.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>


static const hatch_json_field_t  vm_create_fields[] = {
    API_VM_FIELDS(HATCH_JSON_OPTIONAL),
    { "name", HATCH_JSON_STRING, 0, 1, HATCH_NAME_SIZE - 1 },
    { "template_id", HATCH_JSON_STRING, 0, 1, HATCH_ID_SIZE - 1 },
    { "autostart", HATCH_JSON_BOOLEAN, 0, 0, 0 },
    { "guest_ip", HATCH_JSON_STRING, 0, 1, 64 },
    { "guest_mac", HATCH_JSON_STRING, 0, 1, 64 },
    { NULL, HATCH_JSON_BOOLEAN, 0, 0, 0 }
};


static const hatch_json_field_t  vm_patch_fields[] = {
    { "name", HATCH_JSON_STRING, 0, 1, HATCH_NAME_SIZE - 1 },
    { "vcpu_count", HATCH_JSON_INTEGER, 0, 1, 32 },
    { "mem_mib", HATCH_JSON_INTEGER, 0, 128, 65536 },
    { "idle_timeout", HATCH_JSON_SECONDS, 0, CONFIG_DURATION_MIN,
      CONFIG_DURATION_MAX },
    { "save_after", HATCH_JSON_SECONDS, 0, CONFIG_DURATION_MIN,
      CONFIG_DURATION_MAX },
    { "park_after", HATCH_JSON_SECONDS, 0, CONFIG_DURATION_MIN,
      CONFIG_DURATION_MAX },
    { "memory", HATCH_JSON_STRING, 0, 1, 32 },
    { "autostart", HATCH_JSON_BOOLEAN, 0, 0, 0 },
    { NULL, HATCH_JSON_BOOLEAN, 0, 0, 0 }
};


int
api_check_text(json_object *body, const char *field, hatch_err_t *err)
{
    const char  *p;

    for (p = hatch_json_string(body, field, NULL); p != NULL && *p != '\0';
         p++)
    {
        if ((unsigned char) *p < 0x20 || *p == 0x7f) {
            return hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" must not "
                                 "contain control characters", field);
        }
    }

    return 0;
}


int
api_check_boot_args(json_object *body, hatch_err_t *err)
{
    const char  *p, *text = hatch_json_string(body, "boot_args", NULL);

    for (p = text; p != NULL && *p != '\0'; p++) {
        if (*p < 0x20 || *p > 0x7e) {
            return hatch_err_set(err, HATCH_ERR_INVALID, "\"boot_args\" must "
                                 "be printable ASCII, byte %d is not",
                                 (int) (p - text));
        }
    }

    return 0;
}


/* A name goes into host names, labels and logs. */
static int
vm_parse_name(json_object *body, char name[HATCH_NAME_SIZE],
    hatch_err_t *err)
{
    const char  *p, *text = hatch_json_string(body, "name", "");

    for (p = text; *p != '\0'; p++) {
        if ((*p < 'a' || *p > 'z') && (*p < 'A' || *p > 'Z')
            && (*p < '0' || *p > '9')
            && (p == text || strchr("-._", *p) == NULL))
        {
            return hatch_err_set(err, HATCH_ERR_INVALID, "\"name\" must be "
                                 "letters, digits, and after the first \"-\", "
                                 "\".\" and \"_\", at most %d, not \"%s\"",
                                 HATCH_NAME_SIZE - 1, text);
        }
    }

    (void) snprintf(name, HATCH_NAME_SIZE, "%s", text);

    return 0;
}


int
api_parse_memory(json_object *body, vm_memory_t *memory, hatch_err_t *err)
{
    const char  *text = hatch_json_string(body, "memory", NULL);

    return text == NULL || vm_memory_parse(text, memory) == 0
           ? 0 : hatch_err_set(err, HATCH_ERR_INVALID, "\"memory\" must be "
                               "\"auto\", \"image\" or \"classic\", not "
                               "\"%s\"", text);
}


static int
vm_parse_ip(const char *text, struct in_addr *ip, hatch_err_t *err)
{
    if (text != NULL
        && (inet_pton(AF_INET, text, ip) != 1 || ip->s_addr == 0))
    {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"guest_ip\" must be an "
                             "IPv4 address, not \"%s\"", text);
    }

    return 0;
}


/* Checks a MAC and writes it in lower case to mac. */
static int
vm_parse_mac(const char *text, char *mac, hatch_err_t *err)
{
    int       i, ok;
    unsigned  first = 0;

    ok = strlen(text) == VM_MAC_SIZE - 1;

    for (i = 0; ok && i < VM_MAC_SIZE - 1; i++) {
        ok = i % 3 == 2 ? text[i] == ':' : isxdigit((unsigned char) text[i]);
        mac[i] = (char) tolower((unsigned char) text[i]);
    }

    if (ok) {
        mac[VM_MAC_SIZE - 1] = '\0';
        ok = sscanf(mac, "%2x", &first) == 1 && (first & 1) == 0
             && strcmp(mac, "00:00:00:00:00:00") != 0;
    }

    if (ok && first == 0xfe) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "\"guest_mac\" must not "
                             "begin with fe, as the host's side of each "
                             "guest's does, not \"%s\"", text);
    }

    return ok ? 0 : hatch_err_set(err, HATCH_ERR_INVALID, "\"guest_mac\" must "
                                  "be a unicast address like "
                                  "52:54:00:12:34:56, not \"%s\"", text);
}


static int
vm_parse_network(json_object *body, vm_request_t *create, char *mac,
    hatch_err_t *err)
{
    int          rc;
    const char  *text;

    create->enable_network = hatch_json_boolean(body, "enable_network", 1);

    rc = vm_parse_ip(hatch_json_string(body, "guest_ip", NULL),
                     &create->guest_ip, err);

    text = hatch_json_string(body, "guest_mac", NULL);

    if (rc == 0 && text != NULL) {
        rc = vm_parse_mac(text, mac, err);
        create->guest_mac = mac;
    }

    if (rc == 0 && !create->enable_network
        && (text != NULL || create->guest_ip.s_addr != 0))
    {
        rc = hatch_err_set(err, HATCH_ERR_INVALID, "\"%s\" needs "
                           "\"enable_network\"",
                           text != NULL ? "guest_mac" : "guest_ip");
    }

    return rc;
}


int
api_vm_parse_create(const config_t *config, json_object *body,
    json_object **fields, vm_request_t *create, char mac[VM_MAC_SIZE],
    hatch_err_t *err)
{
    int           rc;
    json_object  *f;

    memset(create, 0, sizeof(*create));

    rc = hatch_json_check(body, vm_create_fields, err);

    if (rc == 0) {
        rc = template_apply(body, fields, err);
    }

    if (rc != 0) {
        return rc;
    }

    f = *fields;
    create->image_id = hatch_json_string(f, "image_id", NULL);
    create->template_id = hatch_json_string(f, "template_id", NULL);
    create->boot_args = hatch_json_string(f, "boot_args", NULL);
    create->vcpu_count = (unsigned) hatch_json_integer(f, "vcpu_count", 0);
    create->mem_mib = (unsigned) hatch_json_integer(f, "mem_mib", 0);
    create->disk_mib = (unsigned) hatch_json_integer(f, "disk_mib", 0);
    create->idle_timeout = hatch_json_seconds(f, "idle_timeout",
                                              config->idle_timeout);
    create->save_after = hatch_json_seconds(f, "save_after",
                                            config->save_after);
    create->park_after = hatch_json_seconds(f, "park_after",
                                            config->park_after);
    create->autostart = hatch_json_boolean(f, "autostart", 0);

    (void) vm_memory_parse(config->memory, &create->memory);
    rc = api_check_boot_args(f, err);

    if (rc == 0) {
        rc = api_parse_memory(f, &create->memory, err);
    }

    if (rc == 0) {
        rc = user_data_check(f, &create->user_data, err);
    }

    if (rc == 0) {
        rc = vm_parse_name(f, create->name, err);
    }

    return rc == 0 ? vm_parse_network(f, create, mac, err) : rc;
}


int
api_vm_parse_patch(json_object *body, vm_patch_t *patch, hatch_err_t *err)
{
    int  rc;

    memset(patch, 0, sizeof(*patch));

    rc = hatch_json_check(body, vm_patch_fields, err);
    if (rc != 0) {
        return rc;
    }

    if (json_object_object_length(body) == 0) {
        return hatch_err_set(err, HATCH_ERR_INVALID, "nothing to change: "
                             "name, idle_timeout, park_after, save_after, "
                             "autostart, memory, vcpu_count or mem_mib");
    }

    patch->vcpu_count = (unsigned) hatch_json_integer(body, "vcpu_count", 0);
    patch->mem_mib = (unsigned) hatch_json_integer(body, "mem_mib", 0);
    patch->has_idle_timeout = json_object_object_get_ex(body, "idle_timeout",
                                                        NULL) & 1;
    patch->has_save_after = json_object_object_get_ex(body, "save_after",
                                                      NULL) & 1;
    patch->has_park_after = json_object_object_get_ex(body, "park_after",
                                                      NULL) & 1;
    patch->park_after = hatch_json_seconds(body, "park_after", 0);
    patch->has_autostart = json_object_object_get_ex(body, "autostart",
                                                     NULL) & 1;
    patch->autostart = hatch_json_boolean(body, "autostart", 0) & 1;
    patch->idle_timeout = hatch_json_seconds(body, "idle_timeout", 0);
    patch->save_after = hatch_json_seconds(body, "save_after", 0);

    patch->has_memory = json_object_object_get_ex(body, "memory", NULL) & 1;

    rc = api_parse_memory(body, &patch->memory, err);

    return rc == 0 ? vm_parse_name(body, patch->name, err) : rc;
}
