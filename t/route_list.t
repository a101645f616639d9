#!/usr/bin/perl

# GET /routes and GET /vms/{id}/routes: order, limit, after, Link.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== TEST 1: none
--- config
    location / { hatch_api; }
--- request eval
["GET /routes", "GET /vms/vm_running222222222/routes"]
--- response_body eval
["[]", "[]"]
--- error_code eval
[200, 200]


=== TEST 2: all, in the order of their ids
--- config
    location / { hatch_api; }
--- routes
rt_cccccccccccccccc vm_running222222222 three 83
rt_aaaaaaaaaaaaaaaa vm_running222222222 one 81
rt_bbbbbbbbbbbbbbbb vm_other22222222222 two 82
--- request
GET /routes
--- response_body chomp
[{"id":"rt_aaaaaaaaaaaaaaaa","vm_id":"vm_running222222222","subdomain":"one","target_port":81,"auto_wake":true,"created_at":"2023-11-14T22:13:20.123Z","updated_at":"2023-11-14T22:13:20.123Z"},{"id":"rt_bbbbbbbbbbbbbbbb","vm_id":"vm_other22222222222","subdomain":"two","target_port":82,"auto_wake":true,"created_at":"2023-11-14T22:13:20.123Z","updated_at":"2023-11-14T22:13:20.123Z"},{"id":"rt_cccccccccccccccc","vm_id":"vm_running222222222","subdomain":"three","target_port":83,"auto_wake":true,"created_at":"2023-11-14T22:13:20.123Z","updated_at":"2023-11-14T22:13:20.123Z"}]
--- error_code: 200


=== TEST 3: of one VM
--- config
    location / { hatch_api; }
--- request eval
["GET /vms/vm_running222222222/routes", "GET /vms/vm_other22222222222/routes",
 "GET /vms/vm_paused2222222222/routes", "GET /vms/vm_nothere222222222/routes"]
--- response_body_like eval
['^\[\{"id":"rt_a{16}"[^]]*\{"id":"rt_c{16}"[^]]*\]$',
 '^\[\{"id":"rt_b{16}"[^]{]*\]$', '^\[\]$', '"code":"vm_not_found"']
--- error_code eval
[200, 200, 200, 404]


=== TEST 4: limit and after, with a link to the next page
--- config
    location / { hatch_api; }
--- request
GET /routes?limit=2
--- response_body_like chomp
^\[\{"id":"rt_a{16}"[^{]*\{"id":"rt_b{16}"[^{]*\]$
--- response_headers
Link: </routes?limit=2&after=rt_bbbbbbbbbbbbbbbb>; rel="next"
--- error_code: 200


=== TEST 5: the last page has no link
--- config
    location / { hatch_api; }
--- request
GET /routes?limit=2&after=rt_bbbbbbbbbbbbbbbb
--- response_body_like chomp
^\[\{"id":"rt_c{16}"[^{]*\]$
--- response_headers
! Link
--- error_code: 200


=== TEST 6: after an id that is not there (any more)
--- config
    location / { hatch_api; }
--- request eval
["GET /routes?after=rt_azzzzzzzzzzzzzzz", "GET /routes?after=rt_zzzzzzzzzzzzzzzz"]
--- response_body_like eval
['^\[\{"id":"rt_b{16}".*"id":"rt_c{16}"', '^\[\]$']
--- error_code eval
[200, 200]


=== TEST 7: pages of one VM
--- config
    location / { hatch_api; }
--- request
GET /vms/vm_running222222222/routes?limit=1
--- response_body_like chomp
^\[\{"id":"rt_a{16}"[^{]*\]$
--- response_headers
Link: </vms/vm_running222222222/routes?limit=1&after=rt_aaaaaaaaaaaaaaaa>; rel="next"
--- error_code: 200


=== TEST 8: wrong arguments
--- config
    location / { hatch_api; }
--- request eval
[map "GET /routes?$_", 'limit=0', 'limit=1001', 'limit=-1', 'limit=', 'limit=x',
 'limit=1.5', 'limit=99999999999999999999', 'after=', 'after=x',
 'after=vm_running222222222', 'after=rt_%00']
--- response_body_like eval
[('limit\\\\" must be 1 to 1000, not \\\\".*"code":"invalid_argument"') x 7,
 ('after\\\\" must be a route id, not \\\\".*"code":"invalid_argument"') x 3,
 'hexadecimal digits, not both 0","code":"invalid_argument"']
--- error_code eval
[(400) x 11]


=== TEST 9: HEAD
--- config
    location / { hatch_api; }
--- request
HEAD /routes
--- response_body
--- error_code: 200


=== TEST 10: other methods
--- config
    location / { hatch_api; }
--- request eval
["POST /routes\n{}", "DELETE /routes", "PUT /vms/vm_running222222222/routes\n{}"]
--- response_headers eval
["Allow: GET, HEAD", "Allow: GET, HEAD", "Allow: GET, HEAD, POST"]
--- response_body_like eval
[('"code":"method_not_allowed"') x 3]
--- error_code eval
[405, 405, 405]
