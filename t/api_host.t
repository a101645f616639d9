#!/usr/bin/perl

# Whose host and whose origin a request to hatch_api may have: the page of
# another one could have its name lead here ("DNS rebinding").

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Matrix;
use Test::More;

my $forbidden = ['403 host_forbidden', 'Content-Type' => 'application/json',
                 'Cache-Control' => 'no-store',
                 'Access-Control-Allow-Origin' => undef];
my $foreign = '403 origin_forbidden';
my $passes = '404 route_not_found';
my $key = 'X-API-Key: secret';

# A table of hosts, each asked for a route that is not there.
sub hosts {
    my ($answer, @hosts) = @_;
    return map {; "GET x /routes/rt_x + Host: $_" => $answer } @hosts;
}

# One request, as it is written.
sub raw {
    my ($text, $expected) = @_;
    return sub {
        my ($port, $name) = @_;
        check($name, scalar request("127.0.0.1:$port", $text), $expected);
    };
}

my $many = join ' ', map "http://h$_.example", 1 .. 100;

matrix({ },
    'no name' => [{ held => 0 }, q{ location / { hatch_api; } },
        hosts($passes, qw(127.0.0.1 127.0.0.1:8080 10.1.2.3 255.255.255.254
                          [::1] [::1]:8080 [fe80::1] localhost localhost:1
                          LOCALHOST localhost. 127.0.0.1.)),
        hosts($forbidden, qw(evil.example evil.example:8080 localhost.evil
                             evil.localhost 127.0.0.1.evil.example 127.1
                             2130706433 0x7f000001 127.0.0.256 1.2.3.4.5
                             [evil.example] [] [::1::] [127.0.0.1]
                             x _ - a.b), '""'),
        'HTTP/1.0 without Host' => raw("GET /routes/rt_x HTTP/1.0\r\n\r\n",
                                       $passes),
        'HTTP/1.0 with one' => raw("GET /routes/rt_x HTTP/1.0\r\n"
                                   . "Host: evil.example\r\n\r\n", $forbidden),
        'a whole URI is the host' => raw(
            "GET http://evil.example/routes/rt_x HTTP/1.1\r\n"
            . "Host: localhost\r\nConnection: close\r\n\r\n", $forbidden),
        'and this one is' => raw(
            "GET http://localhost/routes/rt_x HTTP/1.1\r\n"
            . "Host: evil.example\r\nConnection: close\r\n\r\n", $passes)],

    'every method' => [{ held => 0 }, q{ location / { hatch_api; } },
        map({; "$_ evil.example /routes/rt_x" => $forbidden }
            qw(GET POST PUT PATCH DELETE OPTIONS HATCH MKCOL)),
        'HEAD evil.example /routes/rt_x' => '403',
        'GET evil.example /routes' => $forbidden,
        'GET evil.example /' => $forbidden,
        'POST evil.example /vms/x/routes = {}' => $forbidden,
        # the page's own name in both, as a browser sends it
        'POST x /routes/rt_x + Host: evil.example + '
            . 'Origin: http://evil.example' => $forbidden],

    'also what the agent answers' => [{ held => 0 }, q{ location / {
            hatch_api; proxy_pass http://unix:DIR/run/agent.sock:; } },
        'GET localhost /templates' => '200 []',
        'GET evil.example /templates' => $forbidden,
        'POST evil.example /vms = {}' => $forbidden,
        'OPTIONS evil.example /vms' => $forbidden,
        'GET evil.example /routes' => $forbidden],

    'names of the server' => [{ held => 0 }, q{
        server_name api.example *.wild.example .dot.example suffix.*
                    ~^re\d+\.example$ "~^(?<named>n\d)\.example$" BIG.example;
        location / { hatch_api; } },
        hosts($passes, qw(api.example api.example:8080 API.Example
                          api.example. a.wild.example a.b.wild.example
                          dot.example a.dot.example a.b.dot.example
                          suffix.example suffix.a.b re1.example re22.example
                          n1.example big.example localhost 127.0.0.1)),
        hosts($forbidden, qw(example api.example.evil xapi.example
                             a.api.example wild.example xwild.example
                             dot.example.evil xdot.example
                             xsuffix.example suffix sufix.example re.example
                             re1.example.evil xre1.example n.example
                             re1.examplex))],

    'an empty name, and hosts of no name' => [{ held => 0 }, q{
        server_name "" _; location / { hatch_api; } },
        hosts($passes, 'localhost', '_'),
        hosts($forbidden, 'evil.example', '-')],

    'named origins' => [{ held => 0 }, q{
        hatch_api_origins https://ui.example:8443 http://Other.example
                          http://10.0.0.1:8080 http://[::2]:81;
        location / { hatch_api; } },
        hosts($passes, qw(ui.example ui.example:8443 ui.example:1 UI.example
                          other.example other.example:8080 10.0.0.1
                          localhost)),
        hosts($forbidden, qw(evil.example ui.example.evil a.ui.example
                             xother.example)),
        map({; "POST localhost /routes + Origin: $_" =>
               '405 method_not_allowed' }
            qw(https://ui.example:8443 HTTPS://UI.EXAMPLE:8443
               http://other.example http://OTHER.example
               http://other.example:80 http://10.0.0.1:8080 http://[::2]:81
               http://localhost)),
        map({; "POST localhost /routes + Origin: $_" => $foreign }
            qw(http://ui.example:8443 https://ui.example
               https://ui.example:8444 https://other.example
               http://other.example:81 http://10.0.0.1 http://[::2]
               http://[::1]:81 http://evil.example null
               http://other.example/ http://other.example.
               http://x@other.example other.example), '""'),
        # its page asks for itself, and for an address
        'POST x /routes + Host: ui.example:8443 + '
            . 'Origin: https://ui.example:8443' => '405 method_not_allowed',
        'GET localhost /routes/rt_x + Origin: http://evil.example' => $passes],

    'many origins' => [{ held => 0 },
        "hatch_api_origins $many; location / { hatch_api; }",
        hosts($passes, 'h1.example', 'h100.example'),
        hosts($forbidden, 'h101.example')],

    'off, and inherited' => [{ held => 0 }, q{
        hatch_api_origins http://ui.example;
        location / { hatch_api; }
        location /routes/off { hatch_api_origins off; hatch_api; }
        location /routes/other { hatch_api_origins http://b.example;
                                 hatch_api; }
        location /routes/if { hatch_api; if ($args) { set $x 1; } } },
        'GET ui.example /routes/rt_x' => $passes,
        'GET ui.example /routes/off' => $forbidden,
        'GET ui.example /routes/other' => $forbidden,
        'GET b.example /routes/other' => $passes,
        'GET b.example /routes/rt_x' => $forbidden,
        'GET ui.example /routes/if' => $passes,
        'GET evil.example /routes/if' => $forbidden,
        'POST localhost /routes/off + Origin: http://ui.example' => $foreign,
        'POST localhost /routes/if + Origin: http://ui.example' =>
            '405 method_not_allowed'],

    'with keys' => [{ held => 0 }, q{
        location / { KEYS hatch_api; }
        location /routes/off { hatch_api_keys off; hatch_api; } },
        'GET evil.example /routes/rt_x' => '401 unauthorized',
        "GET evil.example /routes/rt_x + $key" => $passes,
        "DELETE evil.example /routes/rt_x + $key" => $passes,
        "POST evil.example /routes + $key + Origin: http://other.example" =>
            $foreign,
        "GET evil.example /routes/off + $key" => $forbidden,
        'GET localhost /routes/off' => $passes],

    'health' => [{ held => 0 }, q{
        location = /healthz { hatch_healthz; }
        location = /readyz { hatch_readyz; }
        location = /metrics { hatch_metrics summary; }
        location / { hatch_api; } },
        map({; "GET evil.example /$_" => qr/^200 / }
            qw(healthz readyz metrics)),
        'OPTIONS evil.example /healthz' => '204',
        'GET evil.example /routes' => $forbidden],

    'HTTP/2' => [{ held => 0, listen => 'http2', h2 => 1 }, q{
        server_name api.example; location / { hatch_api; } },
        'GET api.example /routes/rt_x' => $passes,
        'GET evil.example /routes/rt_x' => $forbidden,
        'DELETE evil.example /routes/rt_x' => $forbidden],

    'a bad host is not repeated as it is' => [{ held => 0 },
        q{ location / { hatch_api; } },
        hosts('403 host_forbidden', "\xff\xfe", "\xc3\xc3.example",
              "a\"b'c", 'x' x 2000)]);

# --- what nginx does not take ---

my $invalid = qr/invalid origin "[^"]*" of "hatch_api_origins", it must be/;

refused("hatch_api_origins $_", "hatch_api_origins $_;", $invalid)
    for 'ui.example', 'http://', 'https://ui.example/', 'http://ui.example/x',
        'ftp://ui.example', 'http://ui.example:', 'http://ui.example:0',
        'http://ui.example:65536', 'http://ui.example:080',
        'http://me@ui.example', 'http://ui.example?x', 'http://[::1',
        'http://*.example', 'null', '""', 'http://a.example off',
        'off http://a.example', 'http://a.example ""';
refused('no origin', 'hatch_api_origins;',
        qr/invalid number of arguments in "hatch_api_origins"/);
refused('twice', 'hatch_api_origins http://a.example;
                  hatch_api_origins http://b.example;',
        qr/"hatch_api_origins" directive is duplicate/);
refused('twice, off', 'hatch_api_origins off; hatch_api_origins off;',
        qr/"hatch_api_origins" directive is duplicate/);
refused('in if', 'location / { if ($args) { hatch_api_origins off; } }',
        qr/"hatch_api_origins" directive is not allowed here/);

allow_log(qr/\[emerg\]/);
done();
