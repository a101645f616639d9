#!/usr/bin/perl

# A real guest and its base image: one that is up or paused goes on with the
# file that it has open; one that is saved keeps its memory until its own base
# is back; snapshots, too.  And the figures of one that has ended are 0.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::Hatch::Guest;
use Test::More;

guest_files();
system('cp', "$Test::Hatch::build/image/vmlinuz",
       "$Test::Hatch::build/image/initrd", "$dir/images") == 0 or die;
my $base = "$dir/images/base.qcow2";
system("qemu-img create -q -f qcow2 $base 8M && "
       . "qemu-io -c 'write -P 1 4M 64k' $base >/dev/null") == 0 or die;
system("cp $base $dir/other && qemu-io -c 'write -P 2 4M 64k' $dir/other "
       . '>/dev/null') == 0 or die;

my %env = (HATCH_STATS_INTERVAL => '1h', HATCH_RESYNC_INTERVAL => 1);
start_agent(connect => 'qemu:///system', env => \%env);
start_nginx();
my $image = guest_image();
my $vm = create_vm({ image_id => $image })->{id};
create_route($vm, 'one');

sub state_of { return page('one', '/cgi-bin/state' . ($_[0] ? "?$_[0]" : ''))
               ->{body} }
sub other { rename $base, "$dir/kept" or die;
            system('cp', "$dir/other", $base) == 0 or die }
sub put_back { unlink $base; system('cp', "$dir/kept", $base) == 0 or die }

my $refused = qr/^\QVM "$vm": cannot start the VM: "$base" of image $image has been \E
                 \Qreplaced since the VM's disk was made on it, its content \E
                 \Qis another one; put it back, or delete the VM\E$/x;

like(state_of('first'), qr/^memory first\ndisk first$/m, 'a guest');
my $r = api('POST', "/vms/$vm/snapshot", { keep_running => JSON::PP::true });
is($r->{status}, 201, 'a snapshot');
my $snapshot = $r->{json}{id};
like(state_of('second'), qr/^memory second\n/m, 'it goes on');

other();
like(state_of('third'), qr/^memory third\ndisk third$/m, 'also now');
is(api('POST', "/vms/$vm/pause")->{status}, 200, 'paused');
like(state_of(), qr/^memory third\ndisk third$/m, 'a request wakes it');

is(api('POST', "/vms/$vm/snapshot", { name => 'x' })->{status}, 201, 'saved');
$r = api('POST', "/vms/$vm/start");
is($r->{status}, 409, 'its memory is not restored on another base');
like($r->{json}{error}, $refused, 'and why');
is(page('one')->{status}, 503, 'nor by a request');
is(api('POST', "/vms/$vm/restore", { snapshot_id => $snapshot })->{status},
   409, 'nor is a snapshot');
is(api('GET', "/vms/$vm")->{json}{state}, 'snapshotted', 'it sleeps on');
stop_agent('KILL');
start_agent(connect => 'qemu:///system', env => \%env);
is(api('POST', "/vms/$vm/start")->{status}, 409, 'nor by the next agent');

put_back();
is(api('POST', "/vms/$vm/start")->{status}, 200, 'its base is back');
like(state_of(), qr/^memory third\ndisk third$/m, 'and it goes on');
other();
is(api('POST', "/vms/$vm/stop", { force => JSON::PP::true })->{status}, 200,
   'stopped');
is(api('POST', "/vms/$vm/start")->{status}, 409, 'it does not boot');
$r = api('POST', "/vms/$vm/restore", { snapshot_id => $snapshot });
is($r->{status}, 409, 'nor is it restored');
like($r->{json}{error}, $refused, 'and why');
put_back();
is(api('POST', "/vms/$vm/restore", { snapshot_id => $snapshot })->{status},
   200, 'until its base is back');
like(state_of(), qr/^memory first\ndisk first$/m, 'as it was');
allow_log(qr/has been replaced since/);

# --- figures end with the guest, not with the next sample ---

sub figures {
    my %of;
    my $text = http('127.0.0.1:8080', 'GET', '/metrics')->{body};
    $of{$1} = $2 while $text =~ /^hatch_vm_(\w+)\{id="$vm",[^}]*\} (\S+)$/mg;
    return \%of;
}

api('GET', "/vms/$vm/metrics");
cmp_ok(figures()->{cpu_seconds_total}, '>', 0, 'a guest takes time');
cmp_ok(figures()->{memory_resident_bytes}, '>', 0, 'and memory');
stop_agent('KILL');
start_agent(connect => 'qemu:///system',
            env => { %env, HATCH_STATS_INTERVAL => 'never' });
is(api('POST', "/vms/$vm/stop", { force => JSON::PP::true })->{status}, 200,
   'stopped');
my $of = figures();
cmp_ok($of->{$_}, '==', 0, "$_ is 0 at once")
    for grep /_(?:bytes|packets|reads|writes|seconds)(?:_total)?$/
             && !/^memory_bytes$|age/, sort keys %$of;
my $j = api('GET', "/vms/$vm/metrics")->{json};
is_deeply([$j->{uptime_seconds}, $j->{raw},
           map values %$_, @$j{qw(net block vcpu)}], [0, {}, (0) x 8],
          'the API says the same');

done();
