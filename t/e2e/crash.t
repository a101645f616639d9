#!/usr/bin/perl

# Crash consistency: the agent is killed, or a step fails, at every fault point
# of create, delete, snapshot and restore (those of memory images:
# image_crash.t).  Afterwards there is the whole VM
# or nothing of it, its memory and disk belong together, and no file,
# reservation, metadata or note is left over.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::Hatch::Guest;
use Test::Hatch::Random;
use Test::More;

# every point there is: a new one is tested from the day it is written
my %points;
/^(\w+)\.(\w+)$/ and $points{$1}{$2} = 1
    for split /\n/, `HATCH_FAULT=list $Test::Hatch::build/hatch-agent`;
is(join(' ', sort keys %points),
   'create delete image load park restore sleep snapshot unsnap wake',
   'the operations have points');

guest_files();

# Runs one call into a fault, dead or failing; then a whole agent recovers.
sub into {
    my ($point, $how, $method, $path, $body) = @_;
    stop_agent();
    guest_agent($how eq 'kill' ? $point : "$point:fail");
    my $died = $Test::Hatch::agent;
    my $r = api($method, $path, $body);

    if ($how eq 'kill') {
        # nginx says 502 for an agent that is not there any more
        ok(!$r || $r->{status} == 502, "$point: no answer");
        is(reap($died) & 127, 9, "$point: killed");
        undef $Test::Hatch::agent;
    } else {
        ok($r && $r->{status} >= 400 || $point =~ /^delete/,
           "$point: fails") or diag $r->{body};
        stop_agent();
    }

    guest_agent();
    wait_until("$point: nothing is pending",
               sub { my @notes = glob "$dir/state/pending/*"; !@notes });
}

sub guest { return guest_state('crash', @_) }

sub hosts {
    my @ips = virsh('net-dumpxml hatch') =~ /<host mac=.*? ip='([^']*)'/g;
    return join ' ', sort @ips;
}

guest_agent();
start_nginx();
my $image = guest_image();

# --- create, delete ---

for my $how ('kill', 'fail') {
    for my $step (sort keys %{ $points{create} }) {
        into("create.$step", $how, 'POST', '/vms', { image_id => $image });
        my $vms = agree(\&libvirt_states);
        my $whole = $how eq 'kill' && $step eq 'started' ? 1 : 0;
        is(keys %$vms, $whole, "create.$step, $how: whole or nothing");
        wait_until('reservations', sub {
            hosts() eq join ' ', sort map $_->{guest_ip}, values %$vms;
        });
        is(hosts(), join(' ', sort map $_->{guest_ip}, values %$vms),
           'a reservation per VM');
        api('DELETE', "/vms/$_") for keys %$vms;
    }

    for my $step (sort keys %{ $points{delete} }) {
        my $vm = create_vm({ image_id => $image })->{id};
        create_route($vm, 'gone');
        into("delete.$step", $how, 'DELETE', "/vms/$vm");
        my $vms = agree(\&libvirt_states);

        # a failure before anything is gone leaves it there
        if ($vms->{$vm}) {
            is("$how $step", 'fail noted', 'still there, and the API says so');
            is(api('DELETE', "/vms/$vm")->{status}, 200, 'delete again');
            $vms = agree(\&libvirt_states);
        }

        is(keys %$vms, 0, "delete.$step, $how: nothing is left");
        wait_until('reservations', sub { hosts() eq '' });
        is(hosts(), '', 'no reservation');
        is(api('GET', '/routes')->{body}, '[]', 'no route');
    }
}

is_deeply([grep !/\.(?:json|base)$/, glob "$dir/state/*/*"], [], 'no file at all');

# --- snapshot, restore ---

my $vm = create_vm({ image_id => $image })->{id};
create_route($vm, 'crash');
is(guest('one'), 'one/one', 'a guest with memory and disk');

my $n = 0;
for my $how ('kill', 'fail') {
    for my $step (sort keys %{ $points{snapshot} }) {
        my $text = 'at' . ++$n;
        guest($text);
        into("snapshot.$step", $how, 'POST', "/vms/$vm/snapshot");

        my $vms = agree(\&libvirt_states);
        my $list = api('GET', "/vms/$vm/snapshots")->{json};
        my $whole = $how eq 'kill' && $step =~ /^(recorded|resumed|slept)$/;
        is(scalar @$list, $whole ? 1 : 0,
           "snapshot.$step, $how: whole or nothing");

        # what sleeps already when its step fails is not woken for that
        my $asleep = $step eq 'slept';
        is($vms->{$vm}{state}, $asleep ? 'snapshotted' : 'running',
           'the VM is as it was');
        api('POST', "/vms/$vm/start") if $asleep;
        is(guest(), "$text/$text", 'with memory and disk');

        # a whole one can be gone back to
        if ($whole) {
            guest('later');
            api('POST', "/vms/$vm/stop", { force => JSON::PP::true });
            is(api('POST', "/vms/$vm/restore")->{status}, 200, 'restore');
            is(guest(), "$text/$text", 'to that memory and disk');
            api('DELETE', "/snapshots/$list->[0]{id}");
        }
    }
}

# a snapshot that is being deleted
for my $step (sort keys %{ $points{unsnap} }) {
    my $list = api('POST', "/vms/$vm/snapshot",
                   { keep_running => JSON::PP::true })->{json};
    into("unsnap.$step", 'kill', 'DELETE', "/snapshots/$list->{id}");
    agree(\&libvirt_states);
    is(api('GET', "/snapshots/$list->{id}")->{status}, 404,
       "unsnap.$step: gone with its files");
}

guest('one');
my $snap = api('POST', "/vms/$vm/snapshot",
               { keep_running => JSON::PP::true })->{json}{id};
guest('two');
api('POST', "/vms/$vm/snapshot");

for my $how ('kill', 'fail') {
    for my $step (sort keys %{ $points{restore} }) {
        into("restore.$step", $how, 'POST', "/vms/$vm/restore",
             { snapshot_id => $snap });

        my $vms = agree(\&libvirt_states);
        my $done = $step =~ /^(restored|running|kept)$/;
        is($vms->{$vm}{state}, $done ? 'running' : 'snapshotted',
           "restore.$step, $how: done or as it was");
        api('POST', "/vms/$vm/start") if !$done;
        is(guest(), $done ? 'one/one' : 'two/two',
           'memory and disk belong together');

        # for the next: asleep with "two" again
        guest('two');
        is(api('POST', "/vms/$vm/snapshot")->{status}, 201, 'asleep again');
        my $list = api('GET', "/vms/$vm/snapshots")->{json};
        api('DELETE', "/snapshots/$list->[0]{id}");
    }
}

# asleep and awake: nothing is noted, for libvirt does each in one call
api('PATCH', "/vms/$vm", { idle_timeout => .5, save_after => .5 });
for my $how ('kill', 'fail') {
    for my $step (sort keys %{ $points{sleep} }) {
        my $text = "$how$step";
        guest($text);
        stop_agent();
        guest_agent($how eq 'kill' ? "sleep.$step" : "sleep.$step:fail");
        if ($how eq 'kill') {
            my $died = $Test::Hatch::agent;
            is((reap($died, 60) // 0) & 127, 9, "sleep.$step: killed");
            undef $Test::Hatch::agent;
        } else {
            wait_until('it fails', sub { agent_log() =~ /fault sleep\.$step/ },
                       60);
            stop_agent();
        }
        guest_agent();
        is(guest(), "$text/$text", "sleep.$step, $how: nothing is lost");
    }

    for my $step (sort keys %{ $points{wake} }) {
        my $text = "$how$step";
        guest($text);
        wait_until('it sleeps', sub {
            (api('GET', "/vms/$vm")->{json}{state} // '') eq 'snapshotted';
        }, 60);
        into("wake.$step", $how, 'POST', "/vms/$vm/start");
        is(guest(), "$text/$text", "wake.$step, $how: nothing is lost");
    }
}
api('PATCH', "/vms/$vm", { idle_timeout => undef, save_after => undef });

# one that cannot be recovered, for whatever reason, can be deleted
api('POST', "/vms/$vm/stop", { force => JSON::PP::true });
stop_agent();
mkdir "$dir/state/disks/$vm.qcow2.old" or die;
write_file("$dir/state/pending/$vm.json", JSON::PP->new->encode({
    operation => 'restore', vcpu_count => 1, mem_mib => 128 }));
write_file("$dir/state/pending/vm_aaaaaaaaaaaaaaaa.json", '{"operation":');
guest_agent();
wait_until('recovery fails', sub { agent_log() =~ /$vm: not recovered yet/ });
my $r = api('PATCH', "/vms/$vm", { name => 'x' });
is($r->{status}, 503, 'a VM that is not recovered');
is($r->{json}{code}, 'busy', 'busy');
like($r->{json}{error}, qr/is being recovered from an operation/, 'says so');
like(agent_log(), qr/vm_a{16}\.json is ignored: /, 'a broken note is named');
unlink "$dir/state/pending/vm_aaaaaaaaaaaaaaaa.json";
is(api('DELETE', "/vms/$vm")->{status}, 200, 'delete');
rmdir "$dir/state/disks/$vm.qcow2.old";
agree(\&libvirt_states);
is_deeply([grep !/\.(?:json|base)$/, glob "$dir/state/*/*"], [], 'no file is left');

# nginx met agents that were dying
allow_log(qr/\[error\].*(?:prematurely closed|Connection refused|reset by|connect\(\) failed)/);
done();
