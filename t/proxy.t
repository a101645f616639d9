#!/usr/bin/perl

# hatch_route and upstream { hatch; }: what a VM's state and its guest make
# of a request.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

add_block_preprocessor(sub {
    my ($block) = @_;
    my $port = $ENV{TEST_NGINX_GUEST_PORT};
    my $dir = $ENV{TEST_NGINX_HATCH_DIR};

    $block->set_value('config', <<'EOF') if !defined $block->config;
    location / {
        hatch_route hatch.local;
        proxy_pass http://vms;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
    }
EOF
    $block->set_value('more_http', <<"EOF");
    proxy_cache_path $dir/cache keys_zone=cache:1m;
    server {
        listen 127.0.0.1:$port;
        listen [::1]:$port;
        location / {
            add_header X-Connection \$connection;
            return 200 "\$request_method \$host \$request_uri\\n";
        }
        location /echo {
            proxy_pass http://127.0.0.1:$port/;
        }
        location /file { alias $dir/file; }
        location /close { return 444; }
        location /missing { return 404 "the guest's own\\n"; }
        location /broken { return 502 "the guest's own 502\\n"; }
    }
EOF
});

open my $file, '>', "$ENV{TEST_NGINX_HATCH_DIR}/file" or die $!;
print $file 'x' x 1000, 'y' x 1000, 'z' x 500;
close $file;
chmod 0644, "$ENV{TEST_NGINX_HATCH_DIR}/file";

run_tests();

__DATA__

=== TEST 1: a running VM, by IPv4
--- routes
rt_aaaaaaaaaaaaaaaa vm_running222222222 demo $TEST_NGINX_GUEST_PORT
rt_bbbbbbbbbbbbbbbb vm_six2222222222222 six $TEST_NGINX_GUEST_PORT
rt_cccccccccccccccc vm_stopped222222222 stopped $TEST_NGINX_GUEST_PORT!
rt_dddddddddddddddd vm_paused2222222222 paused $TEST_NGINX_GUEST_PORT!
rt_eeeeeeeeeeeeeeee vm_error22222222222 error $TEST_NGINX_GUEST_PORT!
rt_ffffffffffffffff vm_noaddress2222222 noaddress $TEST_NGINX_GUEST_PORT
rt_gggggggggggggggg vm_gone222222222222 gone $TEST_NGINX_GUEST_PORT
rt_hhhhhhhhhhhhhhhh vm_running222222222 refused 1
--- request
POST /a/b?c=d
body
--- more_headers
Host: demo.hatch.local
--- response_body
POST demo.hatch.local /a/b?c=d
--- error_code: 200


=== TEST 2: by IPv6
--- request
GET /
--- more_headers
Host: six.hatch.local
--- response_body
GET six.hatch.local /
--- error_code: 200


=== TEST 3: connections to the guest are kept
--- request eval
["GET /1", "GET /2"]
--- more_headers
Host: demo.hatch.local
--- response_body eval
["GET demo.hatch.local /1\n", "GET demo.hatch.local /2\n"]
--- error_code eval
[200, 200]


=== TEST 4: a VM that is not running, and is not to be woken
--- request eval
[map "GET /", 'stopped', 'paused', 'error']
--- more_headers eval
[map "Host: $_.hatch.local", 'stopped', 'paused', 'error']
--- response_body eval
[map qq({"error":"the VM is $_","code":"vm_not_running","state":"$_"}),
 'stopped', 'paused', 'error']
--- response_headers eval
["Retry-After: 1", "Retry-After: 1", "Retry-After: 1"]
--- error_code eval
[503, 503, 503]


=== TEST 5: a VM without an address
--- request
GET /
--- more_headers
Host: noaddress.hatch.local
--- response_body chomp
{"error":"the VM has no network address","code":"vm_no_address"}
--- error_code: 502


=== TEST 6: a VM that is gone
--- request
GET /
--- more_headers
Host: gone.hatch.local
--- response_body chomp
{"error":"the VM no longer exists","code":"vm_not_found"}
--- error_code: 404


=== TEST 7: a guest that refuses
--- request
GET /
--- more_headers
Host: refused.hatch.local
--- response_body chomp
{"error":"the VM does not accept connections on the route's port","code":"guest_refused"}
--- response_headers
Content-Type: application/json
Cache-Control: no-store
--- error_code: 502
--- error_log
connect() failed (111: Connection refused) while connecting to upstream


=== TEST 8: the same with HEAD
--- request
HEAD /
--- more_headers
Host: refused.hatch.local
--- response_headers
Content-Length: 89
--- response_body
--- error_code: 502
--- error_log
Connection refused


=== TEST 9: a guest that closes without an answer
--- request
GET /close
--- more_headers
Host: demo.hatch.local
--- response_body chomp
{"error":"the VM closed the connection without an answer","code":"guest_failed"}
--- error_code: 502
--- error_log
upstream prematurely closed connection


=== TEST 10: the guest's own errors are left alone
--- request eval
["GET /missing", "GET /broken"]
--- more_headers
Host: demo.hatch.local
--- response_body eval
["the guest's own\n", "the guest's own 502\n"]
--- error_code eval
[404, 502]


=== TEST 11: a guest that takes too long
--- config
    location / {
        hatch_route hatch.local;
        proxy_pass http://vms;
        proxy_read_timeout 50ms;
    }
--- http_config
    hatch_zone $TEST_NGINX_HATCH_DIR/run/zone;
    hatch_route_store $TEST_NGINX_HATCH_DIR/routes size=64m;
    upstream vms { hatch; }
--- routes
rt_iiiiiiiiiiiiiiii vm_running222222222 slow 1986
--- tcp_listen: 1986
--- tcp_no_close
--- tcp_reply_delay: 1
--- tcp_reply: late
--- request
GET /
--- more_headers
Host: slow.hatch.local
--- response_body chomp
{"error":"the VM did not answer in time","code":"guest_timeout"}
--- response_headers
Retry-After: 1
--- error_code: 504
--- error_log
upstream timed out


=== TEST 12: an error_page of the user's own
--- config
    error_page 404 /lost;
    error_page 502 503 =200 /asleep;
    location / {
        hatch_route hatch.local;
        proxy_pass http://vms;
    }
    location /lost { return 404 "lost\n"; }
    location /asleep { return 200 "asleep: $hatch_vm_id\n"; }
--- request eval
[map "GET /", 'nothing', 'stopped', 'refused']
--- more_headers eval
[map "Host: $_.hatch.local", 'nothing', 'stopped', 'refused']
--- response_body eval
["lost\n", "asleep: vm_stopped222222222\n", "asleep: vm_running222222222\n"]
--- error_code eval
[404, 200, 200]
--- no_error_log
[alert]


=== TEST 13: access control comes first
--- config
    location / {
        deny all;
        hatch_route hatch.local;
        proxy_pass http://vms;
    }
--- request
GET /
--- more_headers
Host: demo.hatch.local
--- response_body_like chomp
403 Forbidden
--- error_code: 403
--- error_log
access forbidden by rule


=== TEST 14: nginx's own clones of a request are for the same VM
--- config
    location / {
        hatch_route hatch.local;
        slice 1000;
        proxy_pass http://vms;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_set_header Range $slice_range;
        proxy_cache cache;
        proxy_cache_key $host$uri$slice_range;
        proxy_cache_valid 200 206 1m;
    }
--- request
GET /file
--- more_headers
Host: demo.hatch.local
--- response_body eval
('x' x 1000) . ('y' x 1000) . ('z' x 500)
--- error_code: 200
--- no_error_log
[error]


=== TEST 15: a guest whose header is too large
--- tcp_listen: 1986
--- tcp_reply eval
"HTTP/1.1 200 OK\r\nX-Large: " . 'x' x 100_000 . "\r\n\r\n"
--- request
GET /
--- more_headers
Host: slow.hatch.local
--- response_body chomp
{"error":"the header of the VM's answer is too large","code":"guest_failed"}
--- error_code: 502
--- error_log
upstream sent too big header


=== TEST 16: one that is malformed
--- tcp_listen: 1986
--- tcp_reply eval
"HTTP/1.1 200 OK\r\nX\x01Bad: 1\r\n\r\nbody"
--- request
GET /
--- more_headers
Host: slow.hatch.local
--- response_body chomp
{"error":"the header of the VM's answer is malformed","code":"guest_failed"}
--- error_code: 502
--- error_log
upstream sent invalid header


=== TEST 17: malformed, and much behind it
--- tcp_listen: 1986
--- tcp_reply eval
"HTTP/1.1 200 OK\r\nX\x01Bad: 1\r\n\r\n" . 'x' x 100_000
--- request
GET /
--- more_headers
Host: slow.hatch.local
--- response_body chomp
{"error":"the header of the VM's answer is malformed","code":"guest_failed"}
--- error_code: 502
--- error_log
upstream sent invalid header


=== TEST 18: one that ends between two lines
--- tcp_listen: 1986
--- tcp_reply eval
"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
--- request
GET /
--- more_headers
Host: slow.hatch.local
--- response_body chomp
{"error":"the VM closed the connection within the header of its answer","code":"guest_failed"}
--- error_code: 502
--- error_log
upstream prematurely closed connection


=== TEST 19: within one
--- tcp_listen: 1986
--- tcp_reply eval
"HTTP/1.1 200 OK\r\nContent-Len"
--- request
GET /
--- more_headers
Host: slow.hatch.local
--- response_body chomp
{"error":"the VM closed the connection within the header of its answer","code":"guest_failed"}
--- error_code: 502
--- error_log
upstream prematurely closed connection


=== TEST 20: within the first
--- tcp_listen: 1986
--- tcp_reply eval
"HTT"
--- request
GET /
--- more_headers
Host: slow.hatch.local
--- response_body chomp
{"error":"the VM closed the connection within the header of its answer","code":"guest_failed"}
--- error_code: 502
--- error_log
upstream prematurely closed connection


=== TEST 21: a header that just fits is none of these
--- tcp_listen: 1986
--- tcp_reply eval
"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Large: " . 'x' x 3500 . "\r\n\r\nok"
--- request
GET /
--- more_headers
Host: slow.hatch.local
--- response_body chomp
ok
--- error_code: 200


=== TEST 22: an answer without a header, which is HTTP/0.9 to nginx
--- tcp_listen: 1986
--- tcp_reply eval
"GARBAGE\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
--- request
GET /
--- more_headers
Host: slow.hatch.local
--- response_body chomp
{"error":"the header of the VM's answer is malformed","code":"guest_failed"}
--- error_code: 502
--- error_log
the guest's answer has no status


=== TEST 23: the same where it would be cached
--- config
    location / {
        hatch_route hatch.local;
        proxy_pass http://vms;
        proxy_cache cache;
        proxy_cache_key $host$uri;
        proxy_cache_valid any 1m;
    }
--- tcp_listen: 1986
--- tcp_reply eval
"GARBAGE\r\n\r\n"
--- request
GET /garbage
--- more_headers
Host: slow.hatch.local
--- response_body chomp
{"error":"the header of the VM's answer is malformed","code":"guest_failed"}
--- error_code: 502
--- error_log
the guest's answer has no status


=== TEST 24: an answer that is none yet, with another one behind it
--- tcp_listen: 1986
--- tcp_reply eval
"HTTP/1.1 103 Early Hints\r\nX-Hint: 1\r\n\r\nHTTP/1.1 200 OK\r\n"
. "Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
--- request
GET /
--- more_headers
Host: slow.hatch.local
--- response_body chomp
{"error":"the header of the VM's answer is malformed","code":"guest_failed"}
--- response_headers
! X-Hint
--- error_code: 502
--- error_log
the guest's answer has no status, or 103


=== TEST 25: a change of protocol that nobody has asked for
--- tcp_listen: 1986
--- tcp_reply eval
"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
--- request
GET /
--- more_headers
Host: slow.hatch.local
--- response_body chomp
{"error":"the header of the VM's answer is malformed","code":"guest_failed"}
--- error_code: 502
--- error_log
the guest's answer has no status, or 101


=== TEST 26: the user's error_page for these
--- config
    location / {
        hatch_route hatch.local;
        proxy_pass http://vms;
        error_page 502 /sorry;
    }
    location = /sorry { return 200 "sorry\n"; }
--- tcp_listen: 1986
--- tcp_reply eval
"GARBAGE\r\n\r\n"
--- request
GET /
--- more_headers
Host: slow.hatch.local
--- response_body
sorry
--- error_code: 502
--- error_log
the guest's answer has no status


=== TEST 27: a guest that is a memcached
--- config
    location / {
        hatch_route hatch.local;
        set $memcached_key key;
        memcached_pass vms;
    }
--- tcp_listen: 1986
--- tcp_reply eval
"VALUE key 0 2\r\nok\r\nEND\r\n"
--- request
GET /
--- more_headers
Host: slow.hatch.local
--- response_body chomp
ok
--- error_code: 200
--- no_error_log
[error]
