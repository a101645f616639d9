#!/usr/bin/perl

# Real guests that fall asleep within a fraction of a second, under steady
# traffic, for SOAK_SECONDS (60); the agent is killed and libvirtd restarted
# in between.  No request is lost, hangs or is served twice: each has a number
# that its guest writes down.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;
use Time::HiRes qw(time sleep);

my $seconds = $ENV{SOAK_SECONDS} // 60;
my $clients = $ENV{SOAK_CLIENTS} // 6;
my $patience = 30;              # s: longer is a request that hangs

sub agent { start_agent(connect => 'qemu:///system',
                        env => { HATCH_LOG_LEVEL => 'info' }) }
agent();
start_nginx();

# name => how soon it is paused and saved; one never sleeps
my %sleepers = (
    a => [.15, undef], b => [.25, undef], c => [.2, .3], d => [.3, .6],
    awake => [undef, undef],
);
my %id;
for my $name (sort keys %sleepers) {
    my ($idle, $save) = @{ $sleepers{$name} };
    $id{$name} = create_vm({ name => $name, idle_timeout => $idle,
                             save_after => $save })->{id};
    create_route($id{$name}, $name);
}
is(page($_)->{status}, 200, "guest $_ is up") for sort keys %id;

# One client: requests with pauses, each noted with its answer.
sub client {
    my ($n, $until) = @_;
    my @names = sort keys %id;
    my ($count, @notes) = (0);
    srand $n * 1000 + $$;

    while (time < $until) {
        my $name = $names[rand @names];
        my $number = sprintf '%d-%d', $n, ++$count;
        my $began = time;
        my $r = page($name, "/cgi-bin/count?$number");
        my $status = $r ? $r->{status} : 'none';
        my $code = $status eq '200' ? '-'
                   : eval { json($r->{body})->{code} } // 'shapeless';
        push @notes, sprintf "%s %s %s %s %.3f %.3f %s\n", $name, $number,
             $status, $code, $began, time - $began,
             $r && $r->{headers}{'retry-after'} // '-';
        sleep(rand() < .3 ? 0 : rand .8);
    }
    write_file("$dir/notes.$n", join '', @notes);
}

my (@pids, @outages);
my $until = time + $seconds;
for my $n (1 .. $clients) {
    my $pid = fork // die;
    if (!$pid) {
        client($n, $until);
        POSIX::_exit(0);
    }
    push @pids, $pid;
}

# the agent is killed every 12 s, libvirtd restarted once half way
my ($restarted, $kills) = (0, 0);
my $next = time + 8;
while (time < $until - 5) {
    wait_until('the next trouble', sub { time >= $next || time > $until - 5 },
               20);
    last if time > $until - 5;
    my $began = time;
    if (!$restarted && $until - time < $seconds / 2) {
        stop_libvirtd();
        start_libvirtd();
        wait_until('connected', sub { zone()->{libvirt} eq 'connected' });
        $restarted = 1;
    } else {
        stop_agent('KILL');
        agent();
        $kills++;
    }
    push @outages, [$began - 1, time + 5];   # and what is backed off then
    $next = time + 12;
}
waitpid $_, 0 for @pids;

# --- what came of it ---

my (%served, @notes, %status, @wrong);
for my $n (1 .. $clients) {
    push @notes, map [split ' '], split /\n/, slurp("$dir/notes.$n");
}
for my $name (sort keys %id) {
    my $list = wait_until("$name tells", sub {
        my $r = page($name, '/cgi-bin/count');
        $r->{status} == 200 && $r;
    });
    $served{"$name $_"}++ for split ' ', $list->{body};
}

for my $note (@notes) {
    my ($name, $number, $status, $code, $began, $took, $retry) = @$note;
    my $times = delete $served{"$name $number"} // 0;
    my $outage = grep $began + $took > $_->[0] && $began < $_->[1], @outages;
    my $shaped = $status eq '503' && $retry =~ /^\d+$/ && $outage
                 && $name ne 'awake'
                 && $code =~ /^(agent_unavailable|wake_failed)$/;
    $status{$status}++;
    next if $status eq '200' && $times == 1 && $took < $patience;
    next if $shaped && $times == 0;
    push @wrong, "@$note: served $times times"
               . ($outage ? ', in an outage' : '');
}
is(join("\n", @wrong), '', 'no request failed, hung or was served twice');
is_deeply(\%served, {}, 'none was served that nobody sent');

my ($cycles, %kinds) = (0);
for my $name (sort keys %id) {
    my $woken = woken($id{$name});
    $cycles += $_, for values %$woken;
    $kinds{$_} += $woken->{$_} for keys %$woken;
}
cmp_ok($cycles, '>', $seconds, 'they slept and woke');
is($kinds{boot}, 0, 'none lost its memory');
is(woken($id{awake})->{resume}, 0, 'the one that never sleeps did not');
is($restarted, 1, 'libvirtd was restarted') if $seconds >= 30;

my @took = sort { $a <=> $b } map $_->[5], @notes;
diag(sprintf '%d requests (%s), %d cycles (%s), agent killed %d times, '
     . 'median %.0f ms, worst %.0f ms', scalar @notes,
     join(', ', map "$_: $status{$_}", sort keys %status), $cycles,
     join(', ', map "$_: $kinds{$_}", sort keys %kinds), $kills,
     $took[@took / 2] * 1000, $took[-1] * 1000);

allow_log(qr/connect\(\) (?:to unix:\S+ )?failed/);
done();
