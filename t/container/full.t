#!/usr/bin/perl

# hatch:full has a real VM: by the command of docs/containers.md as it stands
# there.  The guest answers through nginx, sleeps and is woken, and with the
# same volume another container has it again, with its memory.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Container;
use Test::More;

my $command = documented(qr/hatch:full$/);
my $name = 'hatch';

my $images = "-v $Test::Hatch::build/image:/var/lib/hatch/images:ro ";

sub up {
    run_container($name, $images . $command);
    wait_until('ready', sub { outside_get('/readyz')->{status} == 200 }, 60)
        or diag container_log($name);
}

sub call {
    my ($method, $path, $body) = @_;
    my $out = inside($name, "curl -s -m 120 -X $method http://localhost:8080$path"
                     . ($body ? " -d '$body'" : ''));
    return eval { json($out) } // diag($out);
}

sub guest {
    my ($path) = @_;
    return outside_get(":9090$path", '-m 120 -H "Host: demo.hatch.localhost"');
}

up();
like(container_log($name), qr/in a libvirt of its own/,
     'the libvirt is its own');
call('POST', '/images', '{"id": "img_default", "kernel_path": "vmlinuz", '
                        . '"initrd_path": "initrd"}');
my $vm = call('POST', '/vms', '{"mem_mib": 128}');
is($vm->{state}, 'running', 'a VM runs');
call('POST', "/vms/$vm->{id}/routes",
     '{"subdomain": "demo", "target_port": 80}');
my $r = guest('/');
is($r->{status}, 200, 'another machine reaches it');
like($r->{body}, qr/Hello from a virtual machine/, 'the guest itself');
guest('/cgi-bin/state?kept');

# --- it sleeps, and is woken ---

call('POST', "/vms/$vm->{id}/pause");
is(guest('/cgi-bin/state')->{status}, 200, 'paused, it is woken');

# --- its libvirt dies ---

sub restarted {
    return container_log($name) =~
        /^hatch-start: libvirtd ended with status 137, it is started again/m
        && outside_get('/readyz')->{body} =~ /"libvirt":"connected"/;
}

inside($name, q{bash -c 'kill -KILL $(cat /run/libvirtd.pid)'});
wait_until('libvirtd is started again', \&restarted, 60);
is(guest('/cgi-bin/state')->{body} =~ /^memory (.*)$/m && $1, 'kept',
   'the VM has not noticed');

# --- another container with the same volume ---

podman("stop -t 60 $name");
is(exit_code($name, 60), 0, 'stopped: 0');
remove($name);
up();
wait_until('the VM is there', sub {
    call('GET', "/vms/$vm->{id}")->{state} =~ /snapshotted|running/;
}, 30);
$r = guest('/cgi-bin/state');
is($r->{status}, 200, 'its route leads to it');
like($r->{body}, qr/^memory kept$/m, 'its memory is what it was');

# --- the same one, started again, with a VM that starts with its host ---

call('PATCH', "/vms/$vm->{id}", '{"autostart": true}');
podman("stop -t 60 $name");
is(exit_code($name, 60), 0, 'stopped: 0');
podman("start $name");
wait_until('without a request the VM runs', sub {
    container_log($name) =~ /$vm->{id}.*(?:boot|again|started)/
        && call('GET', "/vms/$vm->{id}")->{state} eq 'running';
}, 60) or diag container_log($name);
like(guest('/cgi-bin/state')->{body}, qr/^memory kept$/m, 'with its memory');
remove($name);

# --- without what the command gives it ---

run_container($name, '-v hatch:/var/lib/hatch hatch:full');
is(exit_code($name, 60), 1, 'without all that: 1');
my $log = container_log($name);
like($log, qr/^hatch-start: no guest can run here, since $_$/m, 'and why')
    for qr/no bridge can be made \(Operation not permitted\); .*NET_ADMIN.*/,
        qr{/dev/net/tun cannot be opened \(No such file or directory\); .*},
        qr{/proc/sys cannot be written \(Read-only file system\); .*unmask.*};
remove($name);

all_done();
