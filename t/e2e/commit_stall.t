#!/usr/bin/perl

# A route's commit may have to wait for the disk or for another writer.  The
# worker must not: here somebody holds the store's lock, and everything but
# the write goes on.

use strict;
use warnings;

use IPC::Open2;
use Test::Hatch world => 'plain';
use Test::More;

start_agent();
start_nginx(workers => 1);

my $vm = create_vm()->{id};
create_route($vm, 'before');

my $pid = open2(my $out, my $in, "$Test::Hatch::build/unit/store-hold",
                "$dir/routes");
is(scalar <$out>, "held\n", 'the lock is held');

# a write that waits
my $socket = Test::Hatch::connect_to('127.0.0.1:8080');
print $socket "POST /vms/$vm/routes HTTP/1.1\r\nHost: localhost\r\n"
    . "Content-Length: 34\r\nConnection: close\r\n\r\n"
    . '{"target_port":80,"subdomain":"x"}';
$socket->flush;

# and one whose client does not wait for it
my $gone = Test::Hatch::connect_to('127.0.0.1:8080');
print $gone "POST /vms/$vm/routes HTTP/1.1\r\nHost: localhost\r\n"
    . "Content-Length: 34\r\n\r\n" . '{"target_port":80,"subdomain":"y"}';
$gone->flush;

for (1 .. 50) {
    last if !healthz();
    is(healthz()->{body}, '{"status":"ok","vm_count":1,"route_count":1}',
       'the one worker answers /healthz') if $_ % 10 == 0;
}

is(api('GET', '/routes')->{json}[0]{subdomain}, 'before', 'reads the routes');
is(http('127.0.0.1:9090', 'GET', '/', undef,
        Host => 'nothing.hatch.localhost')->{status}, 404, 'routes requests');
close $gone;

my $ready = '';
vec($ready, fileno $socket, 1) = 1;
is(select($ready, undef, undef, 0), 0, 'the write is still waiting');

close $in;
waitpid $pid, 0;

my $answer = do { local $/; <$socket> };
like($answer, qr/^HTTP\/1\.1 201 /, 'the lock is free: the write is done');
wait_until('the other one, too', sub {
    healthz()->{json}{route_count} == 3
});
is(healthz()->{json}{route_count}, 3,
   'a client that leaves does not cancel what it asked for');

done();
