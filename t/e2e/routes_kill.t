#!/usr/bin/perl

# 500 routes written by 8 clients at once while workers are killed with -9:
# every route that was acknowledged is there afterwards, in every worker, and
# in a new nginx, too.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;
use Time::HiRes qw(time);

use constant { CLIENTS => 8, ROUTES => 500 };

start_agent(env => { HATCH_LOG_LEVEL => 'info' });
start_nginx(workers => 4);

my @vms = map create_vm()->{id}, 1 .. 4;
my (@clients, %said);

# Each client writes its share and prints what was acknowledged.
for my $k (1 .. CLIENTS) {
    my $pid = open(my $fh, '-|') // die;

    if (!$pid) {
        $| = 1;
        my $mine = int(ROUTES / CLIENTS) + ($k <= ROUTES % CLIENTS);
        my $deadline = time + 60;

        for (my $n = 1; $n <= $mine && time < $deadline; ) {
            my $r = http('127.0.0.1:8080', 'POST',
                         "/vms/$vms[$n % @vms]/routes",
                         qq({"target_port":$n,"subdomain":"c$k-$n"}));

            # no answer: it may have been written or not; 409 says which
            if ($r && ($r->{status} == 201 || $r->{status} == 409)) {
                print "c$k-$n $n\n";
                $n++;
            }
        }
        POSIX::_exit(0);
    }

    push @clients, $fh;
}

my ($kills, $busy) = (0, 1);

while ($busy) {
    my ($worker) = workers();
    if ($worker) { kill 'KILL', $worker; $kills++ }

    my $in = '';
    vec($in, fileno $_, 1) = 1 for @clients;
    select $in, undef, undef, 0.02;

    for my $fh (splice @clients) {
        if (vec($in, fileno $fh, 1)) {
            my $n = sysread $fh, my $buffer, 65536;
            if (!$n) { close $fh; next }
            $said{$1} = $2 while $buffer =~ /(\S+) (\d+)\n/g;
        }
        push @clients, $fh;
    }
    $busy = @clients;
}

cmp_ok($kills, '>', 10, "$kills workers were killed");
is(scalar keys %said, ROUTES, ROUTES . ' routes were acknowledged');

sub check {
    my ($what) = @_;
    my (%have, $after);

    for (1 .. 20) {
        my $r = http('127.0.0.1:8080', 'GET',
                     '/routes?limit=100' . ($after ? "&after=$after" : ''));
        my @page = @{ json($r->{body}) } or last;
        $have{$_->{subdomain}} = $_->{target_port} for @page;
        $after = $page[-1]{id};
    }

    is_deeply(\%have, \%said, "$what: exactly the acknowledged ones");
    is(healthz()->{json}{route_count}, ROUTES, "$what: and so many");
}

wait_until('4 workers', sub { workers() == 4 });
check('after the kills');

stop_nginx();
start_nginx(workers => 2);
check('in a new nginx');

# the store was not damaged: all of it can be deleted again
is(api('DELETE', "/vms/$_")->{status}, 200, 'delete a VM') for @vms;
is(healthz()->{body}, '{"status":"ok","vm_count":0,"route_count":0}',
   'and all routes are gone');

allow_log(qr/\[alert\] \S+ worker process \d+ exited on signal 9/);
done();
