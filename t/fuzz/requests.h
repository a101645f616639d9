/*
 * requests: random requests at an nginx with every kind of location, and a
 * look at each answer.  t/fuzz/requests.t starts both.
 *
 * A case is one connection: what is sent on it, in which pieces, and how it
 * ends, all of it made from one number.
 */

#ifndef HATCH_FUZZ_REQUESTS_H_INCLUDED
#define HATCH_FUZZ_REQUESTS_H_INCLUDED

#include <stddef.h>
#include <stdint.h>


#define REQUESTS_CUTS     8     /* pieces of a case, at most */
#define REQUESTS_STREAMS  8     /* of an HTTP/2 connection */


typedef struct {
    char    *data;
    size_t   len;
    size_t   size;
} bytes_t;


typedef enum {
    REQUESTS_WAIT,              /* for all answers */
    REQUESTS_SHUT,              /* half-close, then wait */
    REQUESTS_CLOSE,             /* at once, when all is sent */
    REQUESTS_RESET              /* likewise */
} requests_end_t;


typedef struct {
    uint64_t         seed;
    uint64_t         random;    /* the generator's state */
    bytes_t          out;
    unsigned         port;
    unsigned         wanted;    /* requests in it */
    unsigned         cuts;
    size_t           cut[REQUESTS_CUTS];
    requests_end_t   end;
    unsigned         http2:1;
    unsigned         mutated:1;
} requests_case_t;


typedef struct {
    unsigned         complete;  /* final answers that are all there */
    unsigned         partial:1; /* one has begun and is not */
    unsigned         odd:1;     /* the rest belongs to no answer we can tell */
} requests_answer_t;


/* A number below n. */
unsigned requests_random(requests_case_t *c, unsigned n);

/* At most len bytes are added; the buffer grows as needed. */
void bytes_add(bytes_t *b, const void *data, size_t len);
void bytes_text(bytes_t *b, const char *text);

/* Makes the case of a number; ports: HTTP/1 first, HTTP/2 behind them. */
void requests_make(requests_case_t *c, uint64_t seed);
void requests_make_http2(requests_case_t *c);

/* A place to ask for, and a body to send there. */
const char *requests_host(requests_case_t *c);
const char *requests_path(requests_case_t *c);
const char *requests_method(requests_case_t *c);
void requests_body(requests_case_t *c, bytes_t *b);

/*
 * Looks at what came so far.  NULL, or what is wrong with it; eof: no more
 * comes.
 */
const char *requests_check(const requests_case_t *c, const bytes_t *in, int eof,
    requests_answer_t *a);
const char *requests_check_http2(const requests_case_t *c, const bytes_t *in,
    int eof, requests_answer_t *a);

/* NULL if it is one JSON object of valid UTF-8. */
const char *requests_check_json(const char *text, size_t len);


#endif /* HATCH_FUZZ_REQUESTS_H_INCLUDED */
