#!/usr/bin/perl

# A host that is shut down and boots again: `hatch-agent --save-all` in a unit
# keeps the memory of every VM that is up; those that are to run again do so,
# the others sleep and wake with their memory.  Then one whose save hangs, and a
# power cut, after which memory is lost.
#
# The agent runs under its own unit, with no more capabilities than it says it
# needs.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Host;
use Test::More;

my $host = "$top/t/lib/host";
my $build = '/hatch/' . ($ENV{HATCH_BUILD} // 'build');
my $virsh = 'virsh -q -c qemu:///system';

sub host_file {
    my ($path, $text) = @_;
    write_file("/run/hatch-host/root$path", $text);
}

system($host, 'up') == 0 or BAIL_OUT('no host: namespaces or cgroups refused');
END { system $host, 'down' if -e '/run/hatch-host/name' }

host('mkdir -p /etc/hatch /var/lib/hatch');
host_file('/etc/hatch/agent.json', <<"EOT");
{
    "default_kernel_path": "/srv/hatch/vmlinuz",
    "default_initrd_path": "/srv/hatch/initrd",
    "default_mem_mib": 128,
    "idle_timeout": 86400,
    "save_after": 86400,
    "stats_interval": "never"
}
EOT
host("mkdir -p /srv/hatch; cp $build/image/vmlinuz $build/image/initrd /srv/hatch");
host_file('/etc/tmpfiles.d/hatch.conf', "d /run/hatch 0755 root root -\n");

# the units as they are installed
host("cp $build/hatch-agent /usr/sbin/; cp /hatch/deploy/systemd/hatch-agent.service"
     . ' /hatch/deploy/systemd/hatch-guests.service /etc/systemd/system/');

# others' guests are asked to shut down, which this one does not hear
host_file('/etc/default/libvirt-guests', "SHUTDOWN_TIMEOUT=2\n");
host('systemctl daemon-reload; systemd-tmpfiles --create;'
     . ' systemctl -q enable hatch-agent hatch-guests;'
     . ' systemctl restart libvirt-guests; systemctl start hatch-guests');

# --- --check, in the unit's shoes ---

my $caps = 'setpriv --bounding-set -all,+chown,+dac_override,+net_admin'
         . ' --inh-caps -all --';
my $check = host("$caps $build/hatch-agent --check; echo status \$?");
like($check, qr/^QEMU's user: libvirt-qemu\n/m, '--check knows QEMU\'s user');
like($check, qr/^QEMU: \S+, machine pc-q35\S+$/m, 'and QEMU');
like($check, qr/\nok\nstatus 0\n\z/, 'with the capabilities of the unit');
unlike($check, qr/warning: guests will not be kept/, 'which are enough');

is(host('systemctl start hatch-agent'), '', 'the agent is ready');
like(host('systemctl show -P StatusText hatch-agent'), qr/^0 VMs, 0 running$/m,
     'and says what it does');
like(host('systemctl reload hatch-agent; systemctl is-active hatch-agent'),
     qr/^active$/m, 'reload');

# --- VMs ---

my $api = 'curl -s --unix-socket /run/hatch/agent.sock http://localhost';
my (%vm, %ip);

sub make {
    my ($name, $fields) = @_;
    my $vm = json(host("$api/vms -d '{\"name\":\"$name\"$fields}'"));
    $vm{$name} = $vm->{id} or diag explain $vm;
    $ip{$name} = $vm->{guest_ip};
}

sub state_of {
    my ($name) = @_;
    return json(host("$api/vms/$vm{$name}"))->{state};
}

# What a guest keeps in its memory, and nowhere else; sets it first, if given.
sub memory_of {
    my ($name, $text) = @_;
    my $out = host("curl -s --max-time 60 --retry 60 --retry-delay 1 "
                   . "--retry-all-errors --connect-timeout 1 "
                   . "http://$ip{$name}/cgi-bin/state" . ($text ? "?$text" : ''));
    my ($memory) = $out =~ /^memory (.*)$/m;
    return $memory // $out;
}

make('never', ',"idle_timeout":null');
make('auto', ',"autostart":true');
make('plain', '');
make('paused', '');
make('saved', '');
make('halted', ',"autostart":true');
make('resting', ',"autostart":true');
is(scalar(keys %vm), 7, 'seven VMs') or BAIL_OUT('no VMs');

is(memory_of($_, "I-am-$_"), "I-am-$_", "$_ has booted") for sort keys %vm;

host("$api/vms/$vm{$_}/pause -X POST") for qw(paused resting);
host("$virsh managedsave --running $vm{saved}");
like(host("$api/vms/$vm{halted}/stop -d '{\"force\":true}'"), qr/"stopped"/,
     'one is stopped by a user');
is(host('ls /var/lib/hatch/agent/running'),
   join('', map "$_\n", sort @vm{qw(never auto)}),
   'marked are those that run, and are to run again');
my ($kept) = host("sha256sum /var/lib/libvirt/qemu/save/$vm{saved}.save") =~ /^(\S+)/;

# somebody else's
host_file('/root/own.xml', <<'XML');
<domain type='qemu'>
  <name>own</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
</domain>
XML
like(host("$virsh define /root/own.xml; $virsh start own;"
          . " $virsh domstate own"), qr/running/, 'somebody else\'s VM');

# --- shut down, and up again ---

is(system($host, 'reboot'), 0, 'the host is rebooted');

my $guests = host('journalctl -q -o cat -u hatch-guests');
for my $name (qw(never auto plain paused resting)) {
    like($guests, qr/^$vm{$name}: its memory is saved$/m, "$name was saved");
}
unlike($guests, qr/$vm{$_}/, "$_ was left as it is") for qw(saved halted);
unlike($guests, qr/own/, 'and so was another\'s');
like($guests, qr/^saved the memory of 5 of 5 VMs that were up, in (\d+) ms$/m,
     'all are saved');
note($guests =~ /(in \d+ ms)$/m);
like(host('systemctl show -P Result hatch-guests'), qr/^success$/m, 'well');

my $log = sub { host('journalctl -q -b -o cat -u hatch-agent') };
wait_until('the two run again', sub {
    (() = $log->() =~ /runs again, as it did/g) == 2 }, 120);

is(state_of($_), 'running', "$_ runs") for qw(never auto);
is(state_of($_), 'snapshotted', "$_ sleeps") for qw(plain paused saved resting);
is(state_of('halted'), 'stopped', 'what a user stopped stays stopped');
is(memory_of($_), "I-am-$_", "$_ has its memory") for qw(never auto);
like(host("sha256sum /var/lib/libvirt/qemu/save/$vm{saved}.save"), qr/^$kept /,
     'what was saved before is as it was');
unlike(host("$virsh list --all --with-managed-save"), qr/own/,
       'nobody saved the other one');
unlike(host('cat /var/lib/hatch/agent/saved/*.json | grep -c size'), qr/^0/,
       'the files are noted');

for my $name (qw(plain paused saved resting)) {
    host("$api/vms/$vm{$name}/start -X POST");
    is(memory_of($name), "I-am-$name", "$name wakes with its memory");
}
unlike($log->(), qr/warn|cannot|error/i, 'all without a complaint');
is(host('ls /var/lib/hatch/agent/running'),
   join('', map "$_\n", sort @vm{qw(never auto resting)}), 'marked anew');

# --- a restart of the agent is no boot ---

host("$virsh destroy $vm{auto}");
wait_until('it is seen', sub { state_of('auto') eq 'stopped' });
host('systemctl restart hatch-agent');
wait_until('the agent is back', sub { state_of('never') eq 'running' });
is(state_of('auto'), 'stopped', 'it starts nothing');
host("$api/vms/$vm{auto}/start -X POST");
is(memory_of('auto', 'I-am-auto'), 'I-am-auto', 'started by hand');

# --- one that hangs, one whose memory finds no room ---

host('systemctl stop hatch-agent');
my ($pid) = host("cat /run/libvirt/qemu/$vm{plain}.pid") =~ /(\d+)/;
host("kill -STOP $pid");
my $said = host("HATCH_SAVE_ALL_TIMEOUT=30 $build/hatch-agent --save-all; echo status \$?");
like($said, qr/warn: $vm{plain}: not saved, it is left to libvirt-guests: libvirt has not saved its memory within 30 s/,
     'past its deadline: said');
like($said, qr/warn: saved the memory of 5 of 6 VMs/, 'the others are saved');
like($said, qr/\nstatus 1\n\z/, 'exit status 1');
host("kill -CONT $pid");
wait_until('libvirt has ended the save', sub {
    host("$virsh domjobinfo $vm{plain}") !~ /Elapsed|Operation: +Save/ }, 60);

host('mount -t tmpfs -o size=1m tmpfs /var/lib/libvirt/qemu/save');
$said = host("$build/hatch-agent --save-all; echo status \$?");
like($said, qr/$vm{plain}: not saved, it is left to libvirt-guests: .*No space left/,
     'no room: said') or diag($said);
host('umount /var/lib/libvirt/qemu/save');
like(host("$virsh domstate $vm{plain}"), qr/running/, 'and it runs on');

# --- beside an agent ---

host('systemctl start hatch-agent');
wait_until('the agent is back', sub { state_of('plain') eq 'running' });
$said = host("$build/hatch-agent --save-all; echo status \$?");
like($said, qr/warn: VMs are saved, and nothing is noted: .*in use by another agent/,
     'an agent that runs: said');
like($said, qr/\nstatus 0\n\z/, 'they are saved all the same');
host("$api/vms/$vm{$_}/start -X POST") for qw(never auto plain);
is(memory_of($_), "I-am-$_", "$_ has its memory") for qw(never auto plain);

# --- a power cut ---

is(system($host, 'crash'), 0, 'the power is cut');
wait_until('the two run again', sub {
    (() = $log->() =~ /runs again, as it did/g) >= 2 }, 120);
for my $name (qw(never auto)) {
    is(memory_of($name), '', "$name has booted anew");
}
is(state_of('plain'), 'stopped', 'one that is woken by a request waits for it');

is(system($host, 'down'), 0, 'down');

done();
