#!/usr/bin/perl

# A reload that changes "vms=", up and down, puts another zone.activity in
# place.  A worker of before that has a WebSocket and an upload open goes over
# to it, so that their VMs stay awake; and no counter falls.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;
use Time::HiRes qw(time);

my $idle = 2;
my @counters = qw(hatch_requests_total hatch_held_requests_total);

# The guests are this process.
sub guest {
    my ($address) = @_;
    return IO::Socket::INET->new(LocalAddr => $address, LocalPort => 7000,
                                 Listen => 64, ReuseAddr => 1) || die $!;
}

# The next connection on which a request comes: the agent only connects.
sub accept_request {
    my ($listen) = @_;
    while (my $s = $listen->accept) {
        my $head = '';
        while (defined(my $line = <$s>)) {
            $head .= $line;
            return ($s, $head) if $line eq "\r\n";
        }
    }
    die $!;
}

sub conf {
    my ($vms) = @_;
    return nginx_conf(workers => 1, http => <<'END') =~ s/(hatch_zone [^;]+);/$1 vms=$vms;/r;
    server {
        listen 127.0.0.1:9091;
        location / {
            hatch_route hatch.localhost;
            proxy_pass http://vms;
            proxy_http_version 1.1;
            proxy_set_header Connection $http_connection;
            proxy_set_header Upgrade $http_upgrade;
        }
    }
END
}

sub reload {
    my ($vms) = @_;
    my @old = workers();
    write_file("$dir/nginx.conf", conf($vms));
    kill_pid('HUP', Test::Hatch::nginx_pid());
    wait_until('new workers', sub {
        my %now = map { $_ => 1 } workers();
        %now == 1 && !grep $now{$_}, @old;
    });
}

my @guests = map guest("127.55.0.$_"), 7, 8;
start_agent(env => { HATCH_BRIDGE_CIDR => '127.55.0.1/24',
                     HATCH_LOG_LEVEL => 'debug' });
start_nginx(conf => conf(16384));
my @vms = map create_vm({ guest_ip => "127.55.0.$_",
                          idle_timeout => $idle })->{id}, 7, 8;
create_route($vms[$_], "vm$_", 7000) for 0, 1;

my $socket = Test::Hatch::connect_to('127.0.0.1:9091');
print $socket "GET / HTTP/1.1\r\nHost: vm0.hatch.localhost\r\n"
            . "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
$socket->flush;
my ($peer, $head) = accept_request($guests[0]);
like($head, qr/^Upgrade: websocket/m, 'the guest is asked for a WebSocket');
print $peer "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
          . "Connection: Upgrade\r\n\r\n";
$peer->flush;
while (defined(my $line = <$socket>)) { last if $line eq "\r\n" }

my $upload = Test::Hatch::connect_to('127.0.0.1:9091');
print $upload "POST / HTTP/1.1\r\nHost: vm1.hatch.localhost\r\n"
            . "Connection: close\r\nContent-Length: 4\r\n\r\n1";
$upload->flush;

# The VM's part of the zone, and of zone.activity.
sub vm { my ($id) = @_; return (grep $_->{id} eq $id, @{ zone()->{vms} })[0] }

for my $vms (32768, 16384, 20000) {
    my $before = metrics();
    cmp_ok($before->{hatch_requests_total}, '>', 0, "vms=$vms: requests");
    my $changed = time;

    reload($vms);

    my $after = metrics();
    cmp_ok($after->{$_} // -1, '>=', $before->{$_}, "vms=$vms: $_")
        for @counters,
            grep /^hatch_vm_requests_total/, keys %$before;

    # three times as long as it takes to fall asleep
    wait_until('time passes', sub { time > $changed + 1.5 * $idle }, 10);
    for my $id (@vms) {
        my $vm = vm($id);
        is($vm->{state}, 'running', "vms=$vms: it runs");
        cmp_ok($vm->{last_request_age_ms} // 1e9, '<', 1000 * $idle,
               "vms=$vms: it was used just now");
    }
}

unlike(agent_log(), qr/idle, paused/, 'no VM was put to sleep');
# one without requests may, too, if it looks before it is told to exit
cmp_ok(scalar(() = nginx_log() =~ /went over to the new/g), '>=', 3,
       'the worker of before went over each time')
    or diag(grep /went over/, split /^/, nginx_log());

print $socket "ping\n";
$socket->flush;
is(scalar <$peer>, "ping\n", 'the WebSocket goes on');

print $upload '234';
$upload->flush;
my $s;
($s, $head) = accept_request($guests[1]);
is(read($s, my $body, 4), 4, 'and so does the upload');
print $s "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
close $s;
like(do { local $/; <$upload> }, qr/^HTTP\/1\.1 200.*ok$/s, 'it is answered');

close $_ for $socket, $peer;

ok(wait_until('asleep', sub {
    2 == (() = agent_log() =~ /idle, paused/g)
}, 10), 'when they end, their VMs sleep');

done();
