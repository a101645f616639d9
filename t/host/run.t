#!/usr/bin/perl

# `make run` on a host with Debian's defaults: systemd, D-Bus, machined, and
# libvirt as it is installed, which has a network and a VM of its own.  libvirt
# has never looked at QEMU there, and /dev/kvm is missing, or as unusual as
# found on real machines.  Behind the nodes made here is KVM only where this
# machine has it; elsewhere they do not open, and the demo has to see that.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my $host = "$top/t/lib/host";
my $log;
my $n = 0;

sub in_host {
    my ($command) = @_;
    my $out = qx('$host' in bash -c '$command' 2>&1);
    $out =~ s/\n\z//;
    return $out;
}

sub changes {
    my ($before) = @_;
    my %change;

    $change{$_}++ for split /\n/, in_host('/hatch/t/lib/traces');
    $change{$_}-- for split /\n/, $before;
    return join '', map { ($change{$_} > 0 ? '+' : '-') . "$_\n" }
                    grep $change{$_}, sort keys %change;
}

# The script is a unit, so that it can be sent a signal from outside.
sub start {
    my ($unit) = @_;
    $log = "$dir/logs/$unit.out";
    return spawn($log, $host, 'in', 'systemd-run', '-q', '--wait', '--pipe',
                 '--collect', "--unit=$unit", '/srv/hatch/util/run',
                 '/srv/hatch/build');
}

is(system($host, 'up') >> 8, 0, 'a Debian host boots') or BAIL_OUT('no host');
END { system $host, 'down' if -e '/run/hatch-host/name' }

# writable, as a clone is, and built, but never run
my ($build) = $Test::Hatch::build =~ m{([^/]+)\z};
is(in_host("mkdir -p /srv/hatch/build && cp -r /hatch/util /hatch/deploy /srv/hatch/
            && cd /hatch/$build && cp -r hatch-agent hatch-zone image
               ngx_http_hatch_module.so /srv/hatch/build/" =~ s/\n\s+/ /gr),
   '', 'a clone is there');

# what the host has of its own
write_file('/run/hatch-host/root/root/own.xml', <<'XML');
<domain type='qemu'>
  <name>own</name>
  <memory unit='MiB'>64</memory>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
  </os>
  <devices>
    <interface type='network'>
      <source network='default'/>
    </interface>
  </devices>
</domain>
XML
like(in_host('virsh net-start default && virsh define own.xml'
             . ' && virsh start own'), qr/Domain .own. started/,
     'the host has a network and a VM of its own');

my $own = 'virsh list --all; virsh net-list --all; virsh domid own;'
        . 'virsh dumpxml own; virsh net-dumpxml default; machinectl list';
my $before = in_host($own);
my $clean = in_host('/hatch/t/lib/traces');
my %kvm = ('no /dev/kvm' => 'rm -f /dev/kvm',
           'root:root 0600' => 'mknod -m 600 /dev/kvm c 10 232',
           'root:kvm 0660' => 'mknod -m 660 /dev/kvm c 10 232;'
                              . 'chgrp kvm /dev/kvm',
           'no mknod' => 'mknod -m 600 /dev/kvm c 10 232;'
                         . 'ln -s /bin/false /usr/local/sbin/mknod');
my %end = ('no /dev/kvm' => 'INT', 'root:root 0600' => 'TERM',
           'root:kvm 0660' => 'HUP', 'no mknod' => 'INT');

for my $kvm ('no /dev/kvm', 'root:root 0600', 'root:kvm 0660', 'no mknod') {
    is(in_host("rm -f /dev/kvm; rm -rf /srv/hatch/build/libvirt-cache;"
               . $kvm{$kvm}), '', "$kvm:");

    my $unit = 'demo' . ++$n;
    my $pid = start($unit);
    wait_until('it runs, or fails',
               sub { slurp($log) =~ /Ctrl-C ends it|cleaning up/ }, 120);
    like(slurp($log), qr/Hello from a.*Ctrl-C ends it/s, 'it runs');

    is(in_host('ps -o user:20= $(pgrep -f "^[^ ]*qemu-system.*guest=vm_")'),
       'libvirt-qemu', 'QEMU runs as libvirt-qemu');
    is(in_host($own), $before, 'the host sees nothing of it');

    wait_until('it sleeps', sub { slurp($log) =~ /the VM sleeps/ }, 60);
    like(in_host('curl -s http://demo.hatch.localhost:9090/'),
         qr/Hello from a virtual machine/, 'a request');
    wait_until('it is told', sub {
        slurp($log) =~ /a request woke it: resume, in \d+ ms/ });

    in_host("systemctl kill --kill-whom=main -s $end{$kvm} $unit");
    is(reap($pid, 30), 0, "$end{$kvm} ends it") or diag(slurp($log));
    is(changes($clean), '', 'nothing is left');
    is(in_host($own), $before, "the host's own is untouched");
}

# its firewall goes on, too: libvirt can still start and stop networks
like(in_host('virsh net-destroy default && virsh net-start default'),
     qr/Network default started/, "the host's libvirt can go on");
unlike(in_host('journalctl -q --no-pager'), qr/vm_[a-z0-9]{16}/,
       'the journal has never heard of it');

is(system($host, 'down') >> 8, 0, 'the host ends');
ok(!-e '/run/hatch-host', 'and its folder');

done();
