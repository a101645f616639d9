#!/usr/bin/perl

# $hatch_vm_id, $hatch_route_id, $hatch_wake, $hatch_wake_time.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

add_block_preprocessor(sub {
    my ($block) = @_;
    my $port = $ENV{TEST_NGINX_GUEST_PORT};

    $block->set_value('more_http', <<"EOF");
    server {
        listen 127.0.0.1:$port;
        location / { return 200 "guest\\n"; }
    }
EOF
});

run_tests();

__DATA__

=== TEST 1: of a request that reached its VM
--- config
    location / {
        hatch_route hatch.local;
        proxy_pass http://vms;
        add_header X-Hatch "$hatch_vm_id,$hatch_route_id,$hatch_wake,$hatch_wake_time";
    }
--- routes
rt_aaaaaaaaaaaaaaaa vm_running222222222 demo $TEST_NGINX_GUEST_PORT
rt_bbbbbbbbbbbbbbbb vm_stopped222222222 stopped 80!
--- request
GET /
--- more_headers
Host: demo.hatch.local
--- response_headers
X-Hatch: vm_running222222222,rt_aaaaaaaaaaaaaaaa,,
--- response_body
guest
--- error_code: 200


=== TEST 2: of one that did not
--- config
    location / {
        hatch_route hatch.local;
        proxy_pass http://vms;
        add_header X-Hatch "$hatch_vm_id,$hatch_route_id,$hatch_wake,$hatch_wake_time" always;
    }
--- request eval
[map "GET /", 'stopped', 'nothing']
--- more_headers eval
[map "Host: $_.hatch.local", 'stopped', 'nothing']
--- response_headers eval
["X-Hatch: vm_stopped222222222,rt_bbbbbbbbbbbbbbbb,,", "X-Hatch: ,,,"]
--- response_body_like eval
["vm_not_running", "route_not_found"]
--- error_code eval
[503, 404]


=== TEST 3: empty where there is no hatch_route
--- config
    location / { return 200 "[$hatch_vm_id$hatch_route_id$hatch_wake$hatch_wake_time]\n"; }
--- request
GET /
--- response_body
[]
--- error_code: 200
