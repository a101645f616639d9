#!/usr/bin/perl

# hatch_api in a location: beside a content handler, behind access control,
# and nginx's own errors as JSON.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== TEST 1: what is not ours goes on to the content handler
--- config
    location / {
        hatch_api;
        proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/agent/;
    }
    location /agent/ { return 200 "agent: $request_method $uri\n"; }
--- request eval
["GET /vms", "GET /vms/vm_running222222222", "GET /routes",
 "POST /vms/vm_running222222222/start", "GET /vms/routes"]
--- response_body eval
["agent: GET /agent/vms\n", "agent: GET /agent/vms/vm_running222222222\n",
 "[]", "agent: POST /agent/vms/vm_running222222222/start\n",
 "agent: GET /agent/vms/routes\n"]
--- error_code eval
[200, 200, 200, 200, 200]


=== TEST 2: an agent that is not there
--- config
    location / {
        hatch_api;
        proxy_pass http://unix:$TEST_NGINX_HATCH_DIR/nothing.sock:;
    }
--- request
GET /vms
--- response_body chomp
{"error":"the agent does not answer","code":"agent_unavailable"}
--- response_headers
Content-Type: application/json
--- error_code: 502
--- error_log
nothing.sock failed


=== TEST 3: deny comes first
--- config
    location / { hatch_api; deny all; }
--- request eval
["GET /routes", "POST /vms/vm_running222222222/routes\n{\"target_port\":80}",
 "DELETE /routes/rt_aaaaaaaaaaaaaaaa"]
--- response_body eval
['{"error":"the API is closed to you","code":"forbidden"}',
 '{"error":"the API is closed to you","code":"forbidden"}',
 '{"error":"the API is closed to you","code":"forbidden"}']
--- error_code eval
[403, 403, 403]
--- error_log
access forbidden by rule


=== TEST 4: an error_page of the user's own stays
--- config
    error_page 403 /closed;
    location / { hatch_api; deny all; }
    location = /closed { allow all; return 403 "my own page\n"; }
--- request
GET /routes
--- response_body
my own page
--- error_code: 403
--- error_log
access forbidden by rule


=== TEST 5: HEAD of an error has the length and no body
--- config
    location / { hatch_api; deny all; }
--- request
HEAD /routes
--- response_headers
Content-Length: 55
--- response_body
--- error_code: 403
--- error_log
access forbidden by rule


=== TEST 6: limit_except and if keep the API
--- config
    location / {
        hatch_api;
        limit_except GET { deny all; }
        if ($arg_limit) { set $y 1; }
    }
--- request eval
["GET /routes", "GET /routes?limit=1", "DELETE /routes/rt_aaaaaaaaaaaaaaaa"]
--- response_body_like eval
['^\[\]$', '^\[\]$', 'forbidden']
--- error_code eval
[200, 200, 403]
--- no_error_log
[alert]


=== TEST 7: other locations keep nginx's pages
--- config
    location /routes { hatch_api; }
    location / { return 404; }
--- request
GET /x
--- response_body_like chomp
<center>nginx
--- error_code: 404
