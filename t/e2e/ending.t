#!/usr/bin/perl

# A worker that is told to end still answers what it has read: changes of
# routes that wait for the disk, requests that are held, and scrapes.

use strict;
use warnings;

use IPC::Open2;
use Test::Hatch world => 'plain';
use Test::Hatch::Matrix;
use Test::Hatch::Storm;
use Test::More;

matrix({ workers => 1 }, ending => [{ held => 0, listen => 'sndbuf=8k' }, q{
    location / { ROUTE PASS }
    location = /metrics { hatch_metrics; }
    location /routes { hatch_api; }
    location /vms { hatch_api; }
}]);
my $port = row_port('ending');
my $host = 'hatch.localhost';

sub begin { return Test::Hatch::Storm::begin($port, request_text(@_)) }

# "STATUS", or what went wrong, of each.
sub answers {
    my %got;
    for my $r (map Test::Hatch::Storm::finish($_), @_) {
        $got{$r->{lost} // $r->{status}}++;
    }
    return \%got;
}

# The worker ends as soon as it can; it does not before the code has run.
sub ending {
    my ($code) = @_;
    my ($worker) = workers();
    kill_pid('QUIT', $worker);
    wait_until('it is told to end', sub {
        slurp("/proc/$worker/cmdline") !~ /^nginx: worker process(?! is)/
    });
    $code->();
    return $worker;
}

sub ended {
    my ($worker, $what) = @_;
    ok(wait_until("$what: it ends", sub { !-e "/proc/$worker" }, 10),
       "$what: the worker ends then");
    wait_until('another one', sub { workers() == 1 });
}

# --- changes ---

my $patched = create_route($vm{b}, 'patched')->{id};
my $deleted = create_route($vm{b}, 'deleted')->{id};
my $holder = open2(my $out, my $in, "$Test::Hatch::build/unit/store-hold",
                   "$dir/routes");
is(scalar <$out>, "held\n", 'the store is held');
my $post = "/vms/$vm{b}/routes";
my @changes = (
    (map begin('POST', 'localhost', $post,
               qq({"subdomain":"new-$_","target_port":80})), 1 .. 5),
    begin('PATCH', 'localhost', "/routes/$patched", '{"target_port":81}'),
    begin('DELETE', 'localhost', "/routes/$deleted"));
# it has read them when this is answered
is(ask($port, 'GET localhost /routes')->{status}, 200, 'they wait');
my $worker = ending(sub { close $in; waitpid $holder, 0 });
is_deeply(answers(@changes), { 201 => 5, 200 => 2 },
          'changes that waited for the disk are answered');
ended($worker, 'changes');
my %routes = map { ($_->{subdomain} => $_->{target_port}) }
             @{ api('GET', '/routes')->{json} };
is_deeply([@routes{qw(new-1 new-5 patched deleted)}], [80, 80, 81, undef],
          'and are there');

# --- held requests that end at once ---

sub held_total { return metrics()->{hatch_held_requests_total} // 0 }

my $agent = zone()->{agent_pid};
for ([a => 200], [refused => 502]) {
    my ($name, $status) = @$_;
    sleep_now();
    kill_pid('STOP', $agent);
    my $before = held_total();
    my @held = map begin('GET', "$name.$host", '/'), 1 .. 100;
    wait_until('all are held', sub { held_total() == $before + 100 });
    $worker = ending(sub { kill_pid('CONT', $agent) });
    is_deeply(answers(@held), { $status => 100 },
              "100 held requests that end at once: $status each");
    ended($worker, "held, $status");
}

# --- scrapes ---

create_vm({ enable_network => JSON::PP::false, idle_timeout => undef })
    for 1 .. 40;
my @scrapes = map Test::Hatch::Storm::begin(
    $port, request_text('GET', 'localhost', '/metrics'), 'slow'), 1 .. 10;
# each has begun, and more than its socket takes is to come
for my $q (@scrapes) {
    wait_until('it begins', sub {
        recv($q->{socket}, my $head, 1, Socket::MSG_PEEK()) // die;
        length $head
    });
}
$worker = ending(sub { });
is_deeply(answers(@scrapes), { 200 => 10 }, 'scrapes are whole');
ended($worker, 'scrapes');

allow_log(qr/connect\(\) failed \(111: Connection refused\)/);
done();
