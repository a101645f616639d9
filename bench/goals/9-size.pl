# Goal 9: what a VM and a route take.

use strict;
use warnings;

our ($dir, $quick);

my $routes = $quick ? 100_000 : 1_000_000;
zone_and_routes('size', 100, $routes);
fill('index', "$dir/size.routes");

my $vm = ((-s "$dir/size.zone") - 4096) / 16384 + 64;
my $store = (-s "$dir/size.routes/data.mdb") / $routes;
my $index = (-s "$dir/size.routes/index") / $routes;

report(9, 'bytes per VM, zone and zone.activity', sprintf('%.0f', $vm), undef,
       undef, sprintf('%.1f million VMs per GiB', 2**30 / $vm / 1e6));
report(9, 'bytes per route, store', sprintf('%.0f', $store), undef, undef,
       sprintf('%.1f million routes per GiB of hatch_route_store\'s size; its '
               . 'index %.0f more, of the disk and the page cache',
               2**30 / $store / 1e6, $index));

1;
