# bench/goals.pl - what bench/run measures, goal by goal.  Uses its functions.

use strict;
use warnings;

our ($dir, $build, $vms_most, $routes_most, $quick, $backend, $reference);

say(machine());
say('');

my $json = '{"status":"ok","vm_count":10000,"route_count":1000}';

sub health {
    my ($vms) = @_;
    my $length = length $json;
    $reference = 8001;
    return start_server("health$vms", zone_and_routes("health$vms", $vms, 1000)
                        . <<"END");
    server {
        listen 127.0.0.1:8001;
        keepalive_requests 100000000;
        location = /ref {
            default_type application/json;
            return 200 '$json';
        }
        location = /healthz { hatch_healthz; }
        location = /metrics { hatch_metrics; }
    }
END
}

sub instructions_of {
    my ($goal, $name, $server, $limit, %opt) = @_;
    my ($user, $kernel) = counted($server->{worker}, %opt);
    return report($goal, $name, 'none', $limit, undef,
                  'no counters on this machine') if !defined $user;
    report($goal, $name, sprintf('%.2f k', $user / 1000),
           $limit ? "<= $limit k" : '',
           $limit ? $user <= $limit * 1000 : undef,
           sprintf('user; kernel %.2f k', $kernel / 1000));
    return $user;
}

# --- 1: /healthz beside "return 200" ---

if (wanted(1)) {
    for my $vms (0, $vms_most) {
        my $server = health($vms);
        my %a = (port => 8001, path => '/ref');
        my %b = (port => 8001, path => '/healthz');
        report_ratio(1, compare("/healthz by return 200, $vms VMs", \%a, \%b),
                     0.98);
        instructions_of(1, "its instructions, $vms VMs", $server, 8.0, %b);
        instructions_of(1, 'those of return 200', $server, undef, %a)
            if $vms;

        if ($vms) {
            my $publisher = spawn("$dir/logs/publish.log", 'taskset', '-c', 1,
                                  "$build/unit/fill", 'publish',
                                  "$dir/health$vms.zone", 600);
            report_ratio(1, compare('/healthz by return 200, while 100 000 '
                                    . 'states a second change', \%a, \%b),
                         0.98);
            kill 'KILL', $publisher;
        }
        stop_server($server);
    }
}

# --- 2: the proxy beside a static upstream ---

sub proxies {
    my ($vms, $routes) = @_;
    $reference = 8001;
    my $static = proxy(8002, 'static');
    my $hatch = proxy(8003, 'vms', 'hatch_route hatch.local;');
    return start_server("proxy$vms-$routes",
        zone_and_routes("proxy$vms-$routes", $vms, $routes) . <<"END");
    upstream static {
        server 127.1.0.0:$backend;
        keepalive 128;
        keepalive_requests 100000000;
    }
    upstream vms {
        hatch keepalive=16384 keepalive_requests=1000000;
    }
    server {
        listen 127.0.0.1:8001;
        keepalive_requests 100000000;
        location = /ref {
            default_type application/json;
            return 200 '$json';
        }
    }
$static
$hatch
END
}

if (wanted(2)) {
    for my $case ([1, 1], [1, 1000], [1, 100_000], [1, $routes_most],
                  [32, 100_000], [1000, 100_000], [$vms_most, 100_000])
    {
        my ($vms, $routes) = @$case;
        next if $quick && $routes == 1000;
        my $server = proxies($vms, $routes);
        my %a = (port => 8002, host => 'static', backend => $backend);
        my %b = (port => 8003, names => $routes, backend => $backend,
                 # until each VM has its connections
                 warm => $vms > 1000 ? 3 : 0.5);
        my $least = $vms >= 10_000 ? 0.90 : $vms >= 1000 ? 0.93 : 0.97;
        my $c = compare("proxy by static upstream, $routes routes, $vms VMs",
                        \%a, \%b);
        report_ratio(2, $c, $least);
        report(2, 'new backend connections a request',
               sprintf('%.4f', $c->{accepted}), '<= 0.02',
               $c->{accepted} <= 0.02) if defined $c->{accepted};
        my ($mine) = counted($server->{worker}, %b);
        my ($static) = counted($server->{worker}, %a);
        report(2, 'its user instructions by the static one\'s',
               sprintf('%.3f', $mine / $static), '<= 1.06',
               $mine / $static <= 1.06,
               sprintf('%.1f k by %.1f k', $mine / 1000, $static / 1000))
            if defined $mine && defined $static;
        stop_server($server);
    }
}

1;
