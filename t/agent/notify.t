#!/usr/bin/perl

# What a service manager is told: ready, status, reload, stop, signs of life.

use strict;
use warnings;

use IO::Select;
use Socket;
use Test::Hatch world => 'plain';
use Test::More;
use Time::HiRes qw(time);

my ($socket, $heard);

# A manager that listens, at a path or by an abstract name.
sub listen_at {
    my ($name) = @_;
    (my $address = $name) =~ s/^@/\0/;
    socket $socket, AF_UNIX, SOCK_DGRAM, 0 or die;
    bind $socket, pack_sockaddr_un($address) or die "$name: $!";
    $heard = '';
    return $name;
}

# All that was said so far, a line each.
sub heard {
    my $select = IO::Select->new($socket);
    while ($select->can_read(0)) {
        recv $socket, my $text, 65536, 0;
        $heard .= "$text\n";
    }
    return $heard;
}

sub hears {
    my ($what, $pattern, $seconds) = @_;
    ok(wait_until($what, sub { heard() =~ $pattern }, $seconds), $what)
        or diag(heard());
}

# --- a life ---

my $name = listen_at("$dir/notify");
mkdir "$dir/bin";
write_file("$dir/bin/xorriso", "#!/bin/sh\nenv > $dir/tool\n"
                               . "exec /usr/bin/xorriso \"\$@\"\n");
chmod 0755, "$dir/bin/xorriso";

start_agent(env => { NOTIFY_SOCKET => $name, PATH => "$dir/bin:$ENV{PATH}" });
hears('READY', qr/^READY=1$/m);
like(heard(), qr/^STATUS=0 VMs, 0 running\nREADY=1$/m,
     'and what it is doing');
unlike(heard(), qr/WATCHDOG/, 'nobody asked for signs of life');

my $vm = create_vm({ user_data => "#cloud-config\n{}\n" });
hears('a VM more', qr/^STATUS=1 VM, 1 running$/m);
like(slurp("$dir/tool"), qr/^PATH=/m, 'a tool was run');
unlike(slurp("$dir/tool"), qr/^NOTIFY_SOCKET|^WATCHDOG/m,
       'which knows nothing of the manager');

kill_pid('HUP', $Test::Hatch::agent);
hears('reload: RELOADING, with its time, then READY',
      qr/READY=1.*^RELOADING=1\nMONOTONIC_USEC=\d+\nREADY=1$/ms);
write_file("$dir/bad.json", '{');
is(stop_agent(), 0, 'it ends');
like(heard(), qr/^STOPPING=1\nSTATUS=stopping/m, 'STOPPING');
is(scalar(() = heard() =~ /^STATUS=1 VM, 1 running$/mg), 1,
   'a status is said once');

# --- an abstract name, and signs of life ---

$name = listen_at("\@hatch-$$");
start_agent(env => { NOTIFY_SOCKET => $name, WATCHDOG_USEC => 400000 });
hears('signs of life', qr/(?:^WATCHDOG=1\n.*?){5}/ms);
stop_agent();

# somebody else's
$name = listen_at("$dir/notify2");
start_agent(env => { NOTIFY_SOCKET => $name, WATCHDOG_USEC => 20000,
                     WATCHDOG_PID => 1 });
create_vm();
hears('ready', qr/^STATUS=1 VM, 1 running/m);
unlike(heard(), qr/WATCHDOG/, 'a WATCHDOG_PID that is another\'s');
stop_agent();

# --- loops that hang ---

for my $loop (qw(heartbeat wake idle)) {
    my $before = length agent_log();
    $name = listen_at("$dir/notify-$loop");
    write_file("$dir/hang", '');
    start_agent(wait => 0, env => {
        NOTIFY_SOCKET => $name, WATCHDOG_USEC => 400000,
        HATCH_FAULT => "watchdog.$loop:hang", HATCH_FAULT_FILE => "$dir/hang" });

    # the wake socket's loop begins to work when somebody connects
    wait_until('it listens', sub { Test::Hatch::connect_to("$dir/run/wake.sock") })
        if $loop eq 'wake';
    wait_until("$loop hangs", sub {
        substr(agent_log(), $before)
            =~ /error: the $loop loop has not ended a round for more than 200 ms/
    });
    my $count = () = heard() =~ /^WATCHDOG=1$/mg;
    select undef, undef, undef, 0.9;
    is(scalar(() = heard() =~ /^WATCHDOG=1$/mg), $count,
       "the $loop loop hangs: no sign of life");
    unlink "$dir/hang";
    wait_until('it goes on', sub {
        (() = heard() =~ /^WATCHDOG=1$/mg) > $count + 1 });
    pass('it goes on, and lives');
    stop_agent();
}
allow_log(qr/error: the \w+ loop has not ended a round/);

# --- libvirt is away ---

$name = listen_at("$dir/notify3");
my $began = time;
start_agent(wait => 0, args => ["--state-dir", "$dir/state2"],
            connect => "qemu+unix:///system?socket=$dir/nothing",
            env => { NOTIFY_SOCKET => $name });
hears('it says what it waits for', qr/^STATUS=asking libvirt for its VMs$/m);
hears('ready without libvirt', qr/^READY=1$/m, 15);
my $took = time - $began;
ok($took > 9.5 && $took < 13, "after ten seconds ($took)");
hears('and it says so', qr/^STATUS=libvirt is away, no VM is known yet$/m);
stop_agent();

# --- one that cannot start ---

$name = listen_at("$dir/notify4");
my $pid;
{
    local $ENV{NOTIFY_SOCKET} = $name;
    $pid = spawn("$dir/logs/bad.log", "$Test::Hatch::build/hatch-agent",
                 '--config', "$dir/bad.json");
}
is(reap($pid) >> 8, 1, 'a bad configuration');
like(heard(), qr/^STATUS=\S*bad\.json: /m, 'the status says why');
unlike(heard(), qr/READY/, 'and it never was ready');
like(slurp("$dir/logs/bad.log"), qr/^\S+Z error: \S*bad\.json: /,
     'a fatal error has its level');
allow_log(qr/error: \S*bad\.json/);

# --- without a manager ---

start_agent(env => { NOTIFY_SOCKET => 'no address', WATCHDOG_USEC => 'x' });
is(api('GET', '/vms')->{status}, 200, 'what is no address is no reason to fail');

done();
