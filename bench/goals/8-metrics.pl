# Goal 8: /metrics of many VMs, and /healthz beside it.

use strict;
use warnings;

our ($dir, $quick, $vms_most);

my $server = start_server("metrics", zone_and_routes('metrics', $vms_most, 1000)
                          . reference());
my %ask = (port => 8001, path => '/healthz', interval => 100,
           seconds => $quick ? 1 : 3);
my (@time, @ratio, @p99);

for my $round (1 .. ($quick ? 2 : 7)) {
    my $quiet = run(%ask);
    my $before = cpu_ns($server->{worker});
    my $busy = run(%ask, scrape => '/metrics', warm => 0);
    my $used = cpu_ns($server->{worker}) - $before;
    next if !$busy->{scrapes};
    push @time, $used / $busy->{scrapes} / 1e6;
    push @ratio, $busy->{p99} / $quiet->{p99};
    push @p99, "$quiet->{p99}/$busy->{p99}";
}

if (@time) {
    report(8, "/metrics of $vms_most VMs, worker's time, ms",
           sprintf('%.1f', median(@time)), '<= 50', median(@time) <= 50,
           'with the requests to /healthz meanwhile');
    report(8, 'p99 of /healthz during scrapes by quiet',
           sprintf('%.2f', median(@ratio)), '<= 2', median(@ratio) <= 2,
           "one scrape after the other; us: @p99");
} else {
    report(8, "/metrics of $vms_most VMs", 'none', '<= 50', 0,
           'not one scrape was done in time');
}
stop_server($server);

1;
