#!/usr/bin/perl

# /metrics: what is in it, true to the zone, and nothing twice.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== TEST 1: the figures of the agent and of nginx
--- config
    location = /metrics { hatch_metrics; }
--- zone_options: --figures --age=2000
--- routes
rt_aaaaaaaaaaaaaaaa vm_running222222222 one 80
--- request
GET /metrics
--- response_headers
Cache-Control: no-store
!Content-Length
Transfer-Encoding: chunked
--- response_body_like eval
'(?s)^# HELP hatch_build_info .*
hatch_build_info\{version="\d+\.\d+\.\d+",nginx="\d+\.\d+\.\d+"\} 1
.*
hatch_zone_up 1
.*
hatch_agent_up 1
.*
hatch_libvirt_up 1
.*
hatch_agent_heartbeat_age_seconds [2-9]\.\d{3}
.*
hatch_agent_start_time_seconds \d{10}\.\d{3}
.*
hatch_stats_age_seconds \d\.\d{3}
.*
hatch_vms 7
.*
hatch_vms_by_state\{state="starting"\} 0
hatch_vms_by_state\{state="running"\} 4
hatch_vms_by_state\{state="pausing"\} 0
hatch_vms_by_state\{state="paused"\} 1
hatch_vms_by_state\{state="snapshotting"\} 0
hatch_vms_by_state\{state="snapshotted"\} 0
hatch_vms_by_state\{state="restoring"\} 0
hatch_vms_by_state\{state="stopping"\} 0
hatch_vms_by_state\{state="stopped"\} 1
hatch_vms_by_state\{state="error"\} 1
.*
hatch_zone_slots 16384
.*
hatch_zone_used_slots 7
.*
hatch_wakes_total\{kind="resume"\} 11
hatch_wakes_total\{kind="restore"\} 12
hatch_wakes_total\{kind="boot"\} 13
.*
hatch_wake_failures_total\{reason="host"\} 21
hatch_wake_failures_total\{reason="timeout"\} 23
hatch_wake_failures_total\{reason="refused"\} 24
.*# TYPE hatch_wake_duration_seconds histogram
hatch_wake_duration_seconds_bucket\{kind="resume",le="0.005"\} 1
hatch_wake_duration_seconds_bucket\{kind="resume",le="0.01"\} 2
.*
hatch_wake_duration_seconds_bucket\{kind="resume",le="1.0"\} 2
.*
hatch_wake_duration_seconds_bucket\{kind="resume",le="60.0"\} 2
hatch_wake_duration_seconds_bucket\{kind="resume",le="\+Inf"\} 3
hatch_wake_duration_seconds_sum\{kind="resume"\} 60\.012
hatch_wake_duration_seconds_count\{kind="resume"\} 3
.*
hatch_sleeps_total\{kind="pause"\} 30
hatch_sleeps_total\{kind="save"\} 31
.*
hatch_lost_saves_total 32
.*
hatch_stats_samples_total 33
.*
hatch_stats_failures_total 34
.*
hatch_stats_duration_seconds 0\.035
.*
hatch_store_up 1
.*
hatch_routes 1
.*
hatch_store_used_bytes \d{4,5}
.*
hatch_store_size_bytes 67108864
.*
hatch_requests_total 0
.*
hatch_held_requests_total 0
'
--- error_code: 200


=== TEST 2: the figures of one VM
--- config
    location = /metrics { hatch_metrics; }
--- zone_options: --figures
--- zone
vm_other22222222222 stopped -
vm_running222222222 running 127.0.0.1=web
--- request
GET /metrics
--- response_body_like eval
'(?s)
hatch_vm_state\{id="vm_running222222222",name="web",state="running"\} 1
.*
hatch_vm_vcpus\{id="vm_running222222222",name="web"\} 1
.*
hatch_vm_memory_bytes\{id="vm_running222222222",name="web"\} 1048576
.*
hatch_vm_memory_current_bytes\{id="vm_running222222222",name="web"\} 2003
.*
hatch_vm_memory_resident_bytes\{id="vm_running222222222",name="web"\} 2004
.*
hatch_vm_cpu_seconds_total\{id="vm_running222222222",name="web"\} 2\.002000000
.*
hatch_vm_network_receive_bytes_total\{id="vm_running222222222",name="web"\} 2005
.*
hatch_vm_network_transmit_bytes_total\{id="vm_running222222222",name="web"\} 2007
.*
hatch_vm_network_receive_packets_total\{id="vm_running222222222",name="web"\} 2006
.*
hatch_vm_network_transmit_packets_total\{id="vm_running222222222",name="web"\} 2008
.*
hatch_vm_block_read_bytes_total\{id="vm_running222222222",name="web"\} 2009
.*
hatch_vm_block_written_bytes_total\{id="vm_running222222222",name="web"\} 2011
.*
hatch_vm_block_reads_total\{id="vm_running222222222",name="web"\} 2010
.*
hatch_vm_block_writes_total\{id="vm_running222222222",name="web"\} 2012
.*
hatch_vm_stats_age_seconds\{id="vm_running222222222",name="web"\} \d\.\d{3}
.*
hatch_vm_requests_total\{id="vm_running222222222",name="web"\} 0
.*
hatch_vm_wakes_total\{id="vm_running222222222",name="web"\} 2
.*
hatch_vm_wake_failures_total\{id="vm_running222222222",name="web"\} 3
'
--- error_code: 200


=== TEST 3: summary: nothing of single VMs
--- config
    location = /metrics { hatch_metrics summary; }
--- zone_options: --figures
--- request
GET /metrics
--- response_body_like: hatch_vms 7
--- response_body_unlike: hatch_vm_
--- error_code: 200


=== TEST 4: without a zone
--- config
    location = /metrics { hatch_metrics; }
--- http_config
    hatch_zone $TEST_NGINX_HATCH_DIR/run/zone;
    hatch_route_store $TEST_NGINX_HATCH_DIR/metrics-routes;
--- init
mkdir("$ENV{TEST_NGINX_HATCH_DIR}/metrics-routes");
--- no_zone
--- request
GET /metrics
--- response_body_like eval
'(?s)hatch_zone_up 0\n.*hatch_agent_up 0\n.*hatch_libvirt_up 0\n'
--- response_body_unlike: hatch_vms|hatch_vm_
--- error_code: 200


=== TEST 5: an agent that is dead, and one without libvirt
--- config
    location = /metrics { hatch_metrics; }
--- zone_options: --age=11000
--- request
GET /metrics
--- response_body_like eval
'(?s)hatch_agent_up 0\n.*hatch_libvirt_up 0\n'
. '.*hatch_agent_heartbeat_age_seconds [1-9]\d\.\d+\n'
--- error_code: 200


=== TEST 6: a name that would break the format
--- config
    location = /metrics { hatch_metrics; }
--- zone eval
"vm_running222222222 running 127.0.0.1=a\"b\\c\x07d\xffe\xc3\xa9f\xed\xa0\x80g\xe2\x82\n"
--- request
GET /metrics
--- response_body_like eval
qr/hatch_vm_vcpus\{id="vm_running222222222",name="a\\"b\\\\c\?d\?e\xc3\xa9f\?\?\?g\?\?"\} 1\n/
--- error_code: 200


=== TEST 7: requests are counted
--- config
    location = /metrics { hatch_metrics; }
    location / {
        hatch_route hatch.local;
        proxy_pass http://vms;
    }
    location = /guest { return 204; }
--- routes
rt_cccccccccccccccc vm_stopped222222222 down 80!
--- request eval
["GET /", "GET /", "GET /metrics"]
--- more_headers eval
["Host: down.hatch.local", "Host: down.hatch.local", ""]
--- response_body_like eval
["", "", '(?s)hatch_requests_total 2\n.*hatch_vm_requests_total\{'
         . 'id="vm_stopped222222222",name=""\} 2\n']
--- error_code eval
[503, 503, 200]


=== TEST 8: HEAD, other methods
--- config
    location = /metrics { hatch_metrics; }
--- request eval
["HEAD /metrics", "POST /metrics\nx"]
--- response_body_like eval
['^$', 'method_not_allowed']
--- response_headers eval
["Content-Type: text/plain; version=0.0.4; charset=utf-8",
 "Allow: GET, HEAD, OPTIONS"]
--- error_code eval
[200, 405]


=== TEST 9: HTTP/1.0 ends with the connection
--- config
    location = /metrics { hatch_metrics; }
--- raw_request eval
"GET /metrics HTTP/1.0\r\n\r\n"
--- response_headers
!Transfer-Encoding
Connection: close
--- response_body_like: hatch_vm_wake_failures_total\{id="vm_noaddress2222222",name=""\} 0\n$
--- error_code: 200


=== TEST 10: many VMs, in chunks, each once in each family
--- config
    location = /metrics { hatch_metrics; }
--- zone_options: --more=3000
--- zone
--- request
GET /metrics
--- response_body_filters eval
sub {
    my (%seen, %of);
    for (split /\n/, $_[0]) {
        $seen{$1}++ if /^# TYPE (\S+)/;
        $of{$1}++ if /^(hatch_vm_\w+)\{/;
    }
    return CORE::join ' ', (scalar grep { $_ > 1 } values %seen), scalar(keys %of),
                     (grep { $_ != 3000 } values %of), 'wrong';
}
--- response_body chomp
0 18 wrong
--- error_code: 200


=== TEST 11: compressed on the way
--- config
    gzip on;
    gzip_types text/plain;
    location = /metrics { hatch_metrics; }
--- zone_options: --more=3000
--- zone
--- more_headers
Accept-Encoding: gzip
--- request
GET /metrics
--- response_headers
Content-Encoding: gzip
--- response_body_filters eval
sub {
    require IO::Uncompress::Gunzip;
    my ($in, $out) = ($_[0]);
    IO::Uncompress::Gunzip::gunzip(\$in, \$out) or die;
    return scalar(() = $out =~ /^hatch_vm_wakes_total/mg);
}
--- response_body chomp
3000
--- error_code: 200


=== TEST 12: a slow reader gets all of it
--- config
    location = /metrics { hatch_metrics; limit_rate 3m; }
--- zone_options: --more=3000
--- zone
--- request
GET /metrics
--- response_body_filters eval
sub { return scalar(() = $_[0] =~ /^hatch_vm_wakes_total/mg) }
--- response_body chomp
3000
--- timeout: 20
--- error_code: 200


=== TEST 13: hatch_metrics with something else
--- config
    location = /metrics { hatch_metrics all; }
--- must_die
--- error_log
invalid parameter "all" of "hatch_metrics", it must be "summary"


=== TEST 14: hatch_readyz with something else
--- config
    location = /readyz { hatch_readyz max_age=500ms; }
--- must_die
--- error_log
invalid parameter "max_age=500ms" of "hatch_readyz", it must be "max_age=" and 1s to 1h


=== TEST 15: two answers in one location
--- config
    location = /metrics { hatch_healthz; hatch_metrics; }
--- must_die
--- error_log
"hatch_metrics" directive stands beside another handler of the location
