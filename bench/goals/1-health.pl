# Goal 1: /healthz beside "return 200" with a body of the same size, and beside
# "empty_gif", which runs the same phases: there 1.00 is the goal, and 0.98 the
# noise.

use strict;
use warnings;

our ($dir, $build, $quick, $vms_most, $for_load);

for my $vms ($quick ? $vms_most : (0, $vms_most)) {
    my $server = start_server("health$vms",
                              zone_and_routes("health$vms", $vms, 1000)
                              . reference());
    my %a = (port => 8001, path => '/return2', pid => $server->{worker});
    my %b = (port => 8001, path => '/healthz', pid => $server->{worker});
    my %gif = (port => 8001, path => '/empty.gif', pid => $server->{worker});

    report_ratio(1, compare("/healthz by return 200, $vms VMs", \%a, \%b),
                 0.98);
    report_ratio(1, compare("/healthz by empty_gif, $vms VMs", \%gif, \%b),
                 0.98);

    if ($vms) {
        my $publisher = spawn("$dir/logs/publish.log", 'taskset', '-c',
                              $for_load, "$build/unit/fill", 'publish',
                              "$dir/health$vms.zone", 600);
        report_ratio(1, compare('the same while 100 000 states a second change',
                                \%a, \%b), 0.98);
        kill_pid('KILL', $publisher);
        reap($publisher);
    }

    my ($mine, $return, $empty) = instructions($server, \%b, \%a, \%gif);
    report_instructions(1, "its instructions, $vms VMs", $mine, 8.0);
    report_instructions(1, 'those of return 200', $return);
    report_instructions(1, 'those of empty_gif', $empty);
    stop_server($server);
}

1;
