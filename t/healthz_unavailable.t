#!/usr/bin/perl

# /healthz is 503 and says why while there is no zone that can be read.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== TEST 1: before an agent has ever run
--- config
    location = /healthz { hatch_healthz; }
--- no_zone
--- request
GET /healthz
--- response_body_like chomp
^\{"error":"cannot open zone \\"[^"]+/zone\\": No such file or directory","code":"zone_unavailable"\}$
--- response_headers
Retry-After: 1
Cache-Control: no-store
--- error_code: 503


=== TEST 2: a zone that is no zone
--- config
    location = /healthz { hatch_healthz; }
--- http_config
    hatch_zone $TEST_NGINX_SERVROOT/html/zone;
    hatch_route_store $TEST_NGINX_HATCH_DIR/routes size=64m;
--- user_files
>>> zone
This is a text that somebody put in the place of the zone, longer than a head.
--- request
GET /healthz
--- response_body_like chomp
is not a Hatch zone; remove the file
--- error_code: 503


=== TEST 3: a zone with more slots than vms=
--- config
    location = /healthz { hatch_healthz; }
--- http_config
    hatch_zone $TEST_NGINX_HATCH_DIR/run/zone vms=100;
    hatch_route_store $TEST_NGINX_HATCH_DIR/routes size=64m;
--- request
GET /healthz
--- response_body_like chomp
has 16384 slots, more than \\"vms=100\\" of hatch_zone; raise it
--- error_code: 503
