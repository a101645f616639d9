#!/usr/bin/perl

# cloud-init on a real Debian guest (util/build-cloud-image), end to end: disk,
# user_data, instance-id, network by MAC, SSH with a key; and once per
# instance only.  Takes minutes under software emulation.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

my $cloud = "$Test::Hatch::build/cloud";
plan skip_all => 'make test-cloud-init builds the guest'
    if !-s "$cloud/debian.qcow2";

system('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', "$dir/key") == 0
    or die;
chomp(my $key = slurp("$dir/key.pub"));

start_agent(connect => 'qemu:///system', args => ['--image-dir', $cloud],
            env => { HATCH_LOG_LEVEL => 'info', HATCH_STOP_TIMEOUT => 120 });
start_nginx();

my $image = api('POST', '/images', {
    kernel_path => 'vmlinuz', initrd_path => 'initrd',
    rootfs_path => 'debian.qcow2',
    boot_args => 'root=LABEL=root rw console=ttyS0 quiet',
})->{json};
is($image->{format}, 'qcow2', 'the image');

my $user_data = <<"YAML";
#cloud-config
ssh_authorized_keys:
  - $key
write_files:
  - path: /srv/index.html
    content: "it is \xe2\x9c\x93\\n"
runcmd:
  - [ sh, -c, "cloud-init query instance_id > /srv/id" ]
  - [ sh, -c, "hostname > /srv/host" ]
  - [ sh, -c, "echo run >> /srv/runs" ]
  - [ sh, -c, "python3 -m http.server 80 -d /srv > /dev/null 2>&1 &" ]
YAML
utf8::decode($user_data);

my $r = api('POST', '/vms', { name => 'Cloud_1', image_id => $image->{id},
                              mem_mib => 512, user_data => $user_data });
is($r->{status}, 201, 'the VM') or diag $r->{body};
my $vm = $r->{json};
create_route($vm->{id}, 'cloud');

sub get {
    my ($path) = @_;
    my $answer = http('127.0.0.1:9090', 'GET', $path, undef,
                      Host => 'cloud.hatch.localhost') or return '';
    return $answer->{status} == 200 ? $answer->{body} : '';
}

my $began = time;
ok(wait_until('cloud-init ran to its last stage',
              sub { get('/index.html') ne '' }, 570),
   'user_data ran') or diag(console());
diag(sprintf '%d s from POST /vms to its page', time - $began);
is(get('/index.html'), "it is \xe2\x9c\x93\n", 'write_files, to the byte');
is(get('/id'), "$vm->{id}\n", 'the VM\'s id is the instance-id');
is(get('/host'), "cloud-1\n", 'its name is the host name');

sub ssh {
    my ($command) = @_;
    return scalar qx(ssh -q -i $dir/key -o StrictHostKeyChecking=no \\
        -o UserKnownHostsFile=/dev/null -o ConnectTimeout=60 \\
        debian\@$vm->{guest_ip} '$command' < /dev/null 2>&1);
}

sub console { return scalar qx(tail -n 40 /var/log/libvirt/qemu/*.log 2>&1) }

like(ssh('cloud-init status --wait'), qr/status: done/,
     'SSH with the key of user_data')
    or diag(ssh('cloud-init status --long; '
                . 'grep -hE "WARN|ERROR" /var/log/cloud-init.log'));
like(ssh('ip -4 -o addr'), qr/\Q$vm->{guest_ip}\E/, 'its address');
like(ssh('ip -o link'), qr/hatch0|\Q$vm->{guest_mac}\E/,
     'on the card with its MAC');
like(ssh('lsblk -no LABEL,TYPE'), qr/(?i:cidata)/, 'the seed is there');
like(ssh('df -h / | tail -n 1'), qr{/dev/vda}, 'the disk is the root');

# stopped in order, started again: the same instance, nothing runs twice
ssh('sync');
is(api('POST', "/vms/$vm->{id}/stop")->{json}{state}, 'stopped', 'stop');
is(api('POST', "/vms/$vm->{id}/start")->{json}{state}, 'running', 'start');
ok(wait_until('SSH is back', sub { ssh('true'); $? == 0 }, 570),
   'it boots again');
is(ssh('cat /srv/runs'), "run\n", 'cloud-init did not run it again');

is(api('DELETE', "/vms/$vm->{id}")->{status}, 200, 'delete');

allow_log(qr/connect\(\) failed|upstream timed out|prematurely/);
done();
