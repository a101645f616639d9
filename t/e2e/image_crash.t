#!/usr/bin/perl

# Crash consistency of memory images: the agent is killed, or a step fails, at
# every step of a park, a sleep and a wake.  Nothing is lost, and a guest never
# goes on from memory that is not its own.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::Hatch::Guest;
use Test::More;

my %points;
/^(\w+)\.(\w+)$/ and $points{$1}{$2} = 1
    for split /\n/, `HATCH_FAULT=list $Test::Hatch::build/hatch-agent`;

real_disk();
guest_files();
guest_agent();
start_nginx();
my $vm = create_vm({ image_id => guest_image(), memory => 'image',
                     mem_mib => 128, park_after => undef,
                     save_after => undef, idle_timeout => undef })->{id};
create_route($vm, 'one');

sub patch {
    is(api('PATCH', "/vms/$vm", { idle_timeout => undef, park_after => undef,
                                  save_after => undef, @_ })->{status}, 200,
       'PATCH');
}
sub get { return (api('GET', "/vms/$vm") // {})->{json} // {} }
sub guest { return guest_state('one', @_) }

is(guest('begin'), 'begin/begin', 'a guest');

# An agent that comes to the fault by itself, dead or failing; then a whole one.
sub falls_asleep_into {
    my ($point, $how, %sleep) = @_;
    my $text = "$how$point" =~ tr/.//dr;

    is(guest($text), "$text/$text", "$point, $how: before");
    stop_agent();
    guest_agent($how eq 'kill' ? $point : "$point:fail");
    my $died = $Test::Hatch::agent;
    api('PATCH', "/vms/$vm", { idle_timeout => 0.3, %sleep });

    if ($how eq 'kill') {
        is((reap($died, 120) // 0) & 127, 9, "$point: killed");
        undef $Test::Hatch::agent;
    } else {
        wait_until("$point: it fails",
                   sub { agent_log() =~ /fault \Q$point\E/ }, 120);
        stop_agent();
    }

    guest_agent();
    patch();
    is(guest(), "$text/$text", "$point, $how: nothing is lost");
}

for my $how ('kill', 'fail') {
    falls_asleep_into("park.$_", $how, park_after => 0.3)
        for sort keys %{ $points{park} };
    falls_asleep_into("image.$_", $how, save_after => 0.3)
        for sort keys %{ $points{image} };

    for my $step (sort keys %{ $points{load} }) {
        my $text = "load$how$step";
        is(guest($text), "$text/$text", "load.$step, $how: before");
        patch(idle_timeout => 0.3, save_after => 0.3);
        wait_until('it sleeps',
                   sub { (get()->{state} // '') eq 'snapshotted' }, 120);
        stop_agent();
        guest_agent($how eq 'kill' ? "load.$step" : "load.$step:fail");
        my $died = $Test::Hatch::agent;
        my $r = api('POST', "/vms/$vm/start");

        if ($how eq 'kill') {
            is((reap($died, 60) // 0) & 127, 9, "load.$step: killed");
            undef $Test::Hatch::agent;
        } else {
            is($r->{status}, 503, "load.$step: fails") or diag $r->{body};
            is(get()->{state}, 'snapshotted', 'it sleeps on');
            stop_agent();
        }

        guest_agent();
        patch();
        is(guest(), "$text/$text", "load.$step, $how: nothing is lost");
    }
}

# nginx met agents that were dying
allow_log(qr/\[error\].*(?:prematurely closed|Connection refused|reset by|connect\(\) failed|timed out)/,
          qr/fault /, qr/it is saved by libvirt, not into its memory image/,
          qr/a start from its memory image did not end/);
done();
