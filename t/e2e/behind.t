#!/usr/bin/perl

# What somebody does with virsh behind the agent's back.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

start_agent(connect => 'qemu:///system', env => { HATCH_RESYNC_INTERVAL => 1 });
start_nginx();

sub state_is {
    my ($id, $state, $what) = @_;
    wait_until($what, sub {
        (api('GET', "/vms/$id")->{json}{state} // '') eq $state
    });
    is(api('GET', "/vms/$id")->{json}{state}, $state, $what);
}

my ($vm, $other) = map create_vm({ disk_mib => 4 }), 1 .. 2;
create_route($_->{id}) for $vm, $vm, $other;
is(healthz()->{body}, '{"status":"ok","vm_count":2,"route_count":3}', 'begin');

virsh("suspend $vm->{id}");
state_is($vm->{id}, 'paused', 'virsh suspend');
virsh("resume $vm->{id}");
state_is($vm->{id}, 'running', 'virsh resume');
virsh("managedsave $vm->{id}");
state_is($vm->{id}, 'snapshotted', 'virsh managedsave');
virsh("start $vm->{id}");
state_is($vm->{id}, 'running', 'virsh start restores it');
virsh("managedsave $vm->{id}");
state_is($vm->{id}, 'snapshotted', 'saved again');
is(api('POST', "/vms/$vm->{id}/start")->{json}{state}, 'running',
   'our start restores it, too');
virsh("managedsave $vm->{id}");
is(api('POST', "/vms/$vm->{id}/stop")->{json}{state}, 'stopped',
   'our stop of a saved one drops the memory');

# a running domain that is undefined lives on, transient
virsh("undefine $other->{id}");
state_is($other->{id}, 'running', 'undefined while it runs');
is(healthz()->{json}{vm_count}, 2, 'it still counts');
virsh("destroy $other->{id}");
wait_until('it is gone', sub { healthz()->{json}{vm_count} == 1 });
is(healthz()->{json}{vm_count}, 1, 'destroyed: gone');
wait_until('the log says what is kept', sub {
    agent_log() =~ /$other->{id}: libvirt has no such VM; its files .* are kept/
});
is(healthz()->{json}{route_count}, 3, 'its route is kept');
ok(-e "$dir/state/disks/$other->{id}.qcow2", 'its disk, too');
like(virsh('net-dumpxml hatch'), qr/\Q$other->{guest_mac}/,
     'and its reservation');

# the metadata is taken off: the domain is nobody's of ours any more
my $xml = virsh("dumpxml --inactive $vm->{id}");
(my $bare = $xml) =~ s{<metadata>.*?</metadata>}{}s;
write_file("$dir/bare.xml", $bare);
virsh("define $dir/bare.xml");
wait_until('it is no longer ours', sub { healthz()->{json}{vm_count} == 0 });
is(api('GET', "/vms/$vm->{id}")->{status}, 404, 'without our metadata: 404');
is(api('DELETE', "/vms/$vm->{id}")->{status}, 404, 'and out of our reach');
like(virsh('list --all --name'), qr/\Q$vm->{id}/, 'its domain stays');

# and put on again
write_file("$dir/ours.xml", $xml);
virsh("define $dir/ours.xml");
state_is($vm->{id}, 'stopped', 'with our metadata it is ours again');
is(healthz()->{json}{vm_count}, 1, 'and counts');

# taken off in a way that no event tells: the slow comparison sees it
virsh("metadata $vm->{id} --uri https://hatch.invalid/xmlns/vm/1 --remove"
      . ' --config');
wait_until('the comparison sees it', sub { healthz()->{json}{vm_count} == 0 });
is(api('GET', "/vms/$vm->{id}")->{status}, 404,
   'metadata removed without an event: not ours');
virsh("define $dir/ours.xml");
state_is($vm->{id}, 'stopped', 'and ours again');

# metadata that is not what we write
(my $broken = $xml) =~ s/seed=(["'])\d+/seed=$1many/;
write_file("$dir/broken.xml", $broken);
virsh("define $dir/broken.xml");
wait_until('a warning', sub { agent_log() =~ /is not Hatch's: disk_mib/ });
is(api('GET', "/vms/$vm->{id}")->{json}{vcpu_count}, 1,
   'broken metadata: the last good settings stay');
virsh("define $dir/ours.xml");

# the network is destroyed and undefined; the next VM brings it back
virsh('net-destroy hatch');
virsh('net-undefine hatch');
my $third = create_vm();
ok($third, 'the network is made again');
wait_until('all reservations are there', sub {
    my $net = virsh('net-dumpxml hatch');
    $net =~ /\Q$third->{guest_mac}/ && $net =~ /\Q$vm->{guest_mac}/;
});
like(virsh('net-dumpxml hatch'), qr/\Q$vm->{guest_ip}/,
     'also those of the other VMs');

# so does the start of a VM
virsh('net-destroy hatch');
virsh('net-undefine hatch');
is(api('POST', "/vms/$vm->{id}/start")->{json}{state}, 'running',
   'a start makes the network again, too');
like(virsh('net-dumpxml hatch'), qr/\Q$vm->{guest_mac}/,
     'with the reservation of the VM');

# what libvirt says of vCPUs and memory is what counts
virsh("destroy $third->{id}");
virsh("setvcpus $third->{id} 3 --maximum --config");
virsh("setvcpus $third->{id} 3 --config");
virsh("setmaxmem $third->{id} 192M --config");
wait_until('virsh setvcpus, setmaxmem', sub {
    my $now = api('GET', "/vms/$third->{id}")->{json};
    $now->{vcpu_count} == 3 && $now->{mem_mib} == 192;
});
is(api('POST', "/vms/$third->{id}/start")->{json}{vcpu_count}, 3,
   'settings changed with virsh');

# undefined while no agent runs: perhaps by mistake, so its disk is kept
my $disk = "$dir/state/disks/$vm->{id}.qcow2";
stop_agent();
virsh("destroy $vm->{id}");
virsh("undefine $vm->{id}");
start_agent(connect => 'qemu:///system', env => { HATCH_RESYNC_INTERVAL => 1 });
wait_until('a warning', sub {
    agent_log() =~ /$vm->{id}: libvirt has no such VM; its files .* are kept/
});
ok(-e $disk, 'a disk of a VM that libvirt has lost is kept');
write_file("$dir/again.xml", $xml);
virsh("define $dir/again.xml");
state_is($vm->{id}, 'stopped', 'defined again');
is(api('POST', "/vms/$vm->{id}/start")->{json}{state}, 'running',
   'and it starts, with its disk');

# reservations: somebody's own stays, and one that is in a VM's way goes
virsh(q{net-update hatch add ip-dhcp-host "<host mac='52:54:00:99:99:99'}
      . q{ ip='10.201.9.9'/>" --live --config});
virsh("net-update hatch delete ip-dhcp-host \"<host mac='$vm->{guest_mac}'"
      . " ip='$vm->{guest_ip}'/>\" --live --config");
virsh("net-update hatch add ip-dhcp-host \"<host mac='52:54:00:99:99:98'"
      . " ip='$vm->{guest_ip}'/>\" --live --config");
wait_until('the one in the way is removed', sub {
    my $net = virsh('net-dumpxml hatch');
    $net !~ /52:54:00:99:99:98/ && $net =~ /\Q$vm->{guest_mac}/;
});
like(virsh('net-dumpxml hatch'), qr/52:54:00:99:99:99/,
     'a reservation of no VM stays');
my $r = api('POST', '/vms', { guest_ip => '10.201.9.9' });
is($r->{status}, 409, 'and its address is not given to a VM');
like($r->{json}{error}, qr/"guest_ip" is in use by a reservation/, 'says so');

allow_log(qr/warn:/);
done();
