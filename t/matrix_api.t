#!/usr/bin/perl

# Health, metrics, the route API, keys and the settings of a wake wherever a
# configuration may have them.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Matrix;
use Test::More;

mkdir "$dir/www";
chmod 0755, "$dir/www";
write_file("$dir/www/page.html", '<b><!--#include virtual="/healthz" --></b>');
write_file("$dir/www/routes.html", '<b><!--#include virtual="/routes" --></b>');

my $key = 'X-API-Key: secret';
my $healthy = '200 {"status":"ok","vm_count":4,"route_count":5}';
my $ready = qr/^200 \{"status":"ready"/;
my $figures = qr/^200 # HELP hatch_.*hatch_vms 4/;
my $list = qr/^200 \[\{"id":"rt_.*\}\]$/;

matrix({ http => 'limit_req_zone $server_port zone=slow:1m rate=1r/m;' },

    # --- health and metrics ---

    'health' => [q{
        location = /healthz { hatch_healthz; }
        location = /readyz { hatch_readyz; }
        location = /metrics { hatch_metrics; }
        location / { return 200 own; } },
        'GET localhost /healthz' => [$healthy,
                                     'Content-Type' => 'application/json'],
        'GET a /healthz' => $healthy,
        'HEAD localhost /healthz' => '200',
        'GET localhost /readyz' => $ready,
        'GET localhost /metrics' => $figures,
        'OPTIONS localhost /healthz' => ['204', Allow => qr/GET.*HEAD/],
        'OPTIONS localhost /readyz' => ['204', Allow => qr/GET.*HEAD/],
        'POST localhost /healthz = x' => ['405 method_not_allowed',
                                          Allow => qr/GET.*HEAD/],
        'DELETE localhost /readyz' => ['405 method_not_allowed',
                                       Allow => qr/GET.*HEAD/],
        'GET localhost /healthz + If-Match: "x"' => $healthy,
        'GET localhost /healthz + If-None-Match: *' => $healthy,
        'GET localhost /healthz + If-Modified-Since: Fri, 31 Dec 2100 '
            . '23:59:59 GMT' => $healthy,
        'GET localhost /healthz + If-Unmodified-Since: Thu, 01 Jan 1970 '
            . '00:00:01 GMT' => $healthy,
        'GET localhost /readyz + If-Match: "x"' => $ready,
        'GET localhost /readyz + If-Unmodified-Since: Thu, 01 Jan 1970 '
            . '00:00:01 GMT' => $ready,
        'GET localhost /healthz + Range: bytes=0-3' => $healthy],

    'health below a server\'s hatch_route' => [q{ ROUTE
        location = /healthz { hatch_healthz; }
        location = /readyz { hatch_readyz; }
        location = /metrics { hatch_metrics summary; }
        location / { PASS } },
        'GET a /healthz' => $healthy,
        'GET none /healthz' => $healthy,
        'GET localhost /readyz' => $ready,
        'GET localhost /metrics' => qr/^200 (?!.*hatch_vm_).*hatch_vms 4/,
        'GET a /x' => '200 A GET /x',
        'GET none /x' => '404 route_not_found'],

    'health nested, by an expression, in "if"' => [q{
        location /in { ROUTE PASS
                       location = /in/healthz { hatch_healthz; }
                       location = /in/metrics { hatch_metrics; } }
        location ~ ^/(live|alive)$ { hatch_healthz; }
        location = /if { hatch_readyz max_age=5s; if ($arg_q) { set $y 1; } }
        location = /ifm { hatch_metrics summary; if ($arg_q) { set $y 1; } }
        location = /named { try_files /no @health; }
        location @health { hatch_healthz; }
        location = /error { error_page 418 = @health; return 418; }
        location = /rewrite { rewrite ^ /alive last; }
        location = /limited { hatch_healthz; limit_except GET { deny all; } } },
        'GET localhost /in/healthz' => $healthy,
        'GET localhost /in/metrics' => $figures,
        'GET a /in/x' => '200 A GET /in/x',
        'GET localhost /alive' => $healthy,
        'GET localhost /if?q=1' => $ready,
        'GET localhost /ifm?q=1' => qr/^200 (?!.*hatch_vm_).*hatch_vms 4/,
        'GET localhost /named' => $healthy,
        'GET localhost /error' => $healthy,
        'GET localhost /rewrite' => $healthy,
        'GET localhost /limited' => $healthy,
        'POST localhost /limited = x' => qr/^403 /],

    'health in subrequests' => [q{
        location = /healthz { hatch_healthz; }
        location = /metrics { hatch_metrics; }
        location = /guarded { auth_request /healthz; ROUTE PASS }
        location = /mirrored { mirror /metrics; ROUTE PASS }
        location = /page.html { root DIR/www; ssi on; }
        location = /own { return 200 own; }
        location = /behind { auth_request /own; hatch_healthz; } },
        'GET a /guarded' => '200 A GET /guarded',
        'GET a /mirrored' => '200 A GET /mirrored',
        'POST a /mirrored = body' => ['200 A POST /mirrored',
                                      'X-Body' => 'body'],
        'GET localhost /page.html' => $healthy =~ s/ (.*)/ <b>$1<\/b>/r,
        'GET localhost /behind' => $healthy],

    'health under limits' => [q{
        location = /healthz { limit_req zone=slow; hatch_healthz; }
        location = /denied { deny all; hatch_healthz; }
        location = /any { satisfy any; allow 127.0.0.1; deny all;
                          hatch_healthz; } },
        'GET localhost /healthz' => $healthy,
        'HEAD localhost /healthz' => '503',
        'GET localhost /denied' => qr/^403 /,
        'GET localhost /any' => $healthy],

    'health by HTTP/2' => [{ listen => 'http2', h2 => 1 }, q{
        location = /healthz { hatch_healthz; }
        location = /readyz { hatch_readyz; }
        location = /metrics { hatch_metrics; } },
        'GET localhost /healthz' => $healthy,
        'GET localhost /readyz' => $ready,
        'GET localhost /metrics' => $figures,
        'OPTIONS localhost /healthz' => '204',
        'DELETE localhost /healthz' => '405 method_not_allowed'],

    # --- keys ---

    'keys of a server' => [q{ KEYS
        location = /healthz { hatch_healthz; }
        location = /readyz { hatch_readyz; }
        location = /health { hatch_healthz; if ($arg_q) { set $y 1; } }
        location = /ready { hatch_readyz;
                            if ($http_user_agent ~ x) { set $y 1; }
                            limit_except GET { allow all; } }
        location = /metrics { hatch_metrics; }
        location = /open { hatch_api_keys off; hatch_metrics; }
        location = /own { return 200 own; }
        location /routes { hatch_api; }
        location / { ROUTE PASS } },
        'GET localhost /healthz' => $healthy,
        'GET localhost /readyz' => $ready,
        'GET localhost /health?q=1' => $healthy,
        'GET localhost /ready + User-Agent: x' => $ready,
        'OPTIONS localhost /ready' => '204',
        'GET localhost /metrics' => '401 unauthorized',
        "GET localhost /metrics + $key" => $figures,
        'GET localhost /open' => $figures,
        'GET localhost /routes' => ['401 unauthorized', 'WWW-Authenticate' =>
                                    'Bearer realm="hatch"'],
        "GET localhost /routes + $key" => $list,
        'GET a /x' => '401 unauthorized',
        'GET none /x' => '401 unauthorized',
        "GET a /x + $key" => '200 A GET /x',
        'GET a /x + Authorization: Bearer secret' => '200 A GET /x',
        "GET none /x + $key" => '404 route_not_found'],

    'keys of a location' => [q{
        location / { KEYS ROUTE PASS
                     location /in { PASS }
                     location /off { hatch_api_keys off; PASS } }
        location /if { KEYS ROUTE PASS if ($arg_q) { set $y 1; } }
        location /named { error_page 418 = @vm; return 418; }
        location @vm { KEYS ROUTE PASS } },
        'GET a /in' => '401 unauthorized',
        "GET a /in + $key" => '200 A GET /in',
        'GET a /off' => '200 A GET /off',
        'GET a /if?q=1' => '401 unauthorized',
        "GET a /if?q=1 + $key" => '200 A GET /if?q=1',
        'GET a /named' => '401 unauthorized',
        "GET a /named + $key" => '200 A GET /named'],

    'keys and others who ask' => [q{
        location / { satisfy any; deny all; KEYS ROUTE PASS }
        location /near { satisfy any; allow 127.0.0.1; deny all; KEYS
                         ROUTE PASS }
        location /both { auth_request /auth; KEYS ROUTE PASS }
        location /either { satisfy any; auth_request /no; KEYS ROUTE PASS }
        location = /auth { internal; hatch_api_keys off; return 204; }
        location = /no { internal; return 403; }
        location /own { error_page 401 /login; KEYS ROUTE PASS }
        location /html { error_page 401 /login.html; KEYS ROUTE PASS }
        location /file { error_page 401 /404.html; KEYS ROUTE PASS }
        location /bare { error_page 401 /nothing; KEYS ROUTE PASS }
        location = /login { hatch_api_keys off; return 200 login; }
        location = /login.html { KEYS return 401 "<b>login</b>"; }
        location = /404.html { KEYS root DIR/www; }
        location = /nothing { KEYS return 401; } },
        'GET a /x' => '401 unauthorized',
        "GET a /x + $key" => '200 A GET /x',
        'GET a /near' => '200 A GET /near',
        'GET a /both' => '401 unauthorized',
        "GET a /both + $key" => '200 A GET /both',
        "GET a /either + $key" => '200 A GET /either',
        'GET a /own' => '401 login',
        'GET a /html' => '401 <b>login</b>',
        'GET a /file' => '401 unauthorized',
        'GET a /bare' => '401 unauthorized',
        "GET a /own + $key" => '200 A GET /own'],

    # --- the route API ---

    'the API' => [q{
        location / { hatch_api; proxy_pass http://plain; } },
        'GET localhost /routes' => $list,
        'GET localhost /vms' => '200 plain GET /vms',
        'GET localhost /x' => '200 plain GET /x'],

    'the API inside of a route' => [q{
        location / { ROUTE PASS
                     location /routes { hatch_api; }
                     location /api/ { hatch_api; proxy_pass http://plain; } } },
        'GET localhost /routes' => $list,
        'GET localhost /api/x' => '200 plain GET /api/x',
        'GET a /x' => '200 A GET /x'],

    'a route inside of the API' => [q{
        location / { hatch_api; proxy_pass http://plain;
                     location /app { ROUTE PASS
                                     if ($arg_q) { set $y 1; } }
                     location /routes/app { ROUTE PASS } } },
        'GET localhost /routes' => $list,
        'GET a /app/x' => '200 A GET /app/x',
        'GET a /app/x?q=1' => '200 A GET /app/x?q=1',
        'GET none /app/x' => '404 route_not_found',
        'GET a /routes/app' => '200 A GET /routes/app',
        'GET refused /app/x' => '502 guest_refused'],

    'the API below a server\'s route' => [q{ ROUTE
        location /routes { hatch_api; }
        location /vms { hatch_api; proxy_pass http://plain; }
        location / { PASS } },
        'GET localhost /routes' => $list,
        'GET localhost /vms' => '200 plain GET /vms',
        'GET a /x' => '200 A GET /x',
        'GET none /x' => '404 route_not_found'],

    'the API by detours' => [q{
        location ~ ^/(routes|vms)$ { hatch_api; if ($arg_q) { set $y 1; }
                                     limit_except GET { deny all; } }
        location /named { rewrite ^ /routes break; try_files /no @api; }
        location @api { hatch_api; }
        location = /rewrite { rewrite ^ /routes last; }
        location = /routes.html { root DIR/www; ssi on; }
        location /routes/ { auth_request /auth; hatch_api; }
        location = /auth { return 403; } },
        'GET localhost /routes' => $list,
        'HEAD localhost /routes' => '200',
        'POST localhost /routes = {}' => '403 forbidden',
        'GET localhost /named' => $list,
        'GET localhost /rewrite' => $list,
        # no page can include the routes
        'GET localhost /routes.html' => qr/^200 <b>(?!.*rt_)/,
        'GET localhost /routes/rt_aaaaaaaaaaaaaaaa' => '403 forbidden'],

    'the API\'s errors' => [q{
        client_max_body_size 100;
        location / { hatch_api; }
        location /vms { hatch_api; proxy_pass http://unix:DIR/nobody.sock:; }
        location /own { error_page 502 /lost; hatch_api;
                        proxy_pass http://unix:DIR/nobody.sock:; }
        location = /lost { return 200 lost; } },
        'GET localhost /x' => '404 not_found',
        'GET localhost /vms' => '502 agent_unavailable',
        'GET localhost /own/x' => '502 lost',
        'GET localhost /routes/%ff' => '404 route_not_found',
        "POST localhost /vms/vm_aaaaaaaaaaaaaaaa/routes = "
            . '{"target_port":80,"' . "\xc3\xa4" x 10 . '":1}'
            => qr/^(?:400|404) \w+$/,
        'POST localhost /vms/vm_aaaaaaaaaaaaaaaa/routes = ' . 'x' x 101
            => '413 payload_too_large'],

    'paths and queries of the API' => [q{
        location / { hatch_api; proxy_pass http://plain; } },
        'GET localhost //routes' => $list,
        'GET localhost /%72outes' => $list,
        'GET localhost /routes/' => qr/^404 /,
        'GET localhost /routes?limit=%31' => qr/^200 \[\{[^{}]*\}\]$/,
        'GET localhost /routes?_=1' => qr/^400 \w+$/],

    'conditions of changes' => [q{ location / { hatch_api; } },
        'of a route' => sub {
            my ($port, $name) = @_;
            my $path = '/routes/' . create_route($vm{b}, 'changed')->{id};
            my $patch = sub {
                return ask($port, "PATCH localhost $path + $_[0] = "
                                  . "{\"target_port\":$_[1]}");
            };
            my $past = 'Thu, 01 Jan 1970 00:00:01 GMT';
            check("$name: a tag", $patch->('If-Match: "x"', 81), qr/^412 \w+$/);
            check("$name: tags", $patch->('If-Match: W/"x", "y"', 81),
                  qr/^412 \w+$/);
            check("$name: nothing has changed",
                  ask($port, "GET localhost $path"), qr/"target_port":80,/);
            check("$name: *", $patch->('If-Match: *', 82),
                  qr/^200 .*"target_port":82,/);
            check("$name: a date", $patch->("If-Unmodified-Since: $past", 83),
                  qr/^200 .*"target_port":83,/);
            my $delete = "DELETE localhost $path +";
            check("$name: DELETE by a tag",
                  ask($port, "$delete If-Match: \"x\""), qr/^412 \w+$/);
            check("$name: it is there", ask($port, "GET localhost $path"),
                  qr/^200 /);
            check("$name: DELETE by a date",
                  ask($port, "$delete If-Unmodified-Since: $past"), qr/^200 /);
            check("$name: it is gone", ask($port, "GET localhost $path"),
                  '404 route_not_found');
        }],

    # --- may a request wake a VM, and for how long does it wait ---

    'hatch_wake of a server' => [{ held => 0 }, q{
        hatch_wake off; hatch_asleep_status 200;
        location / { ROUTE PASS
                     location /in { PASS hatch_asleep_status 503; }
                     location /on { PASS hatch_wake on; } }
        location /if { ROUTE PASS if ($arg_q) { set $y 1; } } },
        'GET a /x' => '200 A GET /x',
        'asleep' => sub {
            my ($port, $name) = @_;
            sleep_now();
            my $paused = '200 {"state":"paused"}';
            check("$name: /x", ask($port, 'GET a /x'), $paused);
            check("$name: if", ask($port, 'GET a /if?q=1'), $paused);
            check("$name: /in", ask($port, 'GET a /in'), '503 vm_not_running');
            check("$name: /on", ask($port, 'GET a /on'), '200 A GET /on');
        }],

    'hatch_wake by a variable' => [{ held => 0 }, q{
        set $may on;
        if ($http_user_agent ~ bot) { set $may off; }
        hatch_wake $may;
        location / { ROUTE PASS } },
        'GET a /x + User-Agent: bot' => '200 A GET /x',
        'asleep' => sub {
            my ($port, $name) = @_;
            sleep_now();
            check("$name: a bot", ask($port, 'GET a /x + User-Agent: bot'),
                  '503 vm_not_running');
            check("$name: others", ask($port, 'GET a /x'), '200 A GET /x');
        }],

    'hatch_wake by detours' => [{ held => 0 }, q{
        location / { error_page 418 = @vm; return 418; }
        location @vm { ROUTE PASS hatch_wake off; hatch_asleep_status 200; }
        location ~ ^/(re|gex)$ { ROUTE PASS hatch_wake off; }
        location /rewrite { hatch_wake off; rewrite ^ /on last; }
        location /on { ROUTE PASS } },
        'GET a /x' => '200 A GET /x',
        'asleep' => sub {
            my ($port, $name) = @_;
            sleep_now();
            check("$name: named", ask($port, 'GET a /x'),
                  '200 {"state":"paused"}');
            check("$name: regular expression", ask($port, 'GET a /re'),
                  '503 vm_not_running');
            check("$name: where it ends up", ask($port, 'GET a /rewrite'),
                  '200 A GET /on');
        }],

    'hatch_wake_timeout' => [q{
        hatch_wake_timeout 200ms;
        location / { ROUTE PASS }
        location /in { hatch_wake_timeout 1h; ROUTE PASS
                       location /in/in { PASS hatch_wake_timeout 100ms; } }
        location /page { ROUTE PASS error_page 504 =200 /late; }
        location = /late { return 200 late; } },
        'GET never /x' => '504 wake_timeout',
        'POST never /in/in = body' => '504 wake_timeout',
        'GET never /page' => '200 late',
        'GET a /in' => '200 A GET /in'],
);

# --- the same for all servers ---

matrix({ http => 'hatch_wake off; hatch_wake_timeout 100ms;
                  hatch_asleep_status 200;' },

    'wake settings of http' => [{ held => 0 }, q{
        location / { ROUTE PASS location /on { hatch_wake on; PASS } } },
        'GET a /x' => '200 A GET /x',
        'GET never /on' => '504 wake_timeout',
        'asleep' => sub {
            my ($port, $name) = @_;
            sleep_now();
            check($name, ask($port, 'GET a /x'), '200 {"state":"paused"}');
            check("$name: on", ask($port, 'GET a /on'), '200 A GET /on');
        }],
);

matrix({ http => "hatch_api_keys $dir/keys;" },

    'keys of http' => [q{
        location = /healthz { hatch_healthz; }
        location = /open { hatch_api_keys off; hatch_metrics; }
        location / { ROUTE PASS } },
        'GET localhost /healthz' => $healthy,
        'GET localhost /open' => $figures,
        'GET a /x' => '401 unauthorized',
        "GET a /x + $key" => '200 A GET /x'],
);

# --- what nginx does not take ---

for my $directive ('hatch_route hatch.localhost', 'hatch_healthz',
                   'hatch_readyz', 'hatch_metrics', 'hatch_api')
{
    my ($name) = $directive =~ /^(\w+)/;
    my $says = qr/"$name" directive is not allowed here/;
    refused("$name at http", "http: $directive;", $says);
    refused("$name in \"if\"", "location / { if (\$arg_q) { $directive; } }",
            $says);
    refused("$name in limit_except",
            "location / { limit_except GET { $directive; } }", $says);
    refused("$name at server", "$directive;", $says)
        if $name ne 'hatch_route';
}
refused("$_ in \"if\"", "location / { if (\$arg_q) { $_; } }",
        qr/directive is not allowed here/)
    for 'hatch_wake off', 'hatch_wake_timeout 1s', 'hatch_asleep_status 200',
        'hatch_api_keys off';
refused('two handlers', 'location / { hatch_healthz; hatch_metrics; }',
        qr/stands beside another handler/);
refused('hatch_api and hatch_route', $_, qr/hatch_(?:api|route)/)
    for 'location / { hatch_api; ROUTE PASS }',
        'location / { ROUTE hatch_api; }';
refused('hatch_route twice', 'ROUTE ROUTE', qr/is duplicate/);
refused('hatch_route on and off', 'ROUTE hatch_route off;', qr/is duplicate/);

# --- OPTIONS says what GET says ---

stop_agent('KILL');
wait_until('nobody is ready', sub { readyz()->{code} == 503 });
is(http('127.0.0.1:8080', 'OPTIONS', '/readyz')->{status}, 503,
   'OPTIONS of /readyz is not green by itself');
is(http('127.0.0.1:8080', 'OPTIONS', '/healthz')->{status}, 204,
   'and of /healthz goes on');

allow_log(qr/\[emerg\]/, qr/connect\(\) (?:to \S+ )?failed/,
          qr/access forbidden by rule/, qr/limiting requests/,
          qr/client intended to send too large body/);
done();
