#!/usr/bin/perl

# How a container of hatch:latest lives and ends: signals, exit codes, the agent
# or nginx dying, configurations that are wrong.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Container;
use Test::More;
use Time::HiRes qw(time);

sub up {
    my ($name, $arguments) = @_;
    run_container($name, '-p 8080:8080 ' . ($arguments // '')
                  . ' hatch:latest');
    return wait_until("$name is ready", sub {
        outside_get('/readyz')->{status} == 200;
    });
}

# Is nginx healthy?
sub health { return outside_get('/healthz')->{status} }

# The process of a name in a container, as the test sees it.
sub process {
    my ($name, $pattern) = @_;
    my ($pid) = map { /^\s*(\d+) .*$pattern/ ? $1 : () }
                split /\n/, podman("top $name hpid args") // '';
    return $pid;
}

# --- stopped ---

for my $signal (qw(TERM INT QUIT)) {
    up('stopped');
    my $began = time;
    podman("kill -s $signal stopped");
    is(exit_code('stopped', 9), 0, "SIG$signal ends it with 0");
    cmp_ok(time - $began, '<', 5, 'soon');
    my $log = container_log('stopped');
    like($log, qr/info: stopping; the VMs keep running/, 'the agent, too');
    unlike($log, qr/hatch-start: .*ended/, 'nothing is said to have failed');
    remove('stopped');
}

# a download that lasts: nginx waits for it, but not longer than the engine
up('busy', "--stop-timeout 10");
my $client = spawn("$dir/logs/client.log", 'podman', 'exec', 'busy', 'bash',
    '-c', 'exec 3<>/dev/tcp/127.0.0.1/9090; printf "POST / HTTP/1.1\r\n'
    . 'Host: x.hatch.localhost\r\nContent-Length: 1000\r\n\r\n" >&3; '
    . 'echo sent; sleep 60');
wait_until('a client is there', sub { slurp("$dir/logs/client.log") });
my $began = time;
podman('stop busy');
is(exit_code('busy'), 0, 'with a connection that stays: 0, too');
cmp_ok(time - $began, '<', 10, 'before the engine kills it');
kill_pid('KILL', $client);
reap($client);
remove('busy');

# while it starts
run_container('early', 'hatch:latest');
my $first = podman('inspect -f {{.State.Pid}} early');
wait_until('it takes signals', sub {
    my ($caught) = slurp("/proc/$first/status") =~ /^SigCgt:\s+(\w+)/m;
    return $caught && hex($caught) & 1 << 14;
});
podman('stop early');
is(exit_code('early'), 0, 'stopped while it starts: 0');
remove('early');

# --- the agent dies ---

up('agent');
for my $round (1 .. 2) {
    my $pid = wait_until('there is an agent',
                         sub { process('agent', qr/hatch-agent/) });
    kill 'KILL', $pid;
    wait_until('it is gone', sub { !process('agent', qr/hatch-agent/) });
    is(health(), 200, 'without the agent nginx serves, and is healthy');
    wait_until('it is back', sub {
        process('agent', qr/hatch-agent/)
            && inside('agent', 'curl -s http://localhost:8080/vms') eq '[]';
    });
    is(outside_get('/readyz')->{status}, 200, 'ready');
    isnt(process('agent', qr/hatch-agent/), $pid, 'with another agent');
}
my @waits = container_log('agent') =~
            /^hatch-start: agent ended with status 137, it is started again in (\d+) s$/mg;
is("@waits", '1 2', 'which came after one second, then after two');
is(container_state('agent'), 'running', 'the container lives');

# reload
my $worker = process('agent', qr/worker process/);
podman('kill -s HUP agent');
wait_until('SIGHUP: nginx reloads', sub {
    my $new = process('agent', qr/worker process *$/);
    $new && $new != $worker;
});
wait_until('and the agent reads its configuration', sub {
    container_log('agent') =~ /SIGHUP: the configuration was read again/;
});
is(health(), 200, 'it goes on');

# --- nginx dies ---

kill 'KILL', process('agent', qr/nginx: master/);
is(exit_code('agent'), 137, 'nginx killed: the container ends, with its code');
like(container_log('agent'),
     qr/^hatch-start: nginx ended with status 137, so does the container$/m,
     'and says so');
remove('agent');

up('nginx');
kill 'TERM', process('nginx', qr/nginx: master/);
is(exit_code('nginx'), 1, 'nginx ended by somebody: 1');
remove('nginx');

# --- wrong configurations ---

sub wrong {
    my ($what, $arguments, @messages) = @_;
    run_container('wrong', $arguments);
    my $code = exit_code('wrong');
    my $log = container_log('wrong');
    isnt($code, 0, "$what: not 0") if defined $code;
    like($log, $_, 'and says why') for @messages;
    allow_log(@messages);
    remove('wrong');
    return $code;
}

write_file("$dir/nginx.conf", 'events { } http { hatch_nothing; }');
wrong('an nginx.conf that is wrong',
      "-v $dir/nginx.conf:/etc/hatch/nginx.conf:ro hatch:latest",
      qr/\[emerg\].* unknown directive "hatch_nothing"/,
      qr{nginx cannot use /etc/hatch/nginx.conf});

write_file("$dir/agent.json", '{"connect": "test:///default", "max_vms": -1}');
wrong('an agent.json that is wrong',
      "-v $dir/agent.json:/etc/hatch/agent.json:ro hatch:latest",
      qr/"max_vms" must be/, qr/the agent cannot work here/);
wrong('a variable that is wrong', '-e HATCH_LOG_LEVEL=loud hatch:latest',
      qr/"log_level" must be/, qr/the agent cannot work here/);

is(wrong('a word that means nothing', 'hatch:latest hatch-start everything',
         qr/^ *hatch-start \[nginx \| agent\]/m), 2, 'usage: 2');

my $none = "--mount type=tmpfs,destination=/run/libvirt hatch:latest";
wrong('a mounted folder where no libvirt is', $none,
      qr{/run/libvirt is mounted, but no libvirt answers at});

# one that is named may come later
run_container('later', '-p 8080:8080 -e HATCH_CONNECT=qemu:///system '
              . 'hatch:latest');
wait_until('nginx serves', sub {
    outside_get('/readyz')->{body} =~ /"libvirt":"disconnected"/;
});
is(outside_get('/readyz')->{status}, 503,
   'without the libvirt that was named it is not ready');
is(container_state('later'), 'running', 'and waits for it');
remove('later');

all_done();
