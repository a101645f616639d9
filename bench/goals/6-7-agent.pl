# Goals 6 and 7: the agent with 10 000 domains of libvirt's test driver, in
# libvirtd, so that the agent's memory is the agent's.

use strict;
use warnings;

use IPC::Open2;

our ($dir, $build, $quick, $vms_most);

my $uri = 'test+unix:///default';
my $domains = $quick ? 2000 : $vms_most;
my $hold = open2(my $from, my $to, "$build/unit/domains", $uri, 'hold',
                 $domains);
my $held = json_of(scalar <$from>);

my @list;
for (1 .. ($quick ? 2 : 3)) {
    my $began = time;
    qx(virsh -q -c $uri list --all);
    push @list, time - $began;
}

# The zone's word that says that a list of VMs was published.
sub published {
    open my $file, '<:raw', "$dir/run/zone" or return 0;
    seek $file, 72, 0;
    my $n = read $file, my $word, 8;
    return $n == 8 && unpack 'Q', $word;
}

# who plays an agent for nginx elsewhere leaves the real one its socket
not_ready();

my $began = time;
my $agent = start_agent(connect => $uri, wait => 0,
                        env => { HATCH_LOG_LEVEL => 'info' });
while (!published() && time - $began < 60) {
    select undef, undef, undef, 0.005;
}
my $ready = time - $began;

if (wanted(7)) {
    report(7, "ready with $domains domains after virsh list --all, s",
           sprintf('%.2f', $ready - median(@list)), '<= 2',
           $ready - median(@list) <= 2,
           sprintf('%.2f, of which virsh needs %.2f and one call for the list '
                   . '%.3f', $ready, median(@list), $held->{list_ms} / 1000));
}

# Seconds that its threads had a processor.  Not the ticks of /proc/PID/stat: a
# tick finds whoever the same timer woke.
my $cpu = sub {
    my $sum = 0;
    $sum += (split ' ', slurp($_))[0] // 0 for glob "/proc/$agent/task/*/schedstat";
    return $sum / 1e9;
};

if (wanted(7)) {
    # what a start leaves to do
    sleep 3;
    my ($used, $since) = ($cpu->(), time);
    sleep($quick ? 5 : 60);
    my $share = 100 * ($cpu->() - $used) / (time - $since);
    report(7, 'when nothing happens, % of a processor',
           sprintf('%.2f', $share), '<= 1', $share <= 1);

    my ($rss) = slurp("/proc/$agent/status") =~ /^VmRSS:\s+(\d+)/m;
    report(7, 'resident, MiB', sprintf('%.1f', $rss / 1024), '<= 64',
           $rss <= 64 * 1024);
}

if (wanted(6)) {
    fill('routes', "$dir/events.routes", 10, 1, 80);
    my $server = start_server('events', "hatch_zone $dir/run/zone;\n"
        . "hatch_route_store $dir/events.routes;\n" . reference());
    my ($ms, $note) = latencies(scalar qx($build/unit/domains $uri change ${\
                                          ($quick ? 200 : 2000)} 8001));
    report(6, 'an event in /healthz, p99, ms', sprintf('%.2f', p99(@$ms)),
           '<= 5', p99(@$ms) <= 5,
           "$note; with the call that causes it, beside $domains domains");
    stop_server($server);
}

# first the agent: else it would see 10 000 domains go
stop_agent('KILL');
close $to;
waitpid $hold, 0;

1;
