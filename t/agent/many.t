#!/usr/bin/perl

# Many VMs from several clients at once: no address, name or MAC twice; the
# zone, the list and the counts agree.  Work on one VM is serial.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

start_agent(env => { HATCH_LOG_LEVEL => 'info' });

# Runs code(k) in n processes at once and waits for all.
sub parallel {
    my ($n, $code) = @_;
    my @pids;

    for my $k (1 .. $n) {
        my $pid = fork // die;
        if (!$pid) {
            my $ok = eval { $code->($k) };
            POSIX::_exit($ok ? 0 : 1);
        }
        push @pids, $pid;
    }

    my $failed = 0;
    for (@pids) { waitpid $_, 0; $failed++ if $? }
    return $failed;
}

my $failed = parallel(4, sub {
    for (1 .. 50) { create_vm() or return 0 }
    return 1;
});
is($failed, 0, '4 clients created 50 VMs each');

my @vms = @{ api('GET', '/vms')->{json} };
my (%ip, %mac, %id);
$ip{$_->{guest_ip}}++, $mac{$_->{guest_mac}}++, $id{$_->{id}}++ for @vms;
is(scalar @vms, 200, '200 VMs');
is(scalar keys %id, 200, '200 ids');
is(scalar keys %ip, 200, '200 addresses');
is(scalar keys %mac, 200, '200 MACs');

my $z = zone();
is($z->{vm_count}, 200, 'the zone counts 200');
is_deeply([sort map "$_->{id} $_->{guest_ip} $_->{state}", @{ $z->{vms} }],
          [sort map "$_->{id} $_->{guest_ip} $_->{state}", @vms],
          'and has the same ones');

# start and stop on one VM from all sides: each answer is one of the two
my $one = $vms[0]{id};
$failed = parallel(6, sub {
    for (1 .. 20) {
        my $r = api('POST', "/vms/$one/" . ($_ % 2 ? 'stop' : 'start'));
        return 0 if $r->{status} != 200 && $r->{status} != 409;
    }
    return 1;
});
is($failed, 0, '120 starts and stops at once: 200 or 409');
like(api('GET', "/vms/$one")->{json}{state}, qr/^(running|stopped)$/,
     'and a whole state in the end');

$failed = parallel(4, sub {
    my ($k) = @_;
    for my $i (grep $_ % 4 == $k - 1, 0 .. $#vms) {
        return 0 if api('DELETE', "/vms/$vms[$i]{id}")->{status} != 200;
    }
    return 1;
});
is($failed, 0, 'deleted by 4 clients');
is(zone()->{vm_count}, 0, 'all gone');

done();
