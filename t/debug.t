#!/usr/bin/perl

# "error_log ... debug" shows what became of a request: look-up, hold, answer,
# kept connections.  Debian's nginx has --with-debug; another may not.

BEGIN {
    my $nginx = $ENV{TEST_NGINX_BINARY} || 'nginx';

    if (qx($nginx -V 2>&1) !~ /--with-debug/) {
        print "1..0 # SKIP nginx has no --with-debug\n";
        exit;
    }
}

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

log_level('debug');

add_block_preprocessor(sub {
    my ($block) = @_;
    my $port = $ENV{TEST_NGINX_GUEST_PORT};

    $block->set_value('more_http', <<"EOF");
    server {
        listen 127.0.0.1:$port;
        location / { return 200 "the guest\\n"; }
    }
EOF
    $block->set_value('config', <<'EOF');
    location / {
        hatch_route hatch.local;
        hatch_wake_timeout 200ms;
        proxy_pass http://vms;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
    }
EOF
});

run_tests();

__DATA__

=== TEST 1: a look-up, and the peer
--- routes
rt_aaaaaaaaaaaaaaaa vm_running222222222 one $TEST_NGINX_GUEST_PORT
--- request
GET /
--- more_headers
Host: one.hatch.local
--- response_body
the guest
--- error_log eval
['hatch route: "one" is vm_running222222222:',
 'hatch get peer vm_running222222222', 'hatch free peer vm_running222222222']
--- no_error_log
[alert]


=== TEST 2: a hold that ends, and the answer
--- routes
rt_bbbbbbbbbbbbbbbb vm_stopped222222222 two $TEST_NGINX_GUEST_PORT
--- request
GET /
--- more_headers
Host: two.hatch.local
--- error_code: 504
--- response_body_like: wake_timeout
--- error_log eval
['hatch waiter: new -> asked', 'hatch waiter: asked -> told',
 'hatch route: 504 wake_timeout', 'hatch answer: 504']
--- no_error_log
[alert]


=== TEST 3: no such route
--- request
GET /
--- more_headers
Host: none.hatch.local
--- error_code: 404
--- response_body_like: route_not_found
--- error_log
hatch route: 404 route_not_found
hatch answer: 404
--- no_error_log
[alert]
