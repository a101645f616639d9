#!/usr/bin/perl

# What a held request gets when its VM does not come: a shaped answer in
# time, never a hang; other VMs do not notice.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;
use Time::HiRes qw(time);

sub agent { start_agent(connect => 'qemu:///system',
                        env => { HATCH_LOG_LEVEL => 'info' }) }

mkdir "$dir/images";
system('cp', "$Test::Hatch::build/image/vmlinuz",
       "$Test::Hatch::build/image/initrd", "$dir/images") == 0 or die;
agent();

my $proxy = "hatch_route hatch.localhost; proxy_pass http://vms; "
          . "proxy_set_header Host \$host;";
start_nginx(http => <<"EOF");
    map \$http_user_agent \$wakes {
        default on;
        ~^(kube-probe|UptimeRobot|Googlebot)  off;
    }
    server {
        listen 127.0.0.1:9091;
        location / { $proxy hatch_wake_timeout 1s; }
    }
    server {
        listen 127.0.0.1:9092;
        hatch_wake \$wakes;
        location / { $proxy }
        location /ok { $proxy hatch_asleep_status 200; }
    }
    server {
        listen 127.0.0.1:9093;
        location / { $proxy hatch_wake off; }
    }
EOF

my $image = api('POST', '/images', { kernel_path => 'vmlinuz',
                                     initrd_path => 'initrd',
                                     boot_args => 'console=ttyS0 quiet' })
            ->{json}{id};
my ($id, $other) = map create_vm({ name => $_, image_id => $image,
                                   idle_timeout => undef,
                                   save_after => undef })->{id}, 'a', 'b';
my $route = create_route($id, 'a');
create_route($id, 'closed', 81);
create_route($other, 'b');

sub act {
    my ($action, $body) = @_;
    my $r = api('POST', "/vms/$id/$action", $body // {});
    $r->{status} < 300 or diag $r->{body};
}
sub force_stop { act('stop', { force => JSON::PP::true }) }
sub from { my ($port, $path, %headers) = @_;
           return http("127.0.0.1:$port", 'GET', $path, undef,
                       Host => 'a.hatch.localhost', %headers) }
sub code { my ($r) = @_;
           return "$r->{status} " . (eval { json($r->{body})->{code} } // '') }

is(page($_)->{status}, 200, "guest $_ is up") for 'a', 'b';

# --- nothing listens ---

my $began = time;
is(code(page('closed')), '502 guest_refused', 'a port that nobody listens on');
cmp_ok(time - $began, '<', 20, 'soon after the guest is known to be up');
act('pause');
$began = time;
is(code(page('closed')), '502 guest_refused', 'the same after a wake');
cmp_ok(time - $began, '<', 5, 'at once');

# --- who may not wake it ---

act('pause');
for my $agent ('kube-probe/1.29', 'UptimeRobot/2.0', 'Googlebot') {
    is(code(from(9092, '/', 'User-Agent' => $agent)), '503 vm_not_running',
       "$agent does not wake it");
}
my $r = from(9092, '/', 'User-Agent' => 'kube-probe/1.29');
is_deeply(json($r->{body}), { error => 'the VM is paused', state => 'paused',
                              code => 'vm_not_running' }, 'but is told so');
is($r->{headers}{'retry-after'}, 1, 'Retry-After');
$r = from(9092, '/ok', 'User-Agent' => 'kube-probe/1.29');
is("$r->{status} $r->{body}", '200 {"state":"paused"}', '200 by choice');
is(code(from(9093, '/')), '503 vm_not_running', 'hatch_wake off');
is(Test::Hatch::state($id), 'paused', 'it sleeps on');
is(woken($id)->{resume}, 1, 'and was not woken');
my ($vm) = grep $_->{id} eq $id, @{ zone()->{vms} };
cmp_ok($vm->{last_request_age_ms}, '>=', $vm->{state_age_ms},
       'nor stamped while it slept');
is(from(9092, '/', 'User-Agent' => 'curl')->{status}, 200, 'a user does');
is(from(9092, '/', 'User-Agent' => 'kube-probe/1.29')->{status}, 200,
   'and then a monitor gets through');

is(api('PATCH', "/routes/$route->{id}", { auto_wake => JSON::PP::false })
   ->{status}, 200, 'a route without auto_wake');
act('pause');
is(code(page('a')), '503 vm_not_running', 'does not wake it');
is(code(from(9092, '/ok', 'User-Agent' => 'x')), '200 ', '200 by choice');
is(api('PATCH', "/routes/$route->{id}", { auto_wake => JSON::PP::true })
   ->{status}, 200, 'with auto_wake again');

# --- deadlines ---

kill_pid('STOP', my $pid = qemu_pid($id));
$began = time;
is(code(from(9091, '/')), '504 wake_timeout', 'a QEMU that hangs: 504');
cmp_ok(time - $began, '<', 6, 'after hatch_wake_timeout');
is(page('b')->{status}, 200, 'another VM answers meanwhile');
kill_pid('CONT', $pid);
is(page('a')->{status}, 200, 'it answers when it is back');

force_stop();
$r = from(9091, '/');
is(code($r), '504 wake_timeout', 'one that boots longer than that: 504');
is($r->{headers}{'retry-after'}, 1, 'Retry-After');
is(page('a')->{status}, 200, 'the wake went on all the same');

# --- it cannot be woken ---

force_stop();
rename "$dir/images/vmlinuz", "$dir/images/gone" or die;
$r = page('a');
is(code($r), '503 wake_failed', 'a VM that cannot start: 503');
is($r->{headers}{'retry-after'}, 1, 'try again after a second');
$r = page('a');
is(code($r), '503 wake_failed', 'the next one is told at once');
is(page('b')->{status}, 200, 'another VM answers');
my $failures = () = agent_log() =~ /$id: cannot be woken/g;
is($failures, 1, 'without another attempt: it is backed off');
wait_until('the second failure', sub {
    page('a')->{headers}{'retry-after'} > 1
});
rename "$dir/images/gone", "$dir/images/vmlinuz" or die;
wait_until('it is woken once the cause is gone',
           sub { page('a')->{status} == 200 }, 30);

# --- memory that cannot be restored ---

act('pause');
virsh("managedsave --running $id");
ok(wait_state($id, 'snapshotted'), 'saved');
open my $save, '+<', "/var/lib/libvirt/qemu/save/$id.save" or die;
seek $save, 8192, 0;
print $save 'x' x 4_000_000;
close $save;
$r = page('a');
is($r->{status}, 200, 'a VM whose saved memory is damaged boots');
like($r->{headers}{'server-timing'}, qr/desc="boot"/, 'and says so');
like(agent_log(), qr/$id: its saved memory cannot be restored/, 'in the log');

# --- the agent ---

act('pause');
stop_agent('KILL');
$began = time;
is(code(page('a')), '503 agent_unavailable', 'no agent, asleep: 503');
cmp_ok(time - $began, '<', 10, 'in time');
is(page('b')->{status}, 200, 'no agent, awake: 200');

my $client = fork // die;
if (!$client) {
    POSIX::_exit((page('a') // { status => 0 })->{status} == 200 ? 0 : 1);
}
agent();
waitpid $client, 0;
is($?, 0, 'a request held over a start of the agent is answered');

kill_pid('STOP', $Test::Hatch::agent);
is(page('b')->{status}, 200, 'an agent that hangs, awake: 200');
kill_pid('CONT', $Test::Hatch::agent);

allow_log(qr/connect\(\) (?:to unix:\S+ )?failed/);
done();
