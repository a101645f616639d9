#!/usr/bin/perl

# A loaded module that nothing uses does nothing: no zone, no store, no
# handler, no change to nginx's own error pages.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== TEST 1: nginx as if the module were not there
--- http_config
--- no_zone
--- config
    location /ok { return 200 "fine\n"; }
--- request eval
["GET /ok", "GET /missing"]
--- response_body_like eval
["^fine\n\$", "<center>nginx"]
--- error_code eval
[200, 404]
--- no_error_log
hatch:
[alert]
[crit]
[emerg]


=== TEST 2: only a zone: attached, nothing else
--- http_config
    hatch_zone $TEST_NGINX_HATCH_DIR/run/zone;
--- config
    location /ok { return 200 "fine\n"; }
--- request
GET /ok
--- response_body
fine
--- error_code: 200
--- error_log
hatch: attached to zone
--- no_error_log
route store
[error]


=== TEST 3: an upstream with hatch but no hatch_route in the location
--- config
    location / { proxy_pass http://vms; }
--- request
GET /
--- error_code: 500
--- error_log
upstream "vms" with "hatch" is used by a location without "hatch_route"
