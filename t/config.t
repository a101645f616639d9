#!/usr/bin/perl

# Configurations that nginx -t must refuse, naming directive and value.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== TEST 1: hatch_zone twice
--- http_config
    hatch_zone /tmp/hatch-a/zone;
    hatch_zone /tmp/hatch-b/zone;
--- config
--- must_die
--- error_log
"hatch_zone" directive is duplicate


=== TEST 2: hatch_zone without a path
--- http_config
    hatch_zone;
--- config
--- must_die
--- error_log
invalid number of arguments in "hatch_zone" directive


=== TEST 3: hatch_zone with an empty path
--- http_config
    hatch_zone "";
--- config
--- must_die
--- error_log
"hatch_zone" directive has an empty path


=== TEST 4: hatch_zone with a wrong number
--- http_config
    hatch_zone /tmp/hatch-a/zone vms=many;
--- config
--- must_die
--- error_log
invalid parameter "vms=many" of "hatch_zone", it must be "vms=" and 1 to 1048576


=== TEST 5: hatch_zone with no slots
--- http_config
    hatch_zone /tmp/hatch-a/zone vms=0;
--- config
--- must_die
--- error_log
invalid parameter "vms=0" of "hatch_zone"


=== TEST 6: hatch_zone with an unknown parameter
--- http_config
    hatch_zone /tmp/hatch-a/zone slots=10;
--- config
--- must_die
--- error_log
invalid parameter "slots=10" of "hatch_zone"


=== TEST 7: hatch_zone in a directory that cannot be
--- http_config
    hatch_zone /proc/hatch/zone;
--- config
--- must_die
--- error_log
"hatch_zone": cannot create directory of "/proc/hatch/zone"


=== TEST 8: hatch_zone outside http
--- main_config
    hatch_zone /tmp/hatch-a/zone;
--- http_config
--- config
--- must_die
--- error_log
"hatch_zone" directive is not allowed here


=== TEST 9: hatch_zone in a server
--- http_config
--- config
    hatch_zone /tmp/hatch-a/zone;
--- must_die
--- error_log
"hatch_zone" directive is not allowed here


=== TEST 10: hatch_route_store twice
--- http_config
    hatch_route_store /tmp/hatch-a;
    hatch_route_store /tmp/hatch-b;
--- config
--- must_die
--- error_log
"hatch_route_store" directive is duplicate


=== TEST 11: hatch_route_store too small
--- http_config
    hatch_route_store /tmp/hatch-a size=4k;
--- config
--- must_die
--- error_log
invalid parameter "size=4k" of "hatch_route_store", it must be "size=" and at least 1m


=== TEST 12: hatch_route_store of no size
--- http_config
    hatch_route_store /tmp/hatch-a size=;
--- config
--- must_die
--- error_log
invalid parameter "size=" of "hatch_route_store"


=== TEST 13: hatch_route_store that cannot be created
--- http_config
    hatch_route_store /proc/hatch;
--- config
--- must_die
--- error_log
"hatch_route_store": cannot create directory "/proc/hatch"


=== TEST 14: hatch_route_store that is a file
--- http_config
    hatch_route_store /etc/passwd;
--- config
--- must_die
--- error_log
"hatch_route_store": "/etc/passwd" is not a directory


=== TEST 15: hatch_healthz twice
--- http_config
--- config
    location / { hatch_healthz; hatch_healthz; }
--- must_die
--- error_log
"hatch_healthz" directive is duplicate


=== TEST 16: hatch_healthz outside a location
--- http_config
--- config
    hatch_healthz;
--- must_die
--- error_log
"hatch_healthz" directive is not allowed here


=== TEST 17: hatch_healthz with an argument
--- http_config
--- config
    location / { hatch_healthz json; }
--- must_die
--- error_log
invalid number of arguments in "hatch_healthz" directive


=== TEST 18: hatch_api twice
--- http_config
--- config
    location / { hatch_api; hatch_api; }
--- must_die
--- error_log
"hatch_api" directive is duplicate


=== TEST 19: hatch_api in a server
--- http_config
--- config
    hatch_api;
--- must_die
--- error_log
"hatch_api" directive is not allowed here


=== TEST 20: hatch_route without a domain
--- http_config
--- config
    location / { hatch_route; }
--- must_die
--- error_log
invalid number of arguments in "hatch_route" directive


=== TEST 21: hatch_route twice
--- http_config
--- config
    location / { hatch_route a.b; hatch_route c.d; }
--- must_die
--- error_log
"hatch_route" directive is duplicate


=== TEST 22: hatch_route with a port
--- http_config
--- config
    location / { hatch_route hatch.local:80; }
--- must_die
--- error_log
invalid base domain "hatch.local:80" of "hatch_route"


=== TEST 23: hatch_route with a leading dot
--- http_config
--- config
    location / { hatch_route .hatch.local; }
--- must_die
--- error_log
invalid base domain ".hatch.local" of "hatch_route"


=== TEST 24: hatch_route with an empty label
--- http_config
--- config
    location / { hatch_route hatch..local; }
--- must_die
--- error_log
invalid base domain "hatch..local" of "hatch_route"


=== TEST 25: hatch outside an upstream
--- http_config
--- config
    location / { hatch; }
--- must_die
--- error_log
"hatch" directive is not allowed here


=== TEST 26: hatch twice
--- http_config
    upstream vms { hatch; hatch; }
--- config
--- must_die
--- error_log
"hatch" directive is duplicate


=== TEST 27: hatch after keepalive
--- http_config
    upstream vms { keepalive 4; hatch; }
--- config
--- must_die
--- error_log
"hatch" directive must be before "keepalive"
--- skip_nginx
2: >= 1.29.7


=== TEST 28: hatch with a server
--- http_config
    upstream vms { hatch; server 127.0.0.1:80; }
--- config
--- must_die
--- error_log
upstream "vms" has "hatch" and "server" in


=== TEST 29: hatch with a zone
--- http_config
    upstream vms { zone vms 64k; hatch; }
--- config
--- must_die
--- error_log
upstream "vms" has "hatch" and "zone" in


=== TEST 30: hatch with another balancer
--- http_config
    upstream vms { least_conn; hatch; }
--- config
--- must_die
--- error_log
"hatch" directive must be before "keepalive" and cannot be with another load balancing method


=== TEST 31: hatch_agent with an address that is no unix socket
--- http_config
    hatch_agent 127.0.0.1:80;
--- config
--- must_die
--- error_log
invalid address "127.0.0.1:80" of "hatch_agent", it must be "unix:" and an absolute path


=== TEST 32: hatch_agent with a relative path
--- http_config
    hatch_agent unix:wake.sock;
--- config
--- must_die
--- error_log
invalid address "unix:wake.sock" of "hatch_agent"


=== TEST 33: hatch_agent with a path that is too long
--- http_config eval
"hatch_agent unix:/" . 'x' x 120 . ";"
--- config
--- must_die
--- error_log
of "hatch_agent" is longer than 107 bytes


=== TEST 34: hatch_agent with a wrong number
--- http_config
    hatch_agent unix:/run/wake.sock max_held=0;
--- config
--- must_die
--- error_log
invalid parameter "max_held=0" of "hatch_agent", it must be "max_held=" or "max_held_per_vm=", once, and 1 to 1000000


=== TEST 35: hatch_agent with an unknown parameter
--- http_config
    hatch_agent unix:/run/wake.sock held=9;
--- config
--- must_die
--- error_log
invalid parameter "held=9" of "hatch_agent"


=== TEST 36: hatch_agent with a parameter twice
--- http_config
    hatch_agent unix:/run/wake.sock max_held=1 max_held=2;
--- config
--- must_die
--- error_log
invalid parameter "max_held=2" of "hatch_agent"


=== TEST 37: hatch_agent twice
--- http_config
    hatch_agent unix:/run/wake.sock;
    hatch_agent unix:/run/wake.sock;
--- config
--- must_die
--- error_log
"hatch_agent" directive is duplicate


=== TEST 38: hatch_wake with another word
--- config
    hatch_wake maybe;
--- must_die
--- error_log
invalid value "maybe" of "hatch_wake", it must be "on", "off" or have a variable


=== TEST 39: hatch_wake with an unknown variable
--- config
    hatch_wake $nothing_of_the_kind;
--- must_die
--- error_log
unknown "nothing_of_the_kind" variable


=== TEST 40: hatch_wake_timeout of nothing
--- config
    hatch_wake_timeout 0;
--- must_die
--- error_log
"hatch_wake_timeout" must be 1ms to 1h


=== TEST 41: hatch_wake_timeout that is too long
--- config
    hatch_wake_timeout 2h;
--- must_die
--- error_log
"hatch_wake_timeout" must be 1ms to 1h


=== TEST 42: hatch_asleep_status with another status
--- config
    hatch_asleep_status 404;
--- must_die
--- error_log
invalid value "404"


=== TEST 43: hatch_route is no switch
--- http_config
--- config
    location / { hatch_route on; }
--- must_die
--- error_log
invalid base domain "on" of "hatch_route"
