#!/usr/bin/perl

# /healthz while the agent is stopped, killed, or libvirtd is restarted: the
# last good counts all the time, the right ones soon after.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;
use Time::HiRes qw(time);

start_agent(connect => 'qemu:///system');
start_nginx();

my @vms = map create_vm(), 1 .. 2;
create_route($vms[0]{id}, "r$_") for 1 .. 3;
my $good = '{"status":"ok","vm_count":2,"route_count":3}';
is(healthz()->{body}, $good, 'at first');

# Asks /healthz until the code returns true; every answer must be this.
sub steady {
    my ($what, $body, $code) = @_;
    my ($n, $wrong) = (0, '');
    wait_until($what, sub {
        my $r = healthz();
        $n++;
        $wrong ||= $r ? "$r->{status} $r->{body}" : 'no answer'
            if !$r || $r->{status} != 200 || $r->{body} ne $body;
        return $code->();
    }, 30);
    is($wrong, '', "$what: the same answer all the time ($n times)");
}

my $pid = start_agent(connect => 'qemu:///system', wait => 0);
reap($pid);
allow_log(qr/is in use by another (?:process|agent)/);

# SIGSTOP: nothing of the agent runs
$Test::Hatch::agent = zone()->{agent_pid};
kill_pid('STOP', zone()->{agent_pid});
my $age = zone()->{heartbeat_age_ms};
steady('agent stopped by SIGSTOP', $good,
       sub { zone()->{heartbeat_age_ms} > 2500 });
kill_pid('CONT', zone()->{agent_pid});
steady('agent continued', $good, sub { zone()->{heartbeat_age_ms} < 500 });

# SIGTERM
is(stop_agent('TERM'), 0, 'agent stops');
my $until = time + 1;
steady('without an agent', $good, sub { time > $until });

# a change that nobody sees, then the next agent
virsh("destroy $vms[1]{id}");
virsh("undefine $vms[1]{id}");
$until = time + 0.3;
steady('a change without an agent', $good, sub { time > $until });

my $began = time;
start_agent(connect => 'qemu:///system', wait => 0);
$good = '{"status":"ok","vm_count":1,"route_count":3}';
wait_until('the next agent corrects it', sub { healthz()->{body} eq $good });
cmp_ok(time - $began, '<', 2, 'within 2 s of its start');
wait_until('its API', sub { (api('GET', '/vms') // {})->{status} == 200 });

# SIGKILL
stop_agent('KILL');
$until = time + 0.5;
steady('agent killed', $good, sub { time > $until });
start_agent(connect => 'qemu:///system');
is(healthz()->{body}, $good, 'and the next one');

# libvirtd goes away and comes back
allow_log(qr/warn: the connection to libvirt is lost/,
          qr/warn: cannot connect to libvirt/);
stop_libvirtd();
steady('libvirtd gone', $good, sub { zone()->{libvirt} eq 'disconnected' });
$until = time + 1;
steady('without libvirtd', $good, sub { time > $until });
is(api('GET', '/vms')->{status}, 200, 'the API still reads');
my $r = api('POST', '/vms', {});
is($r->{status}, 503, 'and refuses to create');
is($r->{json}{code}, 'libvirt_unavailable', 'for this reason');
is($r->{headers}{'retry-after'}, 1, 'with Retry-After');
is(api('POST', "/vms/$vms[0]{id}/stop")->{status}, 503, 'to stop, too');

start_libvirtd();
$began = time;
steady('libvirtd is back', $good, sub { zone()->{libvirt} eq 'connected' });
cmp_ok(time - $began, '<', 2, 'connected within 2 s');

# events were registered anew
virsh("destroy $vms[0]{id}");
$began = time;
wait_until('events arrive again',
           sub { zone()->{vms}[0]{state} eq 'stopped' });
cmp_ok(time - $began, '<', 1, 'at once, not by the slow comparison');

# a libvirtd that hangs: reads go on, and the agent can be stopped
my ($libvirtd) = slurp('/run/libvirtd.pid') =~ /(\d+)/;
kill_pid('STOP', $libvirtd);
is(healthz()->{body}, $good, 'libvirtd hangs: /healthz answers');
is(api('GET', "/vms/$vms[0]{id}")->{status}, 200, 'and the API reads');
my $hanging = Test::Hatch::connect_to("$dir/run/agent.sock");
print $hanging "POST /vms/$vms[0]{id}/start HTTP/1.1\r\nHost: x\r\n\r\n";
$hanging->flush;
wait_until('a call hangs', sub { api('GET', '/vms')->{status} == 200 });
is(stop_agent(), 0, 'the agent stops all the same');
kill_pid('CONT', $libvirtd);
start_agent(connect => 'qemu:///system');
wait_until('the start went through or not, and it is known', sub {
    zone()->{vms}[0]{state} eq (virsh('list --name') =~ /$vms[0]{id}/
                                ? 'running' : 'stopped')
});
is(healthz()->{body}, $good, 'and the next one begins');

# killed hard in the middle of everything
stop_libvirtd('KILL');
steady('libvirtd killed', $good, sub { zone()->{libvirt} eq 'disconnected' });
unlink '/run/libvirtd.pid';
start_libvirtd();
steady('and back', $good, sub { zone()->{libvirt} eq 'connected' });
ok(create_vm(), 'VMs can be created');
is(healthz()->{json}{vm_count}, 2, 'and are counted');

done();
