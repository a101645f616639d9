#!/usr/bin/perl

# Samples of what the VMs use: how often, of which VMs, and where they show.
# Whether they are true is t/e2e/figures.t's.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

start_agent(env => { HATCH_STATS_INTERVAL => '0.1s' });

my $vm = create_vm({ name => 'one', mem_mib => 256 })->{id};
my $other = create_vm({ name => 'two' })->{id};
is(api('POST', "/vms/$other/stop", { force => JSON::PP::true })->{status}, 200,
   'one is stopped');

sub of { return api('GET', "/vms/$_[0]/metrics")->{json} }

sub slot {
    my ($id) = @_;
    my ($found) = grep $_->{id} eq $id, @{ zone()->{vms} };
    return $found;
}

my $first;
wait_until('a sample', sub { $first = of($vm)->{sampled_at} });
like($first, qr/^20\d\d-\d\d-\d\dT[\d:.]+Z$/, 'when');
wait_until('another one', sub { of($vm)->{sampled_at} ne $first });
is(of($vm)->{mem_mib}, 256, 'its memory');
ok(exists of($vm)->{raw}{'state.state'}, "libvirt's own figures");
wait_until('counted', sub { zone()->{samples} >= 2 });
is(zone()->{sample_failures}, 0, 'without failures');

# the zone has the same
wait_until('in the zone', sub { slot($vm)->{stats} });
cmp_ok(slot($vm)->{stats}{age_ms}, '<', 5000, 'of now');
my $j = of($vm);
is(slot($vm)->{stats}{memory_current}, ($j->{raw}{'balloon.current'} // 0)
   * 1024, 'memory');

# one that is not up
wait_until('it was sampled, too', sub { slot($other)->{stats} });
$j = of($other);
is($j->{vcpu}{cpu_time_micros}, 0, 'no processor time');
is($j->{vcpu}{utilization_percent}, 0, 'no utilization');
is($j->{uptime_seconds}, 0, 'not up');
is(slot($other)->{stats}{memory_current}, 0, 'no memory');

# one that is deleted while samples are taken
is(api('DELETE', "/vms/$other")->{status}, 200, 'deleted');
is(api('GET', "/vms/$other/metrics")->{status}, 404, 'no metrics');
my $third = create_vm({ name => 'three' })->{id};
wait_until('the next one', sub { of($third)->{sampled_at} });
is(scalar(grep $_->{stats}, @{ zone()->{vms} }), 2, 'two have figures');

# a new agent goes on with what the zone has
my $samples = zone()->{samples};
stop_agent();
start_agent(env => { HATCH_STATS_INTERVAL => 'never' });
cmp_ok(zone()->{samples}, '>=', $samples, 'the counter goes on');
$samples = zone()->{samples};       # with those until it was stopped
my $fourth = create_vm({ name => 'four' })->{id};
is(of($fourth)->{sampled_at}, undef, 'never: no sample');
is(of($fourth)->{vcpu}{cpu_time_micros}, 0, 'and no figures');
is(zone()->{samples}, $samples, 'none were taken') or diag(agent_log());
stop_agent();

# --- a stop: no figure of the run that has ended, whoever asks and when ---

start_agent(env => { HATCH_STATS_INTERVAL => '1h' });
$vm = create_vm({ name => 'stops', mem_mib => 256 })->{id};
is(of($vm)->{raw}{'state.state'}, 1, 'figures of one that is up');
is(api('POST', "/vms/$vm/stop", { force => JSON::PP::true })->{status}, 200,
   'one is stopped');
is(slot($vm)->{stats}{memory_current}, 0, 'the zone has nothing of it');
$j = of($vm);
is($j->{uptime_seconds}, 0, 'nor has the API: not up');
is_deeply($j->{raw}, {}, 'and nothing of libvirt\'s own figures');
is_deeply([map values %$_, @$j{qw(net block vcpu)}], [(0) x 8], 'all 0');
is(api('POST', "/vms/$vm/start")->{status}, 200, 'started again');
cmp_ok(of($vm)->{uptime_seconds}, '<', 60, 'it is up since then');
is(of($vm)->{raw}{'state.state'}, 1, 'and has figures');
stop_agent();

# --- the log, for people and for journald ---

my $log = agent_log();
is(scalar(grep !/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (error|warn|info|debug): \S/,
          split /\n/, $log), 0, 'a time, a level and one event a line');

my $journal = "$dir/logs/journal.log";
write_file($journal, '');
my ($dev, $ino) = stat $journal;
my @agent = ("$Test::Hatch::build/hatch-agent", '--connect', 'test:///default',
             '--zone', "$dir/run/zone", '--socket', "$dir/run/agent.sock",
             '--wake-socket', "$dir/run/wake.sock", '--state-dir',
             "$dir/state", '--image-dir', "$dir/images");
{
    local $ENV{JOURNAL_STREAM} = "$dev:$ino";
    my $pid = spawn($journal, @agent);
    wait_until('it has started', sub { slurp($journal) =~ /started/ });
    kill_pid('TERM', $pid);
    reap($pid);
}
like(slurp($journal), qr/^<6>hatch-agent \S+ started, API on /m, "journald's prefix");
is(scalar(grep !/^<[3467]>\S/, split /\n/, slurp($journal)), 0, 'on each line');

{
    # a variable that a parent has left behind
    local $ENV{JOURNAL_STREAM} = "$dev:1";
    my $pid = spawn("$dir/logs/plain.log", @agent);
    wait_until('it has started', sub { slurp("$dir/logs/plain.log")
                                       =~ /started/ });
    kill_pid('TERM', $pid);
    reap($pid);
}
like(slurp("$dir/logs/plain.log"), qr/^20\S+Z info: hatch-agent \S+ started/m,
     'standard error is not journald\'s: none');

done();
