#!/usr/bin/perl

# /healthz: the contract of DESIGN.md section 6, from shared memory alone.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== TEST 1: exactly three fields, counted
--- config
    location = /healthz { hatch_healthz; }
--- routes
rt_aaaaaaaaaaaaaaaa vm_running222222222 one 80
rt_bbbbbbbbbbbbbbbb vm_running222222222 two 80
--- request
GET /healthz
--- response_body chomp
{"status":"ok","vm_count":7,"route_count":2}
--- response_headers
Content-Type: application/json
Content-Length: 44
Cache-Control: no-store
--- error_code: 200


=== TEST 2: HEAD has the headers and no body
--- config
    location = /healthz { hatch_healthz; }
--- request
HEAD /healthz
--- response_headers
Content-Type: application/json
Content-Length: 44
--- response_body
--- error_code: 200


=== TEST 3: other methods are 405 with Allow
--- config
    location = /healthz { hatch_healthz; }
--- request eval
["POST /healthz\nbody", "PUT /healthz\nbody", "DELETE /healthz"]
--- response_headers eval
[("Allow: GET, HEAD, OPTIONS") x 3]
--- response_body_like eval
[('^\{"error":"method not allowed, use GET, HEAD, OPTIONS",'
  . '"code":"method_not_allowed"\}$') x 3]
--- error_code eval
[(405) x 3]


=== TEST 4: arguments and a body are ignored
--- config
    location = /healthz { hatch_healthz; }
--- request eval
["GET /healthz?verbose=1", "GET /healthz\nsome body"]
--- response_body_like eval
['"status":"ok"', '"status":"ok"']
--- error_code eval
[200, 200]


=== TEST 5: HTTP/1.0 without Host
--- config
    location = /healthz { hatch_healthz; }
--- raw_request eval
"GET /healthz HTTP/1.0\r\n\r\n"
--- response_body chomp
{"status":"ok","vm_count":7,"route_count":2}
--- error_code: 200


=== TEST 6: no VMs at all is fine
--- config
    location = /healthz { hatch_healthz; }
--- zone
--- request
GET /healthz
--- response_body chomp
{"status":"ok","vm_count":0,"route_count":2}
--- error_code: 200
