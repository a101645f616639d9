#!/usr/bin/perl

# hatch:latest with the libvirt of its host: by the command of
# docs/containers.md, by deploy/compose and by deploy/kubernetes as they stand
# there, one after the other.  The VM of the first is that of the others, goes
# on while no container is there, and keeps its routes; nginx and agent in a
# container each use one store.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Container;
use Test::More;

# An agent in a container believes libvirt, which offers KVM also where it does
# not work.
my $command = '-e HATCH_VIRT_TYPE=qemu '
            . documented(qr/machine-id:ro hatch:latest$/);

system('virtlogd', '-d') == 0 or BAIL_OUT('virtlogd does not start');
start_libvirtd();

sub here { return curl("http://localhost:8080$_[0]") }

# On a busy machine, too.
sub call {
    my ($method, $path, $body) = @_;
    my $r = curl("-m 300 -X $method http://localhost:8080$path"
                 . (defined $body ? " -d '$body'" : ''));
    diag("$method $path: $r->{status} $r->{body}") if $r->{status} !~ /^2/;
    return eval { json($r->{body}) };
}

sub guest {
    my ($path) = @_;
    return outside_get(":9090$path", '-m 120 -H "Host: demo.hatch.localhost"');
}

# From outside: health and the guest, not the API.
sub serves {
    my ($what) = @_;
    wait_until("$what: ready",
               sub { outside_get('/readyz')->{status} == 200 }, 60)
        or diag(map container_log($_), split ' ', podman('ps -aq') // '');
    is_deeply(eval { json(outside_get('/healthz')->{body}) },
              { status => 'ok', vm_count => 1, route_count => 1 },
              "$what: one VM, one route");
    my $r = guest('/cgi-bin/state');
    is($r->{status}, 200, "$what: the guest answers");
    like($r->{body}, qr/^memory kept$/m, 'the one that it was');
    is(outside_get('/vms')->{status}, 403, "$what: the API is closed outside");
    is(here('/vms')->{status}, 200, 'and open on the host');
}

# --- one container ---

run_container('hatch', $command);
wait_until('ready', sub { outside_get('/readyz')->{status} == 200 })
    or diag container_log('hatch');
like(container_log('hatch'), qr/^hatch-start: the VMs are in the libvirt that/m,
     'it says where the VMs are');

for my $file (qw(vmlinuz initrd)) {
    system('cp', "$Test::Hatch::build/image/$file", '/var/lib/hatch/images/');
}
call('POST', '/images', '{"id": "img_default", "kernel_path": "vmlinuz", '
                        . '"initrd_path": "initrd"}');
my $vm = call('POST', '/vms', '{"mem_mib": 128}');
is($vm->{state}, 'running', 'a VM runs') or BAIL_OUT('no VM');
call('POST', "/vms/$vm->{id}/routes",
     '{"subdomain": "demo", "target_port": 80}');
is(guest('/cgi-bin/state?kept')->{status}, 200, 'the guest answers');
serves('one container');

my $qemu = qemu_pid($vm->{id});
podman('stop hatch');
is(exit_code('hatch'), 0, 'stopped');
remove('hatch');
is(virsh("domstate $vm->{id}"), "running\n", 'the VM goes on');
run_container('hatch', $command);
serves('another one');
remove('hatch');

# --- Docker Compose ---

my $socket = "$dir/podman/podman.sock";
my $service = spawn("$dir/logs/service.log", 'podman', 'system', 'service',
                    '--time', 0, "unix://$socket");
wait_until('podman listens', sub { -S $socket });
$ENV{DOCKER_HOST} = "unix://$socket";
my $compose = "docker-compose -f '$top/deploy/compose/compose.yaml'"
            . " -f '$dir/qemu.yaml'";
write_file("$dir/qemu.yaml", <<'EOF');
services:
  hatch-agent:
    environment:
      HATCH_VIRT_TYPE: qemu
EOF
my $out = qx($compose up -d 2>&1);
is($?, 0, 'docker-compose up') or diag $out;
serves('Compose');

my ($api) = split ' ', podman('ps -q --filter name=hatch-api');
my ($agent) = split ' ', podman('ps -q --filter name=hatch-agent');

for ($api, $agent) {
    qx(podman healthcheck run $_ 2>&1);
    is($?, 0, 'healthy');
}

# In one process namespace; only the agent reaches libvirt.
my %ns = map { $_ => inside($_, 'readlink /proc/self/ns/pid') } $api, $agent;
is($ns{$agent}, $ns{$api}, 'they share their process ids');
like(inside($api, 'ls /run/libvirt'), qr/No such file/,
     'nginx does not see libvirt');

# The store is written by both: by workers, and by the agent.
for my $round (1 .. 5) {
    call('POST', "/vms/$vm->{id}/routes",
         qq({"subdomain": "more-$round", "target_port": 80}));
}
is(json(here('/healthz')->{body})->{route_count}, 6, 'routes are made');
my $other = call('POST', '/vms', '{"mem_mib": 128}');
call('POST', "/vms/$other->{id}/routes", '{"target_port": 80}');
is(json(here('/healthz')->{body})->{route_count}, 7, 'of another VM, too');
call('DELETE', "/vms/$other->{id}");
wait_until('the agent deletes its route, and nginx sees it', sub {
    json(here('/healthz')->{body})->{route_count} == 6;
}, 60);
for my $route (@{ call('GET', "/vms/$vm->{id}/routes") }) {
    call('DELETE', "/routes/$route->{id}") if $route->{subdomain} =~ /^more/;
}

podman("kill $agent");
is(here('/healthz')->{status}, 200, 'without the agent nginx is healthy');
is(guest('/cgi-bin/state')->{status}, 200, 'and the guest reached');

$out = qx($compose down -t 12 2>&1);
is($?, 0, 'docker-compose down') or diag $out;
kill_pid('TERM', $service);
reap($service);

# --- Kubernetes ---

# podman 4.3 refuses "ports" beside "hostNetwork", Kubernetes does not.
my $pod = "$dir/pod.yaml";
my $text = slurp("$top/deploy/kubernetes/pod.yaml");
ok($text =~ s/^      ports:\n(?: +- name: \w+\n +containerPort: \d+\n)+//m,
   'the pod has ports');
write_file($pod, $text);
$out = qx(podman kube play '$pod' 2>&1);
is($?, 0, 'kube play') or diag $out;
serves('Kubernetes');
%ns = map { $_ => inside("hatch-api-$_", 'readlink /proc/self/ns/pid') }
      qw(hatch agent);
is($ns{agent}, $ns{hatch}, 'they share their process ids');
like(inside('hatch-api-agent', 'cat /etc/hatch/agent.json'),
     qr{"connect": "qemu:///system"}, 'the ConfigMap is read');
$out = qx(podman kube down '$pod' 2>&1);
is($?, 0, 'kube down') or diag $out;

is(qemu_pid($vm->{id}), $qemu, 'the VM was the same all the time');
virsh("destroy $vm->{id}");
allow_log(qr/access forbidden by rule/);

all_done();
