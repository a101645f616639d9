#!/usr/bin/perl

# A VM without a kernel boots from its disk, of a raw image and of a qcow2 one;
# what it writes goes into its overlay, never into the image.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

# a boot sector that writes 512 bytes of itself, from the mark on, to the
# disk's second sector, and halts
my $mark = 'hatch booted';
my $code = "\x31\xc0"           # xor ax, ax
         . "\x8e\xc0"           # mov es, ax
         . "\xbb\x40\x7c"       # mov bx, 0x7c40
         . "\xb8\x01\x03"       # mov ax, 0x0301: write one sector
         . "\xb9\x02\x00"       # mov cx, 0x0002: the second
         . "\x30\xf6"           # xor dh, dh
         . "\xcd\x13"           # int 0x13
         . "\xf4\xeb\xfd";      # hlt; jmp $-1
my $sector = pack('a64 a446', $code, $mark) . "\x55\xaa";
is(length $sector, 512, 'a boot sector');

mkdir "$dir/images";
write_file("$dir/images/boot.raw", $sector . "\0" x ((1 << 20) - 512));
system('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2',
       "$dir/images/boot.raw", "$dir/images/boot.qcow2") == 0 or die;

start_agent(connect => 'qemu:///system',
            env => { HATCH_LOG_LEVEL => 'info' });

for my $format ('raw', 'qcow2') {
    my $file = "$dir/images/boot.$format";
    my $before = slurp($file);
    my $image = api('POST', '/images', { rootfs_path => "boot.$format" });
    is($image->{json}{format}, $format, "$format: found by looking");

    my $vm = create_vm({ image_id => $image->{json}{id} })->{id};
    my $disk = "$dir/state/disks/$vm.qcow2";
    my $xml = virsh("dumpxml --inactive $vm");
    like($xml, qr/<backingStore.*?<format type='$format'/s,
         'its format is in the definition');
    ok(wait_until('it has booted', sub { slurp($disk) =~ /$mark/ }, 60),
       'it boots from its disk, and writes to it');
    ok(slurp($file) eq $before, 'the image is as it was');
    is(api('POST', "/vms/$vm/snapshot", { keep_running => JSON::PP::true })
       ->{status}, 201, 'snapshot');
    is(api('DELETE', "/vms/$vm")->{status}, 200, 'delete');
    ok(slurp($file) eq $before, 'as it was, to the end');
}

done();
