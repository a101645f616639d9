#!/usr/bin/perl

# An open WebSocket, a stream and a slow transfer are use as long as they
# last, even where nothing is on the wire; and a request that comes while the
# memory is being saved does not wait for that to end.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;
use Time::HiRes qw(time);

start_agent(connect => 'qemu:///system', env => { HATCH_LOG_LEVEL => 'debug' });
start_nginx(http => <<'EOF');
    server {
        listen 127.0.0.1:9091;
        location / {
            hatch_route hatch.localhost;
            proxy_pass http://vms;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Connection $http_connection;
            proxy_set_header Upgrade $http_upgrade;
            proxy_buffering off;
        }
        location /unbuffered {
            hatch_route hatch.localhost;
            rewrite ^ /cgi-bin/info break;
            proxy_pass http://vms;
            proxy_request_buffering off;
            proxy_http_version 1.1;
        }
    }
EOF

my $id = create_vm({ idle_timeout => undef, save_after => undef })->{id};
create_route($id, 'web');
create_route($id, 'socket', 7000);
is(page('web')->{status}, 200, 'the guest is up');

sub idle {
    my ($timeout) = @_;
    my $r = api('PATCH', "/vms/$id", { idle_timeout => $timeout });
    is($r->{status}, 200, 'idle_timeout ' . ($timeout // 'never'));
}

sub sleeps {
    my $log = agent_log();
    my $n = () = $log =~ /$id: idle, paused/g;
    return $n;
}

sub for_seconds {
    my ($seconds) = @_;
    my $until = time + $seconds;
    wait_until('time passes', sub { time >= $until }, $seconds + 10);
}

sub asleep_after {
    my ($since, $max, $name) = @_;
    wait_state($id, 'paused', 10);
    my $took = time - $since;
    ok($took >= .9 && $took <= $max, $name) or diag("after $took s");
}

# --- a WebSocket ---

my $socket = Test::Hatch::connect_to('127.0.0.1:9091');
print $socket "GET / HTTP/1.1\r\nHost: socket.hatch.localhost\r\n"
            . "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            . "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            . "Sec-WebSocket-Version: 13\r\n\r\n";
$socket->flush;
while (defined(my $line = <$socket>)) { last if $line eq "\r\n" }
idle(2);
my $n = sleeps();
for_seconds(6.5);
is(sleeps(), $n, 'a WebSocket, idle for three idle_timeouts: awake');
is(Test::Hatch::state($id), 'running', 'it runs');
print $socket "still there\n";
$socket->flush;
is(scalar <$socket>, "still there\n", 'and the WebSocket is open');
my $t = time;
close $socket;
asleep_after($t, 4.5, 'closed: asleep on time');

# --- a stream ---

idle(1);
my $r = http('127.0.0.1:9091', 'GET', '/cgi-bin/slow?4', undef,
             Host => 'web.hatch.localhost');
is(() = $r->{body} =~ /^data: \d/mg, 4, 'a stream comes whole');
$n = sleeps();
$r = http('127.0.0.1:9091', 'GET', '/cgi-bin/slow?4', undef,
          Host => 'web.hatch.localhost');
cmp_ok(sleeps() - $n, '<=', 1, 'and the VM did not sleep under it');

# --- a slow upload, buffered by nginx and not ---

for my $path ('/cgi-bin/info', '/unbuffered') {
    page('web');
    $n = sleeps();
    my $s = Test::Hatch::connect_to('127.0.0.1:9091');
    print $s "POST $path HTTP/1.1\r\nHost: web.hatch.localhost\r\n"
           . "Connection: close\r\nContent-Length: 4\r\n\r\n";
    $s->flush;
    for (1 .. 4) {
        for_seconds(.7);
        print $s 'x';
        $s->flush;
    }
    my $answer = do { local $/; <$s> };
    like($answer, qr/^HTTP\/1\.1 200.*^4$/ms, "$path: a slow upload arrives");
    is(sleeps(), $n, 'the VM did not sleep under it');
}

# --- a save is cancelled ---

is(api('PATCH', "/vms/$id", { idle_timeout => .2, save_after => .2 })
   ->{status}, 200, 'saved soon');
my ($cancelled, $caught) = (0, 0);
for (1 .. 40) {
    page('web');
    wait_until('it is being saved or asleep', sub {
        Test::Hatch::state($id) =~ /^snapshott/
    }) or last;
    $caught++ if Test::Hatch::state($id) eq 'snapshotting';
    my $answer = page('web');
    last if $answer->{status} != 200;
    $cancelled++ if ($answer->{headers}{'server-timing'} // '') =~ /"resume"/;
    last if $cancelled >= 3;
}
diag("caught $caught saves, $cancelled cancelled");
cmp_ok($cancelled, '>', 0, 'a request cancels a save');
is(page('web')->{status}, 200, 'and is answered');

done();
