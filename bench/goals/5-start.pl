# Goal 5: starting, reloading and the memory of a worker with many routes.

use strict;
use warnings;

our ($dir, $quick, $backend, $routes_most, $limits);

# What a worker has for itself, and all that it has mapped in, kB.
sub memory {
    my ($pid) = @_;
    my $status = slurp("/proc/$pid/status");
    return map { $status =~ /^$_:\s+(\d+)/m ? $1 : 0 } qw(RssAnon VmRSS);
}

my (%start, %reload, %own, %all);
for my $round (1 .. ($quick ? 2 : 7)) {
    for my $routes (0, $routes_most) {
        my $name = "start$routes";
        my $conf = $round == 1 ? zone_and_routes($name, 100, $routes)
                 : "hatch_zone $dir/$name.zone;\n"
                   . "hatch_route_store $dir/$name.routes size=2g;\n";
        my $began = time;
        my $server = start_server($name, "$conf upstream vms { hatch; }\n"
            . reference() . proxy(8003, 'vms', 'hatch_route hatch.local;'));
        wait_until('it answers', sub {
            http('127.0.0.1:8003', 'GET', '/', undef, Host => 'x.y');
        });
        push @{ $start{$routes} }, time - $began;

        $began = time;
        kill 'HUP', $server->{master};
        my $new;
        wait_until('a new worker', sub {
            ($new) = grep $_ != $server->{worker}, split ' ', slurp(
                "/proc/$server->{master}/task/$server->{master}/children");
            return $new && !-e "/proc/$server->{worker}";
        });
        push @{ $reload{$routes} }, time - $began;

        # with and without routes the same: 404s of the one are not in the
        # store of the other, and the guests are those of 100 VMs
        run(port => 8003, names => $routes || 100, backend => $backend,
            seconds => 1);
        my ($own, $all) = memory($new);
        push @{ $own{$routes} }, $own;
        push @{ $all{$routes} }, $all;
        stop_server($server);
    }
}

for (['start', \%start], ['reload', \%reload]) {
    my ($what, $of) = @$_;
    my ($with, $none) = map median(@{ $of->{$_} }), $routes_most, 0;
    report(5, "$what with $routes_most routes by none",
           sprintf('%.2f', $with / $none), '<= 1.1', $with / $none <= 1.1,
           sprintf('%.0f ms by %.0f ms', 1000 * $with, 1000 * $none));
}

my ($with, $none) = map median(@{ $own{$_} }), $routes_most, 0;
report(5, "memory of a worker with $routes_most routes by none",
       sprintf('%.2f', $with / $none), '<= 1.1', $with / $none <= 1.1,
       sprintf('its own, %.1f MB by %.1f MB; with the files that all workers '
               . 'share, of which it has touched most, %.0f MB by %.0f MB',
               $with / 1024, $none / 1024,
               map median(@{ $all{$_} }) / 1024, $routes_most, 0));

1;
