#!/usr/bin/perl

# Every error of a thing says which thing: the id of the path stands in it, its
# kind before it where nothing else says what it is.  All endpoints, with each
# way to be refused.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my %force = (force => JSON::PP::true);
my %keep = (keep_running => JSON::PP::true);

mkdir "$dir/images";
write_file("$dir/images/kernel", 'x');
start_agent(env => { HATCH_MAX_SNAPSHOTS_PER_VM => 1, HATCH_MAX_VCPUS => 6 });
my $agent = "$dir/run/agent.sock";

my $up = create_vm({ name => 'up' })->{id};
my $down = create_vm({ name => 'down' })->{id};
api('POST', "/vms/$down/stop", \%force);
my $asleep = create_vm()->{id};
my $snap = api('POST', "/vms/$asleep/snapshot")->{json}{id};
my $image = api('POST', '/images', { kernel_path => 'kernel' })->{json}{id};
my $used = api('POST', '/images', { kernel_path => 'kernel' })->{json}{id};
create_vm({ image_id => $used });
my $template = api('POST', '/templates', { name => 'one' })->{json}{id};
api('POST', '/templates', { name => 'two' });
my $none = 'aaaaaaaaaaaaaaaa';

# Endpoint, body, status; the path's {id} is the first one.
my @cases = (
    # nobody has it
    (map [vm => "vm_$none", @$_, 404],
     ['GET', ''], ['PATCH', '', { name => 'x' }], ['DELETE', ''],
     ['POST', '/start'], ['POST', '/stop'], ['POST', '/pause'],
     ['POST', '/resume'], ['POST', '/snapshot'], ['POST', '/restore'],
     ['GET', '/snapshots'], ['GET', '/metrics']),
    (map [image => "img_$none", $_, '', undef, 404], 'GET', 'DELETE'),
    (map [snapshot => "snap_$none", $_, '', undef, 404], 'GET', 'DELETE'),
    (map [template => "tpl_$none", @$_, 404],
     ['GET', ''], ['DELETE', ''], ['PATCH', '', { name => 'x' }]),
    (map [orphan => "vm_$none", $_, '', undef, 404], 'GET', 'DELETE'),

    # not in this state
    [vm => $up, 'POST', '/start', undef, 409],
    [vm => $up, 'POST', '/resume', undef, 409],
    [vm => $up, 'POST', '/restore', undef, 409],
    [vm => $up, 'PATCH', '', { mem_mib => 200 }, 409],
    [vm => $up, 'PATCH', '', { vcpu_count => 2 }, 409],
    [vm => $up, 'PATCH', '', { name => 'down' }, 409],
    [vm => $down, 'POST', '/stop', undef, 409],
    [vm => $down, 'POST', '/pause', undef, 409],
    [vm => $down, 'POST', '/resume', undef, 409],
    [vm => $down, 'POST', '/snapshot', undef, 409],
    [vm => $down, 'POST', '/restore', undef, 409],
    [vm => $down, 'POST', '/restore', { snapshot_id => $snap }, 404],
    [vm => $asleep, 'POST', '/pause', undef, 409],
    [vm => $asleep, 'POST', '/snapshot', undef, 409],
    [image => $used, 'DELETE', '', undef, 409],
    [image => 'img_default', 'DELETE', '', undef, 409],
    [template => $template, 'PATCH', '', { name => 'two' }, 409],
    [orphan => $up, 'DELETE', '', undef, 409],

    # more than a limit
    [vm => $down, 'PATCH', '', { vcpu_count => 30 }, 403],

    # not as it must be
    [vm => $up, 'PATCH', '', {}, 400],
    [vm => $up, 'PATCH', '', { name => 'a b' }, 400],
    [vm => $up, 'PATCH', '', { mem_mib => 1 }, 400],
    [vm => $up, 'PATCH', '', { colour => 1 }, 400],
    [vm => $up, 'PATCH', '', '{', 400],
    [vm => $up, 'PATCH', '', undef, 400],
    (map [vm => $up, 'POST', "/$_", { x => 1 }, 400],
     qw(start stop pause resume snapshot restore)),
    (map [vm => $up, 'POST', "/$_", '[]', 400],
     qw(start stop pause resume snapshot restore)),
    [vm => $up, 'POST', '/stop', { timeout => 601 }, 400],
    [vm => $up, 'POST', '/stop', { force => 1 }, 400],
    [vm => $up, 'POST', '/snapshot', { name => "\x01" }, 400],
    [vm => $up, 'POST', '/restore', { snapshot_id => 7 }, 400],
    [template => $template, 'PATCH', '', { mem_mib => 'x' }, 400],
    [template => $template, 'PATCH', '', { image_id => 'img_no' }, 400],
    (map [vm => $up, @$_, undef, 400], ['GET', '?a=1'],
     ['POST', '/start?a=1'], ['DELETE', '?x'], ['GET', '/metrics?a=1']),
    [image => $image, 'GET', '?a=1', undef, 400],
    [template => $template, 'DELETE', '?a=1', undef, 400],
    [snapshot => $snap, 'DELETE', '?a=1', undef, 400],
    [orphan => "vm_$none", 'GET', '?a=1', undef, 400],

    # no such method
    (map [$_->[0], $_->[1], 'PUT', '', undef, 405],
     [vm => $up], [image => $image], [template => $template],
     [snapshot => $snap], [orphan => "vm_$none"]),
    [vm => $up, 'GET', '/start', undef, 405],
    [vm => $up, 'GET', '/nothing', undef, 404],
);
my %folder = (vm => '/vms', image => '/images', template => '/templates',
              snapshot => '/snapshots', orphan => '/orphans');
my %kind = (vm => 'VM', map { $_ => $_ } qw(image template snapshot orphan));

for my $case (@cases) {
    my ($kind, $id, $method, $path, $body, $status) = @$case;
    ($body, $status) = (undef, $body) if !defined $status;
    my $r = api($method, "$folder{$kind}/$id$path", $body);
    my $what = "$method $folder{$kind}/$id$path"
        . (defined $body ? ' ' . (ref $body ? JSON::PP->new->canonical->encode(
                                                  $body) : $body) : '');
    is($r->{status}, $status, "$status: $what") or diag $r->{body};
    my $error = $r->{json}{error};
    like($error, qr/\Q$id/, "names it: $error");
    my @times = $error =~ /\Q$id/g;
    cmp_ok(@times, '<=', 2, 'and not too often');
    like($error, qr/\b$kind{$kind}\b|"\Q$folder{$kind}\E\/|domain|taken by/,
         'and its kind');
}

# what must not be done, or is too large
my $r = http($agent, 'DELETE', "/vms/$up", undef, 'If-Match' => '"x"');
is($r->{status}, 412, 'If-Match');
like(json($r->{body})->{error}, qr/VM "$up": "If-Match"/, 'names it');
is(api('POST', "/vms/$up/snapshot", \%keep)->{status}, 201, 'a snapshot');
$r = api('POST', "/vms/$up/snapshot", \%keep);
is($r->{status}, 403, 'one more than there may be');
is($r->{json}{error}, "VM \"$up\": snapshot limit reached (1/1)", 'names it');
$r = http($agent, 'POST', "/vms/$up/stop", ' ' x 1_048_577);
is($r->{status}, 413, 'too large');
like(json($r->{body})->{error}, qr/VM "$up": the body is larger than 1048576 /,
     'names it');
$r = request($agent, "POST /vms/$up/stop HTTP/1.1\r\nHost: x\r\n"
             . "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
             . sprintf("%x\r\n%s\r\n0\r\n\r\n", 1_048_577,
                       ' ' x 1_048_577));
like($r->{body}, qr/VM \\"$up\\": the body is larger/, 'without a length, too');

# an id that is none, and long, is cut, and what was cut is UTF-8
for my $id ('x' x 200, "%c3%a9" x 60, '%ff') {
    $r = api('GET', "/vms/$id");
    is($r->{status}, 404, 'an id that is none');
    ok(utf8::decode(my $copy = $r->{body}), 'the error is UTF-8');
    cmp_ok(length $r->{body}, '<', 400, 'and not long');
}

# the longest error keeps its end
$r = api('PATCH', "/vms/$up", { name => 'a' x 62 . '/' });
like($r->{json}{error}, qr/^VM "$up": .*not "a{62}\/"$/, 'a long one is whole');

done();
