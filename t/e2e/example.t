#!/usr/bin/perl

# nginx.conf.example and README's synopsis as they are written, with a real
# guest: what it is told of a request, uploads, server-sent events, WebSockets,
# and calls of the API that take long.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

# uploads are buffered where Debian's nginx has its folders
system('mount', '-n', '-t', 'tmpfs', 'tmpfs', '/var/lib/nginx') == 0
    or die 'no tmpfs';

my $host = 'demo.hatch.localhost:9090';

# As it is written, but for where the files are.
sub adapted {
    my ($conf) = @_;
    $conf =~ s{^load_module \S+;}
              {load_module $Test::Hatch::build/ngx_http_hatch_module.so;}m;
    $conf =~ s{^pid \S+;}{pid $dir/nginx.pid;}m;
    $conf =~ s{/run/hatch/}{$dir/run/}g;
    $conf =~ s{/var/lib/hatch/}{$dir/}g;
    $conf =~ s{/var/log/nginx/}{$dir/logs/}g;
    $conf =~ s{/usr/share/hatch/}{$top/deploy/nginx/}g;
    return $conf;
}

sub guest {
    my ($method, $path, $body, %headers) = @_;
    return http('127.0.0.1:9090', $method, $path, $body, Host => $host,
                %headers);
}

# Sends a request and reads until the answer matches; returns the socket, for
# what comes later, and what has come.
sub until_matches {
    my ($what, $pattern, $text) = @_;
    my $answer = '';
    my $socket = Test::Hatch::connect_to('127.0.0.1:9090');

    print $socket $text;
    $socket->flush;
    wait_until($what, sub {
        my $in = '';
        vec($in, fileno $socket, 1) = 1;
        sysread $socket, $answer, 65536, length $answer
            if select $in, undef, undef, 0.1;
        return $answer =~ $pattern;
    }) or diag($answer);
    return ($socket, $answer);
}

# What both have to do, which share their proxy settings.
sub serves {
    my ($name) = @_;

    my $r = guest('GET', '/cgi-bin/headers', undef,
                  'X-Forwarded-For' => '192.0.2.7',
                  'X-Forwarded-Host' => 'evil.example',
                  'X-Real-IP' => '192.0.2.7', Forwarded => 'for=192.0.2.7');
    my %told = $r->{body} =~ /^(\w+)=(.*)$/mg;
    delete @told{qw(HOST X_FORWARDED_FOR)};
    is_deeply(\%told,
              { X_FORWARDED_HOST => $host, X_FORWARDED_PORT => '9090',
                X_FORWARDED_PROTO => 'http', X_REAL_IP => '127.0.0.1' },
              "$name: what the guest is told") or diag($r->{body});
    like($r->{body}, qr/^HOST=\Q$host\E$/m, "$name: Host with its port");
    like($r->{body}, qr/^X_FORWARDED_FOR=192\.0\.2\.7, 127\.0\.0\.1$/m,
         "$name: whom nginx has seen comes last");

    $r = guest('POST', '/cgi-bin/info', 'x' x (2 * 1024 * 1024));
    like($r->{body}, qr/^2097152$/m, "$name: 2 MiB arrive");

    # the guest's server ends the stream by closing
    my ($stream, $got) = until_matches('the first event', qr/data: 1$/m,
        "GET /cgi-bin/slow?3 HTTP/1.1\r\nHost: $host\r\n"
        . "Connection: close\r\n\r\n");
    like($got, qr/^HTTP\/1\.1 200 .*text\/event-stream/s, "$name: a stream");
    unlike($got, qr/^Content-Length:/mi, "$name: of no known length");
    unlike($got, qr/data: 3/, "$name: the first event comes before the last");
    like(do { local $/; <$stream> }, qr/data: 3/, "$name: which comes, too");
}

# --- the example ---

my $example = adapted(slurp("$top/nginx.conf.example"));

start_agent(connect => 'qemu:///system');
ok(start_nginx(conf => $example), 'the example starts') or diag(nginx_log());
my $id = create_vm()->{id};
create_route($id, 'demo');
create_route($id, 'socket', 7000);
is(guest('GET', '/')->{status}, 200, 'a page of the guest');
serves('the example');

my $r = guest('POST', '/cgi-bin/info', 'x' x (50 * 1024 * 1024));
like($r->{body}, qr/^52428800$/m, '50 MiB arrive, too');

$r = guest('POST', '/cgi-bin/info', '', 'Content-Length' => 1024 ** 3 + 1);
is($r->{status}, 413, 'more than a GiB is 413');
allow_log(qr/client intended to send too large body: 1073741825 bytes/);
is(eval { json($r->{body})->{code} }, 'payload_too_large', 'as JSON');

my ($socket, $got) = until_matches('the upgrade', qr/\r\n\r\n/,
    "GET / HTTP/1.1\r\nHost: socket.hatch.localhost:9090\r\n"
    . "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    . "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    . "Sec-WebSocket-Version: 13\r\n\r\n");
like($got, qr/^HTTP\/1\.1 101 .*s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=/s,
     'a WebSocket opens');
print $socket "still there\n";
$socket->flush;
is(scalar <$socket>, "still there\n", 'and passes what is sent');
close $socket;

$r = guest('GET', '/cgi-bin/headers', undef, Upgrade => 'websocket',
           Connection => 'Upgrade, close');
like($r->{body}, qr/^CONNECTION=upgrade\n(?:.*\n)*UPGRADE=websocket$/m,
     'which the guest is asked for');

# --- README ---

my ($synopsis) = slurp("$top/README.md") =~ /```nginx\n(.*?)```/s;
my $readme = adapted("$synopsis\npid /run/hatch/nginx.pid;\n"
                     . "error_log /var/log/nginx/error.log;\n");
$readme =~ s/^http \{/http {\n    access_log $dir\/logs\/access.log;/m;
stop_nginx();
ok(start_nginx(conf => $readme), 'README\'s starts')
    or diag(nginx_log());
serves('README');

# --- a call of the API that takes long ---

# The agent stands.  With the timeout that the configuration names nginx would
# wait; with a short one in its place it does not, so that is the one.
my $agent = zone()->{agent_pid};
allow_log(qr/upstream timed out .*agent\.sock/);

for (['the example', $example], ['README', $readme]) {
    my ($name, $conf) = @$_;
    my ($minutes) = $conf =~ /^ +proxy_read_timeout (\d+)m;/m;
    cmp_ok($minutes // 0, '>=', 10, "$name: the API waits for long");
    $conf =~ s/^( +proxy_read_timeout) \d+m;/$1 100ms;/m;
    stop_nginx();
    ok(start_nginx(conf => $conf), "$name with a short one");
    kill_pid('STOP', $agent);
    my $r = api('POST', '/vms', {});
    kill_pid('CONT', $agent);
    is($r->{json}{code}, 'agent_timeout', 'it is the one that holds');
}

done();
