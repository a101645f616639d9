#!/usr/bin/perl

# Snapshots of a real guest: memory and disk of one instant, several, immutable,
# restore of any of them after the disk has moved on; what fails half way
# leaves the VM as it was.

use strict;
use warnings;

use Digest::MD5;
use Test::Hatch world => 'libvirt';
use Test::Hatch::Guest;
use Test::More;

guest_files();
guest_agent();
start_nginx();

my $image = guest_image();
my $base = md5("$dir/images/base.qcow2");
my $vm = create_vm({ image_id => $image, user_data => "#cloud-config\n" })->{id};
create_route($vm, 'snap');

sub md5 {
    my ($file) = @_;
    open my $fh, '<', $file or die "$file: $!";
    return Digest::MD5->new->addfile($fh)->hexdigest;
}

sub guest { return guest_state('snap', @_) }

sub state_of { return api('GET', "/vms/$vm")->{json}{state} }

my %keep = (keep_running => JSON::PP::true);
my %force = (force => JSON::PP::true);

# three, while it runs
my @snaps;
for my $text (qw(one two three)) {
    is(guest($text), "$text/$text", "the guest is at $text");
    my $r = api('POST', "/vms/$vm/snapshot", { name => $text, %keep });
    is($r->{status}, 201, 'snapshot') or diag $r->{body};
    push @snaps, $r->{json};
    is(state_of(), 'running', 'it keeps running');
}
is(guest('four'), 'four/four', 'the disk moves on');

my %sums;
for my $snap (@snaps) {
    my @files = glob "$dir/state/snapshots/$snap->{id}/*";
    is(scalar @files, 2, 'memory and disk');
    my $size = 0;
    $size += -s for @files;
    is($snap->{size_bytes}, $size, 'size_bytes is theirs');
    is(sprintf('%o', (stat $_)[2] & 07777), '400', 'read-only') for @files;
    $sums{$_} = md5($_) for @files;
}

# in any order, more than once, from every state that allows it
for my $n (1, 0, 2, 0) {
    my $text = (qw(one two three))[$n];
    is(api('POST', "/vms/$vm/restore", { snapshot_id => $snaps[$n]{id} })
       ->{status}, 409, 'not while it runs');
    $n == 2 ? api('POST', "/vms/$vm/snapshot")
            : api('POST', "/vms/$vm/stop", \%force);
    my $r = api('POST', "/vms/$vm/restore", { snapshot_id => $snaps[$n]{id} });
    is($r->{status}, 200, "restore of $text") or diag $r->{body};
    is($r->{json}{state}, 'running', 'it runs');
    is(guest(), "$text/$text", 'memory and disk belong together');
    guest("after-$text");
}
is(md5($_), $sums{$_}, 'the snapshot has not changed') for sort keys %sums;
like(virsh("dominfo $vm"), qr/^Managed save:\s*no/m,
     'no older memory waits to be started from');

# the latest
guest('five');
is(api('POST', "/vms/$vm/snapshot")->{status}, 201, 'to sleep');
is(state_of(), 'snapshotted', 'snapshotted');
like(virsh("domstate $vm"), qr/shut off/, 'no process');
is(api('POST', "/vms/$vm/restore")->{json}{state}, 'running', 'restore');
is(guest(), 'five/five', 'of the latest');
guest('six');
api('POST', "/vms/$vm/stop", \%force);
is(api('POST', "/vms/$vm/restore")->{json}{state}, 'running',
   'also from stopped');
is(guest(), 'five/five', 'to the latest snapshot');

# a VM that is paused
guest('seven');
api('POST', "/vms/$vm/pause");
is(api('POST', "/vms/$vm/snapshot", \%keep)->{status}, 201,
   "snapshot $_ of a VM that is paused") for 1, 2;
is(state_of(), 'paused', 'it is as it was');
is(api('POST', "/vms/$vm/resume")->{status}, 200, 'resume');
is(guest(), 'seven/seven', 'and it goes on');

# vCPUs and memory belong to the snapshot, the name does not
api('POST', "/vms/$vm/stop", \%force);
is(api('PATCH', "/vms/$vm", { mem_mib => 192, vcpu_count => 2,
                              name => 'renamed' })->{status}, 200, 'changed');
my $r = api('POST', "/vms/$vm/restore", { snapshot_id => $snaps[0]{id} });
is($r->{json}{mem_mib}, 128, 'its memory comes back');
is($r->{json}{vcpu_count}, 1, 'its vCPUs');
is($r->{json}{name}, 'renamed', 'the name stays');
is(guest(), 'one/one', 'it runs with them');

# a name that changes while the memory is saved stays changed
api('POST', "/vms/$vm/snapshot");
api('PATCH', "/vms/$vm", { name => 'asleep', idle_timeout => 7 });
is(api('POST', "/vms/$vm/start")->{json}{name}, 'asleep',
   'settings do not go back with the memory');
is(api('GET', "/vms/$vm")->{json}{idle_timeout}, 7, 'none of them');

# no room for the memory; crash.t has a disk that cannot be copied
guest('full');
my $had = join ' ', sort glob "$dir/state/snapshots/*";
for my $size ('20m') {
    system('mount', '-t', 'tmpfs', '-o', "size=$size", 'tmpfs',
           "$dir/state/snapshots") == 0 or die;
    $r = api('POST', "/vms/$vm/snapshot");
    is($r->{status}, 507, "no room ($size)");
    like($r->{json}{error}, qr/No space left on device/, 'says so');
    is_deeply([glob "$dir/state/snapshots/*"], [], 'no files');
    system('umount', "$dir/state/snapshots");
    is(state_of(), 'running', 'the VM runs');
    is(guest(), 'full/full', 'as it was');
}
is(join(' ', sort glob "$dir/state/snapshots/*"), $had, 'the others are there');
is_deeply([glob "$dir/state/pending/*"], [], 'nothing is pending');

# a snapshot that is broken: an error, and the VM as it was
api('POST', "/vms/$vm/snapshot");
my $memory = "$dir/state/snapshots/$snaps[1]{id}/memory";
chmod 0600, $memory;
truncate $memory, 1000;
$r = api('POST', "/vms/$vm/restore", { snapshot_id => $snaps[1]{id} });
is($r->{status}, 500, 'a snapshot that somebody cut off') or diag $r->{body};
is(state_of(), 'snapshotted', 'the VM sleeps on');
is(api('POST', "/vms/$vm/start")->{status}, 200, 'and wakes');
is(guest(), 'full/full', 'as it was');

is(md5("$dir/images/base.qcow2"), $base, 'the image was never written');
is(api('DELETE', "/vms/$vm")->{status}, 200, 'delete');
is_deeply([grep !m{/images/}, glob "$dir/state/*/*"], [], 'takes all along');

allow_log(qr/connect\(\) failed/);
done();
