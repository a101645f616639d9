#!/usr/bin/perl

# The guest's clock after a pause, after a save and after a restore of a
# snapshot: libvirt sets it through the guest agent's channel.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

start_agent(connect => 'qemu:///system');
start_nginx();

my $vm = create_vm({ idle_timeout => undef, save_after => undef });
create_route($vm->{id}, 'clock');

# How far the guest's clock is behind ours, s; it tells whole seconds.
sub behind {
    my $r = http('127.0.0.1:9090', 'GET', '/cgi-bin/info', undef,
                 Host => 'clock.hatch.localhost') or return 1000;
    return $r->{body} =~ /^time (\d+)/m ? time - $1 : 1000;
}

sub vm { my ($action, $body) = @_;
         return api('POST', "/vms/$vm->{id}/$action", $body // {})->{status} }

sub stand_still {
    my $until = time + 4;
    wait_until('four seconds are over', sub { time >= $until });
}

sub clock_is_right {
    return wait_until('its clock is right', sub { abs(behind()) <= 1 });
}

cmp_ok(behind(), '<', 1000, 'it is up');

is(vm('pause'), 200, 'pause');
stand_still();
my $woken = http('127.0.0.1:9090', 'GET', '/', undef,
                 Host => 'clock.hatch.localhost');
like($woken->{headers}{'server-timing'}, qr/^hatch-wake;desc="resume";dur=/,
     'resumed by a request');
ok(clock_is_right(), 'right after a pause');

is(vm('snapshot'), 201, 'snapshot');
stand_still();
is(vm('restore'), 200, 'restore');
ok(clock_is_right(), 'right after a restore');

# The time that it is given gets old underway: QEMU does nothing for a while.
is(vm('pause'), 200, 'pause once more');
stand_still();
is(vm('resume'), 200, 'resume');
kill_pid('STOP', qemu_pid($vm->{id}));
stand_still();
kill_pid('CONT', qemu_pid($vm->{id}));
ok(clock_is_right(), 'right after a try that took seconds');

my $address = api('GET', "/vms/$vm->{id}")->{json}{guest_ip};
is($address, $vm->{guest_ip}, 'the address is the same');
like(agent_log(), qr/$vm->{id}: its clock is set/, 'the agent says so');

done();
