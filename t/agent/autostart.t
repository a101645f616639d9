#!/usr/bin/perl

# "autostart", and VMs that run again when the host has booted: the mark of each
# that runs, and what an agent does that finds another boot than its marks are of.
# t/host/save_all.t boots a whole host.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

my $running = "$dir/state/running";
my %agent = (connect => 'qemu:///system');

sub marks { return join ' ', sort map { m{([^/]+)$} } glob "$running/*" }

# As if the host had booted since the agent before ended.
sub boot {
    my (@lost) = @_;
    stop_agent();
    virsh("destroy $_") for @lost;
    write_file("$dir/state/boot_id", '11111111-2222-3333-4444-555555555555');
    open my $fh, '>', "$dir/logs/agent.log";
    start_agent(%agent);
}

# --- the field ---

start_agent(%agent);
my $plain = create_vm({ name => 'plain' });
ok(defined $plain->{autostart} && !$plain->{autostart}, 'default: false');
my $auto = create_vm({ name => 'auto', autostart => JSON::PP::true });
ok($auto->{autostart}, 'true');
my $never = create_vm({ name => 'never', idle_timeout => undef });

for my $bad (1, 'true', undef, []) {
    my $r = api('POST', '/vms', { autostart => $bad });
    is($r->{status}, 400, 'POST: not ' . ($bad // 'null'));
    like($r->{json}{error}, qr/"autostart" must be /, 'by name');
    $r = api('PATCH', "/vms/$plain->{id}", { autostart => $bad });
    is($r->{status}, 400, 'PATCH: neither');
}

is(marks(), join(' ', sort $auto->{id}, $never->{id}), 'the marks');
my $r = api('PATCH', "/vms/$plain->{id}", { autostart => JSON::PP::true });
ok($r->{status} == 200 && $r->{json}{autostart}, 'PATCH: true');
like(marks(), qr/$plain->{id}/, 'is marked at once');
like(virsh("dumpxml --inactive $plain->{id}"), qr/autostart=["']1/,
     'and stands in the domain');
stop_agent();
start_agent(%agent);
ok(api('GET', "/vms/$plain->{id}")->{json}{autostart}, 'the next agent knows');
$r = api('PATCH', "/vms/$plain->{id}", { autostart => JSON::PP::false });
ok($r->{status} == 200 && !$r->{json}{autostart}, 'PATCH: false');
unlike(marks(), qr/$plain->{id}/, 'and the mark is off');

# a VM of an agent before this one
my $space = 'https://hatch.invalid/xmlns/vm/1';
my $xml = virsh("metadata $plain->{id} $space --config");
ok($xml =~ s/ autostart=["']0["']//, 'the attribute');
$xml =~ tr/'\n/"/d;
virsh("metadata $plain->{id} $space --key hatch --set '$xml' --config");
unlike(virsh("dumpxml --inactive $plain->{id}"), qr/autostart/, 'is taken away');
stop_agent();
start_agent(%agent);
$r = api('GET', "/vms/$plain->{id}")->{json};
ok(defined $r->{autostart} && !$r->{autostart}, 'without it: false');

# --- marks follow what happens, before it is answered ---

api('POST', "/vms/$never->{id}/pause");
unlike(marks(), qr/$never->{id}/, 'paused: no mark');
api('POST', "/vms/$never->{id}/resume");
like(marks(), qr/$never->{id}/, 'resumed: again');
is(api('POST', "/vms/$never->{id}/snapshot", {})->{status}, 201, 'a snapshot');
unlike(marks(), qr/$never->{id}/, 'puts it to sleep: none');
api('POST', "/vms/$never->{id}/start");
like(marks(), qr/$never->{id}/, 'started: again');
api('POST', "/vms/$never->{id}/stop", { force => JSON::PP::true });
unlike(marks(), qr/$never->{id}/, 'stopped: none');
like(agent_log(), qr/info: $never->{id}: $_$/m, "the log says: $_")
    for 'paused', 'resumed', 'stopped by force';

# --- a restart of the agent is no boot ---

stop_agent();
virsh("destroy $auto->{id}");
start_agent(%agent);
is(Test::Hatch::state($auto->{id}), 'stopped', 'a restart starts nothing');
ok(wait_until('the mark goes', sub { marks() eq '' }), 'and takes the mark off');

# --- a boot ---

api('POST', "/vms/$_->{id}/start") for $auto, $never;
virsh("managedsave --running $never->{id}");
wait_state($never->{id}, 'snapshotted');
api('POST', "/vms/$never->{id}/start");
boot($auto->{id}, $plain->{id});
wait_state($auto->{id}, 'running', 60);
like(agent_log(), qr/info: the host was booted; 1 VM that ran before is started again$/m,
     'the log says what is to be done');
wait_until('told', sub { agent_log() =~ /$auto->{id}: runs again, as it did/ });
is(Test::Hatch::state($plain->{id}), 'stopped', 'no other is started');
ok(wait_until('the marks are of this boot', sub {
    slurp("$dir/state/boot_id") eq slurp('/proc/sys/kernel/random/boot_id') =~ s/\n//r
}), 'the marks are of this boot');

# a libvirt that hangs holds up no host that stops
my ($libvirtd) = slurp('/run/libvirtd.pid') =~ /(\d+)/;
kill_pid('STOP', $libvirtd);
stop_agent();
{
    local $ENV{HATCH_SAVE_ALL_TIMEOUT} = 1;
    my $out = qx(timeout 20 '$Test::Hatch::build/hatch-agent' --save-all --connect qemu:///system --state-dir '$dir/state' 2>&1);
    is($? >> 8, 1, '--save-all with a libvirt that hangs');
    like($out, qr/error: no VM is saved: libvirt has not answered within 1 s/, 'says so');
}
kill_pid('CONT', $libvirtd);
start_agent(%agent);

# from its memory: saved as the host stopped, after the agent
stop_agent();
$r = qx('$Test::Hatch::build/hatch-agent' --save-all --connect qemu:///system --state-dir '$dir/state' 2>&1);
is($? >> 8, 0, '--save-all') or diag $r;
like($r, qr/info: saved the memory of 2 of 2 VMs that were up/, 'both');
ok(-s "$dir/state/saved/$auto->{id}.json", 'the file is noted');
boot();
wait_state($_->{id}, 'running', 60) for $auto, $never;
wait_until('told', sub { (() = agent_log() =~ /: runs again, as it did/g) == 2 });
is((() = agent_log() =~ /: started, from its saved memory$/mg), 2, 'from memory');

# one whose memory is bad boots, one that is no VM any more is said
stop_agent();
qx('$Test::Hatch::build/hatch-agent' --save-all --connect qemu:///system --state-dir '$dir/state' 2>&1);
truncate "/var/lib/libvirt/qemu/save/$auto->{id}.save", 1000 or die;
virsh("undefine --managed-save $never->{id}");
boot();
wait_state($auto->{id}, 'running', 60);
wait_until('both are seen to', sub {
    agent_log() =~ /warn: $never->{id}: it ran when the host went down, and is no VM any more/
    && agent_log() =~ /$auto->{id}: runs again/ });
pass('both are seen to');
is(marks(), $auto->{id}, 'and one is left');

# one that cannot be started is said, and tried again
stop_agent();
virsh("destroy $auto->{id}");
virsh('net-destroy hatch');
my $socket = IO::Socket::INET->new(LocalPort => 53, Proto => 'udp') or die;
boot();
wait_until('it fails', sub {
    agent_log() =~ /warn: $auto->{id}: it ran when the host went down; trying again to start it: .*Address already in use$/m });
pass('it fails, and says why');
undef $socket;
ok(wait_state($auto->{id}, 'running', 60), 'and runs once it can');

# a user who deletes it takes its mark away
is(api('DELETE', "/vms/$auto->{id}")->{status}, 200, 'DELETE');
is(marks(), '', 'no mark');

done();
