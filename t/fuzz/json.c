/*
 * libFuzzer: any bytes as an API body.  Run by `make fuzz`.  What we take for
 * JSON is JSON for json-c, too.
 */

#include "hatch_json.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static const hatch_json_field_t  fields[] = {
    { "target_port", HATCH_JSON_INTEGER, 1, 1, 65535 },
    { "subdomain", HATCH_JSON_STRING, 0, 1, 63 },
    { "auto_wake", HATCH_JSON_BOOLEAN, 0, 0, 0 },
    { NULL, HATCH_JSON_BOOLEAN, 0, 0, 0 }
};


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int           rc;
    hatch_err_t   err;
    json_object  *object = NULL;

    rc = hatch_json_parse((const char *) data, size, &object, &err);

    if (rc != 0 && rc != HATCH_ERR_INVALID) {
        __builtin_trap();
    }

    if (rc == 0) {
        (void) hatch_json_check(object, fields, &err);
        json_object_put(object);
    }

    return 0;
}
