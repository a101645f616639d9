#!/usr/bin/perl

# `make run` as a user sees it: the two URLs, sleep and wake, Ctrl-C at any
# moment, again, beside others, after a kill -9, and the ways in which it cannot
# start.  Whatever happens, the machine is as it was before.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;
use Time::HiRes qw(time);

# what the test's own parent ignores (nohup) is no part of it
$SIG{$_} = 'DEFAULT' for qw(HUP INT QUIT TERM);

my $run = "$top/util/run";
my $log;
my $n = 0;

# they would make `make` a part of the one that runs this test
delete @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES)};

# what an earlier run has found out: each starts as on a fresh machine
my $build = "$dir/build";
mkdir $build;
symlink "$Test::Hatch::build/$_", "$build/$_"
    for qw(hatch-agent hatch-zone ngx_http_hatch_module.so image);

sub traces { return scalar qx($top/t/lib/traces) }

# What is there now and was not, or the other way round.
sub changes {
    my ($before) = @_;
    my %change;

    $change{$_}++ for split /\n/, traces();
    $change{$_}-- for split /\n/, $before;
    return join '', map { ($change{$_} > 0 ? '+' : '-') . "$_\n" }
                    grep $change{$_}, sort keys %change;
}

# Commands that stand before the machine's, for one run.
sub stubs {
    my (%stubs) = @_;
    my $bin = "$dir/bin" . ++$n;

    mkdir $bin;
    for my $name (keys %stubs) {
        write_file("$bin/$name", "#!/bin/sh\n$stubs{$name}\n");
        chmod 0755, "$bin/$name";
    }
    return "$bin:$ENV{PATH}";
}

sub start {
    my (@cmd) = @_;
    $log = "$dir/logs/run" . ++$n . '.out';
    return spawn($log, @cmd ? @cmd : ($run, $build));
}

sub runs {
    wait_until('it runs, or fails',
               sub { slurp($log) =~ /Ctrl-C ends it|cleaning up/ }, 120);
    return like(slurp($log), qr/Ctrl-C ends it/, 'it runs');
}

# Ends within seconds, with that status, and nothing is left.
sub ends {
    my ($pid, $status, $clean, $what) = @_;
    my $begin = time;

    is(reap($pid, 60), $status, "$what: status")
        or diag(slurp($log));
    cmp_ok(time - $begin, '<', 15, "$what: soon");
    unlike(slurp($log), qr{util/run: line \d}, "$what: no word of bash's");
    is(changes($clean), '', "$what: nothing is left");
}

sub fails {
    my ($what, $why, @cmd) = @_;
    my $clean = traces();
    my $pid = start(@cmd);

    wait_until("$what: it fails", sub { slurp($log) =~ /^run: /m }, 90);
    ends($pid, 1 << 8, $clean, $what);
    like(slurp($log), qr/^run: $why/m, "$what: says why");
}

my $clean = traces();

# once with all that it says, sleep and wake, and a second one
{
    my $pid = start();
    runs();
    my $out = slurp($log);
    my $first = $log;

    like($out, qr/starting libvirt/, 'a libvirt of its own');
    like($out, qr{\$ curl http://demo\.hatch\.localhost:9090/.*?Hello from a}s,
         'the page');
    like($out, qr/^\{"status":"ok","vm_count":1,"route_count":1\}$/m,
         'the health');
    my ($demo) = $out =~ m{Logs are in (/run/hatch-demo\.\w+)\.};
    ok(-s "$demo/agent.log", 'the logs are there, seen from outside');

    my ($qemu) = grep { slurp("$_/cmdline") =~ /^\S*qemu-system/ }
                 glob '/proc/[0-9]*';
    is((stat $qemu)[4], getpwnam('libvirt-qemu'), 'QEMU runs as libvirt-qemu');

    like(qx(curl -s http://demo.hatch.localhost:9090/),
         qr/Hello from a virtual machine/, 'curl sees the page, too');
    my $asked = time;

    start();
    my $second = (sort { $b <=> $a } keys %Test::Hatch::pids)[0];
    is(reap($second) >> 8, 1, 'a second one does not start');
    like(slurp($log),
         qr/^run: port 8080 is in use; .* another demo, see \Q$demo\E/m,
         'and says why');
    $log = $first;

    wait_until('it sleeps', sub { slurp($log) =~ /the VM sleeps/ }, 60);
    cmp_ok(time - $asked, '>', 9, 'not before its time');
    is(qx(curl -s http://localhost:8080/healthz),
       '{"status":"ok","vm_count":1,"route_count":1}', 'a look at the health');
    unlike(slurp($log), qr/woke it/, 'does not wake it');
    like(qx(curl -s http://demo.hatch.localhost:9090/),
         qr/Hello from a virtual machine/, 'a request does');
    wait_until('it is told', sub {
        slurp($log) =~ /a request woke it: resume, in \d+ ms\n/ });

    kill 'TERM', $pid;
    ends($pid, 0, $clean, 'TERM');
    ok(!-e $demo, 'its folder is gone');
}

# as a user: make, and Ctrl-C on a terminal
{
    pipe my $keys, my $typed or die;
    $log = "$dir/logs/terminal.out";
    my $pid = fork // die;

    if (!$pid) {
        POSIX::setsid();
        open STDIN, '<&', $keys;
        open STDOUT, '>', $log;
        open STDERR, '>&', \*STDOUT;
        close $typed;
        exec 'script', '-qec', "make -C '$top' BUILD='$Test::Hatch::build' run",
             '/dev/null' or POSIX::_exit(127);
    }

    $Test::Hatch::pids{$pid} = 'make run';
    runs();
    syswrite $typed, "\cC";
    ends($pid, 0, $clean, 'Ctrl-C on a terminal');
    unlike(slurp($log), qr/make.*(?:Error|Interrupt)/, 'make says nothing');
}

# nothing is left when it is killed, but what the next one clears
{
    my $pid = start();
    runs();
    my ($demo) = slurp($log) =~ m{Logs are in (/run/hatch-demo\.\w+)\.};
    kill 'KILL', $pid;
    is(reap($pid), 9, 'killed');
    wait_until('all processes end', sub {
        traces() =~ /--- processes\n\z/ });
    ok(-d $demo, 'its folder is there');

    $pid = start();
    runs();
    like(slurp($log), qr/clearing what an earlier run has left/, 'the next');
    ok(!-e $demo, 'the old folder is gone');
    kill 'HUP', -$pid;
    ends($pid, 0, $clean, 'HUP to all');
}

# others' settings: a tight umask, no ::1, a proxy, a network that is taken
{
    system 'ip addr del ::1/128 dev lo; ip link add other type bridge;'
           . 'ip addr add 10.201.0.1/16 dev other; ip link set other up';
    umask 077;
    local $ENV{http_proxy} = 'http://192.0.2.99:1/';
    local $ENV{HATCH_SOCKET} = '/nowhere/agent.sock';
    local $ENV{LIBVIRT_DEFAULT_URI} = 'test:///default';
    my $before = traces();
    my $pid = start();
    runs();
    like(slurp($log), qr/"guest_ip":"172\.30\.240\.2"/, 'another network');
    kill 'INT', -$pid;
    ends($pid, 0, $before, 'umask 077, no ::1');

    umask 027;
    write_file("/proc/sys/net/ipv6/conf/$_/disable_ipv6", 1) for qw(all lo);
    $before = traces();
    local $SIG{INT} = 'IGNORE';         # as a script's background job has it
    $pid = start();
    runs();
    kill 'INT', $pid;
    ends($pid, 0, $before, 'umask 027, no IPv6');

    umask 022;
    write_file("/proc/sys/net/ipv6/conf/$_/disable_ipv6", 0) for qw(all lo);
    system 'ip link del other; ip addr replace ::1/128 dev lo';
    $clean = traces();
}

# ports
for my $taken ('127.0.0.1', '0.0.0.0', '::1') {
    require IO::Socket::IP;
    my $port = $taken eq '0.0.0.0' ? 8080 : 9090;
    my $socket = IO::Socket::IP->new(LocalHost => $taken, LocalPort => $port,
                                     Listen => 1) or die "$taken: $!";
    fails("port taken on $taken",
          "port $port is in use; stop what listens on it and run again");
    unlike(slurp($log), qr/==>/, 'before anything is started');
}

# what cannot start, and what ends too soon
{
    local $ENV{PATH} = stubs(libvirtd => 'echo it is broken >&2; exit 1');
    fails('no libvirt', 'libvirt does not start: it is broken$');
    like(slurp($log), qr/^--- the last lines of libvirtd\.log\nit is broken$/m,
         'with its log');
}

{
    local $ENV{PATH} = stubs(nginx => 'echo nginx: wrong >&2; exit 1');
    fails('no nginx', 'nginx does not start: nginx: wrong$');
}

{
    local $ENV{PATH} = stubs(unshare =>
        'echo "unshare: unshare failed: Operation not permitted" >&2; exit 1');
    fails('no namespaces', 'cannot make namespaces: .*not permitted');
}

{
    local $ENV{HATCH_FAULT} = 'create.started';
    allow_log(qr/upstream prematurely closed connection/);
    fails('the agent dies', 'POST /vms answered: ');
    like(slurp($log), qr/^--- the last lines of agent\.log\n\S+ info: /m,
         "with the agent's log");
    like(slurp($log), qr/^--- the last lines of libvirt\/log\/qemu\/vm_/m,
         "and QEMU's");
}

# signals at random moments, to the script alone and to its process group
my $seed = $ENV{HATCH_RANDOM_SEED} // int rand 1e9;
srand $seed;
diag("seed $seed");

for my $round (1 .. $ENV{HATCH_RANDOM_ROUNDS} // 10) {
    my $signal = (qw(INT TERM HUP))[rand 3];
    my $whom = rand 2 < 1 ? 'it' : 'all';
    my $after = rand 2 < 1 ? rand 1 : rand 8;
    my $pid = start();

    select undef, undef, undef, $after;
    kill $signal, $whom eq 'it' ? $pid : -$pid;

    # before it has set its traps it just dies, with nothing made yet
    my $what = sprintf '%s to %s after %.3f s', $signal, $whom, $after;
    my $status = $after < 0.1 && slurp($log) eq '' ? undef : 0;
    my $got = reap($pid, 60);
    is($got, 0, $what) if defined $status || !$got;
    is(changes($clean), '', "$what: nothing is left");
}

done();
