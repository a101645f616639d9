#!/usr/bin/perl

# hatch_api and Origin: what a web page of another origin may not do, wherever
# the directive stands.  Which origin is another: t/e2e/origin.t.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

our $port = $ENV{TEST_NGINX_PORT};
our $vm = 'vm_running222222222';
our $route = 'rt_aaaaaaaaaaaaaaaa';

# everything that changes something, and what does not exist
our @change = (
    "POST /vms/$vm/routes\n{\"target_port\":80}",
    "PATCH /routes/$route\n{\"target_port\":81}",
    "DELETE /routes/$route", "PUT /routes", "POST /routes/",
    "POST /vms\n{}", "PATCH /vms/$vm\n{}", "DELETE /vms/$vm",
    "POST /vms/$vm/start", "POST /nothing\nx=1", "PUT /\nx", "HATCH /vms",
);

our $foreign = '"code":"origin_forbidden"}$';

# an agent that tells by its answer, and in the log, that it was asked
our $agent = <<'EOC';
    location / {
        hatch_api;
        proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/agent/;
    }
    location /agent/ { return 200 "agent: $request_method $uri\n"; }
EOC

sub times { my ($n, $value) = @_; return [($value) x $n] }

run_tests();

__DATA__

=== TEST 1: nothing is changed, whatever the method and the path
--- config eval: $main::agent
--- routes
rt_aaaaaaaaaaaaaaaa vm_running222222222 one 80
--- request eval
[@main::change, "GET /routes/$main::route", "GET /routes"]
--- more_headers
Origin: http://evil.example
--- response_body_like eval
[@{ main::times(12, '^\{"error":"the header Origin is '
    . '\\\\"http://evil.example\\\\", it must be the request\'s own scheme, '
    . 'host and port","code":"origin_forbidden"\}$') },
 '"target_port":80', '^\[\{[^{]*\}\]$']
--- response_headers eval
main::times(14, "Content-Type: application/json\nCache-Control: no-store")
--- error_code eval
[@{ main::times(12, 403) }, 200, 200]


=== TEST 2: the same of its own page
--- config eval: $main::agent
--- request eval: \@main::change
--- more_headers eval
"Origin: http://localhost:$main::port\nHost: localhost:$main::port\n"
. "Content-Type: application/json"
--- response_body_like eval
['"id":"rt_', '"target_port":81', 'deleted', 'method not allowed',
 'no such endpoint', map "^agent: $_", 'POST /agent/vms$', 'PATCH /agent/vms/',
 'DELETE /agent/vms/', 'POST /agent/vms/vm_running222222222/start',
 'POST /agent/nothing', 'PUT /agent/', 'HATCH /agent/vms']
--- error_code eval
[201, 200, 200, 405, 404, @{ main::times(7, 200) }]


=== TEST 3: and of a program, which has no Origin
--- config eval: $main::agent
--- request eval
["POST /vms\n{}", "POST /vms/$main::vm/routes\n{\"target_port\":80}"]
--- response_body_like eval
['^agent: POST', '"id":"rt_']
--- error_code eval
[200, 201]


=== TEST 4: looking is allowed
--- config eval: $main::agent
--- request eval
["GET /routes", "HEAD /routes", "GET /vms", "HEAD /vms", "OPTIONS /vms",
 "OPTIONS /routes"]
--- more_headers
Origin: http://evil.example
--- response_body_like eval
['^\[', '^$', '^agent: GET', '^$', '^agent: OPTIONS', 'method_not_allowed']
--- error_code eval
[200, 200, 200, 200, 200, 405]


=== TEST 5: in if and limit_except, and with a rewrite
--- config
    location / {
        hatch_api;
        limit_except GET { allow all; }
        proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/agent/;
    }
    location /vms {
        hatch_api;
        if ($arg_x) { set $y 1; }
        proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/agent;
    }
    location /old/ { rewrite ^/old(.*) /vms$1 last; }
    location /try/ { try_files /none @api; }
    location @api {
        hatch_api;
        proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT;
    }
    location /agent { return 200 "agent\n"; }
--- request eval
["DELETE /routes/x", "POST /x", "POST /vms", "POST /vms?x=1", "POST /old/x",
 "POST /try/x"]
--- more_headers
Origin: null
--- response_body_like eval
main::times(6, $main::foreign)
--- error_code eval
main::times(6, 403)


=== TEST 6: with hatch_api_keys: the key first
--- user_files eval
">>> keys\nme 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\n"
--- config
    hatch_api_keys ../html/keys;
    location / { hatch_api; }
--- request eval
["POST /x", "POST /x", "POST /x"]
--- more_headers eval
["Origin: http://evil.example",
 "Origin: http://evil.example\nX-API-Key: secret",
 "Origin: http://localhost\nX-API-Key: secret"]
--- response_body_like eval
['unauthorized', 'origin_forbidden', 'not_found']
--- error_code eval
[401, 403, 404]


=== TEST 7: an error_page is not asked, as for all answers of the API
--- config
    error_page 403 /page;
    location / { hatch_api; }
    location = /page { return 200 "page\n"; }
--- request
POST /x
--- more_headers
Origin: null
--- response_body_like eval: $main::foreign
--- error_code: 403


=== TEST 8: the body is dropped, and the connection goes on
--- config
    location / { hatch_api; client_max_body_size 10m; }
--- pipelined_requests eval
["POST /x\n" . 'x' x 300_000, "POST /x\n{}", "GET /routes"]
--- more_headers
Origin: null
--- response_body_like eval
[$main::foreign, $main::foreign, '^\[']
--- error_code eval
[403, 403, 200]


=== TEST 9: health and metrics have nothing to change
--- config
    location = /healthz { hatch_healthz; }
    location = /readyz { hatch_readyz; }
    location = /metrics { hatch_metrics; }
--- request eval
["POST /healthz", "POST /readyz", "POST /metrics", "GET /healthz"]
--- more_headers
Origin: http://evil.example
--- response_body_like eval
[('method_not_allowed') x 3, '"status":"ok"']
--- error_code eval
[405, 405, 405, 200]


=== TEST 10: a body of a browser's is JSON and says so
--- config eval: $main::agent
--- request eval
[map { ("POST /vms\n{}", "POST /vms/$main::vm/routes\n{\"target_port\":80}",
        "POST /nothing\nx") } 1 .. 8]
--- more_headers eval
[map { my $h = $_; map "Host: localhost:$main::port\n$h", 1 .. 3 }
 map({ my $t = $_; map "$_\n$t", "Origin: http://localhost:$main::port",
       'Sec-Fetch-Site: same-origin' }
     "Content-Type: text/plain", "Content-Type: application/problem+json",
     "Content-Type: application/jsonp", "Content-Type:")]
--- response_body_like eval
main::times(24, '^\{"error":"the header Content-Type must be '
    . 'application/json in a request with Origin or Sec-Fetch-Site",'
    . '"code":"unsupported_media_type"\}$')
--- response_headers eval
main::times(24, "Content-Type: application/json\nCache-Control: no-store")
--- error_code eval
main::times(24, 415)


=== TEST 11: with parameters, and in any case
--- config eval: $main::agent
--- request eval
main::times(4, "POST /vms\n{}")
--- more_headers eval
[map "Host: localhost:$main::port\nOrigin: http://localhost:$main::port\n"
     . "Content-Type: $_", 'application/json', 'Application/JSON',
     'application/json; charset=utf-8', 'application/json ;x=y']
--- response_body_like eval
main::times(4, '^agent: POST')


=== TEST 12: no body, no type; a program sends what it likes
--- config eval: $main::agent
--- request eval
["POST /vms/x/start", "DELETE /vms/x", "GET /vms", "POST /vms\n{}",
 "POST /vms\n{}"]
--- more_headers eval
[(map "Host: localhost:$main::port\n$_",
  map "Sec-Fetch-Site: same-origin\nOrigin: http://localhost:$main::port\n"
      . $_, ('') x 3),
 "Content-Type: text/plain", "Content-Type: application/x-www-form-urlencoded"]
--- response_body_like eval
main::times(5, '^agent: ')


=== TEST 13: in chunks
--- config eval: $main::agent
--- raw_request eval
"POST /vms HTTP/1.1\r\nHost: localhost:$main::port\r\nConnection: close\r\n"
. "Sec-Fetch-Site: none\r\nTransfer-Encoding: chunked\r\n\r\n"
. "2\r\n{}\r\n0\r\n\r\n"
--- response_body_like: unsupported_media_type
--- error_code: 415
