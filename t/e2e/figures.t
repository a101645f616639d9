#!/usr/bin/perl

# The figures are true: those of a busy guest are between what virsh domstats
# says just before and just after; a guest that hangs costs only its own; no
# counter goes back but to 0.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;
use Time::HiRes qw(time);

mkdir "$dir/images";
system('cp', "$Test::Hatch::build/image/vmlinuz",
       "$Test::Hatch::build/image/initrd", "$dir/images") == 0 or die;
system('qemu-img', 'create', '-q', '-f', 'qcow2', "$dir/images/base.qcow2",
       '8M') == 0 or die;
my %env = (HATCH_STATS_INTERVAL => '0.3s', HATCH_LOG_LEVEL => 'info');
start_agent(connect => 'qemu:///system', env => \%env);
start_nginx();

my $image = api('POST', '/images', {
    kernel_path => 'vmlinuz', initrd_path => 'initrd',
    rootfs_path => 'base.qcow2', boot_args => 'console=ttyS0 quiet',
})->{json}{id};
my $vm = create_vm({ image_id => $image, name => 'busy' })->{id};
my $other = create_vm({ name => 'other' })->{id};
create_route($vm, 'busy');
create_route($other, 'other');
is(page($_)->{status}, 200, "$_ answers") for qw(busy other);

# domstats by our names
my @fields = (
    ['cpu_seconds_total', qr/cpu\.time/, 1e-9],
    ['network_receive_bytes_total', qr/net\.\d+\.rx\.bytes/, 1],
    ['network_transmit_bytes_total', qr/net\.\d+\.tx\.bytes/, 1],
    ['network_receive_packets_total', qr/net\.\d+\.rx\.pkts/, 1],
    ['network_transmit_packets_total', qr/net\.\d+\.tx\.pkts/, 1],
    ['block_read_bytes_total', qr/block\.\d+\.rd\.bytes/, 1],
    ['block_written_bytes_total', qr/block\.\d+\.wr\.bytes/, 1],
    ['block_reads_total', qr/block\.\d+\.rd\.reqs/, 1],
    ['block_writes_total', qr/block\.\d+\.wr\.reqs/, 1],
    ['memory_current_bytes', qr/balloon\.current/, 1024],
    ['memory_resident_bytes', qr/balloon\.rss/, 1024],
);

sub domstats {
    my ($id) = @_;
    my ($text, %sum) = virsh("domstats $id");
    for my $field (@fields) {
        my ($name, $re, $scale) = @$field;
        while ($text =~ /^\s+$re=(\d+)$/mg) { $sum{$name} += $1 * $scale }
    }
    return \%sum;
}

sub of {
    my ($m, $id, $name) = @_;
    my ($key) = grep /^hatch_vm_\Q$name\E\{id="$id",/, keys %$m;
    return $key ? $m->{$key} : undef;
}

# The metrics once a sample has begun and ended after now.
sub sampled {
    my $now = metrics()->{hatch_stats_samples_total};
    my $m;
    wait_until('two samples', sub {
        $m = metrics();
        return $m->{hatch_stats_samples_total} >= $now + 2;
    });
    return $m;
}

# --- a busy guest ---

my $load = fork // die;
if (!$load) {
    for my $n (1 .. 100000) { page('busy', "/cgi-bin/state?$n") }
    POSIX::_exit(0);
}

for my $round (1 .. 5) {
    my $before = domstats($vm);
    my $m = sampled();
    my $after = domstats($vm);

    for my $field (@fields) {
        my ($name) = @$field;
        my $value = of($m, $vm, $name);
        my ($low, $high) = sort { $a <=> $b } $before->{$name} // -1,
                                              $after->{$name} // -1;
        # memory may have been more or less between the two
        ($low, $high) = ($low * 0.8, $high * 1.2) if $name =~ /^memory_res/;
        ok(defined $value && $value > 0 && $low <= $value + 1e-8
           && $value <= $high + 1e-8, "round $round: $name")
            or diag("$low <= ", $value // 'none', " <= $high");
    }
}

# --- GET /vms/{id}/metrics: the same ---

my $first = api('GET', "/vms/$vm/metrics")->{json};
my $j = $first;
wait_until('a busy second', sub {
    $j = api('GET', "/vms/$vm/metrics")->{json};
    $j->{vcpu}{cpu_time_micros} > $first->{vcpu}{cpu_time_micros} + 2e5;
});
cmp_ok($j->{vcpu}{utilization_percent}, '>', 5, 'it is busy');
cmp_ok($j->{vcpu}{utilization_percent}, '<', 250,
       'of one vCPU, and what QEMU itself needs');
like($j->{sampled_at}, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d/, 'when');
cmp_ok($j->{raw}{'block.0.wr.bytes'}, '==', $j->{block}{write_bytes}, 'raw');

kill 'KILL', $load;
waitpid $load, 0;
sampled();
$j = api('GET', "/vms/$vm/metrics")->{json};
my $m = metrics();
for (['net', 'rx_bytes', 'network_receive_bytes_total'],
     ['net', 'tx_packets', 'network_transmit_packets_total'],
     ['block', 'read_bytes', 'block_read_bytes_total'],
     ['block', 'write_bytes', 'block_written_bytes_total'])
{
    my ($group, $field, $name) = @$_;
    is($j->{$group}{$field}, of($m, $vm, $name), "$group.$field");
}
cmp_ok($j->{mem_mib} << 20, '==', of($m, $vm, 'memory_bytes'), 'memory');
is($j->{vcpu_count}, of($m, $vm, 'vcpus'), 'vcpus');

# --- one that sleeps, and wakes ---

api('POST', "/vms/$other/pause");
$m = sampled();
cmp_ok(of($m, $other, 'cpu_seconds_total'), '>', 0, 'paused: it stays');
cmp_ok(of($m, $other, 'memory_resident_bytes'), '>', 0, 'so does its memory');
api('POST', "/vms/$other/snapshot");
is(api('GET', "/vms/$other/metrics")->{json}{vcpu}{cpu_time_micros}, 0,
   'saved: 0 at once in the API');
$m = sampled();
is(of($m, $other, "$_"), $_ =~ /cpu/ ? '0.000000000' : 0, "saved: no $_")
    for qw(cpu_seconds_total memory_resident_bytes memory_current_bytes
           network_receive_bytes_total);
is(api('GET', "/vms/$other/metrics")->{json}{vcpu}{cpu_time_micros}, 0,
   'nor in the API');
is(page('other')->{status}, 200, 'a request wakes it');
$m = sampled();
is($m->{'hatch_wakes_total{kind="restore"}'}, 1, 'a restore is counted');
is(of($m, $other, 'wakes_total'), 1, 'of this VM');
is($m->{'hatch_wake_duration_seconds_count{kind="restore"}'}, 1, 'timed');
my $took = $m->{'hatch_wake_duration_seconds_sum{kind="restore"}'};
cmp_ok($took, '>', 0.05, "a plausible time: $took s");
cmp_ok($took, '<', 20, 'not too long');
cmp_ok(of($m, $other, 'cpu_seconds_total'), '>', 0, 'it counts again');
cmp_ok($m->{hatch_held_requests_total}, '>=', 1, 'a request was held');

# --- one that hangs ---

my $pid = qemu_pid($other);
kill_pid('STOP', $pid);
my $before = metrics();
page('busy', '/cgi-bin/state?after') for 1 .. 3;
wait_until('the other one has new figures', sub {
    $m = metrics();
    of($m, $vm, 'block_writes_total') > of($before, $vm, 'block_writes_total')
        && of($m, $other, 'stats_age_seconds') > 3
        && of($m, $vm, 'stats_age_seconds') < 2;
}, 30) or diag(agent_log());
cmp_ok(of($m, $other, 'cpu_seconds_total'), '>=',
       of($before, $other, 'cpu_seconds_total'), 'its own stay');
like(agent_log(), qr/statistics: libvirt does not answer/, 'the log says so');
is(healthz()->{status}, 200, 'healthz');
is(readyz()->{status}, 'ready', 'ready all the same');
# an agent that begins now cannot ask for them, and keeps what it finds
$before = metrics();
stop_agent('KILL');
start_agent(connect => 'qemu:///system', env => \%env);
$m = sampled();
cmp_ok(of($m, $other, 'memory_resident_bytes'), '>', 0,
       'a new agent: its memory stays');
kill_pid('CONT', $pid);
wait_until('it has figures again', sub {
    of(metrics(), $other, 'stats_age_seconds') < 2;
});

# --- without agent, without libvirt: unchanged, but for what is about them ---

sub steady {
    my %m = %{ metrics() };
    delete @m{grep /age_seconds|^hatch_(agent|libvirt)_up|^hatch_stats_/,
              keys %m};
    return \%m;
}

my $agent = $Test::Hatch::agent;
sampled();
kill_pid('STOP', $agent);
wait_until('it has stopped', sub { slurp("/proc/$agent/stat") =~ /\) T/ });
my $then = steady();
my $health = healthz()->{body};
my $began = time;
for (1 .. 50) {
    is(healthz()->{body}, $health, 'healthz, agent stopped') if $_ % 10 == 0;
    metrics();
}
cmp_ok(time - $began, '<', 10, 'nothing waits for it');
is_deeply(steady(), $then, 'metrics, agent stopped');
wait_until('stale', sub { readyz()->{status} eq 'stale' }, 10);
is(readyz()->{code}, 503, 'with 503');
is(readyz()->{agent}, 'down', 'agent');
kill_pid('CONT', $agent);
wait_until('ready again', sub { readyz()->{status} eq 'ready' }, 5);

# libvirtd; the agent may just have taken a sample, after it stood so long
sampled();
$then = steady();
stop_libvirtd('KILL');
wait_until('disconnected', sub { readyz()->{status} eq 'disconnected' }, 40);
is(readyz()->{libvirt}, 'disconnected', 'libvirt');
is(readyz()->{agent}, 'up', 'agent');
is(healthz()->{body}, $health, 'healthz, libvirtd gone');
is_deeply(steady(), $then, 'metrics, libvirtd gone');
is(metrics()->{hatch_libvirt_up}, 0, 'metrics say so');
start_libvirtd();
wait_until('ready again', sub { readyz()->{status} eq 'ready' }, 20);

# kill -9
stop_agent('KILL');
my $killed = time;
wait_until('stale', sub { readyz()->{status} eq 'stale' }, 10);
my $shown = time - $killed;
cmp_ok($shown, '<=', 3.1, sprintf 'stale %.2f s after the kill', $shown);
is(healthz()->{body}, $health, 'healthz, agent killed');
is_deeply(steady(), $then, 'metrics, agent killed');

# --- counters over restarts: never back, but to 0 ---

sub counters {
    my $m = metrics();
    return { map { $_ => $m->{$_} } grep /_(total|bucket|sum|count)\b/,
             keys %$m };
}

sub none_back {
    my ($old, $what) = @_;
    my $new = counters();
    my @back = grep { defined $new->{$_} && $new->{$_} < $old->{$_}
                      && $new->{$_} != 0 } sort keys %$old;
    is("@back", '', "$what: no counter goes back");
    my @lost = grep !defined $new->{$_}, sort keys %$old;
    is("@lost", '', "$what: none is lost");
    return $new;
}

my $old = counters();
start_agent(connect => 'qemu:///system', env => \%env);
none_back($old, 'a new agent');
sampled();
$old = none_back($old, 'its first samples');
is($old->{'hatch_wakes_total{kind="restore"}'}, 1, 'it goes on counting');
cmp_ok($old->{hatch_requests_total}, '>', 10, 'so does nginx');
kill 'HUP', Test::Hatch::nginx_pid();
is(page('busy')->{status}, 200, 'after a reload');
$old = none_back($old, 'nginx reloaded');
stop_nginx();
start_nginx();
$old = none_back($old, 'nginx restarted');
is(page('busy')->{status}, 200, 'it answers');
cmp_ok(metrics()->{hatch_requests_total}, '==',
       $old->{hatch_requests_total} + 1, 'and goes on counting');

# the zone is made anew: what the agent counts goes on, it has it in memory
unlink "$dir/run/zone";
wait_until('a new zone', sub { -e "$dir/run/zone" });
wait_until('nginx has it', sub {
    (metrics()->{'hatch_wakes_total{kind="restore"}'} // 0) == 1;
});
allow_log(qr/zone .* was removed and has been made anew/,
          qr/connect\(\) to unix:.*failed|no live upstreams|recv\(\) failed/);
done();
