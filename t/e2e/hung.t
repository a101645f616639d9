#!/usr/bin/perl

# libvirt in trouble: a QEMU that hangs (SIGSTOP), a domain that somebody
# else has locked, and everything else goes on unhindered.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;
use Time::HiRes qw(time);

start_agent(connect => 'qemu:///system',
            env => { HATCH_LIBVIRT_TIMEOUT => 2, HATCH_LOG_LEVEL => 'info' });
start_nginx();

my ($hung, $well) = map create_vm({ name => $_ })->{id}, 'hung', 'well';
create_route($well, 'well');
wait_until('the guest answers', sub {
    (http('127.0.0.1:9090', 'GET', '/', undef,
          Host => 'well.hatch.localhost') // {})->{status} == 200;
}, 60);

my $pid = qemu_pid($hung);
kill_pid('STOP', $pid);

my $began = time;
my $r = api('POST', "/vms/$hung/pause");
is($r->{status}, 504, 'a QEMU that hangs: 504');
like($r->{json}{error},
     qr/libvirt has not answered within 2 s of pausing the VM/, 'says so');
is($r->{json}{code}, 'timeout', 'code');
ok($r->{headers}{'retry-after'}, 'Retry-After');
cmp_ok(time - $began, '<', 10, 'after the deadline');
is(api('GET', "/vms/$hung")->{json}{state}, 'pausing', 'it is still at it');

# so many requests for it that each would hold a thread of libvirtd
my @kids;
for (1 .. 40) {
    my $kid = fork // die;
    if (!$kid) {
        my $answer = api('POST', "/vms/$hung/resume");
        POSIX::_exit($answer && $answer->{status} =~ /^(503|504|409)$/
                     ? 0 : 1);
    }
    push @kids, $kid;
}

# all else, measured while they wait
my $worst = 0;
for my $n (1 .. 20) {
    $began = time;
    is(api('POST', "/vms/$well/pause")->{status}, 200, "pause $n of another");
    is(api('POST', "/vms/$well/resume")->{status}, 200, "resume $n");
    is(api('GET', '/vms')->{status}, 200, 'the list');
    is(api('GET', "/vms/$hung/metrics")->{status}, 200, 'metrics of it');
    my $took = time - $began;
    $worst = $took if $took > $worst;
}
diag(sprintf 'the slowest four calls for others: %.0f ms', $worst * 1000);
cmp_ok($worst, '<', 2, 'other VMs and all reads go on');
is(http('127.0.0.1:9090', 'GET', '/', undef,
        Host => 'well.hatch.localhost')->{status}, 200, 'requests, too');

my $other = create_vm({ name => 'other' });
ok($other, 'another VM can be created');

# force goes through the operation that hangs
$began = time;
$r = api('POST', "/vms/$hung/stop", { force => JSON::PP::true });
is($r->{status}, 200, 'stop with force') or diag $r->{body};
is($r->{json}{state}, 'stopped', 'stops it');
cmp_ok(time - $began, '<', 20, 'although it hangs');
my $lost = 0;
for (@kids) { waitpid $_, 0; $lost++ if $? }
is($lost, 0, 'those who waited got their answer');
is(api('POST', "/vms/$hung/start")->{status}, 200, 'and it starts again');

# delete goes through, too
kill_pid('STOP', qemu_pid($hung));
is(api('POST', "/vms/$hung/pause")->{status}, 504, 'it hangs again');
is(api('DELETE', "/vms/$hung")->{status}, 200, 'delete goes through');
is(api('GET', "/vms/$hung")->{status}, 404, 'it is gone');
unlike(virsh('list --all --name'), qr/$hung/, 'also from libvirt');

# somebody else has the domain locked: a virsh that waits for its QEMU
$pid = qemu_pid($other->{id});
kill_pid('STOP', $pid);
my $virsh = spawn("$dir/logs/virsh.log", 'virsh', '-c', 'qemu:///system',
                  'suspend', $other->{id});
wait_until('virsh has asked', sub {
    slurp("/proc/$virsh/wchan") =~ /poll|futex/;
});
$r = api('POST', "/vms/$other->{id}/snapshot");
is($r->{status}, 504, 'a locked domain: an answer in time');
is(api('GET', "/vms/$other->{id}")->{json}{state}, 'snapshotting',
   'reads go on');
kill_pid('CONT', $pid);
wait_until('the operation ends', sub {
    api('GET', "/vms/$other->{id}")->{json}{state} =~ /^(paused|running)$/
        || @{ api('GET', "/vms/$other->{id}/snapshots")->{json} };
});
reap($virsh);
is(api('DELETE', "/vms/$other->{id}")->{status}, 200, 'and all is well');

# a libvirtd that hangs while a VM is made: the 504 says where it will be
my ($libvirtd) = slurp('/run/libvirtd.pid') =~ /(\d+)/;
kill_pid('STOP', $libvirtd);
$r = api('POST', '/vms', { name => 'late' });
is($r->{status}, 504, 'a libvirtd that hangs: 504');
my ($late) = ($r->{headers}{location} // '') =~ m{^/vms/(vm_\w{16})$};
ok($late, 'with Location') or diag(explain($r));
kill_pid('CONT', $libvirtd);
wait_until('there it is', sub {
    my $answer = api('GET', "/vms/$late");
    return $answer->{status} == 200 && $answer->{json}{state} eq 'running';
}, 60);
is(api('GET', "/vms/$late")->{json}{name}, 'late', 'the same one');
is(api('DELETE', "/vms/$late")->{status}, 200, 'and gone');

is(api('GET', '/vms')->{json}[0]{id}, $well, 'the well one is left');
# asked before it was up
allow_log(qr/connect\(\) failed/);
done();
