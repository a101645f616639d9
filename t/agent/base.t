#!/usr/bin/perl

# The base of a VM's disk is the file that it was made on, or the VM does not
# start.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

start_agent();

my $images = "$dir/images";
my $state = "$dir/state";
mkdir $images;

# A raw image of 1 MiB, with something in its middle.
sub content { my ($byte) = @_; return "\0" x 500_000 . $byte . "\0" x 548_575 }
sub put { my ($file, $bytes) = @_; write_file("$images/$file.new", $bytes);
          rename "$images/$file.new", "$images/$file" or die }

sub overwrite {
    my ($file, $at, $bytes) = @_;
    open my $fh, '+<', "$images/$file" or die;
    seek $fh, $at, 0;
    print $fh $bytes;
    close $fh;
}

put('a.raw', content('a'));
my $r = api('POST', '/images', { id => 'img_a', rootfs_path => 'a.raw' });
is($r->{status}, 201, 'an image') or diag $r->{body};
ok(-s "$state/images/img_a.base", 'what it is, is noted');
my $vm = create_vm({ image_id => 'img_a' })->{id};
ok(-s "$state/disks/$vm.base", 'for its VM, too');
is((stat "$state/disks/$vm.base")[2] & 07777, 0600, 'for nobody else');

sub stop { is(api('POST', "/vms/$vm/stop", { force => JSON::PP::true })
              ->{status}, 200, 'stopped') }
sub start { return api('POST', "/vms/$vm/start") }

sub starts {
    my ($what) = @_;
    is(start()->{status}, 200, "starts: $what") or diag(agent_log());
    stop();
}

sub refused {
    my ($what, $difference) = @_;
    my $r = start();
    is($r->{status}, 409, "refused: $what");
    is($r->{json}{error}, "VM \"$vm\": cannot start the VM: \"$images/a.raw\" of image "
       . "img_a has been replaced since the VM's disk was made on it, "
       . "$difference; put it back, or delete the VM", 'with what and why');
    is(api('GET', "/vms/$vm")->{json}{state}, 'stopped', 'it stays stopped');
}

stop();
starts('nothing has happened');

my $note = slurp("$state/disks/$vm.base");
utime 1, 1, "$images/a.raw";
starts('touched');
isnt(slurp("$state/disks/$vm.base"), $note, 'which is noted');
rename "$images/a.raw", "$images/kept";
system('cp', '--sparse=never', "$images/kept", "$images/a.raw") == 0 or die;
starts('a copy, without holes');
system('cp', '--sparse=always', "$images/kept", "$images/a.raw") == 0 or die;
starts('a copy, with holes');
chmod 0600, "$images/a.raw";
starts('another mode');

my $other = 'its content is another one';
put('a.raw', content('b'));
refused('another file in its place', $other);
refused('and again', $other);
put('a.raw', content('a'));
starts('put back');
overwrite('a.raw', 700_000, 'x');
refused('one byte overwritten', $other);
overwrite('a.raw', 700_000, "\0");
starts('as it was');
overwrite('a.raw', 1_048_575, 'x');
refused('its last byte', $other);
truncate "$images/a.raw", 400_000;
refused('truncated', 'its size was 1048576 and is 400000');
truncate "$images/a.raw", 1_048_576;
refused('of zeros', $other);
put('a.raw', content('a') . "\0" x 512);
refused('longer', 'its size was 1048576 and is 1049088');

# what is running goes on
put('a.raw', content('a'));
is(start()->{status}, 200, 'started');
put('a.raw', content('b'));
is(api('POST', "/vms/$vm/pause")->{status}, 200, 'a VM that is up pauses');
is(api('POST', "/vms/$vm/resume")->{status}, 200, 'and goes on');
is(api('PATCH', "/vms/$vm", { name => 'other' })->{status}, 200, 'changes');

# the image is the one that was registered, for new VMs, too
$r = api('POST', '/vms', { image_id => 'img_a' });
is($r->{status}, 409, 'no new VM on another file');
is($r->{json}{error}, "\"image_id\": \"$images/a.raw\" is another file than "
   . 'when image img_a was registered; register it under another id',
   'says so');
is(api('POST', '/images', { id => 'img_b', rootfs_path => 'a.raw' })
   ->{status}, 201, 'as another image');
my $new = create_vm({ image_id => 'img_b' })->{id};
stop();
refused('the VM of the first one', $other);

# the next agent knows it as well
stop_agent('KILL');
start_agent();
is(api('POST', '/vms', { image_id => 'img_a' })->{status}, 409,
   'another agent refuses, too');
put('a.raw', content('a'));
$vm = create_vm({ image_id => 'img_a' })->{id};
is(api('POST', '/vms', { image_id => 'img_b' })->{status}, 409,
   'and img_b is another now');

# nothing remains; notes that cannot be read or are of nobody are no harm
is(api('DELETE', "/vms/$vm")->{status}, 200, 'deleted');
ok(!-e "$state/disks/$vm.base", 'with its note');
is(api('DELETE', '/images/img_b')->{status}, 200, 'the image, too');
ok(!-e "$state/images/img_b.base", 'with its note');
$vm = create_vm({ image_id => 'img_a' })->{id};
stop();
write_file("$state/disks/$vm.base", 'x');
starts('a note that cannot be read');
unlink "$state/disks/$vm.base";
starts('a disk of before, without a note');
allow_log(qr/\.base is ignored: not a JSON object/);

# a disk without a base has none
$vm = create_vm({ disk_mib => 1 })->{id};
ok(!-e "$state/disks/$vm.base", 'no base, no note');

# a failure leaves nothing
my @before = glob "$state/{images,disks}/*";
system('mount', '-t', 'tmpfs', '-o', 'size=200k', 'tmpfs', "$state/images")
    == 0 or die;
system("head -c 300k /dev/zero > $state/images/fill 2>/dev/null");
$r = api('POST', '/images', { id => 'img_c', rootfs_path => 'a.raw' });
is($r->{status}, 507, 'no room for an image');
is_deeply([glob "$state/images/img_c*"], [], 'nothing is left');
system('umount', "$state/images");

# the default image of the configuration may be another one for new VMs
stop_agent();
start_agent(env => { HATCH_DEFAULT_ROOTFS_PATH => "$images/a.raw",
                     HATCH_DEFAULT_KERNEL_PATH => '',
                     HATCH_DEFAULT_INITRD_PATH => '' });
$vm = create_vm({})->{id};
put('a.raw', content('c'));
$new = create_vm({})->{id};
is(api('POST', "/vms/$_/stop", { force => JSON::PP::true })->{status}, 200,
   'stopped') for $vm, $new;
is(api('POST', "/vms/$vm/start")->{status}, 409, 'the first one is refused');
is(api('POST', "/vms/$new/start")->{status}, 200, 'the second one starts');

done();
