#!/usr/bin/perl

# What `hatch-agent --check` says of a Debian host, and what each trouble that it
# names looks like in the API: QEMU runs as libvirt-qemu, with stock qemu.conf.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Host;
use Test::More;

my $host = "$top/t/lib/host";
my $build = '/hatch/' . ($ENV{HATCH_BUILD} // 'build');
my $caps = 'setpriv --bounding-set -all,+chown,+dac_override,+net_admin'
         . ' --inh-caps -all --';

sub check {
    my ($env, $before) = @_;
    return host(($env // '') . ' ' . ($before // '')
                . " $build/hatch-agent --check; echo status \$?");
}

# What is said of a trouble, and that it counts (1) or not (0).
sub says {
    my ($what, $status, $line, $env, $before) = @_;
    my $out = check($env, $before);
    my $kind = $status ? 'error' : 'warning';
    like($out, qr/^hatch-agent: $kind: $line/m, "$what: $kind") or diag($out);
    like($out, $status ? qr/(?<!\nok)\nstatus 1\n\z/ : qr/\nok\nstatus 0\n\z/,
         "$what: status $status") or diag($out);
}

system($host, 'up') == 0 or BAIL_OUT('no host: namespaces or cgroups refused');
END { system $host, 'down' if -e '/run/hatch-host/name' }

host('mkdir -p /etc/hatch /srv/hatch; chmod 755 /srv /srv/hatch; rm -f /dev/kvm');
write_file('/run/hatch-host/root/etc/hatch/agent.json', <<'EOT');
{
    "default_kernel_path": "/srv/hatch/vmlinuz",
    "default_initrd_path": "/srv/hatch/initrd",
    "default_mem_mib": 128,
    "stats_interval": "never"
}
EOT
host("cp $build/image/vmlinuz $build/image/initrd /srv/hatch");

# --- nothing amiss ---

my $out = check();
like($out, qr/\nok\nstatus 0\n\z/, 'nothing amiss: ok, and status 0') or diag($out);
unlike($out, qr/warning|error/, 'and nothing else to say');
like($out, $_, "found: $_") for
    qr/^version: \d+\.\d+\.\d+$/m,
    qr/^configuration: \/etc\/hatch\/agent\.json$/m,
    qr/^libvirt: qemu:\/\/\/system, version [\d.]+, driver QEMU [\d.]+$/m,
    qr/^QEMU: \/usr\/bin\/qemu-system-x86_64, machine pc-q35/m,
    qr/^virt_type: qemu: \w/m,
    qr/^QEMU's user: libvirt-qemu$/m,
    qr/^state_dir: \/var\/lib\/hatch\/agent, \d+ MiB free$/m,
    qr/^saved memory: \/var\/lib\/libvirt\/qemu\/save, \d+ MiB free$/m,
    qr/^network: hatch, 10\.201\.0\.1\/20, it is not there; the first VM makes it$/m,
    qr/^sockets: \/run\/hatch\/agent\.sock, \/run\/hatch\/wake\.sock, for group www-data$/m;
is(host('ls -d /var/lib/hatch /run/hatch 2>/dev/null; virsh -q net-list --all --name'
        . ' | grep hatch'), '', 'it has made nothing');

# --- ways that QEMU's user cannot go ---

host('mkdir -p /srv/private/deep; chmod 700 /srv/private; cp /srv/hatch/* /srv/private');
my $way = qr/QEMU's user, libvirt-qemu, cannot pass through "\/srv\/private"; mend it with "chmod o\+x \/srv\/private"/;
says('state_dir', 1, qr/state_dir: $way/, 'HATCH_STATE_DIR=/srv/private/deep/agent');
says('kernel', 1, qr/default_kernel_path: $way/,
     'HATCH_DEFAULT_KERNEL_PATH=/srv/private/vmlinuz');
host('ln -s /srv/private /srv/link');
says('by a link', 1, qr/default_kernel_path: $way/,
     'HATCH_DEFAULT_KERNEL_PATH=/srv/link/vmlinuz');
says('without CAP_SETUID', 1, qr/state_dir: $way/,
     'HATCH_STATE_DIR=/srv/private/deep/agent', $caps);
host('setfacl -m u:libvirt-qemu:x /srv/private');
if (host('getfacl -c /srv/private') =~ /libvirt-qemu/) {
    like(check('HATCH_STATE_DIR=/srv/private/deep/agent', $_), qr/\nok\n/,
         'an access list lets him' . ($_ && ', also as it is read'))
        for '', $caps;
    host('setfacl -b /srv/private');
}

# what the API says of it
my $api = 'curl -s --max-time 100 --unix-socket /run/hatch/agent.sock http://localhost';
host("systemd-run -q --unit agent -p Type=notify -p RuntimeDirectory=hatch"
     . ' -p "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_NET_ADMIN"'
     . " -E HATCH_DEFAULT_KERNEL_PATH=/srv/private/vmlinuz $build/hatch-agent");
my $r = json(host("$api/vms -d '{}'"));
like($r->{error}, qr/^cannot start the VM: $way/, 'POST /vms says the same')
    or diag explain $r;

# beside it
like(check(), qr/\nok\nstatus 0\n\z/, '--check beside an agent');
host('systemctl stop agent; chmod o+x /srv/private');
like(check('HATCH_STATE_DIR=/srv/private/deep/agent'), qr/\nok\n/,
     'what it says mends it');

# --- port 53 ---

host('virsh -q net-destroy hatch');
host('systemd-run -q --unit dns perl -MIO::Socket::INET -e'
     . " 'push \@s, IO::Socket::INET->new(LocalPort => 53, Proto => \"udp\") or die; sleep 1000'");
wait_until('port 53 is taken', sub { host('cat /proc/net/udp') =~ /00000000:0035/ });
says('port 53', 1, qr/port 53 \(udp\) is taken, also for 10\.201\.0\.1, so libvirt's dnsmasq cannot start and neither can network "hatch"/);
host("systemd-run -q --unit agent -p Type=notify -p RuntimeDirectory=hatch $build/hatch-agent");
$r = json(host("$api/vms -d '{}'"));
like($r->{error}, qr/^cannot start the network: .*Address already in use$/,
     'the API has the real error, to its end') or diag explain $r;
unlike(host('journalctl -q -o cat -u agent'), qr/unknown libvirt error|: gone|\\\//,
       'and so has the log, without a word of a VM that never was');
host('systemctl stop agent dns; virsh -q net-start hatch');
unlike(check(), qr/port 53/, 'nothing of it while the network runs');

# --- the subnet ---

host('virsh -q net-destroy hatch; ip link add other type bridge;'
     . ' ip address add 10.201.5.1/24 dev other; ip link set other up');
says('an interface', 1, qr/"bridge_cidr": the subnet of 10\.201\.0\.1\/20 is in use by interface other, so network "hatch" cannot start; name another one/);
host('virsh -q net-start hatch; ip link del other');
write_file('/run/hatch-host/root/root/net.xml', <<'EOT');
<network><name>theirs</name><bridge name='theirs0'/>
<ip address='10.201.8.1' prefix='24'/></network>
EOT
host('virsh -q net-define /root/net.xml');
says('a network', 0, qr/"bridge_cidr": .* is also that of libvirt's network "theirs", which does not run/);
host('virsh -q net-undefine theirs');

# --- tools, QEMU, libvirt ---

my $tools = 'PATH=/nowhere';
says('qemu-img', 0, qr/there is no qemu-img in PATH, .*apt install qemu-utils\)/, $tools);
says('xorriso', 0, qr/there is no xorriso in PATH, .*apt install xorriso\)/, $tools);
host('qemu-img create -q -f qcow2 /var/lib/hatch/images/base 8M;'
     . ' qemu-img create -q -f qcow2 /var/lib/hatch/images/base.qcow2 8M');
my $disk = 'HATCH_DEFAULT_ROOTFS_PATH=/var/lib/hatch/images/base';
says('qemu-img for the default image', 1, qr/there is no qemu-img in PATH, .* as the default image's have/,
     "$tools $disk.qcow2");
says('a disk without a suffix', 0, qr/default_rootfs_path: where AppArmor is on, libvirt cannot read "\/var\/lib\/hatch\/images\/base"/,
     $disk);
unlike(check("$disk.qcow2"), qr/AppArmor/, 'one with a suffix');
host('mv /usr/sbin/dnsmasq /root');
says('dnsmasq', 1, qr/there is no dnsmasq, .*apt install dnsmasq-base\)/);
host('mv /root/dnsmasq /usr/sbin');
host('f=$(readlink -f /usr/sbin/iptables); echo $f > /root/iptables; mv $f /root/was');
says('iptables', 1, qr/there is no iptables, .*apt install iptables\)/);
host('mv /root/was $(cat /root/iptables)');

host('mv /usr/bin/qemu-system-x86_64 /root; rm -rf /var/cache/libvirt/qemu; systemctl restart libvirtd');
says('no QEMU', 1, qr/libvirt has no QEMU for x86_64 guests: .*"apt install qemu-system-x86"/);
host('mv /root/qemu-system-x86_64 /usr/bin; rm -rf /var/cache/libvirt/qemu; systemctl restart libvirtd');

host('systemctl stop libvirtd libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket');
says('no libvirtd', 1, qr/cannot connect to libvirt: .*; libvirtd does not listen: "systemctl start libvirtd\.socket"/);
host('mv /usr/sbin/libvirtd /root');
says('not even installed', 1, qr/cannot connect to libvirt: .*; libvirt is not installed: "apt install libvirt-daemon-system"/);
host('mv /root/libvirtd /usr/sbin; systemctl start libvirtd.socket');
says('a user of no group', 1, qr/cannot connect to libvirt: .*"usermod -aG libvirt USER"/,
     '', 'setpriv --reuid nobody --regid nogroup --clear-groups --');
$out = check('', 'setpriv --reuid nobody --regid nogroup --clear-groups --');
like($out, qr/warning: this is user nobody/, 'who it is');
unlike($out, qr/nginx's|for group/, 'nothing of groups, which only root gives');

# --- files, room, limits ---

host('mkdir -p /ro /small /less; mount -t tmpfs -o ro tmpfs /ro;'
     . ' mount -t tmpfs -o size=8m tmpfs /small; mount -t tmpfs -o size=99m tmpfs /less');
says($_, 1, qr/"$_": nothing can be made in "\/ro": Read-only file system; name another/,
     "HATCH_\U$_\E=/ro/hatch/x") for qw(zone socket wake_socket state_dir);
says('no room', 1, qr/there is no room in "\/small"/, 'HATCH_STATE_DIR=/small/agent');
says('little room', 0, qr/there is little room in "\/less": 9\d MiB/,
     'HATCH_STATE_DIR=/less/agent');
says('descriptors', 0, qr/at most 500 file descriptors: if 1023 VMs are woken at a time, some wait; 3133 are enough/,
     '', 'prlimit --nofile=500:500');
unlike(check('HATCH_MAX_VMS=100', 'prlimit --nofile=500:500'), qr/descriptors:.*wait/,
       'enough for fewer VMs');
says('an image that is not there', 1, qr/default_initrd_path: cannot read "\/srv\/none": No such file/,
     'HATCH_DEFAULT_INITRD_PATH=/srv/none');

# --- groups, and who may use the wake socket ---

host('groupdel hatch 2>/dev/null; groupadd -r hatch');
says('group hatch without nginx\'s user', 0, qr/group hatch does not get the sockets, since nginx's user, www-data, is not in it; mend it with "usermod -aG hatch www-data"/);
says('named', 0, qr/nginx's user, www-data, is not in group hatch, so nginx cannot use the sockets/,
     'HATCH_SOCKET_GROUP=hatch');
host('usermod -aG hatch www-data');
like(check(), qr/^sockets: .*, for group hatch$/m, 'with him in it');
unlike(check(), qr/warning/, 'there is nothing to say');
like(check('HATCH_SOCKET_GROUP=nobody-has-it'),
     qr/HATCH_SOCKET_GROUP: .*|"socket_group": there is no group "nobody-has-it"/,
     'a group that is not there');

host("systemd-run -q --unit agent -p Type=notify -p RuntimeDirectory=hatch $build/hatch-agent");
is(host('stat -c "%a %G" /run/hatch/agent.sock /run/hatch/wake.sock /run/hatch/zone'),
   "660 hatch\n660 hatch\n640 www-data\n", 'sockets and zone belong to their groups');
host('chmod 666 /run/hatch/wake.sock; useradd -r admin; usermod -aG hatch admin');

# 0: the agent has closed the connection, 1: it waits for a message
sub stays {
    my ($user) = @_;
    return host("runuser -u $user -- perl -MIO::Socket::UNIX -e '"
        . '$s = IO::Socket::UNIX->new(Peer => "/run/hatch/wake.sock") or die;'
        . ' vec($r = "", fileno $s, 1) = 1;'
        . " print select(\$r, undef, undef, 1) ? 0 : 1'");
}

is(stays('www-data'), 1, 'nginx\'s user may use the wake socket');
is(stays('root'), 1, 'so may root');
is(stays('admin'), 1, 'and who is in group hatch');
is(stays('nobody'), 0, 'nobody else, whatever its mode is');
my $uid = host('id -u nobody') + 0;
like(host('journalctl -q -o cat -u agent'),
     qr/user $uid may not use the wake socket/, 'which the log says');

# --- what the unit keeps the agent from ---

host('systemctl stop agent; mkdir -p /srv/other /home/img;'
     . ' cp /hatch/deploy/systemd/hatch-*.service /etc/systemd/system;'
     . " cp $build/hatch-agent /usr/sbin; chmod 755 /srv/other /home/img;"
     . ' systemd-tmpfiles --create /hatch/deploy/systemd/hatch-agent.tmpfiles;'
     . ' systemctl daemon-reload');
like(check('', 'prlimit --nofile=500:500'), qr/^file descriptors: 65536$/m,
     'its file descriptors count, not the shell\'s');
my $edit = qr/make the folder, and say "ReadWritePaths=\S+" below \[Service\] with "systemctl edit hatch-agent hatch-guests"/;
says('a state_dir elsewhere', 1, qr/"state_dir": hatch-agent\.service cannot write in "\/srv\/other"; $edit/,
     'HATCH_STATE_DIR=/srv/other');
says('a socket elsewhere', 1, qr/"socket": hatch-agent\.service cannot write in "\/run\/other"; $edit/,
     'HATCH_SOCKET=/run/other/agent.sock');
says('images in /home', 1, qr/"image_dir": hatch-agent\.service does not see "\/home\/img": .* hide \/home \/root/,
     'HATCH_IMAGE_DIR=/home/img');
says('a zone in /tmp', 1, qr/"zone": hatch-agent\.service does not see "\/tmp\/zone"/,
     'HATCH_ZONE=/tmp/zone');
host(q(sed -i 's,^{,{ "state_dir": "/srv/other"\,,' /etc/hatch/agent.json));
host('systemctl start hatch-agent');
like(host('journalctl -q -o cat -u hatch-agent'),
     qr/cannot lock "\/srv\/other\/lock": Read-only file system; "hatch-agent --check" says/,
     'so it is');
host('mkdir /etc/systemd/system/hatch-agent.service.d;'
     . ' printf "[Service]\nReadWritePaths=/srv/other\n"'
     . ' > /etc/systemd/system/hatch-agent.service.d/x.conf;'
     . ' systemctl daemon-reload; systemctl reset-failed hatch-agent');
says('the other unit', 0, qr/"state_dir": hatch-guests\.service cannot write in "\/srv\/other", .*"ReadWritePaths=\/srv\/other" there, too/);
host('cp -r /etc/systemd/system/hatch-agent.service.d'
     . ' /etc/systemd/system/hatch-guests.service.d; systemctl daemon-reload');
unlike(check(), qr/warning|error/, 'what it says mends it');
is(host('systemctl start hatch-agent; systemctl is-active hatch-agent;'
        . ' ls -d /srv/other/disks'), "active\n/srv/other/disks\n",
   'and lets the agent start');

# --- an agent that stands still, and one that is killed ---

sub main_pid { return host('systemctl show -P MainPID hatch-agent') + 0 }

host('printf "[Service]\nWatchdogSec=2\n"'
     . ' > /etc/systemd/system/hatch-agent.service.d/y.conf;'
     . ' systemctl daemon-reload; systemctl restart hatch-agent');
for my $signal (qw(STOP KILL)) {
    my $was = main_pid();
    host("kill -$signal $was");
    wait_until('another agent', sub {
        main_pid() != $was && host('systemctl is-active hatch-agent') =~ /^active/
    });
    is(host("$api/vms"), '[]', "SIG$signal: systemd starts another one");
}
like(host('journalctl -q -o cat -u hatch-agent'), qr/Watchdog timeout/,
     'by its watchdog');

is(system($host, 'down'), 0, 'down');

done();
