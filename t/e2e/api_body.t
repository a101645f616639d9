#!/usr/bin/perl

# Bodies of the route API that break off or break a rule while they are read:
# nginx answers by itself then, and the module shapes what it says.  Raw
# HTTP/1.1 and HTTP/2; one worker, which has to outlive all of them.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

use IO::Socket::INET;
use Socket qw(SOL_SOCKET SO_LINGER);
use Time::HiRes qw(time);

my $limit = 30_000;
my %json = (
    400 => '{"error":"the request is malformed","code":"bad_request"}',
    413 => '{"error":"the body is too large","code":"payload_too_large"}',
    500 => '{"error":"nginx failed; its error log says why",'
           . '"code":"internal_error"}',
);
my $page = "a page of its own\n";

# --- nginx: two servers of a kind, HTTP/1.1 at PORT, HTTP/2 at PORT + 100 ---

my %port = (usual => 8101, full => 8103, slow => 8105);
my %kind = (
    usual => '',
    full => "client_body_temp_path $dir/full;",
    slow => 'client_body_timeout 200ms;',
);
my $servers = 'log_format body "$request_method $status $server_port";' . "\n";

for my $name (sort keys %kind) {
    for my $own (0, 1) {
        my $port = $port{$name} + $own;
        my $h2 = $port + 100;
        my $error_page = $own ? 'error_page 400 408 413 500 /page;' : '';
        $servers .= <<"EOT";
    server {
        listen 127.0.0.1:$port;
        listen 127.0.0.1:$h2 http2;
        access_log $dir/logs/body.access.log body;
        client_body_buffer_size 1k;
        client_max_body_size $limit;
        $kind{$name}
        $error_page
        location / { hatch_api; }
        location = /page {
            client_max_body_size 0;
            return 200 "$page";
        }
    }
EOT
    }
}

# an error_page that comes slowly, and one that leads back to the API
$servers .= <<"EOT";
    server {
        listen 127.0.0.1:8107;
        access_log $dir/logs/body.access.log body;
        client_body_buffer_size 1k;
        client_max_body_size 1k;
        error_page 413 /slow;
        location / { hatch_api; }
        location = /slow {
            client_max_body_size 0;
            proxy_pass http://127.0.0.1:8108;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_ignore_client_abort on;
        }
    }
    server {
        listen 127.0.0.1:8109;
        access_log $dir/logs/body.access.log body;
        client_max_body_size $limit;
        error_page 400 413 \@again;
        location / { hatch_api; }
        location \@again { hatch_api; }
    }
EOT

start_agent();
start_nginx(workers => 1, http => $servers) or die nginx_log();
my $worker = wait_until('a worker', sub { (workers())[0] });
my $vm = create_vm()->{id};
my $route = create_route($vm, 'one')->{id};
my $routes = http('127.0.0.1:8080', 'GET', '/routes')->{body};

# nobody but root may write there any more
chown 0, 0, "$dir/full";
chmod 0700, "$dir/full";
allow_log(qr/full\/\d+" failed \(13: Permission denied\)/,
          qr/client intended to send too large/,
          qr/client sent invalid chunked body/);

my %path = (POST => "/vms/$vm/routes", PATCH => "/routes/$route");

# the worker has seen all that was sent before, and works
sub round_trip { return http('127.0.0.1:8080', 'GET', '/routes') }

sub still_serves {
    my ($what) = @_;
    my $r = round_trip();
    is($r && $r->{body}, $routes, "$what: nothing changed, the worker serves");
    my ($now) = workers();
    is($now, $worker, "$what: it is the same one");
    $worker = $now;
}

# how many requests have ended as METHOD STATUS PORT
sub ended {
    my ($line) = @_;
    return scalar grep $_ eq $line, split /\n/,
           slurp("$dir/logs/body.access.log");
}

# --- HTTP/1.1 ---

sub connected {
    my ($port) = @_;
    my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") or die $!;
    $s->autoflush(1);
    return $s;
}

sub answer_of {
    my ($s) = @_;
    my $text = '';
    my $end = time + 20;
    while (time < $end) {
        vec(my $in = '', fileno $s, 1) = 1;
        next if !select $in, undef, undef, $end - time;
        last if !sysread $s, $text, 65536, length $text;
        last if $text =~ /^Content-Length: (\d+).*?\r\n\r\n(.*)/ms
                && length $2 >= $1;
    }
    my ($head, $body) = split /\r\n\r\n/, $text, 2;
    my ($status) = ($head // '') =~ m{^HTTP/1.1 (\d+)};
    return ($status // 0, $body // '');
}

sub chunk { my ($n) = @_; return sprintf("%x\r\n", $n) . ' ' x $n . "\r\n" }

# parts of a chunked body, or of one with a length; and what comes of it
my @http1 = (
    ['a bad chunk in a later packet', usual => 400, undef,
     "1\r\n{\r\n", chunk(20_000), "zz\r\n"],
    ['a bad chunk behind a short one', usual => 400, undef,
     "1\r\n{\r\n", "zz\r\n"],
    ['a bad chunk at once', usual => 400, undef, "zz\r\n\r\n"],
    ['a chunk without its end', usual => 400, undef,
     "1\r\n{\r\n", "1\r\n{}}\r\n"],
    ['chunks over the limit', usual => 413, undef,
     "1\r\n{\r\n", chunk(20_000), chunk(20_000)],
    ['a length over the limit', usual => 413, $limit + 1, ''],
    ['a file that cannot be written', full => 500, undef,
     "1\r\n{\r\n", chunk(20_000), chunk(9000)],
    ['the same with a length', full => 500, 20_000, ' ' x 10, ' ' x 19_990],
    ['a client that leaves', usual => 'close', undef,
     "1\r\n{\r\n", chunk(20_000)],
    ['one that leaves with a length', usual => 'close', 20_000, ' ' x 5000],
    ['a client that resets', usual => 'reset', 20_000, ' ', ' ' x 5000],
    ['a body that stops', slow => 408, undef, "1\r\n{\r\n", chunk(20_000)],
    ['one that stops, with a length', slow => 408, 20_000, ' ' x 5000],
);

sub check_http1 {
    my ($method, $own, $what, $kind, $end, $length, @parts) = @_;
    my $port = $port{$kind} + $own;
    my $name = $method . ($own ? ', error_page' : '') . ": $what";
    my $status = $end =~ /\d/ ? $end : 400;
    my $before = ended("$method $status $port") + ended("GET $status $port");
    my $s = connected($port);

    print $s "$method $path{$method} HTTP/1.1\r\nHost: localhost\r\n"
             . (defined $length ? "Content-Length: $length"
                                : 'Transfer-Encoding: chunked') . "\r\n\r\n"
             . shift @parts;

    for my $part (@parts) {
        round_trip();
        print $s $part;
    }

    round_trip() if $end !~ /\d/;

    if ($end eq 'reset') {
        setsockopt $s, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0);
    }

    if ($json{$end}) {
        my ($got, $body) = answer_of($s);
        is("$got $body", "$end " . ($own ? $page : $json{$end}), $name);

    } elsif ($end eq 408) {
        is(join(' ', answer_of($s)), '0 ', "$name: no answer");
    }

    close $s;

    # an error_page has the method GET, but nginx logs what came
    wait_until("$name is logged", sub {
        ended("$method $status $port") + ended("GET $status $port") > $before
    });
    still_serves($name);
}

for my $method (qw(POST PATCH)) {
    for my $own (0, 1) {
        check_http1($method, $own, @$_) for @http1;
    }
}

# --- HTTP/2 ---

sub frame {
    my ($type, $flags, $stream, $data) = @_;
    return substr(pack('N', length $data), 1) . pack('CCN', $type, $flags,
                                                     $stream) . $data;
}

sub literal { return join '', map { chr(length) . $_ } @_ }

sub headers {
    my ($method, $length) = @_;
    my @fields = (':method' => $method, ':scheme' => 'http',
                  ':authority' => 'localhost', ':path' => $path{$method});
    push @fields, 'content-length' => $length if defined $length;
    my $block = '';
    $block .= "\0" . literal(splice @fields, 0, 2) while @fields;
    return frame(1, 4, 1, $block);
}

sub data { my ($n, $last) = @_; return frame(0, $last ? 1 : 0, 1, ' ' x $n) }

my $preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . frame(4, 0, 0, '');

# status, body, and what ended stream 1
sub answer2_of {
    my ($s) = @_;
    my ($text, $status, $body) = ('', 0, '');
    my $end = time + 20;
    while (time < $end) {
        while (length $text >= 9) {
            my $n = unpack 'N', "\0" . substr $text, 0, 3;
            last if length $text < 9 + $n;
            my ($type, $flags, $stream) = unpack 'CCN', substr $text, 3, 6;
            my $payload = substr $text, 9, $n;
            substr($text, 0, 9 + $n) = '';
            next if $stream != 1;
            if ($type == 1) {
                $payload =~ s/^[\x20-\x3f]//;
                my $first = ord $payload;
                $status = { 0x88 => 200, 0x8c => 400, 0x8d => 404,
                            0x8e => 500 }->{$first}
                          // substr $payload, 2, 3;
            }
            $body .= $payload if $type == 0;
            return ($status, $body, 'reset') if $type == 3;
            return ($status, $body, 'end') if $type < 2 && $flags & 1;
        }
        vec(my $in = '', fileno $s, 1) = 1;
        next if !select $in, undef, undef, $end - time;
        last if !sysread $s, $text, 65536, length $text;
    }
    return ($status, $body, 'closed');
}

my $rst = frame(3, 0, 1, pack 'N', 8);
my @http2 = (
    ['more data than the length', usual => 400, 10, data(5), data(10, 1)],
    ['the same at once', usual => 400, 10, data(20_000, 1)],
    ['less', usual => 400, 10, data(5), data(0, 1)],
    ['data over the limit', usual => 413, undef,
     data(10_000), data(10_000), data(10_001)],
    ['a length over the limit', usual => 413, $limit + 1],
    ['a file that cannot be written', full => 500, undef, data(10),
     data(5000, 1)],
    ['a stream that is reset', usual => 499, undef, data(10), data(5000), $rst],
    ['the same with a length', usual => 499, 5000, data(10), $rst],
    ['a client that leaves', usual => 'close', undef, data(10), data(5000)],
    ['a body that stops', slow => 408, undef, data(10), data(5000)],
);

sub check_http2 {
    my ($method, $own, $what, $kind, $end, $length, @parts) = @_;
    my $port = $port{$kind} + $own + 100;
    my $name = "HTTP/2, $method" . ($own ? ', error_page' : '') . ": $what";
    my $status = $end =~ /\d/ ? $end : 499;
    my $before = ended("$method $status $port") + ended("GET $status $port");
    my $s = connected($port);

    print $s $preface . headers($method, $length);

    for my $part (@parts) {
        round_trip();
        print $s $part;
    }

    round_trip() if $end eq 'close';

    if ($json{$end}) {
        my ($got, $body) = answer2_of($s);
        is("$got $body", "$end " . ($own ? $page : $json{$end}), $name);

    } elsif ($end eq 408) {
        is((answer2_of($s))[0], 0, "$name: no answer");
    }

    close $s if $end eq 'close';

    wait_until("$name is logged", sub {
        ended("$method $status $port") + ended("GET $status $port") > $before
    });
    still_serves($name);
    close $s;
}

for my $method (qw(POST PATCH)) {
    for my $own (0, 1) {
        check_http2($method, $own, @$_) for @http2;
    }
}

# --- error pages that do more than answer ---

my $upstream = IO::Socket::INET->new(Listen => 5, ReuseAddr => 1,
                                     LocalAddr => '127.0.0.1:8108') or die $!;

for my $method (qw(POST PATCH)) {
    my $name = "$method: the body goes on under a slow error_page";
    my $s = connected(8107);
    print $s "$method $path{$method} HTTP/1.1\r\nHost: localhost\r\n"
             . "Transfer-Encoding: chunked\r\n\r\n" . chunk(10);
    round_trip();
    print $s "1000\r\n ";
    my $peer = $upstream->accept;
    sysread $peer, my $request, 65536;

    for my $part (' ' x 4095 . "\r\n", chunk(20), "0\r\n\r\n") {
        print $s $part;
        round_trip();
    }

    print $peer "HTTP/1.0 200 OK\r\nContent-Length: " . length($page)
                . "\r\n\r\n$page";
    close $peer;
    is(join(' ', answer_of($s)), "413 $page", $name);
    still_serves($name);

    # what had come of the body is JSON, and the rest is no chunk
    my $body = '{"target_port":81}';
    $name = "$method: the API as its own error_page";
    $s = connected(8109);
    print $s "$method $path{$method} HTTP/1.1\r\nHost: localhost\r\n"
             . "Transfer-Encoding: chunked\r\n\r\n"
             . sprintf("%x\r\n%s\r\n", length $body, $body);
    round_trip();
    print $s "zz\r\n";
    is((answer_of($s))[0], 400, $name);
    still_serves($name);
}

unlike(nginx_log(), qr/exited on signal/, 'no worker died');
done();
