#!/usr/bin/perl

# What can be done in which state, and what is 409 with the state in its
# text; PATCH; snapshots as far as the test driver has them.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

start_agent();

my %force = (force => JSON::PP::true);

# How a VM gets into each state.
my %into = (
    running => [],
    paused => ['pause'],
    stopped => ['stop'],
    snapshotted => ['snapshot'],
);

# action => [body, the status in each state, the state after it]
my %want = (
    start => [undef, { stopped => 200, snapshotted => 200 }, 'running'],
    stop => [\%force, { running => 200, paused => 200, snapshotted => 200 },
             'stopped'],
    pause => [undef, { running => 200 }, 'paused'],
    resume => [undef, { paused => 200 }, 'running'],
    snapshot => [undef, { running => 201, paused => 201 }, 'snapshotted'],
    restore => [undef, { snapshotted => 200 }, 'running'],
);

for my $state (sort keys %into) {
    for my $action (sort keys %want) {
        my ($body, $allowed, $after) = @{ $want{$action} };
        my $id = create_vm()->{id};
        api('POST', "/vms/$id/$_", $_ eq 'stop' ? \%force : undef)
            for @{ $into{$state} };
        is(api('GET', "/vms/$id")->{json}{state}, $state, "a VM is $state");

        # that it went to sleep with; restore has none to go back to then
        api('DELETE', "/snapshots/$_->{id}")
            for @{ api('GET', "/vms/$id/snapshots")->{json} };

        my $status = $allowed->{$state} // 409;
        my $r = api('POST', "/vms/$id/$action", $body);
        is($r->{status}, $status, "$action: $status") or diag $r->{body};
        like($r->{json}{error}, qr/^cannot $action VM "$id": it is $state/,
             'says so') if $status == 409;
        is(api('GET', "/vms/$id")->{json}{state},
           $status == 409 ? $state : $after, 'and then it is so');

        $r = api('PATCH', "/vms/$id", { mem_mib => 200, name => "p-$id" });
        my $stopped = api('GET', "/vms/$id")->{json}{state} eq 'stopped';
        is($r->{status}, $stopped ? 200 : 409, 'PATCH of memory');
        is(api('GET', "/vms/$id")->{json}{mem_mib}, $stopped ? 200 : 128,
           'all or nothing of it');
        is(api('PATCH', "/vms/$id", { name => "n-$id" })->{json}{name},
           "n-$id", 'PATCH of the name');
        is(api('DELETE', "/vms/$id")->{status}, 200, 'delete, always');
    }
}

# PATCH
my $vm = create_vm({ name => 'one' });
my $id = $vm->{id};
is($vm->{idle_timeout}, 600, 'idle_timeout of the configuration');
is($vm->{save_after}, 1800, 'save_after');
is($vm->{park_after}, 60, 'park_after');
is($vm->{memory}, 'auto', 'memory');
ok(!$vm->{parked}, 'not parked');
my $r = api('PATCH', "/vms/$id", { name => 'two', idle_timeout => 1.25,
                                   save_after => undef, park_after => 3.5,
                                   memory => 'classic' });
is($r->{json}{park_after}, 3.5, 'park_after');
is($r->{json}{memory}, 'classic', 'memory');
is($r->{json}{name}, 'two', 'name');
is($r->{json}{idle_timeout}, 1.25, 'a fraction of a second');
ok(exists $r->{json}{save_after} && !defined $r->{json}{save_after}, 'never');
isnt($r->{json}{updated_at}, $vm->{updated_at}, 'updated_at');
is($r->{json}{created_at}, $vm->{created_at}, 'created_at');
is_deeply(api('GET', "/vms/$id")->{json}, $r->{json}, 'kept');
is((grep $_->{id} eq $id, @{ zone()->{vms} })[0]{name}, 'two',
   'the zone has the name');
is(create_vm({ name => 'one' })->{name}, 'one', 'the old name is free');
for ([{}, 400, 'nothing to change'],
     [{ name => 'one' }, 409, '"name" "one" is taken'],
     [{ name => 'a b' }, 400, '"name" must be letters'],
     [{ mem_mib => 1 }, 400, '"mem_mib" must be 128'],
     [{ state => 'running' }, 400, 'unknown field "state"'],
     [{ guest_ip => '10.201.0.9' }, 400, 'unknown field "guest_ip"'],
     [{ memory => 'none' }, 400, '"memory" must be "auto", "image" or'],
     [{ park_after => 'x' }, 400, '"park_after" must be a number'],
     [{ idle_timeout => 'x' }, 400, '"idle_timeout" must be a number'],
     [{ mem_mib => 256 }, 409, 'cannot change "mem_mib" of the VM: it is run'],
     [{ vcpu_count => 2 }, 409, 'cannot change "vcpu_count" of the VM'])
{
    my ($body, $status, $words) = @$_;
    $r = api('PATCH', "/vms/$id", $body);
    is($r->{status}, $status, JSON::PP->new->canonical->encode($body));
    like($r->{json}{error}, qr/\Q$words/, "says: $words");
}
api('POST', "/vms/$id/stop", \%force);
$r = api('PATCH', "/vms/$id", { mem_mib => 512, vcpu_count => 3 });
is($r->{json}{mem_mib}, 512, 'memory while it is stopped');
is($r->{json}{vcpu_count}, 3, 'vCPUs');
is(api('POST', "/vms/$id/start")->{json}{mem_mib}, 512, 'it starts with them');
is((grep $_->{id} eq $id, @{ zone()->{vms} })[0]{memory}, 512 << 20,
   'the zone, too');
is(api('PATCH', '/vms/vm_aaaaaaaaaaaaaaaa', { name => 'x' })->{status}, 404,
   'no such VM');

# snapshots
$r = api('POST', "/vms/$id/snapshot", { name => 'first',
                                        keep_running => JSON::PP::true });
my $first = $r->{json};
is($r->{status}, 201, 'snapshot');
is($r->{headers}{location}, "/snapshots/$first->{id}", 'Location');
is($first->{name}, 'first', 'name');
is($first->{vm_id}, $id, 'vm_id');
is(json($first->{vm_config})->{mem_mib}, 512, 'vm_config');
is(api('GET', "/vms/$id")->{json}{state}, 'running', 'it keeps running');
is_deeply(api('GET', "/snapshots/$first->{id}")->{json}, $first, 'get');
my $second = api('POST', "/vms/$id/snapshot")->{json};
is_deeply([map $_->{id}, @{ api('GET', "/vms/$id/snapshots")->{json} }],
          [$second->{id}, $first->{id}], 'newest first');
ok(!exists $second->{name}, 'without a name');
is(api('GET', "/vms/$id")->{json}{state}, 'snapshotted', 'it sleeps');
is(api('POST', "/vms/$id/restore", { snapshot_id => $first->{id} })
   ->{json}{state}, 'running', 'restore of the first');

my $other = create_vm()->{id};
api('POST', "/vms/$other/stop", \%force);
for (['/restore', { snapshot_id => $first->{id} }, 404, 'has no snapshot'],
     ['/restore', { snapshot_id => 'x' }, 404, 'has no snapshot "x"'],
     ['/restore', { snapshot_id => 7 }, 400, '"snapshot_id" must be a string'],
     ['/restore', { id => 'x' }, 400, 'unknown field "id"'],
     ['/restore', undef, 409, 'it is stopped and has no snapshot'],
     ['/snapshot', { name => '' }, 400, '"name" must be 1 to 128'],
     ['/snapshot', { name => "a\tb" }, 400, '"name" must not contain'],
     ['/snapshot', { keep_running => 1 }, 400, '"keep_running" must be true'],
     ['/stop', { timeout => 601 }, 400, '"timeout" must be 0 to 600'],
     ['/pause', { now => 1 }, 400, 'unknown field "now"'])
{
    my ($path, $body, $status, $words) = @$_;
    $r = api('POST', "/vms/$other$path", $body);
    is($r->{status}, $status, "$path: $status") or diag $r->{body};
    like($r->{json}{error}, qr/\Q$words/, "says: $words");
}
is(api('POST', "/vms/$other/restore", { snapshot_id => 'x' })->{json}{code},
   'snapshot_not_found', 'code');
is(api('GET', '/snapshots/snap_none')->{json}{code}, 'snapshot_not_found',
   'get of none');
is(api('DELETE', '/snapshots/snap_none')->{status}, 404, 'delete of none');
is(api('GET', '/vms/vm_none/snapshots')->{json}{code}, 'vm_not_found',
   'those of no VM');
is(api('DELETE', "/snapshots/$first->{id}")->{status}, 200, 'delete');
is(api('GET', "/snapshots/$first->{id}")->{status}, 404, 'gone');
ok(!glob("$dir/state/snapshots/$first->{id}*"), 'with its files');
is(api('DELETE', "/vms/$id")->{status}, 200, 'delete of the VM');
is_deeply([glob "$dir/state/snapshots/*"], [], 'takes its snapshots along');

# metrics
$r = api('GET', "/vms/$other/metrics");
is($r->{status}, 200, 'metrics of a VM that is stopped');
is($r->{json}{uptime_seconds}, 0, 'not up');
is(api('GET', '/vms/vm_none/metrics')->{status}, 404, 'of none');

done();
