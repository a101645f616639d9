#!/usr/bin/perl

# Whose a state directory is: an agent with another libvirt or on another host
# does not start, and touches nothing, until somebody says that it has moved.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my $state = "$dir/state";

# All that there is in it: names, sizes, times.
sub there {
    return join "\n", map { my @s = lstat; "$_ $s[7] $s[9]" }
           sort split /\n/, qx(find '$state');
}

# Runs an agent to its end: exit status and what it says.
sub run {
    my (@args) = @_;
    unlink "$dir/logs/run.log";
    local $ENV{HATCH_IMAGE_DIR} = "$dir/images";
    my $pid = spawn("$dir/logs/run.log", "$Test::Hatch::build/hatch-agent",
                    '--zone', "$dir/run/zone2", '--socket', "$dir/run/s2",
                    '--wake-socket', "$dir/run/w2", '--state-dir', $state,
                    @args);
    my $status = reap($pid);
    return ($status >> 8, slurp("$dir/logs/run.log"));
}

my @test = ('--connect', 'test:///default');
my @qemu = ('--connect', 'qemu:///system');

# --- made by the first agent ---

start_agent();
my $marker = "$state/owner.json";
my $mark = json(slurp($marker));
is($mark->{driver}, 'test', 'the driver');
is($mark->{place}, '/default', 'which libvirt');
is($mark->{format}, 1, 'the format');
my ($machine) = slurp('/etc/machine-id') =~ /^([0-9a-f]{32})$/;
is($mark->{machine_id}, $machine, 'the host');
like(agent_log(), qr/info: "\S+\/state" does not say whose it is/,
     'that it was unmarked is in the log');
like(agent_log(), qr/"\S+\/state" belongs to test:\/\/\/default from now on/,
     'and whose it is');

my ($rc, $said) = run(@test);
is($rc, 1, 'a second agent');
like($said, qr/in use by another agent, pid $Test::Hatch::agent;/,
     'hears who has it');
($rc, $said) = run(@test, '--adopt');
is($rc, 1, '--adopt under an agent');
like($said, qr/in use by another agent, pid/, 'the same');
($rc, $said) = run(@test, '--check');
is($rc, 0, '--check beside it') or diag $said;
create_vm({ user_data => '#cloud-config' });
stop_agent('KILL');

# --- another libvirt ---

my $before = there();

sub refused {
    my ($what, $why, @args) = @_;
    ($rc, $said) = run(@args);
    is($rc, 1, "$what: exit status 1");
    like($said, $why, 'says what is there, and what was expected');
    is(scalar(grep $_ =~ $why, split /\n/, $said), 1, 'in one line');
    is(there(), $before, 'nothing is changed');
    ok(!-e "$dir/run/zone2" && !-e "$dir/run/s2", 'and nothing made');
}

my $libvirt = qr/"state_dir": "\S+" has the VMs of test:\/\/\/default, not of qemu:\/\/\/system; "hatch-agent --adopt" moves it here$/m;
refused('another libvirt', $libvirt, @qemu);
refused('--check', $libvirt, @qemu, '--check');

# --- another host ---

write_file("$dir/machine", 'f' x 32 . "\n");
system('mount', '--bind', "$dir/machine", '/etc/machine-id') == 0 or die;
my $host = qr/belongs to host \Q$machine\E, not to this one, f{32}; "hatch-agent --adopt"/;
refused('another host', $host, @test);
refused('--check', $host, @test, '--check');

($rc, $said) = run(@test, '--adopt');
is($rc, 0, '--adopt: exit status 0') or diag $said;
like($said, qr/^hatch-agent: "\S+" belongs to test:\/\/\/default and this host now$/,
     'says so');
is(json(slurp($marker))->{machine_id}, 'f' x 32, 'it has moved');
ok(!-e "$dir/run/zone2", '--adopt starts nothing');

# a host without an id
write_file("$dir/machine", '');
($rc, $said) = run(@test, '--check');
is($rc, 0, 'a host that has no id may be any') or diag $said;
system('umount', '/etc/machine-id');
run(@test, '--adopt');

# --- the same libvirt, on another way ---

is((run('--connect', 'qemu+unix:///system?socket=/run/none', '--adopt'))[0],
   0, '--adopt needs no libvirt');
$mark = json(slurp($marker));
is("$mark->{driver} $mark->{place}", 'qemu /system', 'only what it is counts');
($rc, $said) = run('--connect', 'qemu:///system?socket=/run/none', '--check');
like($said, qr/cannot connect to libvirt/, 'another socket is no other libvirt')
    or diag $said;
($rc, $said) = run('--connect', 'qemu:///session', '--check', '--adopt');
like($said, qr/has the VMs of qemu:\/\/\/system, not of qemu:\/\/\/session;/,
     'another place is, and --check moves nothing');
run(@test, '--adopt');

# --- a marker of another kind ---

my $good = slurp($marker);

for my $case (['{"format":2,"driver":"x"}', qr/is a newer agent's: it has format 2, this one knows 1/],
              ['', qr/does not say whose the directory is/],
              ['{"format":"1"}', qr/does not say whose the directory is/],
              ['[]', qr/does not say whose the directory is/])
{
    write_file($marker, $case->[0]);
    $before = there();
    refused("owner.json is '$case->[0]'", $case->[1], @test);
}
write_file($marker, '{"format":2}');
($rc, $said) = run(@test, '--adopt');
is($rc, 1, 'nor is a newer one adopted');
is(slurp($marker), '{"format":2}', 'it stays');
write_file($marker, '{');
is((run(@test, '--adopt'))[0], 0, 'a damaged one is');
is_deeply(json(slurp($marker)), json($good), 'and is whole again');

is((run(@test, '--adopt', '--state-dir', "$dir/none"))[0], 1,
   '--adopt of what is not there');
ok(!-e "$dir/none", 'makes nothing');

# one that cannot be read may be right: nobody is told to adopt it
rename $marker, "$marker.kept" or die;
mkdir $marker or die;
$before = there();
refused('owner.json cannot be read', qr/cannot read "\S+owner\.json": Is a directory$/m,
        @test, @$_) for ['--check'], ['--adopt'], [];
rmdir $marker;
rename "$marker.kept", $marker or die;

# the next agent of the test driver deletes what the one before left
ok(glob("$state/seeds/*"), 'a seed was left');
start_agent();
wait_until('it is deleted', sub { !(() = glob "$state/seeds/*") });
stop_agent();

# --- no marker ---

unlink $marker or die;
write_file("$state/disks/vm_aaaaaaaaaaaaaaaa.qcow2", 'mine');
write_file("$state/snapshots/snap_aaaaaaaaaaaaaaaa.gone", '');
write_file("$state/pending/vm_aaaaaaaaaaaaaaaa.json",
           '{"operation":"delete","test":true,"place":"/default"}');
write_file("$state/pending/vm_bbbbbbbbbbbbbbbb.json.tmp", '{');
my $files = join ' ', sort glob "$state/{disks,snapshots,pending}/*";
($rc, $said) = run(@test);
is($rc, 1, 'files of VMs that this libvirt does not know: exit status 1');
like($said, qr/error: "state_dir": "\S+" has files of \d VMs, and test:\/\/\/default has none of these; if they are to be its, "hatch-agent --adopt" moves it here$/m,
     'says why');
like($said, qr/nothing in it is recovered or deleted/, 'and that it waits');
unlike($said, qr/trying again/, 'and it does not try again');
is(join(' ', sort glob "$state/{disks,snapshots,pending}/*"), $files,
   'all files are there');
ok(!-e $marker, 'it is not marked');
($rc, $said) = run(@test, '--check');
is($rc, 1, '--check says the same');
like($said, qr/has none of these/, 'in the same words');

# libvirt away: nobody can judge
my $pid = spawn("$dir/logs/away.log", "$Test::Hatch::build/hatch-agent",
                '--zone', "$dir/run/zone2", '--socket', "$dir/run/s2",
                '--wake-socket', "$dir/run/w2", '--state-dir', $state,
                '--image-dir', "$dir/images", @qemu);
wait_until('it tries again',
           sub { slurp("$dir/logs/away.log") =~ /trying again/ });
is(join(' ', sort glob "$state/{disks,snapshots,pending}/*"), $files,
   'without a libvirt nothing is touched');
kill_pid('TERM', $pid);
is(reap($pid) >> 8, 0, 'it ends when told to');
ok(!-e $marker, 'it is not marked');

is((run(@test, '--adopt'))[0], 0, '--adopt');
start_agent();
wait_until('what was left is gone on with',
           sub { !(() = glob "$state/{disks,snapshots,pending}/*") });
is(stop_agent(), 0, 'stop');

# a note that came along with --adopt: to undo it would cost a VM that the
# other libvirt has
write_file("$state/disks/vm_cccccccccccccccc.qcow2", 'theirs');
write_file("$state/pending/vm_cccccccccccccccc.json",
           '{"operation":"create","test":false,"place":"/system"}');
start_agent();
wait_until('an operation of another libvirt waits for that', sub {
    agent_log() =~ /vm_c{16}: an operation on it did not end, with another libv/
});
is(stop_agent(), 0, 'stop');
is(slurp("$state/disks/vm_cccccccccccccccc.qcow2"), 'theirs',
   'the disk is there');
unlink glob "$state/{disks,pending}/vm_c*";

# one with nothing of a VM is anybody's
unlink $marker or die;
start_agent();
ok(-e $marker, 'a directory without files of VMs is marked by itself');

allow_log(qr/error: "state_dir": .* has none of these/);
done();
