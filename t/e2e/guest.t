#!/usr/bin/perl

# The spine: a real guest behind nginx, from POST /vms to its own page.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

start_agent(connect => 'qemu:///system');
ok(start_nginx(), 'nginx starts') or diag(nginx_log());

is_deeply(healthz()->{json},
          { status => 'ok', vm_count => 0, route_count => 0 }, 'nothing yet');

my $vm = create_vm();
is($vm->{state}, 'running', 'a VM');
my $route = create_route($vm->{id}, 'demo');
is($route->{subdomain}, 'demo', 'and its route');
is(healthz()->{body}, '{"status":"ok","vm_count":1,"route_count":1}',
   'healthz has both');

allow_log(qr/while connecting to upstream|while reading response header/);
my $r = wait_until('the guest answers', sub {
    my $r = page('demo');
    $r && $r->{status} == 200 && $r;
}, 120);
like($r->{body}, qr/Hello from a virtual machine/, 'a page of the guest');
like($r->{body}, qr/address \Q$vm->{guest_ip}\E\//,
     'which got the address that the 201 said');

my @uptime = map { page('demo', '/cgi-bin/info')->{body} =~ /uptime ([\d.]+)/ }
             1, 2;
cmp_ok($uptime[0], '<=', $uptime[1], 'the guest makes its pages itself');
$r = http('127.0.0.1:9090', 'POST', '/cgi-bin/info?x=y', 'z' x 100_000,
          Host => 'demo.hatch.localhost');
like($r->{body}, qr/method POST\nquery x=y\n100000/, 'a body arrives whole');

is(page('nobody')->{status}, 404, 'another name is 404');
is(page('nobody')->{json} // json(page('nobody')->{body})->{code},
   'route_not_found', 'as JSON');

# a port where nothing listens
create_route($vm->{id}, 'closed', 81);
$r = page('closed');
is($r->{status}, 502, 'a port where nothing listens');
is(json($r->{body})->{code}, 'guest_refused', 'guest_refused');

# a second VM has its own page
my $other = create_vm({ user_data => "#cloud-config\n" });
create_route($other->{id}, 'other');
isnt($other->{guest_ip}, $vm->{guest_ip}, 'another VM, another address');
$r = wait_until('the other guest answers', sub {
    my $r = page('other');
    $r && $r->{status} == 200 && $r;
}, 120);
like($r->{body}, qr/address \Q$other->{guest_ip}\E\//, 'and its own page');
like(virsh("domblklist $other->{id}"), qr{seeds/$other->{id}\.iso},
     'with its cloud-init drive');

# stop and start
is(api('POST', "/vms/$vm->{id}/stop", { force => JSON::PP::true })
   ->{json}{state}, 'stopped', 'stop');
is(api('PATCH', "/routes/$route->{id}", { auto_wake => JSON::PP::false })
   ->{status}, 200, 'its route does not wake it');
$r = page('demo');
is($r->{status}, 503, 'a stopped VM is 503');
is_deeply(json($r->{body}),
          { error => 'the VM is stopped', code => 'vm_not_running',
            state => 'stopped' },
          'and says so');
is(page('other')->{status}, 200, 'the other one answers');
is(api('POST', "/vms/$vm->{id}/start")->{json}{state}, 'running', 'start');
wait_until('the guest answers again', sub {
    my $r = page('demo');
    $r && $r->{status} == 200;
}, 120);
is(page('demo')->{status}, 200, 'the page is back');

# the network knows both, and forgets who is deleted
my $xml = virsh('net-dumpxml hatch');
like($xml, qr/<host mac='\Q$_->{guest_mac}\E' ip='\Q$_->{guest_ip}\E'\/>/,
     'a reservation') for $vm, $other;
like($xml, qr/stp='off' delay='0'/, 'no STP');

is(api('DELETE', "/vms/$vm->{id}")->{status}, 200, 'delete');
is(page('demo')->{status}, 404, 'its route is gone');
is_deeply(healthz()->{json},
          { status => 'ok', vm_count => 1, route_count => 1 },
          'healthz follows');
unlike(virsh('net-dumpxml hatch'), qr/\Q$vm->{guest_mac}/,
       'its reservation is gone');
unlike(virsh('net-dumpxml --inactive hatch'), qr/\Q$vm->{guest_mac}/,
       'also from the definition');
unlike(virsh('list --all --name'), qr/\Q$vm->{id}/, 'and its domain');
is(page('other')->{status}, 200, 'the other one is not affected');

# the agent stops: VMs and proxy go on
is(stop_agent(), 0, 'SIGTERM');
is(page('other')->{status}, 200, 'the guest answers without an agent');
like(virsh('list --name'), qr/\Q$other->{id}/, 'its domain runs');
is(api('GET', '/vms')->{json}{code}, 'agent_unavailable', 'its API does not');
allow_log(qr/agent\.sock/);
start_agent(connect => 'qemu:///system');
my $adopted = api('GET', "/vms/$other->{id}")->{json};
is_deeply($adopted, $other, 'the next agent adopts it unchanged');

done();
