#!/usr/bin/perl

# Who reaches what of hatch:latest: health and the proxy everybody, API and
# metrics the container itself; with a file of keys, whoever has one.  A
# forwarder in between makes nobody local: a userland proxy comes from the
# network's gateway.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use Test::Hatch world => 'plain';
use Test::Hatch::Container;
use Test::More;

my @published = ('-p 8080:8080', '-p 9090:9090');

run_container('open', "@published hatch:latest");
wait_until('it is up', sub { outside_get('/readyz')->{status} == 200 });
my $ip = podman("inspect -f '{{.NetworkSettings.IPAddress}}' open");

# Who asks, as curl's arguments and the command before.
my %from = (
    'another machine'           => ['http://192.0.2.1:8080', outside('')],
    'its machine'               => ['http://127.0.0.1:8080'],
    'its machine, by address'   => ['http://192.0.2.1:8080'],
    'its machine, unpublished'  => ["http://$ip:8080"],
);

sub from {
    my ($who, $path, $arguments) = @_;
    my ($base, $before) = @{ $from{$who} };
    return curl("@{[$arguments // '']} $base$path", $before);
}

for my $who (sort keys %from) {
    is(from($who, $_)->{status}, 200, "$who: $_") for '/healthz', '/readyz';

    for my $path ('/metrics', '/vms', '/routes', '/') {
        my $r = from($who, $path);
        is($r->{status}, 403, "$who: $path is closed");
        my $error = eval { json($r->{body}) } // {};
        is($error->{code}, 'forbidden', 'with a code');
        like($error->{error} // '', qr/HATCH_API_KEYS_FILE/,
             'and says how it is opened');
    }

    is(from($who, '/vms', "-X POST -d '{}'")->{status}, 403,
       "$who: POST is closed");

    # who says that he is local, is not
    is(from($who, '/vms', "-H '$_: 127.0.0.1'")->{status}, 403,
       "$who: closed with $_")
        for 'X-Forwarded-For', 'X-Real-IP', 'Forwarded';
    is(from($who, '/vms', '-H "Host: localhost"')->{status}, 403,
       "$who: closed with the host localhost");
}

# a forwarder beside the container, as Docker's userland proxy is
write_file("$dir/haproxy.conf", <<"EOF");
defaults
    mode tcp
    timeout connect 5s
    timeout client 5s
    timeout server 5s
listen proxy
    bind 127.0.0.1:8081
    server hatch $ip:8080
EOF
my $forwarder = spawn("$dir/logs/haproxy.log", 'haproxy', '-f',
                      "$dir/haproxy.conf");
wait_until('haproxy listens',
           sub { curl('http://127.0.0.1:8081/healthz')->{status} == 200 });
is(curl('http://127.0.0.1:8081/vms')->{status}, 403,
   'through a forwarder: closed');
kill_pid('TERM', $forwarder);
reap($forwarder);

# inside
like(inside('open', 'curl -sS http://127.0.0.1:8080/vms'), qr/^\[\]$/,
     'the container itself: open');
like(inside('open', 'curl -sS http://localhost:8080/vms'), qr/^\[\]$/,
     'by name, too');
like(inside('open', "curl -sS 'http://[::1]:8080/vms'"), qr/^\[\]$/,
     'by IPv6, too') if slurp('/proc/net/if_inet6');
like(inside('open', 'curl -sS http://localhost:8080/metrics'),
     qr/^hatch_vms\b/m, 'and its metrics');
like(inside('open', 'curl -sS --unix-socket /run/hatch/agent.sock '
            . 'http://localhost/vms'), qr/^\[\]$/, 'the agent\'s socket, too');
isnt(inside('open', "curl -s -o /dev/null -w '%{http_code}' "
            . "http://$ip:8080/vms"), 200, 'by its outer address: closed');

# the other port: no route, and no way to the API
my $r = outside_get(':9090/vms', '-H "Host: x.hatch.localhost"');
is($r->{status}, 404, 'the proxy answers');
like($r->{body}, qr/route/, 'that there is no such route');

# all of them were told apart
my %clients = map { $_ => 1 } container_log('open') =~
    /\[error\].* access forbidden by rule, client: (\S+),/g;
is_deeply([sort keys %clients], [sort '192.0.2.1', '192.0.2.2',
                                 $ip =~ s/\d+$/1/r, $ip], 'clients in the log');
allow_log(qr/access forbidden by rule/);
remove('open');

# --- with keys ---

my $key = 'correct-horse';
mkdir "$dir/etc";
write_file("$dir/etc/keys", '');

for my $way (
    ['a mounted file', "-v $dir/etc/keys:/etc/hatch/api_keys:ro"],
    ['HATCH_API_KEYS_FILE', "-v $dir/etc:/keys:ro "
     . '-e HATCH_API_KEYS_FILE=/keys/keys'])
{
    my ($what, $arguments) = @$way;
    write_file("$dir/etc/keys", 'alice ' . sha256_hex($key) . "\n");
    run_container('keys', "@published $arguments hatch:latest");
    wait_until('it is up', sub { outside_get('/readyz')->{status} == 200 });

    for my $path ('/vms', '/routes', '/metrics') {
        is(outside_get($path)->{status}, 401, "$what: $path needs a key");
        is(outside_get($path, '-H "X-API-Key: wrong"')->{status}, 401,
           'not any');
        is(outside_get($path, "-H 'X-API-Key: $key'")->{status}, 200,
           'but the right one');
        is(outside_get($path, "-H 'Authorization: Bearer $key'")->{status},
           200, 'in either field');
    }

    is(outside_get('/vms', "-H 'X-API-Key: $key' -H 'Host: hatch-api:8080'")
       ->{status}, 200, 'by the name of a service, too');
    is(outside_get('/healthz')->{status}, 200, 'health needs none');
    like(inside('keys', 'curl -s http://localhost:8080/vms'),
         qr/"unauthorized"/, 'the container itself needs one');

    # another key takes the place of the first
    write_file("$dir/etc/keys", 'bob ' . sha256_hex("new $key") . "\n");
    podman('kill -s HUP keys');
    wait_until('SIGHUP: the old key opens nothing', sub {
        outside_get('/vms', "-H 'X-API-Key: $key'")->{status} == 401;
    });
    is(outside_get('/vms', "-H 'X-API-Key: new $key'")->{status}, 200,
       'the new one does');
    remove('keys');
}

# --- files of keys that are none ---

sub refused {
    my ($what, $arguments, $message) = @_;
    run_container('refused', "$arguments hatch:latest");
    is(exit_code('refused'), 1, "$what: the container ends with 1");
    like(container_log('refused'), $message, 'and says why');
    allow_log($message);
    remove('refused');
}

refused('no such file', '-e HATCH_API_KEYS_FILE=/keys/none',
        qr{cannot open "/keys/none" \(2: No such file or directory\)});
refused('not a whole path', '-e HATCH_API_KEYS_FILE=keys',
        qr{HATCH_API_KEYS_FILE is "keys", it must be a whole path});
refused('a path that is more than one',
        q{-e 'HATCH_API_KEYS_FILE=/x; hatch_api_keys off'},
        qr{HATCH_API_KEYS_FILE is "/x; hatch_api_keys off", it must be});
write_file("$dir/etc/bad", "alice secret\n");
refused('a line that is no key', "-v $dir/etc/bad:/etc/hatch/api_keys:ro",
        qr{\[emerg\].*/etc/hatch/api_keys});

all_done();
