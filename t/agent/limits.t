#!/usr/bin/perl

# Limits: 403 with what is used and what may be; the host's memory.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

sub refused {
    my ($r, $status, $code, $words, $what) = @_;
    is($r->{status}, $status, $what) or diag $r->{body};
    is($r->{json}{code}, $code, "$what: $code");
    is($r->{json}{error}, $words, "$what: $words");
}

start_agent(env => { HATCH_MAX_VMS => 3 });
create_vm() for 1 .. 3;
refused(api('POST', '/vms', {}), 403, 'limit_reached',
        'vm limit reached (3/3)', 'a fourth VM');
is(zone()->{vm_count}, 3, 'nothing is left of it');
my $id = api('GET', '/vms')->{json}[0]{id};
is(api('DELETE', "/vms/$id")->{status}, 200, 'one goes');
ok(create_vm(), 'one comes');
stop_agent();

start_agent(env => { HATCH_MAX_VCPUS => 4, HATCH_MAX_MEM_MIB => 1024,
                     HATCH_MAX_DISK_MIB => 10, HATCH_MAX_OVERLAY_SIZE_MIB => 8,
                     HATCH_MAX_SNAPSHOTS_PER_VM => 2 });
my $vm = create_vm({ vcpu_count => 3, mem_mib => 512, disk_mib => 8 })->{id};
refused(api('POST', '/vms', { vcpu_count => 2 }), 403, 'limit_reached',
        'vcpu limit reached (3/4, 2 more asked for)', 'vCPUs');
refused(api('POST', '/vms', { mem_mib => 513 }), 403, 'limit_reached',
        'memory limit reached (512/1024, 513 more asked for)', 'memory');
refused(api('POST', '/vms', { disk_mib => 3 }), 403, 'limit_reached',
        'disk limit reached (8/10, 3 more asked for)', 'disks');
refused(api('POST', '/vms', { disk_mib => 9 }), 403, 'limit_reached',
        'disk size limit reached (9/8)', 'one disk');
ok(create_vm({ mem_mib => 512, disk_mib => 2 }), 'up to the limit');
refused(api('POST', '/vms', {}), 403, 'limit_reached',
        'vcpu limit reached (4/4)', 'not one more');

api('POST', "/vms/$vm/stop", { force => JSON::PP::true });
refused(api('PATCH', "/vms/$vm", { vcpu_count => 4 }), 403, 'limit_reached',
        "VM \"$vm\": vcpu limit reached (1/4, 4 more asked for)",
        'also by PATCH');
is(api('PATCH', "/vms/$vm", { vcpu_count => 1 })->{status}, 200, 'less is fine');
is(api('PATCH', "/vms/$vm", { vcpu_count => 3 })->{status}, 200, 'back again');
api('POST', "/vms/$vm/start");

my %keep = (keep_running => JSON::PP::true);
is(api('POST', "/vms/$vm/snapshot", \%keep)->{status}, 201, "snapshot $_")
    for 1, 2;
refused(api('POST', "/vms/$vm/snapshot", \%keep), 403, 'limit_reached',
        "VM \"$vm\": snapshot limit reached (2/2)", 'a third snapshot');
is(api('GET', "/vms/$vm")->{json}{state}, 'running', 'the VM is as it was');
my $snap = api('GET', "/vms/$vm/snapshots")->{json}[0]{id};
is(api('DELETE', "/snapshots/$snap")->{status}, 200, 'one goes');
is(api('POST', "/vms/$vm/snapshot", \%keep)->{status}, 201, 'one comes');
is(scalar(my @files = glob "$dir/state/snapshots/*.json"), 2, 'two in all');
stop_agent();

# four clients at once, room for ten
start_agent(env => { HATCH_MAX_VMS => 10, HATCH_LOG_LEVEL => 'info' });
my @pids;
for (1 .. 4) {
    my $pid = fork // die;
    if (!$pid) {
        my $n = 0;
        for (1 .. 5) { $n++ if api('POST', '/vms', {})->{status} == 201 }
        POSIX::_exit($n);
    }
    push @pids, $pid;
}
my $made = 0;
for (@pids) { waitpid $_, 0; $made += $? >> 8 }
is($made, 10, 'exactly ten of twenty that were asked for at once');
is(zone()->{vm_count}, 10, 'and they are there');

done();
