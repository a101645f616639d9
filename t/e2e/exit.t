#!/usr/bin/perl

# A worker that exits, at a reload, a QUIT or a binary upgrade, first ends what
# it has begun: writes of the route store, scrapes of /metrics, and held
# requests that end all at once.

use strict;
use warnings;

use IPC::Open2;
use Test::Hatch world => 'plain';
use Test::Hatch::Matrix;
use Test::More;

my $port;
my $metrics = 'hatch_vm_wake_failures_total{';

sub old_ones_gone {
    my ($how, @old) = @_;
    return ok(wait_until("$how: the old worker ends", sub {
        !grep -e "/proc/$_", @old
    }), "$how: the old worker has ended");
}

# Sends GET, and leaves the answer.
sub send_get {
    my ($to, $path, $host) = @_;
    my $s = Test::Hatch::connect_to($to) or die "$to: $!";
    print $s "GET $path HTTP/1.1\r\nHost: $host\r\nConnection: close\r\n\r\n";
    $s->flush;
    return $s;
}

# The same for a route; its last byte may come later.
sub write_route {
    my ($name, $later) = @_;
    my $s = Test::Hatch::connect_to('127.0.0.1:8080') or die $!;
    my $body = qq({"target_port":80,"subdomain":"$name"});
    print $s "POST /vms/$vm{a}/routes HTTP/1.1\r\nHost: localhost\r\n",
             'Content-Length: ', length $body, "\r\n\r\n",
             $later ? substr $body, 0, -1 : $body;
    $s->flush;
    return $s;
}

# Somebody else holds the store's write lock; returns how to end that.
sub hold_store {
    my $pid = open2(my $out, my $in, "$Test::Hatch::build/unit/store-hold",
                    "$dir/routes");
    is(scalar <$out>, "held\n", 'somebody holds the store\'s lock');
    return sub { close $in; waitpid $pid, 0 };
}

sub answer_of {
    my ($s) = @_;
    local $/;
    my $text = <$s> // '';
    close $s;
    return $text;
}

# How often each "STATUS text" came, whole.
sub answers {
    my %got;
    for my $s (@_) {
        my ($head, $body) = split /\r\n\r\n/, answer_of($s), 2;
        my ($status) = ($head // '') =~ m{^HTTP/1\.1 (\d+)};
        my ($length) = ($head // '') =~ /^Content-Length: (\d+)/mi;
        my $whole = defined $length && length $body == $length;
        my $text = !$status ? 'none' : !$whole ? "$status, a part of it"
                   : $body =~ /"code":"(\w+)"/ ? "$status $1"
                   : "$status $body";
        $got{$text}++;
    }
    return \%got;
}

sub held_total { return metrics()->{hatch_held_requests_total} // 0 }

# --- how a worker is told to exit ---

my %exit = (
    reload => sub {
        my @old = workers();
        kill_pid('HUP', Test::Hatch::nginx_pid());
        wait_until('the new worker', sub {
            my %now = map { $_ => 1 } workers();
            %now == 1 && !grep $now{$_}, @old;
        });
        wait_until('the old worker knows', sub {
            !grep slurp("/proc/$_/cmdline") !~ /^$|shutting down/, @old
        });
    },
    quit => sub {
        my @old = workers();
        kill_pid('QUIT', Test::Hatch::nginx_pid());
        wait_until('the worker knows', sub {
            !grep slurp("/proc/$_/cmdline") !~ /^$|shutting down/, @old
        });
    },
    upgrade => sub {
        my $old = Test::Hatch::nginx_pid();
        my @old = workers();
        kill_pid('USR2', $old);
        wait_until('the new master', sub {
            my $new = Test::Hatch::nginx_pid();
            $new && $new != $old && -e "$dir/nginx.pid.oldbin" && workers();
        });
        kill_pid('QUIT', $old);
        wait_until('the old worker knows', sub {
            !grep slurp("/proc/$_/cmdline") !~ /^$|shutting down/, @old
        });
    },
);

sub again {
    my ($how) = @_;
    return if $how ne 'quit';
    wait_until('nginx ends', sub { !-e "$dir/nginx.pid" });
    start_nginx(conf => slurp("$dir/nginx.conf"));
}

# --- a write of the route store ---

matrix({ workers => 1,
         change => sub { $_[0] =~ s/(hatch_agent [^;]+);/$1 max_held=1000;/r }
       }, one => [{ held => 0 }, q{
    location / { hatch_wake_timeout 60s; ROUTE PASS }
    location /soon { hatch_wake_timeout 1500ms; ROUTE PASS }
    location /upload { proxy_pass http://plain; }
}]);
$port = row_port('one');

for my $how (qw(reload upgrade quit)) {
    my $release = hold_store();
    my @old = workers();
    my @sockets = map write_route("$how$_", $_ == 3), 1 .. 3;
    is(healthz()->{status}, 200, "$how: the writes are in the worker's hands");
    $exit{$how}->();
    print { $sockets[2] } '}';
    $sockets[2]->flush;
    for my $s (@sockets) {
        vec(my $ready = '', fileno $s, 1) = 1;
        is(select($ready, undef, undef, 0), 0, "$how: a write waits");
    }
    ok(-e "/proc/$old[0]", "$how: and the worker for it");

    $release->();
    is_deeply([map answer_of($_) =~ m{^HTTP/1\.1 (\d+)}, @sockets],
              [201, 201, 201], "$how: what was written is answered");
    old_ones_gone("$how, writes", @old);
    again($how);
    my %there = map { $_->{subdomain} => 1 } @{ api('GET', '/routes')->{json} };
    is(scalar(grep $there{"$how$_"}, 1 .. 3), 3, "$how: and is there");
}

# --- requests that come whole only then ---

# For a VM that sleeps, one that runs, and one whose service comes up later.
my $new = create_vm({ guest_ip => '127.55.0.20', idle_timeout => undef })->{id};
create_route($new, 'new');
my @halves = map {
    my $s = Test::Hatch::connect_to("127.0.0.1:$port") or die $!;
    print $s "GET /x HTTP/1.1\r\nConnection: close\r\nHost: $_.hatch";
    $s->flush;
    $s;
} qw(a b new);
is(healthz()->{status}, 200, 'half requests are read');
my @old = workers();
$exit{reload}->();
sleep_now();
for my $s (@halves) { print $s ".localhost\r\n\r\n"; $s->flush }
is_deeply(answers(@halves[0, 1]), { '200 A GET /x' => 1, '200 B GET /x' => 1 },
          'the rest comes when the worker exits: answered');
my $service = IO::Socket::INET->new(LocalAddr => '127.55.0.20', Timeout => 5,
                                    LocalPort => 80, Listen => 8) or die $!;
my $line;
while (my $s = $service->accept) {
    defined($line = <$s>) or next;          # the agent only connects
    print $s "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew";
    last;
}
like($line // 'none', qr{^GET /x }, 'one is held until the service is there');
is_deeply(answers($halves[2]), { '200 new' => 1 }, 'then answered');
close $service;
old_ones_gone('half requests', @old);

# --- held requests that end at once ---

# Before: the VM sleeps, or does not get ready.  Then: what ends the wait,
# while the worker exits.  What all of them are answered.
my $agent;
my %end = (
    'the VM is ready' => {
        before => sub { sleep_now(); kill_pid('STOP', $agent) },
        ask => ['/x', 'a'],
        then => sub { kill_pid('CONT', $agent) },
        all => '200 A GET /x',
    },
    'the time is over' => {
        ask => ['/soon', 'never'],

        # for all in one turn of the worker's events
        then => sub {
            my ($worker) = @_;
            kill_pid('STOP', $worker);
            my $until = Time::HiRes::time() + 1.6;
            wait_until('time passes', sub { Time::HiRes::time() > $until });
            kill_pid('CONT', $worker);
        },
        all => '504 wake_timeout',
    },
    'the agent is killed' => {
        before => sub { sleep_now(); kill_pid('STOP', $agent) },
        ask => ['/x', 'a'],
        then => sub { kill_pid('KILL', $agent) },
        all => '503 agent_unavailable',
    },
);

$agent = zone()->{agent_pid};

for my $test (['reload', 'the VM is ready', 100],
              ['quit', 'the VM is ready', 300],
              ['upgrade', 'the VM is ready', 300],
              ['reload', 'the time is over', 100],
              ['quit', 'the time is over', 300],
              ['reload', 'the agent is killed', 300])
{
    my ($how, $what, $n) = @$test;
    my $end = $end{$what};
    my $name = "$how, $n held, $what";
    my @old = workers();
    my ($path, $vm) = @{ $end->{ask} };

    $end->{before}->() if $end->{before};
    my $before = held_total();
    my @sockets = map send_get("127.0.0.1:$port", $path,
                               "$vm.hatch.localhost"), 1 .. $n;
    wait_until("$name: they are held", sub { held_total() == $before + $n });
    $exit{$how}->();
    $end->{then}->(@old);
    is_deeply(answers(@sockets), { $end->{all} => $n }, $name);
    old_ones_gone($name, @old);
    again($how);
}

# --- an agent that comes back ---

# The worker has lost it, and exits with a request that lasts.
@old = workers();
my $s = Test::Hatch::connect_to("127.0.0.1:$port");
print $s "POST /upload HTTP/1.1\r\nHost: localhost\r\n"
       . "Connection: close\r\nContent-Length: 2\r\n\r\n1";
$s->flush;
is(healthz()->{status}, 200, 'a request is read');
$exit{reload}->();
reap($agent);
start_agent(env => { HATCH_BRIDGE_CIDR => '127.55.0.1/24' });
my $until = Time::HiRes::time() + 1.5;
wait_until('time passes', sub { Time::HiRes::time() > $until });
print $s '2';
$s->flush;
is_deeply(answers($s), { '200 plain POST /upload' => 1 }, 'it is answered');
old_ones_gone('the agent is back', @old);

# --- the time for that is over ---

# worker_shutdown_timeout closes all connections, also of a write that goes on.
my $conf = slurp("$dir/nginx.conf");
write_file("$dir/nginx.conf", "worker_shutdown_timeout 1s;\n$conf");
$exit{reload}->();
my $vm = create_vm({ guest_ip => '127.55.0.9', idle_timeout => undef })->{id};
create_route($vm, 'again');
my $release = hold_store();
my $held = held_total();
my @sockets = map send_get("127.0.0.1:$port", '/x', 'again.hatch.localhost'),
              1 .. 50;
$vm{a} = $vm;
my $write = write_route('late');
wait_until('all are there', sub { held_total() == $held + 50 });
@old = workers();
$exit{reload}->();
is_deeply(answers(@sockets), { none => 50 }, 'connections are closed');
ok(-e "/proc/$old[0]", 'the write keeps the worker');
$release->();
is_deeply(answers($write), { none => 1 }, 'its connection, too');
old_ones_gone('worker_shutdown_timeout', @old);
is(scalar(grep $_->{subdomain} eq 'late', @{ api('GET', '/routes')->{json} }),
   1, 'and is there');

# --- scrapes of /metrics ---

stop_agent();
unlink "$dir/run/zone";
system("$Test::Hatch::build/unit/zone-poke", '--more=10000', "$dir/run/zone",
       16384) == 0 or die;
wait_until('many VMs', sub { healthz()->{json}{vm_count} == 10000 });

for my $how (qw(reload upgrade quit)) {
    my @old = workers();
    my @readers = map send_get('127.0.0.1:8080', '/metrics', 'localhost'),
                  1 .. 3;
    sysread $_, my $first, 1000 for @readers;
    $exit{$how}->();

    for my $n (1 .. @readers) {
        my $text = answer_of($readers[$n - 1]);
        my $all = () = $text =~ /^\Q$metrics\E/mg;
        is($all, 10000, "$how: a scrape has all VMs, $n");
        like($text, qr/\n\r\n0\r\n\r\n\z/, "$how: and its end");
    }
    old_ones_gone("$how, scrapes", @old);
    again($how);
}

done();
