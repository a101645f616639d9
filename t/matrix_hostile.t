#!/usr/bin/perl

# What guests and clients send to reach what is not theirs: nobody has to
# configure anything against it.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use Test::Hatch world => 'plain';
use Test::Hatch::Matrix;
use Test::More;
use Time::HiRes qw(time);

mkdir "$dir/www";
chmod 0755, "$dir/www";

# passes on what a client wants to upgrade to
my $upgrade = q{ proxy_pass http://vms; proxy_http_version 1.1;
                 proxy_set_header Host $host;
                 proxy_set_header Upgrade $http_upgrade;
                 proxy_set_header Connection $http_connection; };
my $secret = 'X-API-Key: secret';
my $many = join ' + ', map "A$_: x", 'a' .. 'z';
my $bearer = 'Authorization: Bearer secret';

# What comes first for a request whose body waits to be asked for.
sub expect_100 {
    my ($port, $host, $header) = @_;
    my $s = Test::Hatch::connect_to("127.0.0.1:$port") or return 'no server';
    print $s "POST /x HTTP/1.1\r\nHost: $host\r\nConnection: close\r\n"
           . ($header ? "$header\r\n" : '')
           . "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    $s->flush;
    my $first = <$s> // 'nothing';
    return $first =~ /^HTTP\/1\.1 (\d+)/ ? $1 : $first if $first !~ / 100 /;
    print $s 'body';
    $s->flush;
    local $/;
    my $rest = <$s> // '';
    return "100 $1$2" if $rest =~ /HTTP\/1\.1 (\d+).*(\nX-Body: body)/s;
    return $rest =~ /HTTP\/1\.1 (\d+)/ ? "100 $1" : '100 and nothing';
}

# A guest on a port of B that sends an event, and the next one when its answer
# was read.
sub events {
    my ($port, $name) = @_;
    my $listener = IO::Socket::INET->new(Listen => 5, ReuseAddr => 1,
                                         LocalAddr => '127.55.0.3:7000',
                                         Timeout => 10) or die;
    create_route($vm{b}, 'events', 7000);
    my $s = Test::Hatch::connect_to("127.0.0.1:$port");
    print $s "GET / HTTP/1.0\r\nHost: events.hatch.localhost\r\n\r\n";
    $s->flush;
    my $guest;
    # the agent looks whether the port is served, and says nothing
    while (1) {
        $guest = $listener->accept or die;
        last if <$guest>;
    }
    print $guest "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
               . "X-Accel-Buffering: no\r\nConnection: close\r\n\r\n"
               . "data: 1\n\n";
    $guest->flush;
    my $got = '';
    ok(wait_until("$name: the first event", sub {
        IO::Select->new($s)->can_read(0) && sysread $s, $got, 4096, length $got;
        $got =~ /data: 1/
    }, 5), "$name: the first event comes at once");
}

matrix({},

    # --- guests ---

    'X-Accel of a guest' => [q{
        location / { ROUTE PASS charset utf-8; }
        location /other { charset koi8-r; }
        location /cached { ROUTE proxy_pass http://vms/accel; PASS2
                           proxy_cache cache; proxy_cache_key "$host $uri";
                           add_header X-Cache $upstream_cache_status; }
        location /hidden { internal; return 200 hidden; }
        location @named { return 200 named; } } =~
            s/PASS2/proxy_set_header Host \$host;/r,
        'GET a /accel?redirect=/hidden' => '200 A GET /accel',
        'GET a /accel?redirect=@named' => '200 A GET /accel',
        'GET a /accel?charset=koi8-r' => ['200 A GET /accel',
            'Content-Type' => 'text/plain; charset=utf-8'],
        'GET a /accel?charset=unknown' => ['200 A GET /accel',
            'Content-Type' => 'text/plain; charset=utf-8'],
        'GET a /cached?expires=60' => ['200 A GET /accel',
                                       'X-Cache' => 'MISS'],
        'GET a /cached?expires=61' => ['200 A GET /accel',
                                       'X-Cache' => 'MISS'],
        'X-Accel-Limit-Rate' => sub {
            my ($port, $name) = @_;
            my $began = time;
            my $r = request("127.0.0.1:$port", "GET /accel?rate=1 HTTP/1.0\r\n"
                            . "Host: a.hatch.localhost\r\n\r\n", 10);
            check($name, $r, '200 A GET /accel');
            cmp_ok(time - $began, '<', 5, "$name: not slower by it");
        }],

    'X-Accel-Buffering of a guest' => [q{ location / { ROUTE PASS } },
        'it stays' => \&events],

    # what the user says of it stays
    'X-Accel of a guest, below settings' => [q{
        proxy_ignore_headers Set-Cookie;
        location / { ROUTE PASS proxy_ignore_headers Cache-Control; }
        location /hidden { internal; return 200 hidden; } },
        'GET a /accel?redirect=/hidden' => '200 A GET /accel'],

    # without hatch_route, where an error of a guest leads
    'X-Accel of a guest, behind an error page' => [q{
        location / { ROUTE PASS proxy_intercept_errors on;
                     error_page 404 /accel?redirect=/hidden;
                     error_page 502 /if/accel?redirect=/hidden; }
        location = /accel { PASS }
        location /if/ { proxy_pass http://vms/; proxy_set_header Host $host;
                        if ($host) { set $x 1; } }
        location /hidden { internal; return 200 hidden; } },
        'GET a /missing' => '404 A GET /accel',
        'GET a /broken' => '502 A GET /accel'],

    'X-Accel of a guest, behind an error page and a variable' => [q{
        location / { ROUTE PASS proxy_intercept_errors on;
                     error_page 404 /accel?redirect=/hidden; }
        location = /accel { set $where vms; proxy_pass http://$where;
                            proxy_set_header Host $host; }
        location /hidden { internal; return 200 hidden; } },
        'GET a /missing' => qr/^500 /],

    'X-Accel of what is no guest' => [q{
        location / { proxy_pass http://plain; }
        location /hidden { internal; return 200 hidden; } },
        'GET a /accel?redirect=/hidden' => '200 hidden'],

    'X-Accel of a guest in a subrequest' => [q{
        location / { auth_request /auth; ROUTE PASS }
        location = /auth { internal; ROUTE
                           proxy_pass http://vms/accel?redirect=/hidden;
                           proxy_set_header Host $host; }
        location /hidden { internal; return 403; } },
        'GET a /x' => '200 A GET /x'],

    'hop-by-hop headers' => [{ listen => 'http2', h2 => 1 }, q{
        location / { ROUTE PASS } },
        'GET a /hops' => ['200 A GET /hops', Upgrade => undef,
                          'Proxy-Connection' => undef, 'Keep-Alive' => undef,
                          Connection => undef]],

    'hop-by-hop headers, behind an error page' =>
        [{ listen => 'http2', h2 => 1 }, q{
        location / { ROUTE PASS proxy_intercept_errors on;
                     error_page 404 /hops; }
        location = /hops { PASS } },
        'GET a /missing' => ['404 A GET /hops', Upgrade => undef,
                             'Proxy-Connection' => undef]],

    # --- clients ---

    'Upgrade' => [{ held => 0 }, "location / { ROUTE $upgrade }
                   location /closed { ROUTE $upgrade deny all; }",
        'GET a /x + Upgrade: h2c + Connection: Upgrade, HTTP2-Settings '
            . '+ HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA'
            => ['200 A GET /x', 'X-Upgrade' => qr/^$/],
        'GET a /x + Upgrade: H2C + Connection: Upgrade'
            => ['200 A GET /x', 'X-Upgrade' => qr/^$/],
        'GET a /x + Upgrade: websocket + Connection: Upgrade'
            => ['200 A GET /x', 'X-Upgrade' => 'websocket'],
        'GET a /x + Upgrade: websocket, h2c + Connection: Upgrade'
            => ['200 A GET /x', 'X-Upgrade' => qr/^(?!.*h2c)/]],

    # $http_upgrade has been asked for before it is changed
    'Upgrade, in an "if" before' => [{ held => 0 }, "
        if (\$http_upgrade = none) { return 418; }
        location / { ROUTE $upgrade }",
        'GET a /x + Upgrade: h2c + Connection: Upgrade'
            => ['200 A GET /x', 'X-Upgrade' => qr/^$/],
        'GET a /x + Upgrade: websocket, h2c + Connection: Upgrade'
            => ['200 A GET /x', 'X-Upgrade' => 'websocket']],

    'a key, in an "if" before' => [q{
        KEYS
        if ($http_x_api_key = none) { return 418; }
        location / { ROUTE PASS proxy_set_header X-Api-Key $http_x_api_key; } },
        "GET a /x + $secret" => ['200 A GET /x', 'X-Key' => qr/^$/]],

    'keys stay here' => [q{ KEYS location / { ROUTE PASS } },
        "GET a /x + $secret" => ['200 A GET /x', 'X-Key' => qr/^$/],
        "GET a /x + $bearer" => ['200 A GET /x', 'X-Authorization' => qr/^$/],
        "GET a /x + $secret + Authorization: Basic eDp5"
            => ['200 A GET /x', 'X-Key' => qr/^$/,
                'X-Authorization' => 'Basic eDp5'],
        "GET a /x + $bearer + X-API-Key: the-guest's"
            => ['200 A GET /x', 'X-Key' => "the-guest's",
                'X-Authorization' => qr/^$/]],

    'keys stay here, also those of where a request came from' => [q{
        location / { KEYS try_files /no @vm; }
        location @vm { ROUTE PASS }
        location /page { KEYS error_page 418 /again; return 418; }
        location = /again { ROUTE PASS } },
        'GET a /x' => '401 unauthorized',
        "GET a /x + $secret" => ['200 A GET /x', 'X-Key' => qr/^$/],
        "GET a /x + $bearer" => ['200 A GET /x', 'X-Authorization' => qr/^$/],
        "GET a /page + $secret" => ['418 A GET /again', 'X-Key' => 'secret'],
        "GET a /x + $secret + Authorization: Basic eDp5"
            => ['200 A GET /x', 'X-Key' => qr/^$/,
                'X-Authorization' => 'Basic eDp5']],

    # more header fields than are in one part of nginx's list
    'a key that a subrequest to a guest drops' => [q{
        KEYS
        location / { auth_request /auth; proxy_pass http://plain; }
        location = /auth { internal; ROUTE PASS } },
        "GET a /x + $secret" => ['200 plain GET /x', 'X-Key' => 'secret'],
        "GET a /x + $many + $secret" => ['200 plain GET /x',
                                         'X-Key' => 'secret'],
        "GET a /x + $many + $secret + Y: y" => ['200 plain GET /x',
                                                'X-Key' => 'secret']],

    'keys of others go on' => [q{ location / { ROUTE PASS } },
        "GET a /x + $secret" => ['200 A GET /x', 'X-Key' => 'secret'],
        "GET a /x + $bearer" => ['200 A GET /x',
                                 'X-Authorization' => 'Bearer secret']],

    'the name of a key that went' => [q{ KEYS location / {
        ROUTE PASS add_header X-Name "$hatch_api_key" always; } },
        "GET a /x + $secret" => ['200 A GET /x', 'X-Name' => 'me'],
        "GET refused /x + $secret" => ['502 guest_refused', 'X-Name' => 'me']],

    'Expect' => [q{ location / { ROUTE PASS } },
        '100-continue' => sub {
            my ($port, $name) = @_;
            my $base = 'hatch.localhost';
            is(expect_100($port, "none.$base"), '404', "$name: no route");
            is(expect_100($port, 'x.y'), '404', "$name: another host");
            is(expect_100($port, "asleep.$base"), '503', "$name: asleep");
            is(expect_100($port, "a.$base"), "100 200\nX-Body: body",
               "$name: a guest");
            sleep_now();
            is(expect_100($port, "a.$base"), "100 200\nX-Body: body",
               "$name: a guest that sleeps");
        }],

    'Expect of the API' => [q{
        KEYS
        location / { hatch_api; }
        location = /x { hatch_healthz; }
        location /routed { ROUTE PASS } },
        '100-continue' => sub {
            my ($port, $name) = @_;
            is(expect_100($port, 'localhost'), '405', "$name: health");
            my $s = Test::Hatch::connect_to("127.0.0.1:$port");
            print $s "POST /vms/$vm{a}/routes HTTP/1.1\r\nHost: localhost\r\n"
                   . "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n";
            $s->flush;
            like(scalar <$s>, qr/^HTTP\/1\.1 401 /, "$name: no key");
        }],

    'a body of many keys' => [q{ location / { hatch_api; } },
        'is refused' => sub {
            my ($port, $name) = @_;
            my %took;
            for (['one', 'x' x 950_000], ['many', 'aaaa' .. 'ffff']) {
                my ($what, @keys) = @$_;
                my $body = '{' . join(',', map qq("$_":1), @keys) . '}';
                my $began = time;
                check("$name: $what", ask($port, 'POST localhost '
                      . "/vms/$vm{b}/routes = $body"), qr/^400 \w+$/);
                $took{$what} = time - $began;
            }
            cmp_ok($took{many}, '<', 3 * $took{one} + .1,
                   "$name: many take about as long as one");
        }],

    'long and strange names' => [q{ location / { hatch_api; } },
        'of fields' => sub {
            my ($port, $name) = @_;
            my $path = "/vms/$vm{b}/routes";
            for my $n (20 .. 80) {
                my $field = ('x' x $n) . ("\xc3\xa4" x 60);
                my $r = ask($port, "POST localhost $path = "
                                   . "{\"target_port\":80,\"$field\":1}");
                next if ($r->{status} // '') eq '400'
                        && utf8::decode(my $text = $r->{body});
                fail("$name of $n and 60: $r->{status}, UTF-8");
                return;
            }
            pass("$name: UTF-8");
            check("$name: of hosts", ask($port, 'GET localhost '
                  . '/routes/%c3%28%00'), qr/^40[04] /);
            check("$name: of VMs", ask($port, 'GET localhost '
                  . '/vms/%ff%fe/routes'), qr/^40[04] /);
            check("$name: of arguments", ask($port, 'GET localhost '
                  . '/routes?%ff=1'), qr/^400 \w+$/);
            check("$name: of values", ask($port, 'GET localhost '
                  . '/routes?after=%ff'), qr/^400 \w+$/);
        }],
);

# h2c is no way around "deny": what goes on in the connection is HTTP/1.1
is(ask(row_port('Upgrade'), 'GET a /closed + Upgrade: h2c '
       . '+ Connection: Upgrade')->{status}, 403, 'closed is closed');
allow_log(qr/upstream "vms" with "hatch" is used by a location without/);

allow_log(qr/connect\(\) failed \(111: Connection refused\)/,
          qr/access forbidden by rule/, qr/auth request unexpected status/);
done();
