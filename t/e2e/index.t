#!/usr/bin/perl

# The index of the routes in nginx: built by itself, right at once after each
# change in every worker, and no harm done by removing or damaging it.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my $index = "$dir/routes/index";

start_agent(env => { HATCH_LOG_LEVEL => 'info' });
start_nginx(workers => 3, http => <<'END');
    server {
        listen 127.0.0.1:9091;
        location / {
            hatch_route hatch.localhost;
            hatch_wake off;
            add_header X-Route $hatch_route_id always;
            proxy_pass http://vms;
        }
    }
END

# the route that a name has, or what is said instead
sub route_of {
    my ($name) = @_;
    my $r = http('127.0.0.1:9091', 'GET', '/', undef,
                 Host => "$name.hatch.localhost") or return 'no answer';
    return $r->{status} == 503 ? $r->{headers}{'x-route'} : $r->{status};
}

my $vm = create_vm()->{id};
is(api('POST', "/vms/$vm/stop")->{status}, 200,
   'a VM that sleeps: its requests are answered at once');

ok(wait_until('the index is there', sub { -e $index }), 'an index');
my @stat = stat $index;
is($stat[2] & 07777, 0600, 'for its owner only');
is(getpwuid $stat[4], 'www-data', "the workers' user");

my %id;
for my $n (1 .. 40) {
    # of all lengths, also those that it has no room for
    my $name = "r$n" . 'x' x ($n + 10);
    $id{$name} = create_route($vm, $name)->{id};
}

sub all_right { return !grep route_of($_) ne $id{$_}, keys %id }

ok(everywhere('every worker', \&all_right), 'each name has its route');
is(route_of('nobody'), 404, 'another name has none');

my $wrong = 0;
for my $n (1 .. 100) {
    my $route = create_route($vm, 'comes')->{id};
    $wrong += grep route_of('comes') ne $route, 1 .. 6;
    $wrong++ if api('DELETE', "/routes/$route")->{status} != 200;
    $wrong += grep route_of('comes') ne '404', 1 .. 6;
}
is($wrong, 0, 'a route that comes and goes: right after each answer');

# Something is done to the file; all goes on, and there is a good one again.
sub harm {
    my ($what, $code) = @_;
    my $was = (stat $index)[1];
    $code->();
    ok(all_right(), "$what: each name has its route");
    my ($name) = keys %id;
    is(api('DELETE', "/routes/$id{$name}")->{status}, 200, 'a change');
    delete $id{$name};
    is(route_of($name), 404, 'is seen');
    ok(all_right(), 'and no other');
    ok(wait_until('a new one', sub {
        all_right();
        my @now = stat $index;
        return @now && $now[1] != $was && $now[7] > 65536;
    }), 'the index is made anew');
}

harm('removed', sub { unlink $index });
harm('cut', sub { truncate $index, 5000 });
harm('overwritten', sub { write_file($index, 'text ' x 20000) });
harm('replaced', sub {
    write_file("$index.x", "\0" x 70000);
    rename "$index.x", $index;
});

kill 'HUP', Test::Hatch::nginx_pid();
ok(everywhere('after a reload', \&all_right), 'right after a reload');

my @old = workers();
kill 'KILL', @old;
ok(wait_until('new workers', sub {
    my %old = map { $_ => 1 } @old;
    my @new = workers();
    return @new == 3 && !grep $old{$_}, @new;
}), 'workers are killed');
ok(everywhere('after that', \&all_right), 'right in the next ones');
is_deeply([glob "$dir/routes/index.*"], [], 'nothing is left over');

allow_log(qr/exited on signal 9/);
done();
