#!/usr/bin/perl

# What hangs keeps nothing else: saves, wakes and starts that never end, VMs
# whose operations go on for ever.  libvirt's test driver, and fault points that
# wait (HATCH_FAULT=...:hang).

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;
use Time::HiRes qw(time);

my $hang = "$dir/hang";

sub agent {
    my ($point, %env) = @_;
    write_file($hang, '');
    start_agent(env => { HATCH_FAULT => "$point:hang",
                         HATCH_FAULT_FILE => $hang,
                         HATCH_LOG_LEVEL => 'info', %env });
}
sub go_on { unlink $hang or die $! }

sub states {
    my %n;
    $n{$_->{state}}++ for @{ zone()->{vms} };
    return \%n;
}

# Processor time of the agent, s.
sub used {
    my ($pid) = map $_->{agent_pid}, zone();
    my @stat = split ' ', slurp("/proc/$pid/stat");
    return ($stat[13] + $stat[14]) / 100;
}

# Asks for VMs at the wake socket, as nginx does; what it says is thrown away.
my $request = 0;
sub ask {
    my ($worker, @ids) = @_;
    for my $id (@ids) {
        syswrite $worker, pack 'L S S Q L L S S L a24 Q', 0x32574148, 1, 0,
                               ++$request, 60_000, 0, 80, 0, 0, $id, 0;
    }
}

# --- saves ---

agent('sleep.saved', HATCH_SAVE_TIMEOUT => 2);
start_nginx();
wait_until('nginx has its zone.activity', sub { -e "$dir/run/zone.activity" });
my @due = map create_vm({ idle_timeout => undef, save_after => .5 })->{id},
              1 .. 40;
my @idle = map create_vm({ idle_timeout => 6, save_after => undef })->{id},
               1 .. 3;
is(api('POST', "/vms/$_/pause")->{status}, 200, 'paused') for @due;
wait_until('four are being saved', sub {
    (states()->{snapshotting} // 0) >= 4;
}, 10);
wait_until('VMs fall asleep while 40 are due to be saved, and hang', sub {
    3 == grep { Test::Hatch::state($_) eq 'paused' } @idle;
}, 20);
wait_until('saves that hang keep no place', sub {
    (states()->{snapshotting} // 0) >= 12;
}, 20);
like(agent_log(), qr/warn: \S+: it should sleep: libvirt has not saved it in (?#
                    )time, and goes on\n/, 'which is said');
my ($log, %told) = agent_log();
$told{$1}++ while $log =~ /: (vm_\w+): it should sleep: libvirt/g;
is((grep { $_ != 1 } values %told), 0, 'once for each');
wait_until('so many, and no more', sub {
    (states()->{snapshotting} // 0) >= 36;
}, 40);
is(states()->{snapshotting}, 36, 'hang at most');
go_on();
wait_until('in the end all are saved', sub {
    (states()->{snapshotted} // 0) == 40;
}, 30);
is(api('DELETE', "/vms/$_")->{status}, 200, 'gone') for @due, @idle;
stop_nginx();
stop_agent();

# --- wakes of VMs that are busy ---

agent('wake.prepared', HATCH_MAX_STARTS => 256, HATCH_SAVE_TIMEOUT => 600);
go_on();
my @busy = map create_vm({ idle_timeout => undef })->{id}, 1 .. 80;
my $well = create_vm({ idle_timeout => undef, save_after => undef })->{id};
for (@busy) {
    api('POST', "/vms/$_/stop", { force => JSON::PP::true })->{status} == 200
        or die;
}
write_file($hang, '');
my @kids;
for my $id (@busy) {
    my $kid = fork // die;
    if (!$kid) {
        my $r = eval { api('POST', "/vms/$id/start") };
        POSIX::_exit(0);
    }
    push @kids, $kid;
}
wait_until('80 VMs start for ever', sub {
    (states()->{starting} // 0) == 80;
}, 20);
is(api('POST', "/vms/$well/pause")->{status}, 200, 'another one sleeps');
my $worker = Test::Hatch::connect_to("$dir/run/wake.sock") or die;
ask($worker, @busy);
my $began = time;
my $was = used();
# a new connection each time: asks that are left probe, and would wake it, too
sub ask_well {
    my $other = Test::Hatch::connect_to("$dir/run/wake.sock") or die;
    ask($other, $well);
    wait_until(shift, sub { Test::Hatch::state($well) eq 'running' }, shift);
    close $other;
}
ask_well('and wakes although 80 wakes wait', 5);
cmp_ok(time - $began, '<', 1, 'at once');
for (1 .. 5) {
    is(api('POST', "/vms/$well/pause")->{status}, 200, 'it sleeps again');
    ask_well('and wakes', 5);
}
my $since = time;
wait_until('a second passes', sub { time - $since > 1 });
cmp_ok(used() - $was, '<', .4 * (time - $began) + .2,
       'those that wait cost nothing');
go_on();
waitpid $_, 0 for @kids;
close $worker;
$worker = Test::Hatch::connect_to("$dir/run/wake.sock") or die;
wait_until('the others run', sub { (states()->{running} // 0) == 81 }, 20);
is((() = agent_log() =~ /cannot be woken/g), 0, 'no wake has failed');

# --- wakes that hang ---

# a new agent, at which nobody asks for any of the VMs
api('DELETE', "/vms/$_")->{status} == 200 or die for @busy, $well;
close $worker;
stop_agent();
agent('wake.prepared', HATCH_MAX_STARTS => 256, HATCH_SAVE_TIMEOUT => 600);
my @hung = map create_vm({ idle_timeout => undef })->{id}, 1 .. 60;
$well = create_vm({ idle_timeout => undef, save_after => undef })->{id};
for (@hung) {
    api('POST', "/vms/$_/stop", { force => JSON::PP::true })->{status} == 200
        or die;
}
is(api('POST', "/vms/$well/pause")->{status}, 200, 'asleep');
$worker = Test::Hatch::connect_to("$dir/run/wake.sock") or die;
ask($worker, @hung);
$was = used();
$since = time;
ask_well('another VM wakes while 60 wakes hang', 15);
wait_until('two seconds pass', sub { time - $since > 2 });
is(states()->{starting}, 60, 'they do');
cmp_ok(used() - $was, '<', .4 * (time - $since),
       'and while it waits nothing spins');
is(api('GET', "/vms/$well/metrics")->{status}, 200, 'the API answers, too');
go_on();
wait_until('all run', sub { (states()->{running} // 0) == 61 }, 30)
    or diag(explain(states()), agent_log() =~ s/.*(.{3000})\z/$1/sr);
close $worker;
api('DELETE', "/vms/$_")->{status} == 200 or die for @hung, $well;
stop_agent();

# --- starts that hang ---

agent('wake.prepared', HATCH_MAX_STARTS => 2, HATCH_SAVE_TIMEOUT => 2,
      HATCH_LIBVIRT_TIMEOUT => 2);
go_on();
@busy = map create_vm({ idle_timeout => undef })->{id}, 1 .. 3;
for (@busy) {
    api('POST', "/vms/$_/stop", { force => JSON::PP::true })->{status} == 200
        or die;
}
write_file($hang, '');
is(api('POST', "/vms/$_/start")->{status}, 504, 'a start that hangs: 504')
    for @busy;
is((states()->{starting} // 0), 3, 'more than max_starts hang');
my $vm = create_vm({ idle_timeout => undef });
ok($vm, 'another VM starts');
go_on();
wait_until('and all in the end', sub {
    (states()->{running} // 0) >= 4;
}, 20);

# the 504s
allow_log(qr/warn: POST/);
done();
