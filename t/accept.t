#!/usr/bin/perl

# /healthz and /metrics by Accept: what real monitors send, what the RFC
# allows, and what nobody should send.  Never 406; what is malformed is as if
# there were none.

use Test::Nginx::Hatch;
use Test::Nginx::Socket 'no_plan';

# The format that /healthz has for each; /metrics has text where this is json.
our @accept = (
    # Prometheus 2.0 to 2.25, 2.26 to 2.42, 2.4x, 2.50 with protobuf, 3.x
    [om => 'application/openmetrics-text; version=1.0.0,'
           . 'application/openmetrics-text; version=0.0.1;q=0.75,'
           . 'text/plain;version=0.0.4;q=0.5,*/*;q=0.1'],
    [text => 'application/openmetrics-text; version=0.0.1,'
             . 'text/plain;version=0.0.4;q=0.5,*/*;q=0.1'],
    [text => 'text/plain;version=0.0.4;q=1,*/*;q=0.1'],
    [text => 'application/vnd.google.protobuf;'
             . 'proto=io.prometheus.client.MetricFamily;encoding=delimited;'
             . 'q=0.7,text/plain;version=0.0.4;q=0.3'],
    [om => 'application/vnd.google.protobuf;'
           . 'proto=io.prometheus.client.MetricFamily;encoding=delimited,'
           . 'application/openmetrics-text;version=1.0.0;q=0.8,'
           . 'application/openmetrics-text;version=0.0.1;q=0.75,'
           . 'text/plain;version=0.0.4;q=0.5,*/*;q=0.1'],
    [om => 'application/openmetrics-text;version=1.0.0;'
           . 'escaping=allow-utf-8;q=0.6,'
           . 'application/openmetrics-text;version=0.0.1;q=0.5,'
           . 'text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,'
           . 'text/plain;version=0.0.4;q=0.3,*/*;q=0.2'],
    [text => 'text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,'
             . 'text/plain;version=0.0.4;q=0.5,*/*;q=0.2'],
    [om => 'application/openmetrics-text;version=1.0.0;escaping=underscores,'
           . 'text/plain;version=0.0.4;q=0.5,*/*;q=0.1'],

    # Datadog, Telegraf, Grafana Alloy, vmagent, Zabbix, Nagios
    [text => 'text/plain'],
    [om => 'application/openmetrics-text;version=1.0.0,'
           . 'application/openmetrics-text;version=0.0.1'],
    [text => 'text/plain;version=0.0.4;charset=utf-8'],
    [text => 'text/plain;version=0.0.4;q=1,*/*;q=0.1;'],
    [json => 'application/json'],
    [json => 'application/json; charset=utf-8'],

    # curl, wget, kubelet, Go, Python, Ruby, HAProxy send this or nothing
    [json => '*/*'],
    [json => undef],
    [json => ''],

    # Java's HttpURLConnection, axios, jQuery, .NET, Firefox, Chrome, Safari
    [json => 'text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2'],
    [json => 'application/json, text/plain, */*'],
    [json => 'application/json, text/javascript, */*; q=0.01'],
    [json => 'application/json; odata=verbose'],
    [json => 'text/html,application/xhtml+xml,application/xml;q=0.9,'
             . 'image/avif,image/webp,*/*;q=0.8'],
    [json => 'text/html,application/xhtml+xml,application/xml;q=0.9,'
             . 'image/avif,image/webp,image/apng,*/*;q=0.8,'
             . 'application/signed-exchange;v=b3;q=0.7'],
    [json => 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8'],
    [json => 'image/png'],

    # what the RFC allows
    [text => 'text/*'],
    [text => 'TEXT/PLAIN;VERSION=0.0.4'],
    [text => 'text/plain ; version="0.0.4"'],
    [text => "text/plain\t;\tversion=0.0.4\t,\t*/*;q=0"],
    [text => ',, text/plain ,,'],
    [text => 'text/plain;;version=0.0.4;'],
    [om => 'application/openmetrics-text'],
    [om => 'application/openmetrics-text;version="1.0.0";charset=utf-8'],
    [om => 'text/plain, application/openmetrics-text'],
    [text => 'text/plain;q=0.9, application/openmetrics-text;q=0.8'],
    [json => 'application/*', 'om'],    # /metrics has no JSON for it
    [json => 'text/plain, application/json'],
    [json => 'text/plain;q=0.999, application/json'],
    [text => 'text/plain, application/json;q=0.999'],
    [json => 'text/plain;q=0.5, */*;q=0.5'],
    [json => 'text/plain;q=0.5, */*', 'om'],
    [text => 'text/plain;q=0.5, */*;q=0.1, application/json;q=0.2'],
    [text => 'application/json;q=0, */*'],
    [text => 'application/json;q=0.0, */*;q=0.1'],
    [json => '*/*;q=0'],
    [json => 'text/plain;q=0'],
    [json => 'text/plain;version=0.0.4;q=0, text/plain;version=9'],
    [json => 'application/openmetrics-text;version=2.0.0'],
    [json => 'text/plain;version=1.0.0'],
    [text => 'text/plain;version=0.0.4;q=0.001'],
    [text => 'text/plain;Q=1.000'],
    [text => 'text/plain;foo="a,b;c=\"d"'],

    # what it does not
    [json => 'text/plain;q=2'],
    [json => 'text/plain;q=1.001'],
    [json => 'text/plain;q=0.1234'],
    [json => 'text/plain;q=.5'],
    [json => 'text/plain;q=-1'],
    [json => 'text/plain;q='],
    [json => 'text/plain;q'],
    [json => 'text/plain;q=1;q=0'],
    [json => 'text/plain;q=0.5, application/openmetrics-text;q=nan'],
    [json => 'text/plain;version="0.0.4'],
    [json => 'text/plain;version="0.0.4\\'],
    [json => 'text/plain; version = 0.0.4'],
    [json => 'text/plain;version=0.0.4;version=0.0.4'],
    [json => 'text/'],
    [json => '/plain'],
    [json => 'text'],
    [json => '*/plain'],
    [json => 'text/plain/x'],
    [json => 'text/plain application/json'],
    [json => 'text/plain;version=0.0.4 x'],
    [json => 'text/plain;=0.0.4'],
    [json => ';'],
    [json => '%s%s%n%n'],
    [json => "text/plain\xff"],
    [json => "text/plain;version=\"\x01\""],
    [json => 'text/plain,' . 'a' x 4000],
    [text => 'text/plain,' . join ',', map "a/b$_", 1 .. 300],
    [json => 'text/plain,' . '"' x 1000]
);

our %type = (
    json => 'application/json',
    text => 'text/plain; version=0.0.4; charset=utf-8',
    om => 'application/openmetrics-text; version=1.0.0; charset=utf-8'
);

our %body = (
    json => '^\{"status":"ok","vm_count":7,"route_count":2\}$',
    text => '^# HELP hatch_healthy [^\n]+\n# TYPE hatch_healthy gauge\n'
            . 'hatch_healthy 1\n# HELP hatch_vms [^\n]+\n'
            . '# TYPE hatch_vms gauge\nhatch_vms 7\n# HELP hatch_routes '
            . '[^\n]+\n# TYPE hatch_routes gauge\nhatch_routes 2\n$',
    om => '\nhatch_vms 7\n(.*\n)+hatch_routes 2\n# EOF\n$'
);

sub headers {
    return [map { defined $_->[1] ? "Accept: $_->[1]" : '' } @accept];
}

sub of_metrics {
    my ($case) = @_;
    return $case->[2] // ($case->[0] eq 'json' ? 'text' : $case->[0]);
}

run_tests();

__DATA__

=== TEST 1: /healthz
--- config
    location = /healthz { hatch_healthz; }
--- routes
rt_aaaaaaaaaaaaaaaa vm_running222222222 one 80
rt_bbbbbbbbbbbbbbbb vm_running222222222 two 80
--- request eval
[('GET /healthz') x @main::accept]
--- more_headers eval
main::headers()
--- response_headers eval
[map "Content-Type: $main::type{$_->[0]}\nVary: Accept", @main::accept]
--- response_body_like eval
[map $main::body{$_->[0]}, @main::accept]
--- error_code eval
[(200) x @main::accept]


=== TEST 2: /metrics
--- config
    location = /metrics { hatch_metrics; }
--- request eval
[('GET /metrics') x @main::accept]
--- more_headers eval
main::headers()
--- response_headers eval
[map "Content-Type: $main::type{main::of_metrics($_)}\nVary: Accept",
     @main::accept]
--- response_body_like eval
[map { main::of_metrics($_) eq 'om' ? '^(?s).*# TYPE hatch_requests counter\n.*\n# EOF\n$'
                       : '^(?s)(?!.*# EOF).*# TYPE hatch_requests_total '
                         . 'counter\n.*} \d+\n$' } @main::accept]
--- error_code eval
[(200) x @main::accept]


=== TEST 3: several lines of Accept are one list
--- config
    location = /healthz { hatch_healthz; }
--- request eval
["GET /healthz", "GET /healthz", "GET /healthz"]
--- more_headers eval
["Accept: application/json;q=0.1\nAccept: text/plain",
 "Accept: text/plain;q=0.1\nAccept: application/json",
 "Accept: text/plain\nAccept: text"]
--- response_headers eval
["Content-Type: $main::type{text}", "Content-Type: $main::type{json}",
 "Content-Type: $main::type{json}"]
--- error_code eval
[200, 200, 200]


=== TEST 4: HEAD has the type and length of the format
--- config
    location = /healthz { hatch_healthz; }
    location = /metrics { hatch_metrics; }
--- request eval
["HEAD /healthz", "HEAD /healthz", "HEAD /metrics"]
--- more_headers eval
["Accept: text/plain", "Accept: application/openmetrics-text",
 "Accept: application/openmetrics-text"]
--- response_headers eval
["Content-Type: $main::type{text}\nContent-Length: 268",
 "Content-Type: $main::type{om}\nContent-Length: 274",
 "Content-Type: $main::type{om}\n!Content-Length"]
--- response_body eval
["", "", ""]
--- error_code eval
[200, 200, 200]


=== TEST 5: nginx's charset adds no second one
--- config
    charset koi8-r;
    location = /healthz { hatch_healthz; }
--- request
GET /healthz
--- more_headers
Accept: text/plain
--- response_headers eval
"Content-Type: $main::type{text}"
--- error_code: 200


=== TEST 6: errors are JSON with Vary, too
--- config
    location = /healthz { hatch_healthz; }
--- no_zone
--- request
GET /healthz
--- more_headers
Accept: text/plain
--- response_headers
Content-Type: application/json
Vary: Accept
--- error_code: 503
