#!/usr/bin/perl

# POST /vms/{id}/routes: what is created, and every field's rule.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

our $vm = '/vms/vm_running222222222/routes';

sub bodies { return [map "POST $vm\n$_", @_] }
our $many = sub { my ($x, $n) = @_; return [($x) x $n] };

run_tests();

__DATA__

=== TEST 1: all fields
--- config
    location / { hatch_api; }
--- request
POST /vms/vm_running222222222/routes
{"target_port":8080,"subdomain":"one","auto_wake":false}
--- response_body_like chomp
^\{"id":"rt_[a-z2-7]{16}","vm_id":"vm_running222222222","subdomain":"one","target_port":8080,"auto_wake":false,"created_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z","updated_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"\}$
--- response_headers_like
Content-Type: application/json
Location: /routes/rt_[a-z2-7]{16}
Cache-Control: no-store
--- error_code: 201


=== TEST 2: the port alone: a random name of 12 characters, auto_wake
--- config
    location / { hatch_api; }
--- request
POST /vms/vm_running222222222/routes
{"target_port":1}
--- response_body_like chomp
"subdomain":"[a-z2-7]{12}","target_port":1,"auto_wake":true
--- error_code: 201


=== TEST 3: the longest and the shortest name
--- config
    location / { hatch_api; }
--- request eval
main::bodies(
    '{"target_port":65535,"subdomain":"' . 'a' x 63 . '"}',
    '{"target_port":65535,"subdomain":"0"}')
--- response_body_like eval
['"subdomain":"a{63}"', '"subdomain":"0"']
--- error_code eval
[201, 201]


=== TEST 4: a taken name, also of another VM
--- config
    location / { hatch_api; }
--- routes
rt_takenaaaaaaaaaaa vm_running222222222 taken 80
--- request eval
["POST $main::vm\n" . '{"target_port":80,"subdomain":"taken"}',
 "POST /vms/vm_other22222222222/routes\n"
 . '{"target_port":80,"subdomain":"taken"}']
--- response_body eval
['{"error":"subdomain \"taken\" is already in use","code":"subdomain_taken"}',
 '{"error":"subdomain \"taken\" is already in use","code":"subdomain_taken"}']
--- error_code eval
[409, 409]


=== TEST 5: a VM that is not there, and ids that cannot be
--- config
    location / { hatch_api; }
--- request eval
[map "POST /vms/$_/routes\n" . '{"target_port":80}',
 'vm_nothere222222222', 'vm_short', 'web-1', 'rt_running222222222',
 'vm_RUNNING222222222']
--- response_body_like eval
$main::many->('"code":"vm_not_found"', 5)
--- error_code eval
$main::many->(404, 5)


=== TEST 6: target_port
--- config
    location / { hatch_api; }
--- request eval
main::bodies('{}', '{"target_port":0}', '{"target_port":-1}',
             '{"target_port":65536}', '{"target_port":80.5}',
             '{"target_port":"80"}', '{"target_port":null}',
             '{"target_port":true}', '{"target_port":[80]}',
             '{"target_port":8.05e1}', '{"target_port":99999999999999999999999}')
--- response_body_like eval
['"target_port\\\\" is missing","code":"invalid_field"',
 'must be 1 to 65535, not 0"', 'must be 1 to 65535, not -1"',
 'must be 1 to 65535, not 65536"',
 ('"target_port\\\\" must be an integer') x 6,
 'target_port\\\\" must be 1 to 65535']
--- error_code eval
$main::many->(400, 11)


=== TEST 7: subdomain: the pattern
--- config
    location / { hatch_api; }
--- request eval
main::bodies(map qq({"target_port":80,"subdomain":$_}),
    '"Upper"', '"-x"', '"x-"', '"a.b"', '"a_b"', '"a b"', '"\u00e4"',
    '"a/b"', '"x\u0000y"', '""', '"' . 'a' x 64 . '"', '7', 'null', '[]',
    '"<script>"', '"\""')
--- response_body_like eval
$main::many->('^\{"error":"\\\\"subdomain\\\\" .*","code":"invalid_field"\}$',
              16)
--- error_code eval
$main::many->(400, 16)


=== TEST 8: subdomain: the 34 reserved names
--- config
    location / { hatch_api; }
--- request eval
main::bodies(map qq({"target_port":80,"subdomain":"$_"}), qw(
    api www admin app dashboard mail smtp ftp ssh ns1 ns2 status docs help
    support billing login auth oauth cdn static assets media hatch console
    panel grafana prometheus traefik minio postgres db redis internal))
--- response_body_like eval
$main::many->('is reserved', 34)
--- error_code eval
$main::many->(400, 34)


=== TEST 9: auto_wake and unknown fields
--- config
    location / { hatch_api; }
--- request eval
main::bodies('{"target_port":80,"auto_wake":1}',
             '{"target_port":80,"auto_wake":"true"}',
             '{"target_port":80,"auto_wake":null}',
             '{"target_port":80,"port":80}',
             '{"target_port":80,"vm_id":"vm_other22222222222"}',
             '{"target_port":80,"id":"rt_aaaaaaaaaaaaaaaa"}')
--- response_body_like eval
[('auto_wake\\\\" must be true or false') x 3,
 'unknown field \\\\"port', 'unknown field \\\\"vm_id',
 'unknown field \\\\"id']
--- error_code eval
$main::many->(400, 6)


=== TEST 10: nothing of the refused was created
--- config
    location / { hatch_api; }
--- request
GET /vms/vm_other22222222222/routes
--- response_body chomp
[]
--- error_code: 200


=== TEST 11: a stopped VM may have routes, too
--- config
    location / { hatch_api; }
--- request
POST /vms/vm_stopped222222222/routes
{"target_port":80}
--- response_body_like chomp
"vm_id":"vm_stopped222222222"
--- error_code: 201


=== TEST 12: without a zone nobody knows
--- config
    location / { hatch_api; }
--- no_zone
--- request
POST /vms/vm_running222222222/routes
{"target_port":80}
--- response_body_like chomp
"code":"zone_unavailable"
--- response_headers
Retry-After: 1
--- error_code: 503
