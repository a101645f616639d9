#!/usr/bin/perl

# Bodies as clients really send them, and as they should not.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

our $path = '/vms/vm_running222222222/routes';
our $head = "POST $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";

# the JSON behind a lot of white space
sub padded {
    my ($n) = @_;
    return ' ' x $n . '{"target_port":80}';
}

sub sized {
    my ($body) = @_;
    return $head . 'Content-Length: ' . length($body) . "\r\n\r\n" . $body;
}

sub chunked {
    return $head . "Transfer-Encoding: chunked\r\n\r\n"
           . join('', map sprintf("%x\r\n%s\r\n", length, $_), @_)
           . "0\r\n\r\n";
}

run_tests();

__DATA__

=== TEST 1: chunked, in many small pieces
--- config
    location / { hatch_api; }
--- raw_request eval
main::chunked('{"tar', 'get_p', 'ort":8', '0}')
--- response_body_like chomp
"target_port":80
--- error_code: 201


=== TEST 2: several buffers in memory
--- config
    client_body_buffer_size 1k;
    location / { hatch_api; }
--- raw_request eval
main::sized(main::padded(900))
--- response_body_like chomp
"target_port":80
--- error_code: 201


=== TEST 3: sent byte by byte
--- config
    location / { hatch_api; }
--- raw_request eval
[split //, $main::head . "Content-Length: 18\r\n\r\n" . '{"target_port":80}']
--- raw_request_middle_delay: 0.001
--- response_body_like chomp
"target_port":80
--- error_code: 201


=== TEST 4: larger than the buffer: through a file
--- config
    client_body_buffer_size 1k;
    location / { hatch_api; }
--- raw_request eval
main::sized(main::padded(100_000))
--- response_body_like chomp
"target_port":80
--- error_code: 201
--- no_error_log
[error]


=== TEST 5: always in a file
--- config
    client_body_in_file_only clean;
    location / { hatch_api; }
--- raw_request eval
main::sized(main::padded(10))
--- response_body_like chomp
"target_port":80
--- error_code: 201


=== TEST 6: exactly 1 MiB
--- config
    location / { hatch_api; }
--- raw_request eval
main::sized(main::padded(1048576 - 18))
--- response_body_like chomp
"target_port":80
--- error_code: 201
--- no_error_log
[error]


=== TEST 7: one byte more, by nginx's own limit
--- config
    location / { hatch_api; client_max_body_size 1m; }
--- raw_request eval
main::sized(main::padded(1048576 - 17))
--- response_body chomp
{"error":"the body is too large","code":"payload_too_large"}
--- response_headers
Content-Type: application/json
--- error_code: 413
--- error_log
client intended to send too large body


=== TEST 8: one byte more, where nginx allows more
--- config
    location / { hatch_api; client_max_body_size 10m; }
--- raw_request eval
main::sized(main::padded(1048576 - 17))
--- response_body chomp
{"error":"the body is larger than 1048576 bytes","code":"payload_too_large"}
--- error_code: 413
--- no_error_log
[error]


=== TEST 9: chunked and too large
--- config
    location / { hatch_api; client_max_body_size 1k; }
--- raw_request eval
main::chunked(map ' ' x 100, 1 .. 30)
--- response_body_like chomp
"code":"payload_too_large"
--- error_code: 413
--- error_log
client intended to send too large chunked body


=== TEST 10: none
--- config
    location / { hatch_api; }
--- raw_request eval
"$main::head\r\n"
--- response_body chomp
{"error":"a JSON object is missing","code":"invalid_json"}
--- error_code: 400


=== TEST 11: not JSON
--- config
    location / { hatch_api; }
--- request eval
[map "POST $main::path\n$_", 'target_port=80', '{', '{"target_port":80',
 '{"target_port":80}}', '{"target_port":80} x', "{'target_port':80}",
 '{"target_port":080}', '{"target_port":80,}', '[{"target_port":80}]', '80',
 '"x"', 'null', '{"target_port":NaN}', "\xef\xbb\xbf{}"]
--- response_body_like eval
[('"code":"invalid_json"') x 14]
--- error_code eval
[(400) x 14]


=== TEST 12: nested 1000 deep
--- config
    location / { hatch_api; }
--- request eval
["POST $main::path\n" . '{"target_port":' . '[' x 1000 . ']' x 1000 . '}',
 "POST $main::path\n" . '{"target_port":' x 1000]
--- response_body_like eval
['nested deeper than 16', 'nested deeper than 16']
--- error_code eval
[400, 400]


=== TEST 13: duplicate keys
--- config
    location / { hatch_api; }
--- request eval
["POST $main::path\n" . '{"target_port":80,"target_port":81}',
 "POST $main::path\n" . '{"target_port":80,"target\u005fport":81}']
--- response_body_like eval
['field \\\\"target_port\\\\" is given twice',
 'field \\\\"target_port\\\\" is given twice']
--- error_code eval
[400, 400]


=== TEST 14: NUL bytes and invalid UTF-8
--- config
    location / { hatch_api; }
--- request eval
["POST $main::path\n" . "{\"target_port\":80}\0",
 "POST $main::path\n" . "{\"target_port\":8\0}",
 "POST $main::path\n" . "{\"target_port\":80,\"subdomain\":\"\xff\xfe\"}"]
--- response_body_like eval
['a NUL byte', 'a NUL byte', 'invalid_json']
--- error_code eval
[400, 400, 400]


=== TEST 15: a body where none belongs is ignored
--- config
    location / { hatch_api; }
--- request eval
["GET /routes\n" . 'x' x 5000, "DELETE /routes/rt_zzzzzzzzzzzzzzzz\n{}"]
--- response_body_like eval
['^\[', 'route_not_found']
--- error_code eval
[200, 404]


=== TEST 16: Expect: 100-continue
--- config
    location / { hatch_api; }
--- raw_request eval
"${main::head}Expect: 100-continue\r\nContent-Length: 18\r\n\r\n"
. '{"target_port":80}'
--- ignore_response
--- no_error_log
[error]
