#!/usr/bin/perl

# The same with real guests: 300 random API calls by 6 clients on up to 20
# VMs; then libvirt itself has to agree, too.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::Hatch::Random;
use Test::More;

my $seed = $ENV{HATCH_RANDOM_SEED} // int rand 1 << 20;
diag("seed $seed");

mkdir "$dir/images";
system('cp', "$Test::Hatch::build/image/vmlinuz",
       "$Test::Hatch::build/image/initrd", "$dir/images") == 0 or die;
system('qemu-img', 'create', '-q', '-f', 'qcow2', "$dir/images/base.qcow2",
       '8M') == 0 or die;
start_agent(connect => 'qemu:///system',
            env => { HATCH_LOG_LEVEL => 'info' });
start_nginx();
my $image = api('POST', '/images', {
    kernel_path => 'vmlinuz', initrd_path => 'initrd',
    rootfs_path => 'base.qcow2', boot_args => 'console=ttyS0 quiet',
})->{json}{id};

ok(random_calls(clients => 6, calls => 300, vms => 20, image => $image,
                seed => $seed), 'no 5xx');
my $vms = agree(\&libvirt_states);

my @hosts = virsh('net-dumpxml hatch') =~ /<host mac=.*? ip='([^']*)'/g;
is("@{[sort @hosts]}", "@{[sort map $_->{guest_ip}, values %$vms]}",
   'a reservation per VM');

api('DELETE', "/vms/$_") for keys %$vms;
is(keys %{ agree(\&libvirt_states) }, 0, 'all deleted');
is_deeply([grep !/\.(?:json|base)$/, glob "$dir/state/*/*"], [], 'no file is left');
unlike(virsh('net-dumpxml hatch'), qr/<host mac/, 'and no reservation');

# asked before it was up
allow_log(qr/connect\(\) failed/);
done();
