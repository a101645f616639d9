#!/usr/bin/perl

# The agent's own life: clean stop, kill -9, the zone in between, a zone
# file that is removed, a disk that is full.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my $pid = start_agent();
my $vm = create_vm();
my $z = zone();

ok(wait_until('the heart beats', sub {
    zone()->{heartbeat_age_ms} < 900 && zone()->{published_age_ms} > 1500;
}), 'every second');

my $inode = (stat "$dir/run/zone")[1];
is(stop_agent('TERM'), 0, 'SIGTERM: exit status 0');
ok(!-e "$dir/run/agent.sock", 'the socket is gone');
ok(-e "$dir/run/zone", 'the zone stays');
is(zone()->{vm_count}, 1, 'with the last good data');
is(zone()->{libvirt}, 'disconnected', 'marked as without libvirt');
like(agent_log(), qr/info: stopping; the VMs keep running/, 'says so');

# the test driver's domains die with the process: all are gone
start_agent();
is((stat "$dir/run/zone")[1], $inode, 'the next agent takes the file over');
ok(wait_until('the zone follows libvirt', sub { zone()->{vm_count} == 0 }),
   'and drops what libvirt no longer has');

$vm = create_vm();
stop_agent('KILL');
is(zone()->{vm_count}, 1, 'after kill -9 the zone is readable');
ok(-e "$dir/run/agent.sock", 'the socket file remains');
start_agent();
is((stat "$dir/run/zone")[1], $inode, 'taken over again');
is(api('GET', '/vms')->{status}, 200, 'the stale socket was replaced');

# somebody cleans /run
$vm = create_vm();
unlink "$dir/run/zone" or die;
ok(wait_until('the zone is back', sub {
    my $new = zone();
    $new && $new->{vm_count} == 1 && defined $new->{published_age_ms};
}), 'a removed zone is made anew, with everything');
is(zone()->{vms}[0]{id}, $vm->{id}, 'the VM is in it');
like(agent_log(), qr/warn: the zone "\S+" was removed and has been made anew/,
     'and the log says so');

# somebody truncates it
truncate "$dir/run/zone", 0 or die;
ok(wait_until('the zone is back', sub { (zone() // {})->{vm_count} }),
   'a truncated zone, too');
is(api('GET', "/vms/$vm->{id}")->{status}, 200, 'the agent lives');
stop_agent();

# somebody puts a file of his own there
start_agent();
unlink "$dir/run/zone" or die;
write_file("$dir/run/zone", 'important');
wait_until('a warning', sub { agent_log() =~ /is not a Hatch zone/ });

# signals that end no daemon; with each, the agent looks at the zone again
for my $signal ('USR1', 'USR2') {
    kill $signal, $Test::Hatch::agent;
    ok(wait_until("SIG$signal in the log",
                  sub { agent_log() =~ /SIG$signal(?: is ignored|: the conf)/ }),
       "SIG$signal: says what it does");
}
is(slurp("$dir/run/zone"), 'important', 'which is not overwritten');
is(scalar(() = agent_log() =~ /is not a Hatch zone/g), 1, 'one warning');
is(api('GET', '/vms')->{status}, 200, 'the agent goes on');
unlink "$dir/run/zone" or die;
ok(wait_until('the zone is back', sub { zone() }), 'once it is gone');

is(stop_agent(), 0, 'SIGTERM ends it');

# another size: a new file
start_agent(env => { HATCH_ZONE_VMS => 4 });
isnt((stat "$dir/run/zone")[1], $inode, 'another size is another file');
is(zone()->{slots}, 4, 'of 4 slots');
create_vm() for 1 .. 4;
my $r = api('POST', '/vms', {});
is($r->{status}, 507, 'a fifth VM does not fit');
like($r->{json}{error}, qr/zone is full: 4 VMs; raise "zone_vms"/, 'says so');
is(zone()->{vm_count}, 4, 'nothing is left of it');
stop_agent();

# no room for the zone
mkdir "$dir/full";
system('mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', "$dir/full") == 0
    or die;
$pid = spawn("$dir/logs/full.log", "$Test::Hatch::build/hatch-agent",
             '--connect', 'test:///default', '--zone', "$dir/full/zone",
             '--socket', "$dir/full/agent.sock");
is(reap($pid) >> 8, 1, 'a full disk: exit status 1');
like(slurp("$dir/logs/full.log"),
     qr/cannot allocate \d+ bytes for "\S+": No space left on device/,
     'says so');
is_deeply([glob "$dir/full/*"], [], 'and leaves nothing');
system('umount', "$dir/full");
allow_log(qr/error: cannot allocate \d+ bytes/);

done();
