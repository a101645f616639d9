#!/usr/bin/perl

# The text of answers is UTF-8, whatever a client sends; and nobody who is
# refused is told to send a body first ("Expect: 100-continue").

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Matrix;
use Test::More;

# What is not UTF-8, as bytes and in a URI.
my @bad = ("\xff", "\xc3", "\xc3\xc3", "\xa9", "\xc0\x80", "\xe0\x80\x80",
           "\xed\xa0\x80", "\xed\xb0\x80", "\xf0\x80\x80\x80",
           "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "a\xc3\"b",
           "\xe2\x82");
sub escaped { my ($s) = @_; return $s =~ s/(.)/sprintf '%%%02x', ord $1/gser }

# Longer than any text, and cut at each place of a character.
my @long = map 'a' x $_ . "\xf0\x9f\x90\xa3" x 300, 0 .. 3;

my @table;

# (METHOD, PATH, BODY, HEADER): answered STATUS and CODE by the module.
sub row {
    my ($what, $answer, @question) = @_;
    my ($method, $path, $body, @headers) = @question;
    my $text = "$method localhost $path" . join '', map " + $_", @headers;
    $text .= " = $body" if defined $body;
    push @table, $text => $answer;
}

for my $bad (@bad, @long) {
    my $uri = escaped($bad);
    row('path', '404 route_not_found', 'GET', "/routes/$uri");
    row('path', '404 route_not_found', 'DELETE', "/routes/$uri");
    row('path', '404 vm_not_found', 'GET', "/vms/$uri/routes");
    row('path', '404 not_found', 'GET', "/routes/$uri/x");
    row('query', '400 invalid_argument', 'GET', "/routes?$uri=1");
    row('query', '400 invalid_argument', 'GET', "/routes?limit=$uri");
    row('method', '405 method_not_allowed', 'PUT', "/routes?$uri");
}

# As they are: nginx takes them in a path and in a header.
for my $bad (@bad) {
    row('path', '404 route_not_found', 'GET', "/routes/$bad");
    row('query', '400 invalid_argument', 'GET', "/routes?$bad=1");
    row('query', '400 invalid_argument', 'GET', "/routes?limit=$bad");
}

# and the agent's own answers
for my $bad (@bad[0 .. 6], @long) {
    my $uri = escaped($bad);
    row('agent', qr/^404 \w+$/, 'GET', "/agent/vms/$uri");
    row('agent', qr/^400 \w+$/, 'GET', "/agent/vms?$uri=1");
}

# Host, Origin and bodies have bytes that a question cannot have.
sub sent {
    my ($text, $expected) = @_;
    return sub {
        my ($port, $name) = @_;
        my $vm = $vm{a};
        my $all = $text =~ s/VM/$vm/r;
        check($name =~ s/[^ -~]/?/gr, scalar request("127.0.0.1:$port", $all),
              $expected);
    };
}

my $n = 0;
for my $bad (@bad, map { substr $_, 0, 400 } @long) {
    my $header = $bad =~ s/"//r;
    $n++;
    push @table,
        "Host $n" => sent("GET /routes HTTP/1.1\r\nHost: $header\r\n"
                          . "Connection: close\r\n\r\n",
                          '403 host_forbidden'),
        "Origin $n" => sent("PUT /routes HTTP/1.1\r\nHost: localhost\r\n"
                            . "Origin: http://$header\r\n"
                            . "Connection: close\r\n\r\n",
                            '403 origin_forbidden');

    my $no = 1;
    for my $body (qq({"$bad":1}), qq({"subdomain":"$bad","target_port":80}),
                  qq({"target_port":"$bad"}), qq({"target_port":$bad}), $bad,
                  qq(["$bad"]), qq({"a":1,"$bad":{"$bad":[]}}))
    {
        my $length = length $body;
        push @table, "body $n." . $no++ => sent(
            "POST /vms/VM/routes HTTP/1.1\r\nHost: localhost\r\n"
            . "Content-Length: $length\r\nConnection: close\r\n\r\n$body",
            qr/^400 invalid_\w+$/);
    }
}

# --- Expect: 100-continue ---

# All that comes before the connection ends.
sub whole {
    my ($port, $text) = @_;
    my $s = Test::Hatch::connect_to("127.0.0.1:$port") or die $!;
    print $s $text;
    $s->flush;
    vec(my $in = '', fileno $s, 1) = 1;
    my $answer = '';
    while (select my $ready = $in, undef, undef, 10) {
        my $n = sysread $s, $answer, 65536, length $answer;
        return $answer if !$n;
    }
    return "$answer (and the connection is open)";
}

# The status of each answer, the last one's code, and how it ends.
sub statuses {
    my ($answer) = @_;
    my @all = $answer =~ m{HTTP/1\.1 (\d+) }g;
    push @all, $1 if $answer =~ /"code":"(\w+)"/;
    push @all, 'close' if $answer =~ /^Connection: close\r$/m;
    push @all, 'open' if $answer =~ /the connection is open\)$/;
    return "@all";
}

sub head {
    my ($line, $host, @headers) = @_;
    return join "\r\n", "$line HTTP/1.1", "Host: $host", @headers,
                        'Expect: 100-continue', '', '';
}

my $inner = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
my $length = 'Content-Length: ' . length $inner;
my $chunked = 'Transfer-Encoding: chunked';

# No body, a body that looks like a request, and a request behind it.
sub refuses {
    my ($expected, $line, $host, @headers) = @_;
    return sub {
        my ($port, $name) = @_;
        my $head = head($line, $host, @headers);
        my $body = $head =~ /chunked/ ? sprintf("%x\r\n%s\r\n0\r\n\r\n",
                                                length $inner, $inner)
                                      : $inner;
        is(statuses(whole($port, $head)), "$expected close", "$name");
        is(statuses(whole($port, "$head$body$inner")), "$expected close",
           "$name: with a body all the same");
    };
}

# A body that is read: 100 first.
sub reads {
    my ($expected, $line, $host, $body) = @_;
    return sub {
        my ($port, $name) = @_;
        my $path = $line =~ s/VM/$vm{a}/r;
        my $s = Test::Hatch::connect_to("127.0.0.1:$port") or die $!;
        print $s head($path, $host, 'Content-Length: ' . length $body,
                      'Connection: close');
        $s->flush;
        is(scalar <$s>, "HTTP/1.1 100 Continue\r\n", "$name: 100");
        is(scalar <$s>, "\r\n", "$name: and no more");
        print $s $body;
        $s->flush;
        like(do { local $/; <$s> }, qr{^HTTP/1\.1 $expected }, $name);
    };
}

my $expect = [{ held => 0 }, q{
        lingering_timeout 200ms;
        location / { hatch_api; }
        location /keys { KEYS hatch_api; }
        location = /healthz { hatch_healthz; }
        location = /metrics { hatch_metrics; }
        location /wake { hatch_wake_timeout 500ms; ROUTE PASS }
        location /deny { hatch_api; deny all; }
        location /small { ROUTE PASS client_max_body_size 1; } },
    '401' => refuses('401 unauthorized', 'POST /keys', 'localhost', $length),
    '403 host' => refuses('403 host_forbidden', 'POST /routes', 'evil.example',
                          $length),
    '403 origin' => refuses('403 origin_forbidden', 'POST /routes',
                            'localhost', 'Origin: null', $length),
    '403 of nginx' => refuses('403 forbidden', 'POST /deny', 'localhost',
                              $length),
    '404' => refuses('404 not_found', 'POST /nothing', 'localhost', $length),
    '404 VM' => refuses('404 vm_not_found', 'POST /vms/x/routes', 'localhost',
                        $length),
    '404 route' => refuses('404 route_not_found', 'PATCH /routes/rt_x',
                           'localhost', $length),
    '404, chunked' => refuses('404 not_found', 'POST /nothing', 'localhost',
                              $chunked),
    '405' => refuses('405 method_not_allowed', 'POST /routes', 'localhost',
                     $length),
    '405 health' => refuses('405 method_not_allowed', 'POST /healthz',
                            'localhost', $length),
    '400 query' => refuses('400 invalid_argument', 'GET /routes?x=1',
                           'localhost', $length),
    'GET' => refuses('200', 'GET /routes', 'localhost', $length),
    'health' => refuses('200', 'GET /healthz', 'localhost', $length),
    'metrics' => refuses('200', 'GET /metrics', 'localhost', $length),
    '412' => refuses('412 precondition_failed',
                     'PATCH /routes/rt_2222222222222222', 'localhost',
                     'If-Match: "x"', $length),
    '413' => refuses('413 payload_too_large',
                     'PATCH /routes/rt_2222222222222222', 'localhost',
                     'Content-Length: 1048577'),
    '413 of nginx' => refuses('413 payload_too_large', 'POST /small',
                              'a.hatch.localhost', $length),
    'unknown host' => refuses('404 unknown_host', 'POST /wake',
                              'x.example', $length),
    'no route' => refuses('404 route_not_found', 'POST /wake',
                          'none.hatch.localhost', $length),
    'asleep' => refuses('503 vm_not_running', 'POST /wake',
                        'asleep.hatch.localhost', $length),
    'timeout' => refuses('504 wake_timeout', 'POST /wake',
                         'never.hatch.localhost', $length),
    'read' => reads(201, 'POST /vms/VM/routes', 'localhost',
                    '{"target_port":80}'),
    'read and refused' => reads(400, 'POST /vms/VM/routes', 'localhost', '{'),
    'proxied' => reads(200, 'POST /wake', 'a.hatch.localhost', 'x'),

    # without it the connection goes on behind the body
    'no Expect' => sub {
        my ($port, $name) = @_;
        my $one = "POST /nothing HTTP/1.1\r\nHost: localhost\r\n"
                . "$length\r\n\r\n$inner";
        my $last = $inner =~ s/\r\n\r\n/\r\nConnection: close\r\n\r\n/r;
        is(statuses(whole($port, "$one$one$last")),
           '404 404 200 not_found close', $name);
    }];

matrix({ http => 'large_client_header_buffers 8 32k;' },
    'text' => [{ held => 0 }, q{
        location / { hatch_api; }
        location /agent/ { proxy_pass http://unix:DIR/run/agent.sock:/; } },
        @table],
    'expect' => $expect);

# --- too many are held ---

my $change = sub { $_[0] =~ s/(hatch_agent [^;]+);/$1 max_held=1;/r };
matrix({ workers => 1, change => $change },
    'held' => [{ held => 0 }, q{
        lingering_timeout 200ms;
        location / { hatch_wake_timeout 3s; ROUTE PASS } },
        'too many' => sub {
            my ($port, $name) = @_;
            my $held = Test::Hatch::connect_to("127.0.0.1:$port");
            print $held "GET / HTTP/1.1\r\nHost: never.hatch.localhost\r\n\r\n";
            $held->flush;
            wait_until('one is held', sub {
                (metrics()->{hatch_held_requests_total} // 0) > 0
            });
            refuses('503 too_many_held', 'POST /', 'never.hatch.localhost',
                    $length)->($port, $name);
            close $held;
        }]);

allow_log(qr/access forbidden by rule|too large body/);
done();
