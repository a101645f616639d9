#!/usr/bin/perl

# /readyz: each of its four states, from the zone alone.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== TEST 1: ready
--- config
    location = /readyz { hatch_readyz; }
--- request
GET /readyz
--- response_body_like chomp
^\{"status":"ready","reason":null,"age_seconds":\d\.\d{3},"max_age_seconds":10\.000,"agent":"up","libvirt":"connected"\}$
--- response_headers
Content-Type: application/json
Cache-Control: no-store
!Retry-After
--- error_code: 200


=== TEST 2: starting: no zone
--- config
    location = /readyz { hatch_readyz; }
--- no_zone
--- request
GET /readyz
--- response_body_like chomp
^\{"status":"starting","reason":"cannot open zone \\"[^"]+\\": No such file or directory","age_seconds":null,"max_age_seconds":10\.000,"agent":"unknown","libvirt":"unknown"\}$
--- response_headers
Retry-After: 1
--- error_code: 503


=== TEST 3: starting: an agent that has not published
--- config
    location = /readyz { hatch_readyz; }
--- zone_options: --unpublished --libvirt=disconnected
--- request
GET /readyz
--- response_body_like chomp
^\{"status":"starting","reason":"the agent has not published its VMs yet","age_seconds":\d\.\d{3},"max_age_seconds":10\.000,"agent":"up","libvirt":"disconnected"\}$
--- error_code: 503


=== TEST 4: stale; what a dead agent said of libvirt is not known
--- config
    location = /readyz { hatch_readyz; }
--- zone_options: --age=12345
--- request
GET /readyz
--- response_body_like chomp
^\{"status":"stale","reason":"the agent gave its last sign of life (1[2-9]\.\d{3}) s ago, more than max_age","age_seconds":\1,"max_age_seconds":10\.000,"agent":"down","libvirt":"unknown"\}$
--- response_headers
Retry-After: 1
--- error_code: 503


=== TEST 5: max_age says how old it may be
--- config
    location = /1m { hatch_readyz max_age=1m; }
    location = /3s { hatch_readyz max_age=3s; }
--- zone_options: --age=30000
--- request eval
["GET /1m", "GET /3s"]
--- response_body_like eval
['"ready".*"max_age_seconds":60\.000', '"stale".*"max_age_seconds":3\.000']
--- error_code eval
[200, 503]


=== TEST 6: disconnected
--- config
    location = /readyz { hatch_readyz; }
--- zone_options: --libvirt=disconnected
--- request
GET /readyz
--- response_body_like chomp
^\{"status":"disconnected","reason":"the agent is not connected to libvirt","age_seconds":\d\.\d{3},"max_age_seconds":10\.000,"agent":"up","libvirt":"disconnected"\}$
--- error_code: 503


=== TEST 7: stale and disconnected is stale
--- config
    location = /readyz { hatch_readyz; }
--- zone_options: --libvirt=disconnected --age=20000
--- request
GET /readyz
--- response_body_like: "status":"stale"
--- error_code: 503


=== TEST 8: HEAD, other methods, HTTP/1.0
--- config
    location = /readyz { hatch_readyz; }
--- request eval
["HEAD /readyz", "POST /readyz\nbody", "GET /readyz HTTP/1.0"]
--- response_body_like eval
['^$', '"code":"method_not_allowed"', '"status":"ready"']
--- error_code eval
[200, 405, 200]


=== TEST 9: no API key is asked for, and no route is looked up
--- config
    hatch_api_keys ../html/keys;
    hatch_route hatch.local;
    location = /readyz { hatch_readyz; }
    location = /healthz { hatch_healthz; }
--- user_files
>>> keys
me 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b
--- request eval
["GET /readyz", "GET /healthz"]
--- response_body_like eval
['"status":"ready"', '"status":"ok"']
--- error_code eval
[200, 200]
