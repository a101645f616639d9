#!/usr/bin/perl

# POST /vms with bad input: a 4xx that names the field, and nothing left
# behind.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

start_agent();

my $first = create_vm({ name => 'taken', guest_ip => '10.201.1.1',
                        guest_mac => '52:54:00:00:00:01' });

my @bad = (
    # body, status, code, words
    ['', 400, 'invalid_json', 'a JSON object is missing'],
    ['x', 400, 'invalid_json', 'not a JSON object'],
    ['[]', 400, 'invalid_json', 'not a JSON object'],
    ['null', 400, 'invalid_json', 'not a JSON object'],
    ['{', 400, 'invalid_json', 'ends too early'],
    ['{"mem_mib":256,}', 400, 'invalid_json', 'not valid JSON'],
    ['{"mem_mib":256}x', 400, 'invalid_json', 'text after the object'],
    ["{\"mem_mib\":256}\0", 400, 'invalid_json', 'NUL'],
    ['{"mem_mib":256,"mem_mib":512}', 400, 'invalid_json',
     '"mem_mib" is given twice'],
    ['{"a":' . '[' x 1000 . ']' x 1000 . '}', 400, 'invalid_json',
     'nested deeper'],
    [{ mem_mib => 127 }, 400, 'invalid_field', '"mem_mib" must be 128 to'],
    [{ mem_mib => 65537 }, 400, 'invalid_field', 'not 65537'],
    [{ mem_mib => 0 }, 400, 'invalid_field', '"mem_mib"'],
    [{ mem_mib => '256' }, 400, 'invalid_field', '"mem_mib" must be an int'],
    [{ mem_mib => 256.5 }, 400, 'invalid_field', '"mem_mib" must be an int'],
    ['{"mem_mib":512.5}', 400, 'invalid_field',
     '"mem_mib" must be an integer from 128 to 65536, not 512.5'],
    ['{"mem_mib":5.1234e2}', 400, 'invalid_field', 'not 5.1234e2'],
    ['{"mem_mib":1e99999}', 400, 'invalid_field', '"mem_mib" must be 128 to'],
    ['{"mem_mib":512e-400}', 400, 'invalid_field', '"mem_mib" must be an int'],
    ['{"mem_mib":-1e2}', 400, 'invalid_field', 'not -1e2'],
    [{ mem_mib => undef }, 400, 'invalid_field', '"mem_mib"'],
    [{ vcpu_count => 0 }, 400, 'invalid_field', '"vcpu_count" must be 1 to'],
    [{ vcpu_count => 33 }, 400, 'invalid_field', '"vcpu_count"'],
    [{ vcpu_count => -1 }, 400, 'invalid_field', '"vcpu_count"'],
    ['{"vcpu_count":99999999999999999999}', 400, 'invalid_field',
     '"vcpu_count"'],
    [{ enable_network => 1 }, 400, 'invalid_field', '"enable_network"'],
    [{ enable_network => 'yes' }, 400, 'invalid_field', '"enable_network"'],
    [{ guest_ip => '10.201.1' }, 400, 'invalid_field', '"guest_ip"'],
    [{ guest_ip => 'fe80::1' }, 400, 'invalid_field', '"guest_ip"'],
    [{ guest_ip => '0.0.0.0' }, 400, 'invalid_field', '"guest_ip"'],
    [{ guest_ip => '192.168.1.1' }, 400, 'invalid_field', '"guest_ip"'],
    [{ guest_ip => '10.201.0.1' }, 400, 'invalid_field', '"guest_ip"'],
    [{ guest_ip => '10.201.0.0' }, 400, 'invalid_field', '"guest_ip"'],
    [{ guest_ip => '10.201.15.255' }, 400, 'invalid_field', '"guest_ip"'],
    [{ guest_ip => '10.201.1.1' }, 409, 'conflict', "in use by $first->{id}"],
    [{ guest_ip => 7 }, 400, 'invalid_field', '"guest_ip" must be a string'],
    [{ guest_mac => '52:54:00:00:00' }, 400, 'invalid_field', '"guest_mac"'],
    [{ guest_mac => '01:00:00:00:00:01' }, 400, 'invalid_field', 'unicast'],
    [{ guest_mac => '00:00:00:00:00:00' }, 400, 'invalid_field', 'unicast'],
    [{ guest_mac => '52-54-00-00-00-01' }, 400, 'invalid_field',
     '"guest_mac"'],
    [{ guest_mac => '52:54:00:00:00:01' }, 409, 'conflict', '"guest_mac" is'],
    [{ enable_network => JSON::PP::false, guest_ip => '10.201.1.2' }, 400,
     'invalid_field', '"guest_ip" needs "enable_network"'],
    [{ image_id => 'img_nothing' }, 400, 'invalid_field',
     '"image_id": no image "img_nothing"'],
    [{ image_id => '../../etc/passwd' }, 400, 'invalid_field', '"image_id"'],
    [{ image_id => '' }, 400, 'invalid_field', '"image_id"'],
    [{ template_id => 'tpl_nothing' }, 400, 'invalid_field',
     '"template_id": template "tpl_nothing" not found'],
    [{ boot_args => 'x' x 1024 }, 400, 'invalid_field', '"boot_args"'],
    [{ boot_args => "a\nb" }, 400, 'invalid_field', 'printable'],
    [{ boot_args => "a\x{e4}b" }, 400, 'invalid_field', 'printable'],
    [{ boot_args => "a\0b" }, 400, 'invalid_field', 'NUL'],
    [{ boot_args => ['a'] }, 400, 'invalid_field', '"boot_args" must be'],
    [{ name => '' }, 400, 'invalid_field', '"name" must be 1 to 63'],
    [{ name => 'x' x 64 }, 400, 'invalid_field', '"name" must be 1 to 63'],
    [{ name => 'a b' }, 400, 'invalid_field', '"name" must be letters'],
    [{ name => '-a' }, 400, 'invalid_field', '"name" must be letters'],
    [{ name => "a\nb" }, 400, 'invalid_field', '"name" must be letters'],
    [{ name => "b\x{e4}r" }, 400, 'invalid_field', '"name" must be letters'],
    [{ name => 'a<b>&"' }, 400, 'invalid_field', '"name" must be letters'],
    [{ name => 7 }, 400, 'invalid_field', '"name" must be a string'],
    [{ name => 'taken' }, 409, 'conflict', '"name" "taken" is taken by'],
    [{ idle_timeout => 0 }, 400, 'invalid_field', '"idle_timeout" must be 0.1'],
    [{ idle_timeout => -1 }, 400, 'invalid_field', 'not -1'],
    [{ idle_timeout => '10m' }, 400, 'invalid_field', '"idle_timeout" must be'],
    [{ idle_timeout => JSON::PP::true }, 400, 'invalid_field',
     '"idle_timeout" must be a number'],
    ['{"idle_timeout":1e99}', 400, 'invalid_field', '"idle_timeout"'],
    ['{"idle_timeout":NaN}', 400, 'invalid_json', 'not valid JSON'],
    [{ save_after => .05 }, 400, 'invalid_field', '"save_after" must be 0.1'],
    [{ park_after => 0 }, 400, 'invalid_field', '"park_after" must be 0.1'],
    [{ memory => 'swap' }, 400, 'invalid_field',
     '"memory" must be "auto", "image" or "classic", not "swap"'],
    [{ memory => 1 }, 400, 'invalid_field', '"memory" must be'],
    [{ memory => '' }, 400, 'invalid_field', '"memory" must be'],
    [{ save_after => {} }, 400, 'invalid_field', '"save_after" must be'],
    [{ disk_mib => 0 }, 400, 'invalid_field', '"disk_mib" must be 1 to'],
    [{ disk_mib => 1 << 24 | 1 }, 400, 'invalid_field', '"disk_mib"'],
    [{ disk_mib => 65537 }, 403, 'limit_reached', 'disk size limit reached'],
    [{ disk_mib => 1.5 }, 400, 'invalid_field', '"disk_mib" must be an int'],
    [{ user_data => '' }, 400, 'invalid_field', '"user_data"'],
    [{ user_data => 'x' x 65537 }, 400, 'invalid_field', '"user_data"'],
    [{ user_data => { a => 1 } }, 400, 'invalid_field', '"user_data" must be'],
    [{ template_id => undef }, 400, 'invalid_field', '"template_id" must be'],
    [{ cpus => 1 }, 400, 'invalid_field', 'unknown field "cpus"'],
    [{ id => 'vm_aaaaaaaaaaaaaaaa' }, 400, 'invalid_field', 'unknown field'],
    [' ' x (1 << 20) . '{}', 413, 'payload_too_large', '1048576'],
);

for (@bad) {
    my ($body, $status, $code, $words) = @$_;
    my $r = api('POST', '/vms', $body);
    my $what = ref $body ? JSON::PP->new->canonical->encode($body)
                         : substr $body, 0, 40;
    is($r->{status}, $status, "$status: $what");
    is($r->{json}{code}, $code, "code: $what");
    like($r->{json}{error}, qr/\Q$words/, "says: $words");
}

is(api('POST', "/vms/$first->{id}/stop", { hard => 1 })->{json}{error},
   "VM \"$first->{id}\": unknown field \"hard\"", 'actions know their fields, too');
is(api('POST', "/vms/$first->{id}/stop", { force => 1 })->{json}{error},
   "VM \"$first->{id}\": \"force\" must be true or false, not 1", 'and their types');

# what is an integer in JSON Schema
for ('256.0', '2.56e2', '25600E-2') {
    my $r = api('POST', '/vms', "{\"mem_mib\":$_,\"enable_network\":false}");
    is($r->{status}, 201, "mem_mib $_");
    like($r->{body}, qr/"mem_mib":256,/, 'is 256');
    is(api('DELETE', "/vms/$r->{json}{id}")->{status}, 200, 'deleted');
}
my $t = api('POST', '/templates', '{"name":"t","mem_mib":2.56e2}');
like($t->{body}, qr/"mem_mib":256,/, 'in a template, too');

my @vms = @{ api('GET', '/vms')->{json} };
is(scalar @vms, 1, 'none of them left a VM');
is($vms[0]{state}, 'running', 'and the first one was not touched');
is(zone()->{vm_count}, 1, 'nor in the zone');
ok(create_vm(), 'the next good one is created');

is_deeply([glob "$dir/state/{disks,seeds,snapshots,pending}/*"], [],
          'nothing is left behind');

done();
