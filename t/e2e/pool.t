#!/usr/bin/perl

# The pool of "hatch": connections to guests are used again, found by address,
# bounded, and none outlives its guest or what its guest has said of it.

use strict;
use warnings;

use IO::Select;
use Time::HiRes qw(time);
use Test::Hatch world => 'plain';
use Test::More;

# --- a guest, at every address: says who asks; /hold waits for /go ---
#
# Its answers to /timeout=N announce that it closes idle connections after N
# seconds.  On one that it has not heard of for one second it does so, if a
# request begins with "/late": as if both had crossed.  /drop is closed without
# an answer, /drops says how often.

my $guest;

sub start_guest {
    my $listener = IO::Socket::INET->new(Listen => 100, ReuseAddr => 1,
                                         LocalAddr => '0.0.0.0:7000') or die $!;
    $guest = fork // die;
    return close $listener if $guest;

    my $select = IO::Select->new($listener);
    my (%number, %count, %heard, @held, $connections);
    my $drops = 0;

    while (my @ready = $select->can_read) {
        for my $s (@ready) {
            if ($s == $listener) {
                my $new = $s->accept;
                $number{$new} = ++$connections;
                $count{$new} = 0;
                $heard{$new} = time;
                $select->add($new);
                next;
            }

            my $request = '';
            if (!sysread $s, $request, 65536) {
                $select->remove($s);
                close $s;
                next;
            }

            $count{$s}++;
            my $idle = time - $heard{$s};
            $heard{$s} = time;
            $drops++ if $request =~ m{^\w+ /drop };
            if ($request =~ m{^\w+ /drop }
                || ($request =~ m{^\w+ /late} && $idle >= 1))
            {
                $select->remove($s);
                close $s;
                next;
            }

            my $text = $request =~ m{^GET /drops} ? $drops
                                                  : "$number{$s} $count{$s}";
            my ($timeout) = $request =~ m{^\w+ /(timeout=\d+)};
            my $head = "Content-Length: " . length $text;
            $head .= "\r\nKeep-Alive: $timeout, max=99" if $timeout;
            my $answer = "HTTP/1.1 200 OK\r\n$head\r\n\r\n$text";

            if ($request =~ m{^GET /hold}) {
                push @held, [$s, $answer];
            } else {
                if ($request =~ m{^GET /go}) {
                    syswrite $_->[0], $_->[1] for splice @held;
                }
                syswrite $s, $answer;
            }
            if ($request =~ m{^GET /close}) {
                $select->remove($s);
                close $s;
            }
        }
    }
    POSIX::_exit(0);
}

sub stop_guest {
    kill 'KILL', $guest;
    waitpid $guest, 0;
}

my @ids = map sprintf('vm_%016d', $_) =~ tr/0-9/a-j/r, 2 .. 9;
system("$Test::Hatch::build/unit/zone-poke", "$dir/run/zone", 16384,
       map { ($ids[$_], 'running', '127.0.0.' . ($_ + 2)) } 0 .. 7) == 0
    or die;

# nginx with this "hatch" line, and how many connections to guests it has
my $routes = 0;

sub nginx {
    my ($hatch) = @_;
    stop_nginx() if Test::Hatch::nginx_pid() && -e '/proc/'
                    . Test::Hatch::nginx_pid();
    my $conf = nginx_conf(workers => 1);
    $conf =~ s/upstream vms \{.*?\}/upstream vms { $hatch }/s or die;
    start_nginx(conf => $conf);
    return if $routes++;
    for my $n (0 .. 7) { create_route($ids[$n], "vm$n", 7000) or die }
}

sub ask {
    my ($n, $path, $method) = @_;
    my $r = page("vm$n", $path, $method);
    return $r ? $r->{status} == 200 ? $r->{body} : $r->{status} : 'none';
}

sub connections {
    my $n = 0;
    for (split /\n/, slurp('/proc/net/tcp')) {
        my (undef, undef, $remote, $state) = split;
        $n++ if $remote =~ /:1B58$/ && $state eq '01';
    }
    return $n;
}

start_guest();

# --- used again, each VM its own ---

nginx('hatch;');
is(ask(0), '1 1', 'the first request connects');
is(ask(0), '1 2', 'the second does not');
is(ask(1), '2 1', 'another VM: another connection');
is(ask(0), '1 3', 'and each its own');
is(ask(1), '2 2', 'again');
is(connections(), 2, 'two are kept');

# the guest closes one while it is idle
is(ask(2, '/close'), '3 1', 'one that is closed after its answer');
wait_until('it is no longer kept', sub { connections() == 2 });
is(ask(2), '4 1', 'the next request connects');

# all of them at once, without being told: the guest dies, and is back
stop_guest();
start_guest();
is(ask(0), '1 1', 'a new guest, a new connection');

# a worker that ends does not wait for them
my ($worker) = workers();
kill 'HUP', Test::Hatch::nginx_pid();
wait_until('the old worker has ended', sub { !-e "/proc/$worker" }, 5);
is(ask(0), '2 1', 'the new one has its own');

# --- bounds ---

sub hold {
    my ($n, $times) = @_;
    my $before = connections();
    my @kids;
    for (1 .. $times) {
        my $kid = fork // die;
        if (!$kid) { ask($n, '/hold'); POSIX::_exit(0) }
        push @kids, $kid;
    }
    wait_until("$times are held", sub { connections() >= $times });
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1:7000') or die;
    # once all have been read by the guest
    wait_until('all are answered', sub {
        syswrite $s, "GET /go HTTP/1.1\r\n\r\n";
        sysread $s, my $answer, 1000;
        return !grep { waitpid($_, POSIX::WNOHANG()) == 0 } @kids;
    });
    close $s;
}

nginx('hatch keepalive_per_vm=2;');
hold(0, 6);
wait_until('two of six are kept', sub { connections() == 2 });
ask(1);
is(connections(), 3, 'and one of another VM');

nginx('hatch keepalive=3;');
ask($_) for 0 .. 7;
is(connections(), 3, 'three of eight VMs');
my $kept = ask(7);
is(ask(7), $kept =~ s/(\d+)$/$1 + 1/er, 'those that were used last');
is(connections(), 3, 'still three');

nginx('hatch keepalive=0;');
like(ask(0), qr/ 1$/, 'none is kept') for 1 .. 3;
is(connections(), 0, 'none');

nginx('hatch keepalive_requests=3;');
is(join(' ', map { ask(0) =~ /(\d+)$/ } 1 .. 7), '1 2 3 1 2 3 1',
   'each for three requests');

nginx('hatch keepalive_timeout=300ms;');
ask($_) for 0 .. 3;
wait_until('all are closed in time', sub { connections() == 0 }, 5);
like(ask(0), qr/ 1$/, 'and opened again');

nginx('hatch keepalive_time=300ms;');
my ($old) = ask(0) =~ /^(\d+)/;
ok(wait_until('a new one takes its place', sub {
    return (ask(0) =~ /^(\d+)/)[0] != $old;
}), 'none is used for ever');

# --- what the guest says of its connections ---

sub connections_of {
    my ($n) = @_;
    my $remote = sprintf '%02X00007F:1B58', $n + 2;
    return grep / $remote 01 /, split /\n/, slurp('/proc/net/tcp');
}

nginx('hatch;');
my ($number) = ask(7, '/timeout=60') =~ /^(\d+)/;
is(ask(7, '/timeout=0'), "$number 2", 'one without any time is used');
is(scalar connections_of(7), 0, 'and then closed');

# the youngest of all these: when it is closed, all have waited for a second
($number) = ask(0) =~ /^(\d+)/;
my ($patient) = ask(1, '/timeout=60') =~ /^(\d+)/;
ask(2, '/timeout=1');
ok(wait_until('a guest closes after a second: so does nginx',
              sub { !connections_of(2) }, 5), 'no longer than the guest says');
is(scalar connections_of(0), 1, 'one that says nothing keeps its connection');

unlike(ask(0, '/late', 'POST'), qr/^(?:$number |5)/,
       'a POST is not sent on it');
is(ask(1, '/', 'POST'), "$patient 2", 'where the guest waits longer it is');

ok(wait_until('a POST goes on a connection that was just used', sub {
    my ($before) = ask(3) =~ /^(\d+)/;
    return (ask(3, '/', 'POST') =~ /^(\d+)/)[0] == $before;
}), 'a fresh one takes a POST');

ask(4);
ask(2, '/timeout=1');
wait_until('a second has gone by', sub { !connections_of(2) }, 5);
like(ask(4, '/late'), qr/ 1$/, 'a GET that meets a closed one is sent again');

# what the guest has had is not sent twice
ask(5);
my $drops = ask(6, '/drops');
is(ask(5, '/drop', 'POST'), 502, 'a POST without an answer');
is(ask(6, '/drops'), $drops + 1, 'the guest has seen it once');

# --- two blocks share half of the worker's connections ---

{
    stop_nginx();
    my $conf = nginx_conf(workers => 1, http => <<'EOF');
    upstream more {
        hatch;
    }
    server {
        listen 127.0.0.1:9091;
        location / {
            hatch_route hatch.localhost;
            proxy_pass http://more;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
    }
EOF
    $conf =~ s/worker_connections \d+/worker_connections 24/ or die;
    start_nginx(conf => $conf);

    my @answers;
    for my $port (9090, 9091) {
        push @answers, map http("127.0.0.1:$port", 'GET', '/', undef,
                                Host => "vm$_.hatch.localhost"), 0 .. 7;
    }
    is(join(' ', map $_ ? $_->{status} : 'none', @answers),
       join(' ', (200) x 16), 'two blocks, eight VMs each');
    is(connections(), 12, 'half of 24 are kept');
    is(scalar connections_of(0), 1, 'the oldest made room');
    is(scalar connections_of(7), 2, 'the youngest stay');
}

# --- nginx's own directive behind it: ignored ---

nginx('hatch keepalive=3; keepalive 1;');
ask($_) for 0 .. 7;
is(connections(), 3, 'the number behind "keepalive" does not count');

for my $keepalive ('', 'keepalive 16;') {
    my $conf = nginx_conf();
    $conf =~ s/hatch;/hatch; $keepalive/ or die;
    write_file("$dir/test.conf", $conf);
    my $out = qx($Test::Hatch::nginx -t -c $dir/test.conf -e $dir/t.log 2>&1);
    is($? >> 8, 0, "nginx -t passes with \"$keepalive\"");
    my @warnings = $out =~ /\[warn\] (.*)/g;
    is(scalar @warnings, $keepalive ? 1 : 0, 'and warns of what it ignores');
    like("@warnings", qr/^"keepalive" is ignored in upstream "vms" in \S+:\d+/,
         'in words') if $keepalive;
}

# --- what is refused ---

for my $bad ('keepalive=x', 'keepalive=-1', 'keepalive=1000001',
             'keepalive_per_vm=0', 'keepalive_timeout=0', 'keepalive_time=2d',
             'keepalive=1 keepalive=2', 'keepalive', 'other=1')
{
    my $conf = nginx_conf();
    $conf =~ s/hatch;.*?\}/hatch $bad; }/s or die;
    my ($status, $out) = nginx_t($conf);
    is($status, 1, "refused: $bad");
    like($out, qr/invalid parameter ".*" of "hatch", it must be/, 'says why');
}

stop_guest();
allow_log(qr/\[emerg\].*invalid parameter ".*" of "hatch"/,
          qr/connect\(\) failed|recv\(\) failed|prematurely closed/);
done();
