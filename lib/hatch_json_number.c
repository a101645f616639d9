#include "hatch_json.h"

#include <stdlib.h>
#include <string.h>


/*
 * A longer exponent is this one: no body has as many digits, so that what is
 * beyond stays beyond.
 */
#define NUMBER_EXPONENT_MAX  1000000000


/* A number as it is written: its digits, without those that say nothing. */
typedef struct {
    const char  *begin;             /* the first digit that is not 0 */
    const char  *end;               /* behind the last one */
    int64_t      exponent;          /* of the place of the last one */
    int          negative;
} number_t;


static int64_t
number_exponent(const char *text)
{
    int      negative = *text == '-';
    int64_t  n = 0;

    text += *text == '-' || *text == '+';

    for ( /* void */ ; *text >= '0' && *text <= '9'; text++) {
        if (n < NUMBER_EXPONENT_MAX) {
            n = n * 10 + (*text - '0');
        }
    }

    return negative ? -n : n;
}


/* Of text that json-c has found to be a number. */
static void
number_read(const char *text, number_t *number)
{
    int          fraction = 0;
    int64_t      places = 0;
    const char  *p;

    memset(number, 0, sizeof(*number));
    number->negative = *text == '-';

    for (p = text + number->negative; *p != '\0' && *p != 'e' && *p != 'E';
         p++)
    {
        if (*p == '.') {
            fraction = 1;
            continue;
        }

        places += fraction;

        if (*p != '0') {
            number->begin = number->begin != NULL ? number->begin : p;
            number->end = p + 1;
            number->exponent = -places;
        }
    }

    if (number->end == NULL) {
        return;                     /* zero, whatever its exponent is */
    }

    /* zeros before the point, behind the last digit that says something */
    if (!fraction || strchr(number->end, '.') != NULL) {
        number->exponent = (int64_t) strcspn(number->end, ".eE");
    }

    number->exponent += *p != '\0' ? number_exponent(p + 1) : 0;
}


int
hatch_json_whole(json_object *value, int64_t *n)
{
    int          digit;
    number_t     number;
    const char  *p;

    if (json_object_is_type(value, json_type_int)) {
        *n = json_object_get_int64(value);
        return 1;
    }

    if (!json_object_is_type(value, json_type_double)) {
        return 0;
    }

    /* json-c keeps the text; a double would lose what is in its last digits */
    number_read(json_object_to_json_string(value), &number);

    if (number.end != NULL && number.exponent < 0) {
        return 0;
    }

    *n = 0;

    for (p = number.begin; p < number.end || number.exponent > 0; p++) {
        if (p < number.end && *p == '.') {
            continue;
        }

        digit = p < number.end ? *p - '0' : 0;
        number.exponent -= p >= number.end;

        if (__builtin_mul_overflow(*n, 10, n)
            || __builtin_sub_overflow(*n, digit, n))
        {
            *n = number.negative ? INT64_MIN : INT64_MAX;
            return 1;
        }
    }

    /* counted downwards, where there is room for one more */
    if (!number.negative && __builtin_sub_overflow(0, *n, n)) {
        *n = INT64_MAX;
    }

    return 1;
}
