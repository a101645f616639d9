#!/usr/bin/perl

# $hatch_vm_id, $hatch_route_id, $hatch_wake, $hatch_wake_time; $hatch_host,
# $hatch_port and $hatch_connection, as the guest gets them (over HTTP/2:
# t/e2e/http2.t).

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

add_block_preprocessor(sub {
    my ($block) = @_;
    my $port = $ENV{TEST_NGINX_GUEST_PORT};

    # what a guest is told, in most of the blocks
    $block->set_value('config', <<'EOF') if !defined $block->config;
    location / {
        hatch_route hatch.local;
        proxy_pass http://vms;
        proxy_http_version 1.1;
        proxy_set_header Host $hatch_host;
        proxy_set_header X-Port $hatch_port;
        proxy_set_header Connection $hatch_connection;
    }
EOF

    $block->set_value('more_http', <<"EOF");
    server {
        listen 127.0.0.1:$port;
        location / { return 200 "guest\\n"; }
        location /told {
            return 200 "[\$http_host][\$http_x_port][\$http_connection]";
        }
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


=== TEST 4: the host has the client's port, and is in lower case
--- request eval
[("GET /told") x 6]
--- more_headers eval
[map "Host: $_", 'demo.hatch.local', 'demo.hatch.local:9090',
 'Demo.HATCH.local:81', 'demo.hatch.local.', 'demo.hatch.local.:65535',
 'demo.hatch.local:1']
--- response_body eval
['[demo.hatch.local][80][]', '[demo.hatch.local:9090][9090][]',
 '[demo.hatch.local:81][81][]', '[demo.hatch.local][80][]',
 '[demo.hatch.local:65535][65535][]', '[demo.hatch.local:1][1][]']
--- error_code eval
[(200) x 6]


=== TEST 5: what is no port is left out, or refused by newer nginx
--- request eval
[("GET /told") x 8]
--- more_headers eval
[map "Host: demo.hatch.local$_", ':', ':0', ':99999', ':65536', ':80x',
 ':80:90', ':-1', ':18446744073709551697']
--- response_body_like eval
[('^\[demo\.hatch\.local\]\[80\]\[\]$|400 Bad Request') x 8]
--- error_code_like eval
[('^(?:200|400)$') x 8]


=== TEST 6: bytes in the place of the port do not reach the guest
--- raw_request eval
"GET /told HTTP/1.1\r\nHost: demo.hatch.local:81;\xff\"\r\n"
. "Connection: close\r\n\r\n"
--- response_body_like chomp
^\[demo\.hatch\.local\]\[80\]\[\]$|400 Bad Request
--- error_code_like chomp
^(?:200|400)$


=== TEST 7: HTTP/1.0
--- raw_request eval
"GET /told HTTP/1.0\r\nHost: demo.hatch.local:9090\r\n\r\n"
--- response_body chomp
[demo.hatch.local:9090][9090][]
--- error_code: 200


=== TEST 8: the request line's host goes before the field
--- raw_request eval
"GET http://demo.hatch.local:81/told HTTP/1.1\r\nHost: evil.example:82\r\n"
. "Connection: close\r\n\r\n"
--- response_body chomp
[demo.hatch.local:81][81][]
--- error_code: 200


=== TEST 9: also without a port
--- raw_request eval
"GET http://Demo.hatch.local/told HTTP/1.1\r\nHost: demo.hatch.local:82\r\n"
. "Connection: close\r\n\r\n"
--- response_body chomp
[demo.hatch.local][80][]
--- error_code: 200


=== TEST 10: with arguments in the place of a path, or nothing after it
--- config
    location / {
        hatch_route hatch.local;
        rewrite ^ /told break;
        proxy_pass http://vms;
        proxy_http_version 1.1;
        proxy_set_header Host $hatch_host;
        proxy_set_header Connection "";
    }
--- raw_request eval
["GET http://demo.hatch.local:81?x=y HTTP/1.1\r\nHost: a.example\r\n"
 . "Connection: close\r\n\r\n",
 "GET http://demo.hatch.local:81 HTTP/1.1\r\nHost: a.example\r\n"
 . "Connection: close\r\n\r\n"]
--- response_body eval
[('[demo.hatch.local:81][][]') x 2]
--- error_code eval
[200, 200]


=== TEST 11: in a subrequest, which has no request line of its own
--- config
    location / {
        ssi on;
        return 200 '<!--# include virtual="/told" -->';
    }
    location /told {
        hatch_route hatch.local;
        proxy_pass http://vms;
        proxy_http_version 1.1;
        proxy_set_header Host $hatch_host;
        proxy_set_header X-Port $hatch_port;
        proxy_set_header Connection $hatch_connection;
    }
--- raw_request eval
"GET http://demo.hatch.local:81/page.html HTTP/1.1\r\n"
. "Host: demo.hatch.local:82\r\nConnection: close\r\n\r\n"
--- response_body chomp
[demo.hatch.local:81][81][]
--- error_code: 200


=== TEST 12: the connection is upgraded if the client asks for it
--- request eval
[("GET /told") x 2]
--- more_headers eval
["Host: demo.hatch.local\nUpgrade: websocket",
 "Host: demo.hatch.local\nUpgrade:"]
--- response_body eval
['[demo.hatch.local][80][upgrade]', '[demo.hatch.local][80][]']
--- error_code eval
[200, 200]


=== TEST 13: not over HTTP/1.0
--- raw_request eval
"GET /told HTTP/1.0\r\nHost: demo.hatch.local\r\nUpgrade: websocket\r\n\r\n"
--- response_body chomp
[demo.hatch.local][80][]
--- error_code: 200


=== TEST 14: empty where nothing was routed
--- config
    location /none { return 200 "[$hatch_host][$hatch_port]"; }
    location / {
        hatch_route hatch.local;
        proxy_pass http://vms;
        add_header X-Hatch "[$hatch_host][$hatch_port]" always;
    }
--- request eval
["GET /none", "GET /", "GET /"]
--- more_headers eval
[map "Host: $_:81", 'demo.hatch.local', 'nothing.hatch.local', 'a.example']
--- response_headers eval
["X-Hatch: ", "X-Hatch: [][]", "X-Hatch: [][]"]
--- response_body_like eval
['^\[\]\[\]$', 'route_not_found', 'unknown_host']
--- error_code eval
[200, 404, 404]


=== TEST 15: a VM that does not run is routed, too
--- config
    location / {
        hatch_route hatch.local;
        proxy_pass http://vms;
        add_header X-Hatch "[$hatch_host][$hatch_port]" always;
    }
--- request
GET /
--- more_headers
Host: stopped.hatch.local:81
--- response_headers
X-Hatch: [stopped.hatch.local:81][81]
--- response_body_like: vm_not_running
--- error_code: 503


=== TEST 16: a configuration's own variables of these names go before
--- http_config
    hatch_zone $TEST_NGINX_HATCH_DIR/run/zone;
    hatch_route_store $TEST_NGINX_HATCH_DIR/routes size=64m;
    upstream vms {
        hatch;
    }
    map $http_upgrade $hatch_connection {
        default mapped;
        ''      '';
    }
--- config
    location / {
        set $hatch_host set.example;
        set $hatch_port 1;
        hatch_route hatch.local;
        proxy_pass http://vms;
        proxy_http_version 1.1;
        proxy_set_header Host $hatch_host;
        proxy_set_header X-Port $hatch_port;
        proxy_set_header Connection $hatch_connection;
    }
--- request
GET /told
--- more_headers
Host: demo.hatch.local:81
Upgrade: websocket
--- response_body chomp
[set.example][1][mapped]
--- error_code: 200
