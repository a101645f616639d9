#!/usr/bin/perl

# When VMs fall asleep: what counts as use, and that idle times are right,
# also over restarts of agent and nginx.  Never early; late by a second at most,
# and by what a busy machine takes.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;
use Time::HiRes qw(time);

sub agent {
    start_agent(connect => 'qemu:///system',
                env => { HATCH_IDLE_TIMEOUT => '2s',
                         HATCH_SAVE_AFTER => 'never' });
}
agent();
sub nginx {
    start_nginx(http => <<'EOF');
    server {
        listen 127.0.0.1:9092;
        hatch_wake off;
        location / { hatch_route hatch.localhost; proxy_pass http://vms; }
    }
EOF
}
nginx();

# How long after $since the VM is in that state, s.
sub until_state {
    my ($id, $state, $since) = @_;
    wait_state($id, $state, 10) or return 99;
    return time - $since;
}

sub between {
    my ($value, $min, $max, $name) = @_;
    ok($value >= $min && $value <= $max, $name)
        or diag("$value is not in $min..$max");
}

# Calls code every 0.2 s for that many seconds.
sub keep_on {
    my ($seconds, $code) = @_;
    my ($until, $next) = (time + $seconds, time);
    wait_until('time passes', sub {
        return 1 if time >= $until;
        if (time >= $next) { $code->(); $next += .2 }
        return 0;
    }, $seconds + 10);
}

my $vm = create_vm();
my $id = $vm->{id};
create_route($id, $_) for 'one', 'two';
is($vm->{idle_timeout}, 2, 'idle_timeout is the configured one');
is($vm->{save_after}, undef, 'save_after, too');

# --- on time ---

is(page('one')->{status}, 200, 'the guest is up');
my $t = time;
is(page('one')->{status}, 200, 'a request');
between(until_state($id, 'paused', $t), 1.95, 4, 'paused after idle_timeout');
$t = time;
is(page('two')->{status}, 200, 'it wakes');
between(until_state($id, 'paused', $t), 1.95, 4, 'and sleeps again');
keep_on(2, sub { });
is(Test::Hatch::state($id), 'paused', 'save_after never: it stays paused');

# --- what is use ---

sub sleeps {
    my $log = agent_log();
    my $n = () = $log =~ /$id: idle, paused/g;
    return $n;
}

page('one');
my $n = sleeps();
keep_on(4.5, sub { page('two') });
is(sleeps(), $n, 'requests on one route keep it awake for all');
keep_on(4.5, sub { api('PATCH', "/vms/$id", { name => 'n' . int rand 99 }) });
is(sleeps(), $n, 'so do changes through the API');
keep_on(4.5, sub { api('GET', "/vms/$id"); api('GET', '/vms') });
is(sleeps(), $n + 1, 'looking at it does not');
page('one');
$n = sleeps();
keep_on(4.5, sub { http('127.0.0.1:9092', 'GET', '/', undef,
                        Host => 'one.hatch.localhost') if int(time * 2) % 2 });
is(sleeps(), $n + 1, 'nor do requests with "hatch_wake off"');

# --- changes ---

is(api('PATCH', "/vms/$id", { idle_timeout => undef })->{status}, 200, 'never');
page('one');
keep_on(3, sub { });
is(Test::Hatch::state($id), 'running', 'then it does not sleep');
$t = time;
is(api('PATCH', "/vms/$id", { idle_timeout => .3, save_after => 1.5 })
   ->{status}, 200, 'a third of a second');
between(until_state($id, 'paused', $t), .25, 3, 'counts from the change');
$t = time;
between(until_state($id, 'snapshotted', $t), 1, 4, 'saved after save_after');
is(page('one')->{status}, 200, 'it wakes from there, too');

# --- over restarts ---

for my $signal ('KILL', 'TERM') {
    is(api('PATCH', "/vms/$id", { idle_timeout => 3, save_after => 3 })
       ->{status}, 200, 'three seconds');
    $t = time;
    is(page('one')->{status}, 200, 'a request');
    keep_on(1, sub { });
    stop_agent($signal);
    agent();
    between(until_state($id, 'paused', $t), 2.9, 5.5,
            "SIG$signal to the agent: asleep on time");
    $t = time;
    keep_on(1, sub { });
    stop_agent($signal);
    agent();
    between(until_state($id, 'snapshotted', $t), 2.5, 5.5, 'saved on time');
    is(page('one')->{status}, 200, 'awake');
}

# use through the API is remembered, too
$t = time;
is(api('PATCH', "/vms/$id", { name => 'used' })->{status}, 200, 'used');
keep_on(1, sub { });
stop_agent('KILL');
agent();
between(until_state($id, 'paused', $t), 2.9, 5.5, 'API use survives kill -9');

# nginx
$t = time;
is(page('one')->{status}, 200, 'a request');
keep_on(1, sub { });
kill 'HUP', Test::Hatch::nginx_pid();
between(until_state($id, 'paused', $t), 2.9, 5.5, 'over a reload of nginx');

# a new zone.activity knows of no request: the agent remembers those before
is(page('one')->{status}, 200, 'a request');
keep_on(1.5, sub { });
is(page('one')->{status}, 200, 'and another');
$t = time;
stop_nginx();
unlink "$dir/run/zone.activity" or die $!;
nginx();
between(until_state($id, 'paused', $t), 2.9, 5.5, 'over a new zone.activity');

# --- what cannot be known ---

is(page('one')->{status}, 200, 'a request');
stop_agent();
stop_nginx();
write_file("$dir/run/zone.activity", 'x' x 8192);
agent();
keep_on(4, sub { });
is(Test::Hatch::state($id), 'running', 'without zone.activity no VM sleeps');
like(agent_log(), qr/warn: .*zone\.activity.*no VM falls asleep/, 'and why');
start_nginx(conf => slurp("$dir/nginx.conf"));
ok(wait_state($id, 'paused', 6), 'it does with the one that nginx makes');
my ($aside) = glob "$dir/run/zone.activity.aside-*";
is(slurp($aside // ''), 'x' x 8192, 'what was there has another name');
like(nginx_log(), qr/\[warn\].*was no activity file, it is kept as "\Q$aside"/,
     'which nginx logs');

allow_log(qr/connect\(\) (?:to unix:\S+ )?failed/);
done();
