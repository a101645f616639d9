#!/usr/bin/perl

# A request that nginx refuses while it reads the header has no handler yet.
# nginx alone calls it all the same if the client resets the connection at
# just that moment, and the worker dies with all the requests that it holds.

use strict;
use warnings;

use Socket qw(SO_LINGER SOL_SOCKET);
use Test::Hatch world => 'plain';
use Test::More;

# enough for one in three hundred to hit the moment, were it there
my $tries = 300;

mkdir "$dir/html";
write_file("$dir/html/big", 'z' x 400_000);
chmod 0755, "$dir/html";

start_nginx(workers => 1, http => <<"EOF");
    server {
        listen 127.0.0.1:9100 sndbuf=8k;
        root $dir/html;
        location /api/ { hatch_api; }
        location / { }
    }
EOF

# nginx has to have waited once for room to write on this connection.
sub connection {
    my $s = Test::Hatch::connect_to('127.0.0.1:9100') or die $!;
    print $s "GET /big HTTP/1.1\r\nHost: x\r\n\r\n";
    $s->flush;

    local $/ = "\r\n\r\n";
    my ($left) = <$s> =~ /^Content-Length: (\d+)/mi or die 'no length';
    while ($left > 0) {
        my $n = read $s, my $part, $left or die 'it ended';
        $left -= $n;
    }
    return $s;
}

my $worker;
wait_until('its worker', sub { ($worker) = workers() });

for my $try (1 .. $tries) {
    my $s = connection();
    print $s "TRACE / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n";
    $s->flush;
    setsockopt $s, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
    my $spent = 0;
    $spent += $_ for 1 .. $try % 40 * 10;
    close $s;
}

is(http('127.0.0.1:9100', 'GET', '/big')->{status}, 200, 'nginx answers');
is_deeply([workers()], [$worker], 'the worker lives');
done();
