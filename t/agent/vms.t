#!/usr/bin/perl

# The VM API of the agent against libvirt's test driver: answers, states,
# the zone beside them.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

start_agent();

my $time = qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

is_deeply(api('GET', '/vms')->{json}, [],
          'the test driver\'s own domain is not ours');
is(zone()->{vm_count}, 0, 'and is not counted');

my $r = api('POST', '/vms', { mem_mib => 256, vcpu_count => 2 });
my $vm = $r->{json};
is($r->{status}, 201, 'create');
like($vm->{id}, qr/^vm_[a-z2-7]{16}$/, 'an id');
is($r->{headers}{location}, "/vms/$vm->{id}", 'Location');
is($r->{headers}{'content-type'}, 'application/json', 'Content-Type');
is($vm->{state}, 'running', 'it runs');
is($vm->{image_id}, 'img_default', 'the default image');
is($vm->{mem_mib}, 256, 'mem_mib');
is($vm->{vcpu_count}, 2, 'vcpu_count');
like($vm->{guest_ip}, qr/^10\.201\.\d+\.\d+$/, 'guest_ip is known');
like($vm->{guest_mac}, qr/^52:54:00(:[0-9a-f]{2}){3}$/, 'guest_mac');
like($vm->{created_at}, $time, 'created_at');
like($vm->{updated_at}, $time, 'updated_at');

my $z = zone();
is($z->{vm_count}, 1, 'the zone counts it');
is($z->{vms}[0]{id}, $vm->{id}, 'the zone has it');
is($z->{vms}[0]{state}, 'running', 'running');
is($z->{vms}[0]{guest_ip}, $vm->{guest_ip}, 'with its address');
is($z->{vms}[0]{memory}, 256 << 20, 'and its memory');

is_deeply(api('GET', "/vms/$vm->{id}")->{json}, $vm, 'get');
is_deeply(api('GET', '/vms')->{json}, [$vm], 'list');
is(http("$dir/run/agent.sock", 'HEAD', "/vms/$vm->{id}")->{status}, 200,
   'HEAD');

$r = api('POST', "/vms/$vm->{id}/start");
is($r->{status}, 409, 'a running VM does not start');
is($r->{json}{error}, "cannot start VM \"$vm->{id}\": it is running", 'says why');
is($r->{json}{code}, 'conflict', 'code');

$r = api('POST', "/vms/$vm->{id}/stop");
is($r->{status}, 200, 'stop');
is($r->{json}{state}, 'stopped', 'is stopped');
is(zone()->{vms}[0]{state}, 'stopped', 'also in the zone');
is(zone()->{vm_count}, 1, 'and still counts');
is(api('POST', "/vms/$vm->{id}/stop")->{status}, 409, 'once');

$r = api('POST', "/vms/$vm->{id}/start", {});
is($r->{json}{state}, 'running', 'start again: stopped is not terminal');
is($r->{json}{guest_ip}, $vm->{guest_ip}, 'with the same address');
$r = api('POST', "/vms/$vm->{id}/stop", { force => JSON::PP::true });
is($r->{json}{state}, 'stopped', 'stop by force');

$r = api('POST', '/vms', { guest_ip => '10.201.7.7', boot_args => 'a "<&>\' b',
                           guest_mac => '52:54:00:AB:CD:EF' });
is($r->{status}, 201, 'address, MAC and boot_args of our choice');
is($r->{json}{guest_ip}, '10.201.7.7', 'guest_ip');
is($r->{json}{guest_mac}, '52:54:00:ab:cd:ef', 'guest_mac in lower case');
is($r->{json}{boot_args}, 'a "<&>\' b', 'boot_args survive XML');
my $second = $r->{json};

$r = api('POST', '/vms', { enable_network => JSON::PP::false });
is($r->{status}, 201, 'without a network');
ok(!exists $r->{json}{guest_ip}, 'there is no address');
my $third = $r->{json};

is_deeply([map $_->{id}, @{ api('GET', '/vms')->{json} }],
          [map $_->{id}, $third, $second, $vm], 'newest first');

for my $id (map $_->{id}, $vm, $second, $third) {
    $r = api('DELETE', "/vms/$id");
    is($r->{status}, 200, 'delete');
    is_deeply($r->{json}, { status => 'deleted' }, 'deleted');
    is(api('GET', "/vms/$id")->{status}, 404, 'gone');
    is(api('DELETE', "/vms/$id")->{json}{code}, 'vm_not_found', 'once');
}

is(zone()->{vm_count}, 0, 'the zone is empty');

is($_->[0]->{status}, 404, $_->[1]) for
    [api('GET', '/vms/vm_aaaaaaaaaaaaaaaa'), 'no such VM'],
    [api('GET', '/vms/test'), 'the driver\'s own domain'],
    [api('POST', '/vms/test/stop'), 'is not touched'],
    [api('GET', '/nothing'), 'no such path'],
    [api('POST', "/vms/x/explode"), 'no such action'],
    [api('GET', '/vms/a/b/c'), 'too deep'];

is(api('GET', '/vms/')->{json}{code}, 'not_found', 'an empty id');
is(api('POST', '/vms//start')->{status}, 405, 'the VM "start", for POST');
is(api('GET', '/vms/' . 'x' x 1000)->{json}{code}, 'vm_not_found',
   'a long id');

$r = api('PUT', '/vms', {});
is($r->{status}, 405, 'PUT');
is($r->{headers}{allow}, 'GET, HEAD, POST', 'Allow');
is(api('PUT', '/vms/vm_aaaaaaaaaaaaaaaa', {})->{headers}{allow},
   'GET, HEAD, PATCH, DELETE', 'Allow of one VM');
is(api('GET', '/vms/vm_aaaaaaaaaaaaaaaa/start')->{headers}{allow}, 'POST',
   'Allow of an action');

done();
