#!/usr/bin/perl

# Images: what may be registered and what not, what VMs get of it.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my $images = "$dir/images";
mkdir $images;
mkdir "$images/sub";
write_file("$images/kernel", 'k' x 1000);
write_file("$images/initrd", 'i' x 1000);
write_file("$images/empty", '');
write_file("$dir/outside", 'o' x 512);
symlink "$dir/outside", "$images/out";
symlink 'kernel', "$images/in";
symlink 'loop', "$images/loop";
system('mkfifo', "$images/fifo") == 0 or die;

sub qemu_img { system('qemu-img', @_) == 0 or die "qemu-img @_" }
qemu_img('create', '-q', '-f', 'qcow2', "$images/disk.qcow2", '10M');
qemu_img('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10',
         "$images/old.qcow2", '3M');
qemu_img('create', '-q', '-f', 'raw', "$images/disk.raw", '2097664');
qemu_img('create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b',
         "$images/disk.qcow2", "$images/backed.qcow2");
qemu_img('create', '-q', '-f', 'qcow2', '-o',
         "data_file=$images/data,data_file_raw=on", "$images/datafile.qcow2",
         '1M');
qemu_img('create', '-q', '-f', 'vmdk', "$images/disk.vmdk", '1M');
qemu_img('create', '-q', '-f', 'vdi', "$images/disk.vdi", '1M');
qemu_img('create', '-q', '-f', 'vhdx', "$images/disk.vhdx", '1M');
system("gzip < $images/disk.raw > $images/disk.raw.gz; " .
       "xz < $images/disk.raw > $images/disk.raw.xz");
write_file("$images/broken.qcow2", "QFI\xfb" . pack('N', 3) . "\0" x 600);
write_file("$images/cut.qcow2", substr slurp("$images/disk.qcow2"), 0, 80);
write_file("$images/odd.raw", 'x' x 1000);

start_agent(args => ['--image-dir', $images]);

is_deeply([map $_->{id}, @{ api('GET', '/images')->{json} }], ['img_default'],
          'img_default of the configuration');
is(api('DELETE', '/images/img_default')->{status}, 409,
   'which cannot be deleted');

sub registered {
    my ($fields, $want, $what) = @_;
    my $r = api('POST', '/images', $fields);
    is($r->{status}, 201, $what) or diag $r->{body};
    is($r->{json}{$_}, $want->{$_}, "$what: $_") for sort keys %$want;
    is($r->{headers}{location}, "/images/$r->{json}{id}", 'Location');
    is_deeply(api('GET', "/images/$r->{json}{id}")->{json}, $r->{json},
              'get');
    return $r->{json}{id};
}

my $kernel = registered({ kernel_path => 'kernel', initrd_path => 'initrd',
                          boot_args => 'quiet', name => 'demo' },
                        { kernel_path => 'kernel', boot_args => 'quiet',
                          name => 'demo', format => undef },
                        'kernel and initramfs');
my $qcow2 = registered({ rootfs_path => 'disk.qcow2' },
                       { format => 'qcow2', disk_mib => 10 }, 'qcow2');
registered({ rootfs_path => 'old.qcow2' },
           { format => 'qcow2', disk_mib => 3 }, 'qcow2 of version 2');
my $raw = registered({ rootfs_path => "$images/disk.raw" },
                     { format => 'raw', disk_mib => 3 },
                     'raw, rounded up, by its absolute path');
registered({ kernel_path => 'in', rootfs_path => 'disk.qcow2' },
           { format => 'qcow2' }, 'a symbolic link that stays inside');
my $own = registered({ id => 'img_debian-12', kernel_path => 'kernel' },
                     { id => 'img_debian-12' }, 'an id of one\'s own');
is(scalar @{ api('GET', '/images')->{json} }, 7, 'all are listed');

sub refused {
    my ($status, $fields, $words) = @_;
    my $r = api('POST', '/images', $fields);
    my $what = JSON::PP->new->canonical->encode($fields);
    is($r->{status}, $status, "$status: $what") or diag $r->{body};
    like($r->{json}{error}, qr/\Q$words/, "says: $words");
}

my $inside = 'must be a file in the image directory, not';
refused(400, {}, '"kernel_path" or "rootfs_path" is missing');
refused(400, { initrd_path => 'initrd', rootfs_path => 'disk.raw' },
        '"initrd_path" needs "kernel_path"');
refused(400, { boot_args => 'x', rootfs_path => 'disk.raw' },
        '"boot_args" needs "kernel_path"');
refused(400, { kernel_path => $_ }, "\"kernel_path\" $inside \"$_")
    for 'nothing', '../outside', "$dir/outside", 'out', 'loop', '/etc/passwd',
        'sub/../../outside', '/proc/self/environ', '.', '..';
refused(400, { rootfs_path => 'out' }, "\"rootfs_path\" $inside");
refused(400, { kernel_path => 'kernel', initrd_path => 'out' },
        "\"initrd_path\" $inside");
refused(400, { kernel_path => 'sub' }, '"sub" is not a regular file');
refused(400, { kernel_path => 'fifo' }, '"fifo" is not a regular file');
refused(400, { kernel_path => 'empty' }, '"empty" is empty');
refused(400, { kernel_path => "ker\nnel" }, 'control characters');
refused(400, { kernel_path => "kernel\0x" }, 'NUL');
refused(400, { kernel_path => 7 }, '"kernel_path" must be a string');
refused(400, { kernel_path => '' }, '"kernel_path" must be 1 to 255');
refused(400, { kernel_path => 'x' x 256 }, '"kernel_path" must be 1 to 255');
refused(400, { kernel_path => 'kernel', path => 'x' }, 'unknown field "path"');
refused(400, { rootfs_path => 'backed.qcow2' }, 'has a backing file');
refused(400, { rootfs_path => 'datafile.qcow2' }, 'external data file');
refused(400, { rootfs_path => 'disk.vmdk' }, 'is VMDK');
refused(400, { rootfs_path => 'disk.vdi' }, 'is VDI');
refused(400, { rootfs_path => 'disk.vhdx' }, 'is VHDX');
refused(400, { rootfs_path => 'disk.raw.gz' }, 'is compressed (gzip)');
refused(400, { rootfs_path => 'disk.raw.xz' }, 'is compressed (xz)');
refused(400, { rootfs_path => 'broken.qcow2' }, '"rootfs_path":');
refused(400, { rootfs_path => 'cut.qcow2' }, '"rootfs_path":');
refused(400, { rootfs_path => 'odd.raw' }, 'whole number of sectors');
refused(400, { id => $_, kernel_path => 'kernel' }, '"id" must be img_')
    for 'debian', 'img_', 'img_A', 'img_a/b', 'img_..', 'vm_a';
refused(409, { id => 'img_debian-12', kernel_path => 'kernel' },
        '"id" "img_debian-12" is taken');
refused(409, { id => 'img_default', kernel_path => 'kernel' },
        'taken by the agent\'s configuration');
is(scalar @{ api('GET', '/images')->{json} }, 7, 'none of these is listed');

# VMs of them
my $vm = create_vm({ image_id => $qcow2, disk_mib => 20 });
is($vm->{disk_mib}, 20, 'a larger disk');
my $info = json(scalar qx(qemu-img info -U --output=json $dir/state/disks/$vm->{id}.qcow2));
is($info->{format}, 'qcow2', 'an overlay');
is((stat "$dir/state/disks/$vm->{id}.qcow2")[2] & 07777, 0600,
   'for nobody else to read');
is((stat "$dir/state/disks")[2] & 07777, 0711, 'in a folder not to be listed');
is($info->{'backing-filename'}, "$images/disk.qcow2", 'on the image');
is($info->{'backing-filename-format'}, 'qcow2', 'with its format');
is($info->{'virtual-size'}, 20 << 20, 'of the size asked for');
is(create_vm({ image_id => $raw })->{disk_mib}, 3, 'the image\'s size');
is(create_vm({ image_id => $kernel })->{boot_args}, 'quiet', 'its boot_args');
is(create_vm({ image_id => $kernel, disk_mib => 5 })->{disk_mib}, 5,
   'an empty disk where the image has none');

my $r = api('POST', '/vms', { image_id => $qcow2, disk_mib => 9 });
is($r->{status}, 400, 'a smaller disk');
like($r->{json}{error}, qr/"disk_mib" must be at least 10/, 'says so');
$r = api('POST', '/vms', { image_id => $qcow2, boot_args => 'quiet' });
is($r->{status}, 400, 'boot_args without a kernel');
like($r->{json}{error}, qr/"boot_args": image \S+ has no kernel/, 'says so');

# deletion
$r = api('DELETE', "/images/$qcow2");
is($r->{status}, 409, 'an image that a VM uses');
like($r->{json}{error}, qr/cannot delete image img_\S+: 1 VM uses it/, 'says so');
is(api('DELETE', "/vms/$vm->{id}")->{status}, 200, 'without the VM');
is(api('DELETE', "/images/$qcow2")->{status}, 200, 'it goes');
ok(-e "$images/disk.qcow2", 'its file stays');
is(api('GET', "/images/$qcow2")->{status}, 404, 'get');
is(api('DELETE', "/images/$qcow2")->{json}{code}, 'image_not_found', 'again');
$r = api('POST', '/vms', { image_id => $qcow2 });
like($r->{json}{error}, qr/"image_id": no image/, 'no VM of it');

# the file behind an image is gone, or has become something else
unlink "$images/disk.raw";
$r = api('POST', '/vms', { image_id => $raw });
is($r->{status}, 400, 'its file is gone');
like($r->{json}{error}, qr/"image_id": image $raw: "rootfs_path" must be/,
     'says so');
symlink '/etc/passwd', "$images/disk.raw";
is(api('POST', '/vms', { image_id => $raw })->{status}, 400,
   'it leads out of the directory now');

# they survive the agent
stop_agent('KILL');
write_file("$dir/state/images/img_bad.json", '{"id":');
write_file("$dir/state/images/img_other.json", '{"id":"img_x"}');
write_file("$dir/state/images/img_tmp.json.tmp", '{"id"');
start_agent(args => ['--image-dir', $images]);
is(scalar @{ api('GET', '/images')->{json} }, 6, 'all are there again');
is(api('GET', "/images/$own")->{json}{kernel_path}, 'kernel', 'this one');
like(agent_log(), qr/warn: images\/img_bad.json is ignored: /,
     'a record that is broken is named');
like(agent_log(), qr/img_other.json is ignored: its "id" is not img_other/,
     'and one that is not what it says');
stop_agent();

# without a configured one, img_default is free to be registered
start_agent(args => ['--image-dir', $images],
            env => { HATCH_DEFAULT_KERNEL_PATH => '',
                     HATCH_DEFAULT_INITRD_PATH => '' });
$r = api('POST', '/vms', {});
is($r->{status}, 400, 'no default image');
like($r->{json}{error}, qr/"image_id": there is no default image/, 'says so');
is(api('POST', '/images', { id => 'img_default', kernel_path => 'kernel' })
   ->{status}, 201, 'img_default by the API');
is(create_vm()->{image_id}, 'img_default', 'is the default');

# --check looks at images as the API does
sub check {
    my (%env) = @_;
    local %ENV = (%ENV, %env, HATCH_ZONE => "$dir/run/zone",
                  HATCH_SOCKET => "$dir/run/agent.sock",
                  HATCH_WAKE_SOCKET => "$dir/run/wake.sock");
    my $out = qx('$Test::Hatch::build/hatch-agent' --check \\
                 --connect test:///default --state-dir '$dir/state' \\
                 --image-dir '$images' 2>&1);
    return "${out}status " . ($? >> 8);
}

my $out = check();
unlike($out, qr/default image: none/, '--check knows the default image');
like($out, qr/^hatch-agent: warning: image $raw, rootfs_path: there is no file "\S*disk\.raw" in "\Q$images\E"$/m,
     'and an image whose file is gone');
like($out, qr/^ok\nstatus 0/m, 'which is nothing that has to be');
like(check(PATH => '/nowhere'), qr/^hatch-agent: warning: there is no qemu-img/m,
     'a disk that others have');
rename "$images/kernel", "$images/away" or die;
$out = check();
like($out, qr/^hatch-agent: error: image img_default, kernel_path: there is no file "kernel"/m,
     'the default one has to be');
like($out, qr/status 1\z/, 'status 1');
rename "$images/away", "$images/kernel" or die;
api('DELETE', "/vms/$_->{id}") for @{ api('GET', '/vms')->{json} };
is(api('DELETE', '/images/img_default')->{status}, 200, 'another one');
registered({ id => 'img_default', rootfs_path => 'disk.qcow2' }, {},
           'a default image with a disk');
like(check(PATH => '/nowhere'),
     qr/^hatch-agent: error: there is no qemu-img .* as the default image's/m,
     'then its tools have to be there');

done();
