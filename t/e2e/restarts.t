#!/usr/bin/perl

# libvirtd and the agent are killed and started again, several times, in the
# middle of random operations: afterwards everything agrees, and every VM can
# be used.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::Hatch::Random;
use Test::More;

my $seed = $ENV{HATCH_RANDOM_SEED} // int rand 1 << 20;
diag("seed $seed");

mkdir "$dir/images";
system('cp', "$Test::Hatch::build/image/vmlinuz",
       "$Test::Hatch::build/image/initrd", "$dir/images") == 0 or die;
system('qemu-img', 'create', '-q', '-f', 'qcow2', "$dir/images/base.qcow2",
       '8M') == 0 or die;
sub agent { start_agent(connect => 'qemu:///system',
                        env => { HATCH_LOG_LEVEL => 'info' }) }

agent();
start_nginx();
my $image = api('POST', '/images', {
    kernel_path => 'vmlinuz', initrd_path => 'initrd',
    rootfs_path => 'base.qcow2', boot_args => 'console=ttyS0 quiet',
})->{json}{id};

sub pending { my @notes = glob "$dir/state/pending/*"; return scalar @notes }

my $clients = fork // die;
if (!$clients) {
    my $ok = random_calls(clients => 4, calls => 400, vms => 6,
                          image => $image, seed => $seed, outages => 1);
    POSIX::_exit($ok ? 0 : 1);
}

# while operations are under way, each time at another moment of them
for my $n (1 .. 8) {
    wait_until('operations are under way', sub {
        pending() || slurp("/proc/$clients/stat") =~ /\) Z /;
    }, 30);
    if ($n % 2) {
        stop_libvirtd('KILL');
        start_libvirtd();
    } else {
        stop_agent('KILL');
        agent();
    }
    wait_until('the agent is connected again',
               sub { zone()->{libvirt} eq 'connected' });
}
waitpid $clients, 0;
is($?, 0, 'no client gave up');

wait_until('nothing is pending', sub { !pending() }, 60) or diag(agent_log());
my $vms = agree(\&libvirt_states);
cmp_ok(scalar keys %$vms, '>', 0, 'there are VMs');

for my $id (sort keys %$vms) {
    my $r = api('POST', "/vms/$id/stop", { force => JSON::PP::true });
    is(api('POST', "/vms/$id/start")->{json}{state}, 'running',
       "a VM that was $vms->{$id}{state} can be used")
        or diag($r->{body});
    is(api('DELETE', "/vms/$id")->{status}, 200, 'and deleted');
}
is_deeply([grep !m{/images/}, glob "$dir/state/*/*"], [], 'no file is left');

# nginx met agents that were dying
allow_log(qr/connect\(\) (?:to unix:\S+ )?failed|prematurely closed|reset by/);
done();
