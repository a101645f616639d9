#!/usr/bin/perl

# Templates: defaults for VMs; what the VM says wins.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

start_agent();

my $r = api('POST', '/templates', {
    name => 'small', description => 'For previews', image_id => 'img_default',
    user_data => "#cloud-config\n", vcpu_count => 2, mem_mib => 256,
    boot_args => 'quiet', idle_timeout => 2.5, save_after => undef,
    park_after => 7.5, memory => 'image',
    disk_mib => 7, enable_network => JSON::PP::false,
});
my $t = $r->{json};
is($r->{status}, 201, 'add') or diag $r->{body};
like($t->{id}, qr/^tpl_[a-z2-7]{16}$/, 'an id');
is($r->{headers}{location}, "/templates/$t->{id}", 'Location');
is($t->{user_data}, "#cloud-config\n", 'its user_data');
is_deeply(api('GET', "/templates/$t->{id}")->{json}, $t, 'get');
my $list = api('GET', '/templates');
is($list->{json}[0]{name}, 'small', 'list');
unlike($list->{body}, qr/user_data/, 'without user_data');

my $vm = create_vm({ template_id => $t->{id} });
is($vm->{template_id}, $t->{id}, 'a VM of it');
is($vm->{vcpu_count}, 2, 'vcpu_count');
is($vm->{mem_mib}, 256, 'mem_mib');
is($vm->{boot_args}, 'quiet', 'boot_args');
is($vm->{disk_mib}, 7, 'disk_mib');
is($vm->{idle_timeout}, 2.5, 'idle_timeout');
is($vm->{save_after}, undef, 'save_after: never');
is($vm->{park_after}, 7.5, 'park_after');
is($vm->{memory}, 'image', 'memory');
ok(!$vm->{enable_network}, 'enable_network');
isnt($vm->{name}, 'small', 'not its name');
ok(-s "$dir/state/seeds/$vm->{id}.iso", 'user_data');

$vm = create_vm({ template_id => $t->{id}, mem_mib => 128, idle_timeout => 9,
                  enable_network => JSON::PP::true, boot_args => '' });
is($vm->{mem_mib}, 128, 'what the VM says wins');
is($vm->{boot_args}, '', 'also where it is empty');
is($vm->{idle_timeout}, 9, 'and here');
ok($vm->{guest_ip}, 'and the network');
is($vm->{vcpu_count}, 2, 'the rest is the template\'s');

$r = api('PATCH', "/templates/$t->{id}", { mem_mib => 512, vcpu_count => undef,
                                           name => 'large' });
is($r->{status}, 200, 'patch') or diag $r->{body};
is($r->{json}{name}, 'large', 'its name');
is($r->{json}{mem_mib}, 512, 'a field');
ok(!exists $r->{json}{vcpu_count}, 'null takes one away');
is($r->{json}{boot_args}, 'quiet', 'the rest stays');
is(create_vm({ template_id => $t->{id} })->{vcpu_count}, 1, 'the default');
is(api('GET', "/vms/$vm->{id}")->{json}{vcpu_count}, 2, 'VMs stay as they are');

sub refused {
    my ($method, $path, $status, $fields, $words) = @_;
    my $answer = api($method, $path, $fields);
    my $what = JSON::PP->new->canonical->encode($fields);
    is($answer->{status}, $status, "$method $status: $what");
    like($answer->{json}{error}, qr/\Q$words/, "says: $words");
}

refused('POST', '/templates', 400, {}, '"name" is missing');
refused('POST', '/templates', 400, { name => '' }, '"name" must be 1 to 128');
refused('POST', '/templates', 400, { name => "a\nb" }, '"name" must not');
refused('POST', '/templates', 400, { name => 'x', mem_mib => 64 },
        '"mem_mib" must be 128');
refused('POST', '/templates', 400, { name => 'x', mem_mib => undef },
        '"mem_mib" must be an integer');
refused('POST', '/templates', 400, { name => 'x', memory => 'disk' },
        '"memory" must be "auto", "image" or "classic", not "disk"');
refused('POST', '/templates', 400, { name => 'x', idle_timeout => '5m' },
        '"idle_timeout" must be a number of seconds');
refused('POST', '/templates', 400, { name => 'x', boot_args => "\t" },
        '"boot_args" must be printable');
refused('POST', '/templates', 400, { name => 'x', image_id => 'img_no' },
        '"image_id": no image "img_no"');
refused('POST', '/templates', 400, { name => 'x', guest_ip => '10.201.0.9' },
        'unknown field "guest_ip"');
refused('POST', '/templates', 409, { name => 'large' },
        '"name" "large" is taken');
refused('PATCH', "/templates/$t->{id}", 400, { name => undef },
        '"name" must be a string');
refused('PATCH', "/templates/$t->{id}", 400, { vcpu_count => 33 },
        '"vcpu_count" must be 1 to 32');
refused('PATCH', '/templates/tpl_none', 404, { mem_mib => 128 },
        'no template "tpl_none"');
ok(api('POST', '/templates', { name => 'other' })->{json}{id}, 'another one');
my $other = api('GET', '/templates')->{json}[0]{id};
refused('PATCH', "/templates/$other", 409, { name => 'large' }, 'is taken');

stop_agent('KILL');
start_agent();
is(api('GET', "/templates/$t->{id}")->{json}{name}, 'large',
   'kept by the next agent');
is(api('DELETE', "/templates/$t->{id}")->{status}, 200, 'delete');
is(api('GET', "/templates/$t->{id}")->{json}{code}, 'template_not_found',
   'it is gone');
is(api('DELETE', "/templates/$t->{id}")->{status}, 404, 'again');
$r = api('POST', '/vms', { template_id => $t->{id} });
is($r->{status}, 400, 'no VM of it');
like($r->{json}{error}, qr/"template_id": template "\S+" not found/,
     'says so');

done();
