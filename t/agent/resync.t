#!/usr/bin/perl

# A comparison of all VMs, which takes a tenth of a second for each: what was
# listed at its beginning may be old when its turn comes.  A VM that was
# started anew meanwhile is one run of its guest, not two.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;
use Time::HiRes qw(time);

start_agent(env => { HATCH_RESYNC_INTERVAL => '1' });

my $all = 30;
my @ids = map { create_vm({ idle_timeout => undef })->{id} } 1 .. $all;

sub incarnations {
    my %of = map { $_->{id} => $_->{incarnation} } @{ zone()->{vms} };
    return [@of{@ids}];
}

# How often each was found to run.
sub found {
    my $log = agent_log();
    my %n;
    $n{$1}++ while $log =~ /debug: (vm_\w+): running$/mg;
    return %n;
}

# Waits until each VM was looked at once more.
sub compared {
    my %before = found();
    return wait_until('all are compared', sub {
        my %now = found();
        !grep { ($now{$_} // 0) <= ($before{$_} // 0) } @ids;
    }, 60);
}

compared();
my $before = incarnations();
compared();
is_deeply(incarnations(), $before, 'a comparison changes no incarnation');

# one each 0.2 s, so that it takes longer than a comparison and its pause
my ($failed, $next) = (0, time);
for my $id (@ids) {
    wait_until('it is its turn', sub { time >= $next });
    $next += .2;
    for ('stop', 'start') {
        $failed++ if api('POST', "/vms/$id/$_", {})->{status} != 200;
    }
}
is($failed, 0, 'all were stopped and started');
my $started = incarnations();
my @same = grep { $started->[$_] == $before->[$_] } 0 .. $#ids;
is(scalar @same, 0, 'each is another run of its guest');

compared() for 1 .. 2;
is_deeply(incarnations(), $started, 'and stays that one');

done();
