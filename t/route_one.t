#!/usr/bin/perl

# GET, PATCH and DELETE /routes/{id}.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== TEST 1: get
--- config
    location / { hatch_api; }
--- routes
rt_aaaaaaaaaaaaaaaa vm_running222222222 one 81
--- request
GET /routes/rt_aaaaaaaaaaaaaaaa
--- response_body chomp
{"id":"rt_aaaaaaaaaaaaaaaa","vm_id":"vm_running222222222","subdomain":"one","target_port":81,"auto_wake":true,"created_at":"2023-11-14T22:13:20.123Z","updated_at":"2023-11-14T22:13:20.123Z"}
--- error_code: 200


=== TEST 2: patch the port, then auto_wake; updated_at moves, created_at stays
--- config
    location / { hatch_api; }
--- request eval
["PATCH /routes/rt_aaaaaaaaaaaaaaaa\n" . '{"target_port":8081}',
 "PATCH /routes/rt_aaaaaaaaaaaaaaaa\n" . '{"auto_wake":false}',
 "GET /routes/rt_aaaaaaaaaaaaaaaa"]
--- response_body_like eval
['"target_port":8081,"auto_wake":true,"created_at":"2023-[^"]*","updated_at":"20(?!23)',
 '"target_port":8081,"auto_wake":false,"created_at":"2023-',
 '"target_port":8081,"auto_wake":false,"created_at":"2023-']
--- error_code eval
[200, 200, 200]


=== TEST 3: a patch of nothing changes nothing
--- config
    location / { hatch_api; }
--- routes
rt_bbbbbbbbbbbbbbbb vm_running222222222 two 82
--- request
PATCH /routes/rt_bbbbbbbbbbbbbbbb
{}
--- response_body_like chomp
"target_port":82,"auto_wake":true,"created_at":"(2023[^"]*)","updated_at":"\1"
--- error_code: 200


=== TEST 4: what a patch may not say
--- config
    location / { hatch_api; }
--- request eval
[map "PATCH /routes/rt_bbbbbbbbbbbbbbbb\n$_", '{"target_port":0}',
 '{"target_port":"x"}', '{"auto_wake":null}', '{"subdomain":"new"}',
 '{"vm_id":"vm_other22222222222"}', '[]', '']
--- response_body_like eval
[('"code":"invalid_field"') x 5, ('"code":"invalid_json"') x 2]
--- error_code eval
[(400) x 7]


=== TEST 5: delete, once
--- config
    location / { hatch_api; }
--- request eval
["DELETE /routes/rt_bbbbbbbbbbbbbbbb", "DELETE /routes/rt_bbbbbbbbbbbbbbbb",
 "GET /routes/rt_bbbbbbbbbbbbbbbb",
 "PATCH /routes/rt_bbbbbbbbbbbbbbbb\n{\"target_port\":80}"]
--- response_body_like eval
['^\{"status":"deleted"\}$', ('"code":"route_not_found"') x 3]
--- error_code eval
[200, 404, 404, 404]


=== TEST 6: ids that cannot be
--- config
    location / { hatch_api; }
--- request eval
["GET /routes/x", "DELETE /routes/vm_running222222222",
 "PATCH /routes/RT_AAAAAAAAAAAAAAAA\n{}", "GET /routes/rt_aaaaaaaaaaaaaaa%01"]
--- response_body_like eval
[('"code":"route_not_found"') x 4]
--- error_code eval
[404, 404, 404, 404]


=== TEST 7: a slash at the end
--- config
    location / { hatch_api; }
--- request eval
["GET /routes/", "DELETE /routes/", "PATCH /routes/\n{}"]
--- response_body_like eval
[('"code":"not_found"') x 3]
--- error_code eval
[404, 404, 404]


=== TEST 8: other methods and deeper paths
--- config
    location / { hatch_api; }
--- request eval
["POST /routes/rt_aaaaaaaaaaaaaaaa\n{}", "PUT /routes/rt_aaaaaaaaaaaaaaaa\n{}",
 "GET /routes/rt_aaaaaaaaaaaaaaaa/x", "GET /vms/a/b/routes", "GET /"]
--- response_body_like eval
[('"code":"method_not_allowed"') x 2, ('"code":"not_found"') x 3]
--- error_code eval
[405, 405, 404, 404, 404]


=== TEST 9: Allow
--- config
    location / { hatch_api; }
--- request
POST /routes/rt_aaaaaaaaaaaaaaaa
{}
--- response_headers
Allow: GET, HEAD, PATCH, DELETE
--- response_body_like chomp
method not allowed
--- error_code: 405
