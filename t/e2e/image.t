#!/usr/bin/perl

# Memory images: a VM is parked and sleeps by what has changed, wakes from its
# image with its memory, its devices and its disk, and reboots as any other.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::Hatch::Guest;
use Test::More;

use constant MIB => 256;

real_disk();
guest_files();
guest_agent(undef, HATCH_IDLE_TIMEOUT => 'never', HATCH_PARK_AFTER => 'never',
            HATCH_SAVE_AFTER => 'never');
start_nginx();
my $image = guest_image();
my $vm = create_vm({ image_id => $image, memory => 'image',
                     mem_mib => MIB })->{id};
create_route($vm, 'one');
my $ram = "$dir/state/memory/$vm.ram";

sub get { return api('GET', "/vms/$vm")->{json} }
sub patch { return api('PATCH', "/vms/$vm", $_[0])->{status} }
sub on_disk { return ((stat $ram)[12] // 0) / 2048 }
sub word { return slurp("$dir/state/memory/$vm.json") =~ /^(\w+)/ && $1 }
sub good { return guest_page('one', '/cgi-bin/memory?' . ($_[0] // ''))
                  =~ /good (\d+)/ && $1 }

# MiB of QEMU's mapping of the image that are its own, in RAM or swap
sub anonymous {
    my ($mapping) = slurp('/proc/' . qemu_pid($vm) . '/smaps')
                    =~ /^\S+ \S+ \S+ \S+ \d+ +\Q$ram\E\n(.*?)^\w+-\w+ /ms;
    my $kib = 0;
    $kib += $1 while $mapping =~ /^(?:Anonymous|Swap): +(\d+) kB/mg;
    return $kib / 1024;
}

sub parks {
    my ($what) = @_;
    is(patch({ idle_timeout => 0.5, park_after => 0.5 }), 200, $what);
    wait_until('it is parked', sub { get()->{parked} }, 60)
        or diag(agent_log());
    is(patch({ idle_timeout => undef, park_after => undef }), 200,
       'it is parked');
}

sub sleeps {
    my ($what) = @_;
    is(patch({ idle_timeout => 0.5, save_after => 0.5 }), 200, $what);
    wait_state($vm, 'snapshotted', 60);
    is(patch({ idle_timeout => undef, save_after => undef }), 200, 'it sleeps');
    unlike(virsh('list --all --managed-save'), qr/saved/, 'not by libvirt');
}

# --- it boots with an image ---

is(get()->{memory}, 'image', 'it is said');
ok(!get()->{parked}, 'not parked');
is(guest_state('one', 'first'), 'first/first', 'a guest');
is(good('fill=48'), 48, 'with data in its memory');
is(-s $ram, MIB * 1024 * 1024, 'its memory is a file');
cmp_ok(on_disk(), '<', 1, 'of nothing yet');
cmp_ok(anonymous(), '>', 48, 'it is in RAM');

# --- parked ---

parks('idle');
is(get()->{state}, 'paused', 'state');
cmp_ok(on_disk(), '>', 48, 'its memory is on the disk');
is(anonymous(), 0, 'and none of it in RAM');
is(word(), 'valid', 'it could be started from it');
is(good(), 48, 'a request wakes it, each byte is there');
is(word(), 'used', 'and from that image no other');
like(agent_log(), qr/woken, resume/, 'a resume');
is(guest_state('one'), 'first/first', 'and the rest');

for my $n (1 .. 3) {
    is(good("spoil=$n"), 48, 'it changes');
    parks("park, again, $n");
    is(anonymous(), 0, 'nothing in RAM');
    is(good(), 48, 'each byte is there');
}

# --- snapshotted, parked or not before ---

sleeps('it is not wanted for long');
is(guest_state('one'), 'first/first', 'it wakes from its image');
like(agent_log(), qr/woken, restore/, 'a restore');
is(good(), 48, 'each byte is there');
is(word(), 'used', 'used');
is(guest_state('one', 'second'), 'second/second', 'it goes on');
is(good('spoil=7'), 48, 'and changes');

parks('parked first');
sleeps('then its process ends');
is(guest_state('one'), 'second/second', 'and it wakes');
is(good(), 48, 'each byte is there');

# --- its process is killed while it is parked ---

parks('parked');
kill 'KILL', qemu_pid($vm);
wait_state($vm, 'snapshotted', 30);
is(guest_state('one'), 'second/second', 'a wake from the image');
is(good(), 48, 'each byte is there');

# --- a woken guest reboots ---

my $qemu = qemu_pid($vm);
guest_page('one', '/cgi-bin/reboot');
wait_until('it has lost its memory', sub {
    (guest_page('one', '/cgi-bin/memory') // '') =~ /good 0/
}, 90);
is(qemu_pid($vm), $qemu, 'in the same process');
is(guest_state('one'), '/second', 'from its disk');
is(guest_state('one', 'third'), 'third/third', 'it works');
parks('and is parked');
is(guest_state('one'), 'third/third', 'and wakes');
sleeps('and sleeps');
is(guest_state('one'), 'third/third', 'and wakes');
virsh("reset $vm");
wait_until('it has lost its memory',
           sub { (guest_state('one') // '') eq '/third' }, 90);

# --- snapshots, which libvirt takes and restores ---

is(guest_state('one', 'snap'), 'snap/snap', 'before a snapshot');
parks('parked');
my $r = api('POST', "/vms/$vm/snapshot", { keep_running => JSON::PP::true });
is($r->{status}, 201, 'a snapshot of one that is parked') or diag $r->{body};
my $snap = $r->{json}{id};
is(guest_state('one', 'later'), 'later/later', 'it goes on');
sleeps('it sleeps');
$r = api('POST', "/vms/$vm/restore", { snapshot_id => $snap });
is($r->{status}, 200, 'restored') or diag $r->{body};
is(word(), 'used', 'the image was of another disk');
is(guest_state('one'), 'snap/snap', 'as it was');
parks('and is parked');
is(guest_state('one'), 'snap/snap', 'and wakes');

is(api('POST', "/vms/$vm/snapshot")->{status}, 201, 'one that it sleeps after');
is(get()->{state}, 'snapshotted', 'by libvirt');
is(guest_state('one', 'fifth'), 'fifth/fifth', 'it wakes');
api('POST', "/vms/$vm/stop", { force => JSON::PP::true });
unlink $ram or die;
$r = api('POST', "/vms/$vm/restore", { snapshot_id => $snap });
is($r->{status}, 200, 'restored, without a file') or diag $r->{body};
is(guest_state('one'), 'snap/snap', 'as it was');

# --- given up, deleted ---

guest_state('one', 'fourth');
sleeps('once more');
is(api('POST', "/vms/$vm/stop")->{json}{state}, 'stopped', 'stopped');
ok(!-e $ram, 'its memory is dropped');
is(guest_state('one'), '/fourth', 'it boots');
is(api('DELETE', "/vms/$vm")->{status}, 200, 'deleted');
is_deeply([glob "$dir/state/memory/*"], [], 'nothing is left');
allow_log(qr/\[error\]/);
done();
