#!/usr/bin/perl

# What other tools, and guests themselves, do to a VM: a backup tool's external
# snapshot, a second disk, a checkpoint, a guest that suspends itself, and one
# that is restored while no agent looks on.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::Hatch::Guest;
use Test::More;

guest_files();

guest_agent();
start_nginx();

my $image = guest_image();
my $new = create_vm({ image_id => $image });
my $vm = $new->{id};
create_route($vm, 'others');

my %keep = (keep_running => JSON::PP::true);
my %force = (force => JSON::PP::true);

sub cgi { return guest_page('others', "/cgi-bin/$_[0]") // '' }
sub guest { return guest_state('others', @_) }

sub state_of { return api('GET', "/vms/$vm")->{json}{state} }

# --- an external snapshot, as backup tools take it ---

is(guest('one'), 'one/one', 'a guest with memory and disk');
my $list = virsh("domblklist $vm");
my @read_only = $list =~ /^ *(vd[b-z]) /mg;
virsh("snapshot-create-as $vm --disk-only --atomic --no-metadata "
      . "--diskspec vda,snapshot=external,file=$dir/state/disks/tool.layer "
      . join ' ', map "--diskspec $_,snapshot=no", @read_only);
like(virsh("domblklist $vm"), qr/tool\.layer/, 'a layer over the disk');
guest('two');

my $r = api('POST', "/vms/$vm/snapshot", \%keep);
is($r->{status}, 409, 'a snapshot would have the frozen disk: refused');
like($r->{json}{error}, qr/another program's snapshot has put ".*tool\.layer" over its disk vda; merge it first/,
     'with the reason');
is(state_of(), 'running', 'and the VM runs on');
is(guest(), 'two/two', 'with its data');

virsh("blockcommit $vm vda --shallow --active --pivot --wait");
my $snap = api('POST', "/vms/$vm/snapshot", \%keep);
is($snap->{status}, 201, 'merged: a snapshot') or diag $snap->{body};
guest('three');

# --- a second disk ---

system('qemu-img', 'create', '-q', '-f', 'qcow2', "$dir/state/disks/more.qcow2",
       '8M') == 0 or die;
api('POST', "/vms/$vm/stop", \%force);
virsh("attach-disk $vm $dir/state/disks/more.qcow2 vdx --subdriver qcow2 "
      . '--config');
is(api('POST', "/vms/$vm/start")->{status}, 200, 'it has two');
$r = api('POST', "/vms/$vm/snapshot", \%keep);
is($r->{status}, 409, 'a snapshot with a second disk: refused');
like($r->{json}{error}, qr/its disk vdx, ".*more\.qcow2", was not made by Hatch; detach it/,
     'with the reason');
api('POST', "/vms/$vm/stop", \%force);
$r = api('POST', "/vms/$vm/restore", { snapshot_id => $snap->{json}{id} });
is($r->{status}, 409, 'so is a restore');
virsh("detach-disk $vm vdx --config");
$r = api('POST', "/vms/$vm/restore", { snapshot_id => $snap->{json}{id} });
is($r->{status}, 200, 'detached: a restore') or diag $r->{body};
is(guest(), 'two/two', 'to that memory and disk');

# --- a restore that nobody ended, and a guest that ran on and ended ---

guest('four');
api('POST', "/vms/$vm/stop", \%force);
stop_agent();
guest_agent('restore.restored');
my $died = $Test::Hatch::agent;
api('POST', "/vms/$vm/restore", { snapshot_id => $snap->{json}{id} });
is(reap($died) & 127, 9, 'the agent dies when the guest has been restored');
undef $Test::Hatch::agent;
wait_until('the guest runs on and writes', sub {
    my $r = http("$new->{guest_ip}:80", 'GET', '/cgi-bin/state?five');
    return $r && $r->{status} == 200 && $r->{body} =~ /^disk five$/m;
}, 60);
virsh("destroy $vm");
guest_agent();
wait_until('nothing is pending', sub { !(() = glob "$dir/state/pending/*") });
like(agent_log(), qr/$vm: to restore had not ended, and was done to its end/,
     'it had been restored');
my @aside = glob "$dir/state/disks/$vm.qcow2.aside-*";
is(scalar @aside, 1, 'the disk before is kept aside');
like(agent_log(), qr/its disk before that is kept as "\Q$aside[0]"/, 'and named');
is(api('POST', "/vms/$vm/start")->{status}, 200, 'start');
like(guest(), qr{/five$}, 'what it wrote since is there');

# --- a guest that suspends itself ---

# a new one, which nobody has touched
my $old = $vm;
api('POST', "/vms/$vm/stop", \%force);
api('DELETE', "/routes/" . api('GET', "/vms/$vm/routes")->{json}[0]{id});
$vm = create_vm({ image_id => $image })->{id};
create_route($vm, 'others');
unlike(cgi('suspend'), qr/deep/, 'a new guest is not offered S3');

api('POST', "/vms/$vm/stop", \%force);
my $xml = virsh("dumpxml --inactive $vm");
$xml =~ s{<pm>.*?</pm>}{}s or die 'no <pm>';
write_file("$dir/s3.xml", $xml);
virsh("define $dir/s3.xml");

sub suspended {
    my ($what) = @_;

    # a guest under software emulation suspends itself only once a boot
    api('POST', "/vms/$vm/stop", \%force);
    api('POST', "/vms/$vm/start");
    guest('six');
    like(cgi('suspend'), qr/deep/, "$what: a guest with S3");
    wait_until('it suspends itself', sub {
        virsh("domstate $vm") =~ /pmsuspended/ && state_of() eq 'paused'
    }) or diag virsh("domstate $vm");
}

suspended('resume');
is(api('POST', "/vms/$vm/resume")->{status}, 200, 'resume wakes it');
is(state_of(), 'running', 'it runs');
is(guest(), 'six/six', 'with its memory');

suspended('start');
is(api('POST', "/vms/$vm/start")->{status}, 200, 'start, too');
is(state_of(), 'running', 'it runs');

suspended('a request');
is(guest(), 'six/six', 'a request wakes it');

suspended('snapshot');
$r = api('POST', "/vms/$vm/snapshot", \%keep);
is($r->{status}, 201, 'a snapshot of it') or diag $r->{body};
is(guest(), 'six/six', 'it is as it was');

suspended('sleep');
is(api('PATCH', "/vms/$vm", { idle_timeout => .5, save_after => .5 })
   ->{status}, 200, 'it is to sleep');
wait_until('its memory is saved', sub { state_of() eq 'snapshotted' }, 60);
is(guest(), 'six/six', 'and comes back');
api('PATCH', "/vms/$vm", { idle_timeout => undef, save_after => undef });

# --- a checkpoint ---

is(api('DELETE', "/vms/$vm")->{status}, 200, 'delete');
$vm = $old;
is(api('POST', "/vms/$vm/start")->{status}, 200, 'start the one before');
like(virsh("checkpoint-create-as $vm c1") . virsh("checkpoint-list $vm --name"), qr/c1/, 'a checkpoint');
is(api('DELETE', "/vms/$vm")->{status}, 200, 'does not keep it from going');
is(virsh('list --all --name') =~ s/\s//gr, '', 'it is gone');
is_deeply([glob "$dir/state/disks/vm_*"], [], 'with its disk');

# --- NVRAM ---

# A firmware in flash with variables of its own, as UEFI's; this one is SeaBIOS,
# which is what Debian's QEMU has.
my $firmware = '/usr/share/seabios/bios-256k.bin';
my $nvram = "/var/lib/libvirt/qemu/nvram/hatch_VARS.fd";

for my $state ('stopped', 'running') {
    my $with = create_vm({ image_id => $image, idle_timeout => undef })->{id};
    api('POST', "/vms/$with/stop", \%force);
    my $xml = virsh("dumpxml --inactive $with");
    my $flash = "<loader readonly='yes' type='pflash'>$firmware</loader>"
              . "<nvram>$nvram</nvram>";
    $xml =~ s{(<type [^>]*>hvm</type>)}{$1$flash};
    mkdir '/var/lib/libvirt/qemu/nvram';
    write_file($nvram, "\xff" x (64 << 10));
    write_file("$dir/nvram.xml", $xml);
    virsh("define $dir/nvram.xml");
    like(virsh("dumpxml --inactive $with"), qr/<nvram>\Q$nvram/,
         'a VM with NVRAM');
    is(api('POST', "/vms/$with/start")->{status}, 200, 'which runs')
        if $state eq 'running';
    is(api('GET', "/vms/$with")->{json}{state}, $state, $state);
    $r = api('DELETE', "/vms/$with");
    is($r->{status}, 200, 'DELETE goes through') or diag $r->{body};
    is(virsh('list --all --name') =~ s/\s//gr, '', 'it is gone');
    ok(!-e $nvram, 'with its NVRAM');
    is_deeply([glob "$dir/state/disks/vm_*"], [], 'and its disk');
}

allow_log(qr/\[error\].*(?:prematurely closed|Connection refused|reset by|connect\(\) failed)/);
done();
