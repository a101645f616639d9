# Goal 10: clients that do nothing, or the wrong thing, on every listener.
# 10 000 connections that sent nothing and 10 000 that are kept, beside them
# slow and half-closed ones and resets in the middle of held requests: memory
# and descriptors are flat afterwards, and the others hardly notice.

use strict;
use warnings;

use IPC::Open2;

our ($dir, $quick, $backend, $ready, $never, $workers, $limits, $top);

my $each = $quick ? 2000 : 10_000;
my @ports = qw(8203 8201 8204h2);

sub crowd_server {
    # a worker has about as many descriptors as connections of one kind
    local $workers = 2;
    # route 1 is for a VM that never gets ready
    not_ready();
    local $never = 1;

    my $listen = 'reuseport backlog=4096';
    my $route = <<'END';
        location / {
            hatch_route hatch.local;
            proxy_pass http://vms;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
        }
        location = /own { return 204; }
END
    return start_server('crowd', zone_and_routes('crowd', 2, 2) . <<"END");
    keepalive_requests 100000000;
    upstream vms { hatch; }
    server {
        listen 127.0.0.1:8201 $listen;
        location = /healthz { hatch_healthz; }
        location / { hatch_api; }
        location = /own { return 204; }
    }
    server { listen 127.0.0.1:8203 $listen; $route }
    server { listen 127.0.0.1:8204 http2 $listen; $route }
END
}

# Connections of a kind; end them by closing what this returns.
sub hold_open {
    my ($kind) = @_;
    my $pid = open2(my $out, my $in, 'sh', '-c',
                    "$limits exec '$top/bench/hold_open' $kind $each @ports");
    my $said = <$out> // '';
    die "hold_open $kind: it has ended" if $said ne "ready\n";
    return { pid => $pid, in => $in, out => $out };
}

sub let_go {
    my ($held) = @_;
    close $held->{in};
    waitpid $held->{pid}, 0;
}

my $server = crowd_server();
my ($master) = $server->{master};
my @pids;
wait_until('two workers', sub {
    @pids = split ' ', slurp("/proc/$master/task/$master/children");
    return @pids == 2;
});

sub descriptors {
    my $n = 0;
    for my $pid (@pids) { $n += () = glob "/proc/$pid/fd/*" }
    return $n;
}

sub resident {
    my $kib = 0;
    $kib += (slurp("/proc/$_/status") =~ /^VmRSS:\s+(\d+)/m)[0] for @pids;
    return $kib;
}

my %health = (port => 8201, path => '/healthz');
my %proxied = (port => 8203, host => 'n0000000.hatch.local',
               backend => $backend);
my %one = (interval => 100, seconds => $quick ? 1 : 3);
my %crowd = (crowd => join(',', @ports), slow => 500, half => 500,
             resets => 500, held => 'n0000001.hatch.local');

run(%$_, %one, seconds => .3) for \%health, \%proxied;
my ($empty, $before) = (descriptors(), resident());
my (%p99, %told, @left, @memory, $most);
my $steps = 0;

for my $round (1 .. ($quick ? 2 : 5)) {
    my %quiet = map { $_->{port} => run(%$_, %one)->{p99} } \%health, \%proxied;
    my @held = map hold_open($_), 'silent', 'kept';
    $most = descriptors();

    for my $ask (\%health, \%proxied) {
        my $busy = run(%$ask, %one, %crowd, warm => .5);
        $steps += $busy->{crowd};
        push @{ $p99{$ask->{port}} }, $busy->{p99} / $quiet{$ask->{port}};
        push @{ $told{$ask->{port}} },
             "$quiet{$ask->{port}}/$busy->{p99}";
        die "errors beside a crowd: $busy->{bad}" if $busy->{errors};
    }

    let_go($_) for @held;
    my $end = time + 5;
    sleep .02 while descriptors() > $empty && time < $end;
    push @left, descriptors() - $empty;
    push @memory, resident();
}

my $crowded = sprintf 'beside %d silent, %d kept, 1500 slow, half-closed and '
    . 'resetting ones (%d steps)', $each, $each, $steps;
for ([8201, '/healthz'], [8203, 'a proxied request']) {
    my ($port, $what) = @$_;
    my $ratio = median(@{ $p99{$port} });
    report(10, "p99 of $what in a crowd by quiet", sprintf('%.2f', $ratio),
           '<= 2', $ratio <= 2, "us: @{ $told{$port} }; $crowded");
}
my ($left) = sort { $b <=> $a } @left;
report(10, 'descriptors left behind by a crowd', $left, '<= 0', $left <= 0,
       "$empty before, $most with it");
my $grown = $memory[-1] / $memory[0];
report(10, "workers' memory after the last crowd by the first",
       sprintf('%.3f', $grown), '<= 1.02', $grown <= 1.02,
       "KiB: $before; @memory");
stop_server($server);
not_ready();

1;
