# Goal 2: a request through hatch_route beside the same nginx with a static
# upstream, and what the kernel alone takes for as many guests.

use strict;
use warnings;

our ($dir, $build, $quick, $backend, $vms_most, $routes_most, $for_server);

# How long a bare relay takes for a request, us.
sub relayed {
    my ($vms) = @_;
    my $pid = spawn("$dir/logs/relay.log", 'sh', '-c', "ulimit -n "
        . "\$(ulimit -Hn); exec taskset -c $for_server $build/unit/relay 8010 "
        . "$backend $vms");
    wait_until('the relay', sub {
        Test::Hatch::connect_to('127.0.0.1:8010')
    });
    my $busy = run_busy(port => 8010, host => 'n0000000.hatch.local',
                        backend => $backend, pid => $pid,
                        warm => $vms > 1000 ? 2 : 0.3,
                        seconds => $quick ? 0.3 : 1);
    kill_pid('KILL', $pid);
    reap($pid);
    return 1e6 * $busy->{busy} / $busy->{rate};
}

if (wanted(2)) {
    my @cases = ([1, 1], [1, 1000], [1, 100_000], [1, $routes_most],
                 [32, 100_000], [1000, 100_000], [$vms_most, 100_000]);
    @cases = ([1, $routes_most], [1000, 100_000]) if $quick;

    for my $case (@cases) {
        my ($vms, $routes) = @$case;
        my $server = proxies($vms, $routes);
        my %both = (names => $routes, backend => $backend,
                    pid => $server->{worker});
        my %a = (%both, port => 8002);
        # until each VM has its connections: they end with the backend, which
        # is in the load generator
        my %b = (%both, port => 8003,
                 warm => $vms > 1000 ? 4 : $vms > 32 ? 2 : 0.3);
        run(%b, seconds => 0.1);

        my $least = $vms >= 10_000 ? 0.90 : $vms >= 1000 ? 0.93 : 0.97;
        my $c = compare("proxy by static upstream, $routes routes, $vms VMs",
                        \%a, \%b);
        report_ratio(2, $c, $least);
        report(2, 'new backend connections a request',
               sprintf('%.4f', $c->{accepted}), '<= 0.02',
               $c->{accepted} <= 0.02) if defined $c->{accepted};

        if ($vms >= 1000) {
            my @bare = map [relayed(1), relayed($vms)], 1 .. ($quick ? 2 : 7);
            my $more = median(map $_->[1] - $_->[0], @bare);
            my $static = 1e6 / ($c->{a} // median(map $_->{a}, @{ $c->{all} }));
            report(2, "what $vms guests instead of one cost a bare relay, us",
                   sprintf('%.1f', $more), undef, undef,
                   sprintf('so no proxy that takes the static one\'s %.1f us '
                           . 'for one guest can be above %.2f', $static,
                           $static / ($static + $more)));
        }

        my ($mine, $static) = instructions($server,
            { %b, callgrind_warm => $vms > 1000 ? 30 : $vms > 32 ? 4 : 1 },
            \%a);
        report(2, 'its user instructions by the static one\'s',
               sprintf('%.3f', $mine / $static), '<= 1.06',
               $mine / $static <= 1.06,
               sprintf('%.2f k by %.2f k', $mine / 1000, $static / 1000))
            if defined $mine && defined $static;
        stop_server($server);
    }
}

1;
