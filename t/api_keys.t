#!/usr/bin/perl

# hatch_api_keys: who gets in, and what a file may not be.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

# the SHA-256 of "secret" and of "other"
our $secret =
    '2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b';
our $other =
    'd9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa';

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value('user_files', ">>> keys\n# ours\n\nme $secret\n"
                                    . "ci \U$other\E \r\n")
        if !defined $block->user_files && !defined $block->must_die;
});

run_tests();

__DATA__

=== TEST 1: with a key, in either header
--- config
    hatch_api_keys ../html/keys;
    location / { hatch_api; }
--- request eval
[('GET /routes') x 7]
--- more_headers eval
["Authorization: Bearer secret", "authorization: bearer  secret",
 "X-API-Key: secret", "x-api-key: other",
 "Authorization: Basic eDp5\nX-API-Key: secret",
 "X-API-Key: wrong\nAuthorization: Bearer other",
 "X-API-Key: wrong\nX-API-Key: secret"]
--- response_body_like eval
[('^\[') x 7]
--- error_code eval
[(200) x 7]


=== TEST 2: without, it is 401, as JSON
--- config
    hatch_api_keys ../html/keys;
    location / { hatch_api; }
--- request eval
["GET /routes", map "GET /routes", 1 .. 8]
--- more_headers eval
["", "Authorization: Bearer", "Authorization: Bearer ", "X-API-Key:",
 "Authorization: secret", "Authorization: Basic secret",
 "X-API-Key: Secret", "X-API-Key: $main::secret",
 "Cookie: X-API-Key=secret"]
--- response_headers eval
[("Content-Type: application/json\nCache-Control: no-store\n"
  . "WWW-Authenticate: Bearer realm=\"hatch\"") x 9]
--- response_body eval
[('{"error":"a valid API key is missing","code":"unauthorized"}') x 9]
--- error_code eval
[(401) x 9]


=== TEST 3: a refused change changes nothing
--- config
    hatch_api_keys ../html/keys;
    location / { hatch_api; }
--- routes
rt_aaaaaaaaaaaaaaaa vm_running222222222 one 80
--- request eval
["DELETE /routes/rt_aaaaaaaaaaaaaaaa",
 "POST /vms/vm_running222222222/routes\n{\"target_port\":80}",
 "GET /routes/rt_aaaaaaaaaaaaaaaa"]
--- more_headers eval
["", "", "X-API-Key: secret"]
--- error_code eval
[401, 401, 200]
--- response_body_like eval
['unauthorized', 'unauthorized', '"subdomain":"one"']


=== TEST 4: /metrics wants one, /healthz and /readyz do not, off is off
--- config
    hatch_api_keys ../html/keys;
    location = /metrics { hatch_metrics; }
    location = /healthz { hatch_healthz; }
    location = /readyz { hatch_readyz; }
    location = /open { hatch_api_keys off; hatch_metrics; }
--- request eval
["GET /metrics", "GET /metrics", "GET /healthz", "GET /readyz", "GET /open"]
--- more_headers eval
["", "Authorization: Bearer secret", "", "", ""]
--- response_body_like eval
['^\{"error":"a valid', 'hatch_vms 7', 'ok', 'ready', 'hatch_vms 7']
--- error_code eval
[401, 200, 200, 200, 200]


=== TEST 5: before a VM is looked at
--- config
    location / {
        hatch_api_keys ../html/keys;
        hatch_route hatch.local;
        proxy_pass http://vms;
    }
--- request eval
["GET /", "GET /"]
--- more_headers eval
["Host: none.hatch.local", "Host: none.hatch.local\nX-API-Key: secret"]
--- error_code eval
[401, 404]


=== TEST 6: "satisfy any" with an address
--- config
    location / {
        satisfy any;
        allow 127.0.0.1;
        deny all;
        hatch_api_keys ../html/keys;
        hatch_api;
    }
    location /vms {
        satisfy any;
        deny all;
        hatch_api_keys ../html/keys;
        hatch_api;
    }
--- request eval
["GET /routes", "GET /vms/vm_running222222222/routes",
 "GET /vms/vm_running222222222/routes"]
--- more_headers eval
["", "", "X-API-Key: secret"]
--- error_code eval
[200, 401, 200]


=== TEST 7: the key's name, for logs
--- config
    hatch_api_keys ../html/keys;
    location / { hatch_api; add_header X-Key "$hatch_api_key;" always; }
--- request eval
["GET /routes", "GET /routes", "GET /routes"]
--- more_headers eval
["X-API-Key: secret", "X-API-Key: other", ""]
--- response_headers eval
["X-Key: me;", "X-Key: ci;", "X-Key: ;"]
--- error_code eval
[200, 200, 401]


=== TEST 8: no such file
--- config
    hatch_api_keys ../html/none;
    location / { hatch_api; }
--- must_die
--- error_log eval
qr/"hatch_api_keys": cannot open ".*none" \(2: No such file/


=== TEST 9: a line without a hash
--- config
    hatch_api_keys ../html/keys;
    location / { hatch_api; }
--- user_files eval
">>> keys\nme $main::secret\nsecond\n"
--- must_die
--- error_log eval
qr/"hatch_api_keys": ".*keys" line 2: behind the name there must be a SHA-256 of 64 hexadecimal digits/


=== TEST 10: a key in place of its hash
--- config
    hatch_api_keys ../html/keys;
    location / { hatch_api; }
--- user_files eval
">>> keys\nme " . 'g' x 64 . "\n"
--- must_die
--- error_log eval
qr/line 1: the SHA-256 must be 64 hexadecimal digits/


=== TEST 11: a name that is none
--- config
    hatch_api_keys ../html/keys;
    location / { hatch_api; }
--- user_files eval
">>> keys\n" . 'n' x 65 . " $main::secret\n"
--- must_die
--- error_log eval
qr/line 1: the name must be 1 to 64 printable ASCII characters/


=== TEST 12: the same key twice
--- config
    hatch_api_keys ../html/keys;
    location / { hatch_api; }
--- user_files eval
">>> keys\nme $main::secret\nyou $main::secret\n"
--- must_die
--- error_log eval
qr/"(me|you)" and "(me|you)" are the same key/


=== TEST 13: no key at all
--- config
    hatch_api_keys ../html/keys;
    location / { hatch_api; }
--- user_files
>>> keys
# nobody yet
--- must_die
--- error_log eval
qr/holds no key/


=== TEST 14: a folder
--- config
    hatch_api_keys ../html;
    location / { hatch_api; }
--- must_die
--- error_log eval
qr/is not a file of at most 1 MiB/


=== TEST 15: twice in one block
--- config
    hatch_api_keys off;
    hatch_api_keys off;
--- must_die
--- error_log
"hatch_api_keys" directive is duplicate
