#!/usr/bin/perl

# A host without enough memory refuses, clearly and leaving nothing, to create,
# start or restore a VM.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

my ($total) = slurp('/proc/meminfo') =~ /^MemTotal:\s+(\d+)/m;
$total = int($total / 1024);

sub agent {
    my ($free) = @_;
    stop_agent();
    start_agent(connect => 'qemu:///system',
                env => { HATCH_LOG_LEVEL => 'info',
                         HATCH_HOST_MEMORY_RESERVE_MIB => $total - $free });
}

sub refused {
    my ($r, $what, $words) = @_;
    is($r->{status}, 503, "$what: 503") or diag $r->{body};
    is($r->{json}{code}, 'insufficient_memory', 'code');
    ok($r->{headers}{'retry-after'}, 'Retry-After');
    like($r->{json}{error}, $words, 'says how much is asked for and is free');
}

# room for 300 MiB: but for what the machine itself uses
agent(300);
my $r = api('POST', '/vms', { mem_mib => 301 });
refused($r, 'create', qr/needs 301 MiB, \d+ MiB are free for VMs/);
is(api('GET', '/vms')->{body}, '[]', 'no VM');
is_deeply([glob "$dir/state/*/*"], [], 'no file');
unlike(virsh('net-dumpxml hatch'), qr/<host mac/, 'no reservation');

# One of 128 MiB has plenty of room, and with it one of all that there is has
# none: whatever else the machine does meanwhile.
agent($total);
my $first = create_vm({ mem_mib => 128 })->{id};
$r = api('POST', '/vms', { mem_mib => $total });
refused($r, 'another beside it', qr/are free for VMs/);
is(scalar @{ api('GET', '/vms')->{json} }, 1, 'one VM');

api('POST', "/vms/$first/snapshot");
agent(1);
refused(api('POST', "/vms/$first/start"), 'start', qr/needs 128 MiB/);
my $snap = api('GET', "/vms/$first/snapshots")->{json}[0]{id};
refused(api('POST', "/vms/$first/restore", { snapshot_id => $snap }),
        'restore', qr/needs 128 MiB/);
is(api('GET', "/vms/$first")->{json}{state}, 'snapshotted', 'it sleeps on');
is_deeply([glob "$dir/state/pending/*"], [], 'nothing is pending');
agent($total);
is(api('POST', "/vms/$first/start")->{json}{state}, 'running',
   'with memory it wakes');

done();
