#!/usr/bin/perl

# Reloads and binary upgrades under changes of routes, scrapes, held requests
# and open WebSockets: nothing that a worker has read is lost, every change that
# was acknowledged is there, every one that was refused is not.
#
#   STORM_RELOADS=200 STORM_UPGRADES=20     how many

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Matrix qw(%vm);
use Test::Hatch::Storm;
use Test::More;
use Time::HiRes qw(time sleep);

my $reloads = $ENV{STORM_RELOADS} // 200;
# a wrapper around nginx, as with sanitizers, is lost by an upgrade
my $upgrades = $Test::Hatch::nginx =~ /\.sh$/ ? 0 : $ENV{STORM_UPGRADES} // 20;
my $began = time;

my $http = <<'END';
    server {
        listen 127.0.0.1:8081 sndbuf=8k;
        location / { hatch_metrics; }
    }
    server {
        listen 127.0.0.1:9091;
        hatch_route hatch.localhost;
        hatch_wake_timeout 500ms;
        location / {
            proxy_pass http://vms;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $http_connection;
            # where the agent says nothing in time, nobody is held
            proxy_connect_timeout 500ms;
            proxy_read_timeout 1h;
        }
    }
END

# With another vms= each time: workers of both have the same zone.
sub conf {
    my ($n) = @_;
    my $vms = 16384 + 16 * ($n % 7);
    return nginx_conf(http => $http) =~ s/(hatch_zone [^;]+);/$1 vms=$vms;/r;
}

Test::Hatch::Matrix::begin(conf => conf(0));

# one that only WebSockets keep awake, one that sleeps all the time, and some
# for a long /metrics
my $open = create_vm({ guest_ip => '127.55.0.5', idle_timeout => 2,
                       save_after => undef })->{id};
my $sleeper = create_vm({ guest_ip => '127.55.0.6', idle_timeout => .15,
                          save_after => undef })->{id};
create_vm({ enable_network => JSON::PP::false, idle_timeout => undef })
    for 1 .. 40;
start_echo('127.55.0.5:7000');
create_route($open, 'socket', 7000);
create_route($sleeper, 'sleeper', 80);

# --- who asks meanwhile ---

sub get {
    my ($port, $name, $path) = @_;
    return ($port, request_text('GET', "$name.hatch.localhost", $path // '/'));
}

for my $n (1, 2) {
    start_client("page $n", sub {
        my ($expect) = @_;
        $expect->('a page', 200, get(9090, 'a'));
        $expect->('health', 200, 8080,
                  request_text('GET', 'localhost', '/healthz'));
        sleep rand .01;
        return;
    });
    start_client("scrape $n", sub {
        my ($expect) = @_;
        $expect->('a scrape', 200, 8081,
                  request_text('GET', 'localhost', '/metrics'), 'slow');
        sleep rand .01;
        return;
    });
    # all of them end at once
    start_client("held $n", sub {
        my ($expect) = @_;
        $expect->('a held request', 504, map [get(9091, 'never')], 1 .. 30);
        return;
    });
    start_client("sleeper $n", sub {
        my ($expect) = @_;
        $expect->('a wake', 200, map [get(9090, 'sleeper')], 1 .. 20);
        sleep rand .4;
        return;
    });

    # keeps what has to be there in the end
    my (%want, $count);
    start_client("writer $n", sub {
        my ($expect) = @_;
        my $name = "w$n-" . ++$count;
        my $write = sub {
            my ($status, $method, $path, $body) = @_;
            return $expect->("$method $name", $status, 8080,
                             request_text($method, 'localhost', $path, $body));
        };
        my $post = "/vms/$vm{b}/routes";
        my $r = $write->(201, 'POST', $post,
                         qq({"subdomain":"$name","target_port":1000}));
        return \%want if $r->{lost} || $r->{status} != 201;
        my $path = '/routes/' . json($r->{body})->{id};
        $want{$name} = 1000;
        $write->(409, 'POST', $post,
                 qq({"subdomain":"$name","target_port":9}));
        $r = $write->(200, 'PATCH', $path, '{"target_port":1001}');
        $want{$name} = 1001 if ($r->{status} // 0) == 200;
        $write->(400, 'PATCH', $path, '{"target_port":70000}');
        return \%want if $count % 8 == 0;
        $r = $write->(200, 'DELETE', $path);
        delete $want{$name} if ($r->{status} // 0) == 200;
        return \%want;
    });
}

# --- the storm ---

my ($n, @sockets) = (0);

sub slept {
    my $log = agent_log();
    return scalar(() = $log =~ /$open: idle, paused/g);
}

sub reload {
    my @old = workers();
    write_file("$dir/nginx.conf", conf(++$n));
    kill_pid('HUP', Test::Hatch::nginx_pid());
    return wait_until("reload $n", sub {
        my %now = map { $_ => 1 } workers();
        %now == 2 && !grep $now{$_}, @old;
    }, 30);
}

# The old master, which ends with the last WebSocket of its workers.
sub upgrade {
    my $old = Test::Hatch::nginx_pid();
    kill_pid('USR2', $old);
    wait_until('the new master', sub {
        my $new = Test::Hatch::nginx_pid();
        $new && $new != $old && -e "$dir/nginx.pid.oldbin" && workers() == 2;
    }, 30) or return;
    kill_pid('WINCH', $old);
    kill_pid('QUIT', $old);
    return $old;
}

my ($reloaded, $upgraded, $dead, $fell_asleep) = (0, 0, 0, 0);
my $cycles = $upgrades || 1;

for my $cycle (1 .. $cycles) {
    for (1 .. 4) {
        open_socket(\@sockets, 9091, 'socket.hatch.localhost') or $dead++;
    }
    my $before = slept();
    my $until = int($reloads * $cycle / $cycles);
    while ($reloaded < $until) { reload() or last; $reloaded++ }
    my $old = $upgrades ? upgrade() : undef;
    $dead += grep !socket_lives($_), @sockets;
    $fell_asleep += slept() - $before;
    close_sockets(\@sockets);
    last if $reloaded < $until || $upgrades && !$old;
    next if !$upgrades;
    wait_until('the old master ends', sub { !-e "/proc/$old" }, 30) or last;
    $upgraded++;
}

my $notes = end_clients();
my ($asked, $again) = (0, 0);
$asked += $_->{asked}, $again += $_->{again} for values %$notes;
my @failed = map @{ $_->{failed} }, values %$notes;

is($reloaded, $reloads, "$reloads reloads");
is($upgraded, $upgrades, "$upgrades binary upgrades");
cmp_ok($asked, '>', 5 * ($reloads + $upgrades), "$asked requests");
is(join("\n", sort @failed), '', 'all that were read are answered');
is($dead, 0, 'all WebSockets stay open');
is($fell_asleep, 0, 'and keep their VM awake');
diag(sprintf '%d requests, %d of them sent again, %d WebSockets; %.0f s',
     $asked, $again, 4 * $cycles, time - $began);
diag(join ', ', map "$_: $notes->{$_}{asked}", sort keys %$notes);

# --- what is there afterwards ---

my (%there, $after);
while (1) {
    my $r = api('GET', '/routes?limit=1000' . ($after ? "&after=$after" : ''));
    my @routes = @{ $r->{json} } or last;
    $there{$_->{subdomain}} = $_->{target_port}
        for grep $_->{subdomain} =~ /^w\d-/, @routes;
    $after = $routes[-1]{id};
}
my %want = map %{ $_->{keep} // {} }, values %$notes;
is_deeply(\%there, \%want, 'what was acknowledged, and nothing else')
    or diag(scalar keys %there, ' by ', scalar keys %want);

# --- zone.activity when vms= changes ---

open_socket(\@sockets, 9091, 'socket.hatch.localhost');
my $before = slept();
reload();
my $until = time + 3.5;
wait_until('time passes', sub { time >= $until }, 10);
is(slept() - $before, 0,
   'a WebSocket of a worker from before a new vms= keeps its VM awake');
ok(socket_lives($sockets[0] // \*STDIN), 'and it is open');
close_sockets(\@sockets);
ok(wait_until('asleep', sub { slept() > $before }, 10), 'closed, it sleeps');

# --- nobody is left over ---

sub servers {
    my $guest = Test::Hatch::Matrix::guest_pid();
    return grep {
        my ($pid) = m{(\d+)};
        $pid != $guest && slurp($_) =~ /^nginx: worker process/
    } glob '/proc/[0-9]*/cmdline';
}
ok(wait_until('two workers', sub { servers() == 2 }, 10),
   'no old worker is left over');
stop_nginx();
ok(wait_until('none', sub { servers() == 0 }, 10), 'and none at the end');

allow_log(qr/upstream timed out .* while connecting to upstream.*never/);
done();
