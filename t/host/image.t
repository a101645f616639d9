#!/usr/bin/perl

# Memory images on a Debian host with its defaults: QEMU is libvirt-qemu, the agent
# runs under its unit with the drop-in that docs/agent.md gives for it.  A VM is
# parked and sleeps, and keeps its memory over a reboot.  Without the drop-in it
# is a classic one.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Host;
use Test::More;

my $host = "$top/t/lib/host";
my $build = '/hatch/' . ($ENV{HATCH_BUILD} // 'build');
my $api = 'curl -s --unix-socket /run/hatch/agent.sock http://localhost';

sub host_file {
    my ($path, $text) = @_;
    write_file("/run/hatch-host/root$path", $text);
}

system($host, 'up') == 0 or BAIL_OUT('no host: namespaces or cgroups refused');
END { system $host, 'down' if -e '/run/hatch-host/name' }

host('mkdir -p /etc/hatch /var/lib/hatch');
host_file('/etc/hatch/agent.json', <<"EOT");
{
    "default_kernel_path": "/srv/hatch/vmlinuz",
    "default_initrd_path": "/srv/hatch/initrd",
    "default_mem_mib": 128,
    "idle_timeout": "never",
    "park_after": "never",
    "save_after": "never",
    "memory": "image",
    "stats_interval": "never"
}
EOT
host("mkdir -p /srv/hatch; cp $build/image/vmlinuz $build/image/initrd /srv/hatch");
host_file('/etc/tmpfiles.d/hatch.conf', "d /run/hatch 0755 root root -\n");
host("cp $build/hatch-agent /usr/sbin/; cp /hatch/deploy/systemd/hatch-agent.service"
     . ' /hatch/deploy/systemd/hatch-guests.service /etc/systemd/system/;'
     . ' systemctl daemon-reload; systemd-tmpfiles --create;'
     . ' systemctl -q enable hatch-agent hatch-guests; systemctl start hatch-guests');
is(host('systemctl start hatch-agent'), '', 'the agent is ready');

my $vm;
sub call {
    my ($path, $body, $method) = @_;
    my $out = host("$api$path -X " . ($method // ($body ? 'POST' : 'GET'))
                   . ($body ? " -d '$body'" : ''));
    return eval { json($out) } // diag($out);
}
sub get { return call("/vms/$vm->{id}") }
sub memory_of {
    my ($text) = @_;
    my $out = host("curl -s --max-time 60 --retry 60 --retry-delay 1 "
                   . "--retry-all-errors --connect-timeout 1 "
                   . "http://$vm->{guest_ip}/cgi-bin/state"
                   . ($text ? "?$text" : ''));
    my ($memory) = $out =~ /^memory (.*)$/m;
    return $memory // $out;
}
my $log = sub { host('journalctl -q -b -o cat -u hatch-agent') };

# --- as the package has it ---

$vm = call('/vms', '{}');
is($vm->{memory}, 'image', 'one that is to have an image');
like($log->(), qr/$vm->{id}: its memory is no image, it is saved by libvirt: the agent has not CAP_SYS_PTRACE/,
     'without the drop-in it has none, and why');
is(memory_of('classic'), 'classic', 'it runs');
host("$api/vms/$vm->{id} -X DELETE");

# --- with the drop-in, as it is documented ---

my ($drop) = slurp("$top/docs/agent.md")
             =~ /^    # systemctl edit hatch-agent hatch-guests\n((?:    .*\n)+)/m;
ok($drop =~ s/^    //mg, 'a drop-in');
for my $unit ('hatch-agent', 'hatch-guests') {
    host("mkdir -p /etc/systemd/system/$unit.service.d");
    host_file("/etc/systemd/system/$unit.service.d/override.conf", $drop);
}
is(host('systemctl daemon-reload; systemctl restart hatch-agent'), '',
   'the agent is ready');

$vm = call('/vms', '{}');
is(memory_of('first'), 'first', 'a guest');
my $ram = "/var/lib/hatch/agent/memory/$vm->{id}.ram";
is(host("stat -c '%U %a' $ram"), "libvirt-qemu 600\n", 'its image');

call("/vms/$vm->{id}", '{"idle_timeout":0.3,"park_after":0.3}', 'PATCH');
wait_until('it is parked', sub { get()->{parked} }, 60) or diag($log->());
call("/vms/$vm->{id}", '{"idle_timeout":null,"park_after":null}', 'PATCH');
is(call("/vms/$vm->{id}/resume", '{}')->{state}, 'running', 'resumed');
is(memory_of(), 'first', 'it has its memory');

call("/vms/$vm->{id}", '{"idle_timeout":0.3,"save_after":0.3}', 'PATCH');
wait_until('it sleeps', sub { get()->{state} eq 'snapshotted' }, 60)
    or diag($log->());
call("/vms/$vm->{id}", '{"idle_timeout":null,"save_after":null}', 'PATCH');
is(host('ls /var/lib/libvirt/qemu/save'), '', 'not by libvirt');
is(call("/vms/$vm->{id}/start", '{}')->{state}, 'running', 'started');
is(memory_of('second'), 'second', 'it goes on');

# --- the host reboots ---

is(system($host, 'reboot'), 0, 'the host is rebooted');
is(host('ls /var/lib/libvirt/qemu/save'), '', 'saved, not by libvirt');
wait_until('it runs again', sub { (get() // {})->{state} eq 'running' }, 120)
    or diag($log->());
is(memory_of(), 'second', 'with its memory');
unlike($log->(), qr/warn|cannot|error/i, 'without a complaint');
done();
