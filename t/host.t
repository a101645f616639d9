#!/usr/bin/perl

# hatch_route: from Host to a label, and what is no host of ours.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

sub hosts { return [map "Host: $_", @_] }

add_block_preprocessor(sub {
    my ($block) = @_;
    my $port = $ENV{TEST_NGINX_GUEST_PORT};

    $block->set_value('config', <<'EOF') if !defined $block->config;
    location / {
        hatch_route Hatch.Local;
        proxy_pass http://vms;
    }
EOF
    $block->set_value('more_http', <<"EOF");
    server {
        listen 127.0.0.1:$port;
        location / { return 200 "guest\n"; }
    }
EOF
});

run_tests();

__DATA__

=== TEST 1: found, however the host is written
--- routes
rt_aaaaaaaaaaaaaaaa vm_running222222222 demo $TEST_NGINX_GUEST_PORT
--- request eval
[map "GET /", @{ main::hosts('demo.hatch.local', 'demo.hatch.local:9090', 'DEMO.Hatch.LOCAL',
            'demo.hatch.local.', 'Demo.hatch.local.:80') }]
--- more_headers eval
main::hosts('demo.hatch.local', 'demo.hatch.local:9090', 'DEMO.Hatch.LOCAL',
            'demo.hatch.local.', 'Demo.hatch.local.:80')
--- response_body eval
[("guest\n") x 5]
--- error_code eval
[(200) x 5]


=== TEST 2: the longest label
--- routes eval
"rt_bbbbbbbbbbbbbbbb vm_running222222222 " . 'x' x 63
. ' $TEST_NGINX_GUEST_PORT'
--- request eval
[map "GET /", @{ main::hosts('x' x 63 . '.hatch.local') }]
--- more_headers eval
main::hosts('x' x 63 . '.hatch.local')
--- response_body
guest
--- error_code: 200


=== TEST 3: a host without a route
--- request eval
[map "GET /", @{ main::hosts('nobody.hatch.local', 'demo-.hatch.local', '-.hatch.local',
            'x' x 62 . '.hatch.local') }]
--- more_headers eval
main::hosts('nobody.hatch.local', 'demo-.hatch.local', '-.hatch.local',
            'x' x 62 . '.hatch.local')
--- response_body eval
[('{"error":"no VM has this host name","code":"route_not_found"}') x 4]
--- error_code eval
[(404) x 4]


=== TEST 4: what is no host of ours
--- request eval
[map "GET /", @{ main::hosts('hatch.local', '.hatch.local', 'a.demo.hatch.local', '127.0.0.1',
            '127.0.0.1:9090', '[::1]', '[::1]:9090', 'demo.hatch.example',
            'demohatch.local', 'demo.xhatch.local', 'hatch.local.demo',
            'demo', 'x' x 64 . '.hatch.local', 'localhost') }]
--- more_headers eval
main::hosts('hatch.local', '.hatch.local', 'a.demo.hatch.local', '127.0.0.1',
            '127.0.0.1:9090', '[::1]', '[::1]:9090', 'demo.hatch.example',
            'demohatch.local', 'demo.xhatch.local', 'hatch.local.demo',
            'demo', 'x' x 64 . '.hatch.local', 'localhost')
--- response_body eval
[('{"error":"no VM has this host name","code":"unknown_host"}') x 14]
--- error_code eval
[(404) x 14]


=== TEST 5: no Host at all (HTTP/1.0)
--- raw_request eval
"GET / HTTP/1.0\r\n\r\n"
--- response_body chomp
{"error":"no VM has this host name","code":"unknown_host"}
--- error_code: 404


=== TEST 6: the host of an absolute URI wins
--- raw_request eval
"GET http://demo.hatch.local/ HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n"
--- response_body
guest
--- error_code: 200


=== TEST 7: hatch_route of the server block
--- config
    hatch_route hatch.local;
    location / { proxy_pass http://vms; }
    location /other { hatch_route other.example; proxy_pass http://vms; }
--- request eval
["GET /", "GET /other", "GET /other"]
--- more_headers eval
main::hosts('demo.hatch.local', 'demo.other.example', 'demo.hatch.local')
--- response_body_like eval
['^guest$', '^guest$', 'unknown_host']
--- error_code eval
[200, 200, 404]


=== TEST 8: health and API beside it in one server
--- config
    hatch_route hatch.local;
    location = /healthz { hatch_healthz; }
    location /routes { hatch_api; }
    location / { proxy_pass http://vms; }
--- request eval
["GET /healthz", "GET /routes?limit=1", "GET /"]
--- response_body_like eval
['"status":"ok"', '^\[', 'unknown_host']
--- error_code eval
[200, 200, 404]
