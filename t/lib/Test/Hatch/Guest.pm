package Test::Hatch::Guest;

# What a test of real guests begins with: an image with a kernel and a disk, an
# agent of qemu:///system, and the demo guest's word in memory and on disk.
#
#   use Test::Hatch world => 'libvirt';
#   use Test::Hatch::Guest;
#
#   guest_files();
#   guest_agent();
#   start_nginx();
#   my $image = guest_image();

use strict;
use warnings;

use Exporter 'import';
use Test::Hatch ();
use Test::More;

our @EXPORT = qw(guest_files guest_agent guest_image guest_page guest_state
                 lock_disk unlock_disk real_disk);

my $real;

# How long a guest may take to boot and answer under software emulation, s.
use constant BOOTS => 90;


# Kernel, initramfs and an empty disk, in the agent's image_dir.
sub guest_files {
    my $images = "$Test::Hatch::dir/images";

    mkdir $images;
    system('cp', "$Test::Hatch::build/image/vmlinuz",
           "$Test::Hatch::build/image/initrd", $images) == 0 or die;
    system('qemu-img', 'create', '-q', '-f', 'qcow2', "$images/base.qcow2",
           '8M') == 0 or die;
}


# An agent that logs what it does; with a fault point, or FAULT:fail.  env adds
# variables.
sub guest_agent {
    my ($fault, %env) = @_;
    return Test::Hatch::start_agent(
        connect => 'qemu:///system',
        env => { HATCH_LOG_LEVEL => 'info',
                 $fault ? (HATCH_FAULT => $fault) : (), %env });
}


# Registers the files: the id.
sub guest_image {
    my $r = Test::Hatch::api('POST', '/images', {
        kernel_path => 'vmlinuz', initrd_path => 'initrd',
        rootfs_path => 'base.qcow2', boot_args => 'console=ttyS0 quiet',
    });
    is($r->{status}, 201, 'an image') or diag $r->{body};
    return $r->{json}{id};
}


# A disk of its own for the agent's state, an ext4 in a file: what a world has
# else is in memory, and there a hole that was read takes room.
sub real_disk {
    my ($size) = @_;
    my $state = "$Test::Hatch::dir/state";

    mkdir $state;
    system('truncate', '-s', $size // '2G', "$Test::Hatch::dir/ext4") == 0
        or die;
    system('mkfs.ext4', '-q', '-F', '-m', '0', "$Test::Hatch::dir/ext4") == 0
        or die;
    system('mount', '-o', 'loop', "$Test::Hatch::dir/ext4", $state) == 0 or die;
    rmdir "$state/lost+found";
    $real = $state;
    return $state;
}


# The file goes with the test's directory.
END {
    local $?;
    system('umount', '-l', $real) if $real;
}


# A page of the guest behind a route, once it answers with 200; undef if not.
sub guest_page {
    my ($route, $path) = @_;
    my $r;
    Test::Hatch::wait_until('the guest answers', sub {
        $r = Test::Hatch::page($route, $path);
        return $r && $r->{status} == 200;
    }, BOOTS) or return;
    return $r->{body};
}


# "MEMORY/DISK": what it has in memory and on its disk, once it answers.  A
# text is written to both before.
sub guest_state {
    my ($route, $text) = @_;
    my $body = guest_page($route, '/cgi-bin/state' . ($text ? "?$text" : ''))
               // return 'no answer';
    my %state = $body =~ /^(\w+) (.*)$/mg;
    return "$state{memory}/$state{disk}";
}


# Locks a disk, as a backup does that reads it with QEMU's own tools: the pid.
# It listens before it has the disk, so its socket says nothing; the kernel
# does.
sub lock_disk {
    my ($disk) = @_;
    my $pid = Test::Hatch::spawn("$Test::Hatch::dir/logs/lock.out", 'qemu-nbd',
                                 '--persistent', '--format', 'qcow2',
                                 '--socket', "$Test::Hatch::dir/nbd.sock",
                                 $disk);
    my $inode = (stat $disk)[1];
    Test::Hatch::wait_until('the disk is locked', sub {
        Test::Hatch::slurp('/proc/locks') =~ /OFDLCK .*:$inode 20\d 20\d$/m;
    });
    return $pid;
}


sub unlock_disk {
    my ($pid) = @_;
    Test::Hatch::kill_pid('TERM', $pid);
    Test::Hatch::reap($pid);
    unlink "$Test::Hatch::dir/nbd.sock";
}


1;
