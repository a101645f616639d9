#!/usr/bin/perl

# A Debian host with defaults, QEMU as libvirt-qemu and stock qemu.conf, and a
# /dev/kvm that is not as libvirt expects it: what the agent says of it, and
# that VMs come up and go to sleep all the same, whatever the umask.
#
# KVM itself cannot be had here.  A node without a driver behind it that QEMU's
# user may open has the same effect on libvirt as one with a driver that he may
# not: what it finds is not what it checks, so it looks anew each time.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Host;
use Test::More;

my $host = "$top/t/lib/host";
my $build = '/hatch/' . ($ENV{HATCH_BUILD} // 'build');

system($host, 'up') == 0 or BAIL_OUT('no host: namespaces or cgroups refused');

write_file("$dir/agent.json", <<'EOF');
{
    "state_dir": "/srv/hatch/agent",
    "image_dir": "/srv/hatch/images",
    "default_kernel_path": "/srv/hatch/vmlinuz",
    "default_initrd_path": "/srv/hatch/initrd",
    "stats_interval": "never"
}
EOF
host("mkdir -p /etc/hatch /srv/hatch; cat > /etc/hatch/agent.json <<'EOF'\n"
     . slurp("$dir/agent.json") . "EOF\n"
     . "cp $build/image/vmlinuz $build/image/initrd /srv/hatch");

# A node, of whom and how; libvirtd forgets what it knew.
sub kvm {
    my ($group, $mode) = @_;
    return host('rm -f /dev/kvm; mknod /dev/kvm c 10 232;'
                . " chgrp $group /dev/kvm; chmod $mode /dev/kvm;"
                . ' rm -rf /var/cache/libvirt/qemu/capabilities;'
                . ' systemctl restart libvirtd; stat -c "%G %a" /dev/kvm');
}

sub check { return host("$build/hatch-agent --check; echo status \$?") }

# --- nothing amiss ---

my $ok = qr/\nok\nstatus 0\n\z/;
like(check(), $ok, 'no /dev/kvm');
unlike(check(), qr/warning/, 'nothing to say');

# With a driver behind it, libvirt looks anew where only QEMU's user cannot
# open the node; without one, where he may, and nobody can.
my $driver = host('rm -f /dev/kvm; mknod /dev/kvm c 10 232;'
                  . ' (: <> /dev/kvm) 2>/dev/null && echo driver')
             eq "driver\n";
my @good = $driver ? qw(kvm 660) : qw(root 600);
my @bad = $driver ? qw(root 600) : qw(kvm 660);
my $cure = $driver
    ? 'QEMU\'s user cannot open /dev/kvm; mend it with '
      . '"chgrp kvm /dev/kvm && chmod 660 /dev/kvm"'
    : '/dev/kvm can be opened by no one, there is no KVM behind it; remove it';

is(kvm(@good), "@good\n", '/dev/kvm that libvirt and QEMU see alike: '
                          . ($driver ? 'there is a driver' : 'no driver'));
like(check(), $ok, 'nothing to say');
unlike(check(), qr/warning/, 'and libvirt remembers that');

# --- libvirt looks anew each time ---

is(kvm(@bad), "@bad\n", 'one that they do not');
my $seen = qr/libvirt takes \d+\.\d\d s for each look at QEMU, so VMs start slowly: /;
my $slow = qr/$seen\Q$cure\E/;
my $json = $cure =~ s/"/\\"/gr;
my $slow_json = qr/$seen\Q$json\E/;
like(check(), qr/^hatch-agent: warning: $slow/m, '--check says it');
like(check(), $ok, 'and is content');

host("umask 077; systemd-run -q --unit agent -E HATCH_LOG_LEVEL=info "
     . "-p UMask=0077 $build/hatch-agent");
my $log = sub { host('journalctl -q -o cat -u agent') };
wait_until('the agent has its answer', sub { $log->() =~ /virt_type/ }, 60);
like($log->(), qr/^$slow/m, 'the log says it');
like($log->(), qr/"virt_type" auto is qemu: [a-z]/,
     'and what auto is, and why');
like(host("$build/hatch-zone /run/hatch/zone"), qr/"notice":"$slow_json/,
     'the zone has it');

# nginx of the host, with its own configuration beside ours
host("cat > /etc/nginx/modules-enabled/99-hatch.conf <<'EOF'\n"
     . "load_module $build/ngx_http_hatch_module.so;\nEOF\n"
     . "cat > /etc/nginx/conf.d/hatch.conf <<'EOF'\n" . <<'CONF' . "EOF\n"
hatch_route_store /srv/hatch/routes;
upstream vms { hatch; }
server {
    listen 127.0.0.1:8080;
    location = /readyz { hatch_readyz; }
    location / {
        hatch_api;
        proxy_pass http://unix:/run/hatch/agent.sock:;
        proxy_read_timeout 15m;
    }
}
server {
    listen 127.0.0.1:9090;
    location / {
        hatch_route hatch.localhost;
        proxy_pass http://vms;
        proxy_set_header Host $host;
    }
}
CONF
     . 'systemctl restart nginx');
my $ready = host('curl -s -w " %{http_code}" http://127.0.0.1:8080/readyz');
like($ready, qr/"status":"ready","reason":"$slow_json.* 200$/,
     '/readyz is 200, and its reason says so');

my $vm = json(host('curl -s http://127.0.0.1:8080/vms -d \'{"mem_mib":128}\''));
is($vm->{state}, 'running', 'a VM is made') or diag explain $vm;
host("curl -s http://127.0.0.1:8080/vms/$vm->{id}/routes "
     . '-d \'{"subdomain":"web","target_port":80}\'');
my $get = 'curl -si --max-time 100 http://web.hatch.localhost:9090/';
like(host($get), qr/Hello from a virtual machine/, 'its guest answers');
like(host('ps -o user= -C qemu-system-x86_64'), qr/^libvirt\+|^libvirt-qemu/m,
     'QEMU is not root');
like(host("virsh -q -c qemu:///system managedsave --running $vm->{id}; "
          . "virsh -q -c qemu:///system domstate $vm->{id} --reason"),
     qr/shut off/, 'it is saved');
wait_until('asleep', sub {
    host("curl -s http://127.0.0.1:8080/vms/$vm->{id}") =~ /"snapshotted"/
}, 120);
like(host($get), qr/desc="restore".*Hello from a virtual machine/s,
     'and woken by the next request');

# --- mended ---

is(kvm(@good), "@good\n", 'both see it alike again');
wait_until('the agent asks again', sub {
    host('curl -s http://127.0.0.1:8080/readyz') =~ /"reason":null/
}, 60);
like(host('curl -s http://127.0.0.1:8080/readyz'),
     qr/"status":"ready","reason":null/, 'the reason is gone');

is(host("curl -s -X DELETE http://127.0.0.1:8080/vms/$vm->{id}"),
   '{"status":"deleted"}', 'delete');
unlike($log->(), qr/error:/, 'no error in the log');
is(system($host, 'down'), 0, 'down');

done();
