# Goal 4: a change of a route, and what its peers need for the same.

use strict;
use warnings;

use IO::Socket::INET;
use IO::Socket::UNIX;

our ($dir, $build, $load, $fill, $top, $quick, $backend, $routes_most, $for_load, $limits);
our $lua_module;

sub ms { return sprintf('%.3f', 1000 * $_[0]) }

# One connection that asks one thing after the other.
sub keep {
    my ($port) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") or die;
    return sub {
        my ($method, $path, $body, $host) = @_;
        my $text = "$method $path HTTP/1.1\r\nHost: " . ($host // 'localhost')
                 . "\r\n" . (defined $body
                 ? "Content-Type: application/json\r\nContent-Length: "
                   . length($body) . "\r\n\r\n$body" : "\r\n");
        syswrite $socket, $text;
        my $answer = '';
        while ($answer !~ /\r\n\r\n/
               || $answer =~ /^Content-Length: (\d+)/mi
                  && length($answer) < $1 + index($answer, "\r\n\r\n") + 4)
        {
            sysread $socket, $answer, 65536, length $answer or return;
        }
        return $answer;
    };
}

# Asks until the answer is right; seconds since $began.
sub until_right {
    my ($began, $code) = @_;
    while (time - $began < 20) {
        return time - $began if $code->();
    }
    return 20;
}

# --- ours: on a disk, with all routes ---

my $disk = "$build/bench.store";
system('rm', '-rf', $disk);
mkdir $disk;
my $conf = zone_and_routes('change', 100, $routes_most, $disk);
my $store = "$disk/change.routes";
fill('index', $store);

{
    my ($ms, $note) = latencies(scalar qx($build/unit/visible $store ${\
                                          ($quick ? 300 : 2000)}));
    report(4, 'another process sees a change after its commit, p99, ms',
           p99(@$ms), '<= 0.05', p99(@$ms) <= 0.05,
           "$note; $routes_most routes");

    my $server = start_server('change', $conf . reference() . <<"END"
    upstream vms { hatch keepalive=1024; }
END
        . proxy(8003, 'vms', 'hatch_route hatch.local;'));
    my $api = keep(8001);

    # a client that goes on all the time, to whose connections nothing happens
    my $out = "$dir/uncut";
    my $seconds = $quick ? 3 : 15;
    my $client = spawn("$dir/logs/uncut.log", 'sh', '-c', "$limits exec "
        . "taskset -c $for_load $load 8003 names=1000 backend=$backend "
        . "interval=2000 seconds=$seconds > $out");
    sleep 1;

    my @took;
    my $end = time + $seconds - 2;
    my ($id, $n) = (undef, 0);
    while (time < $end && @took < 2000) {
        my $began = time;
        my $answer = $id
            ? $api->('DELETE', "/routes/$id")
            : $api->('POST', '/vms/vm_aaaaaaaaaaaaaaaa/routes',
                     '{"subdomain": "x' . $n++ . '", "target_port": 80}');
        push @took, time - $began;
        die $answer // 'closed' if ($answer // '') !~ / 20[01] /;
        ($id) = $id ? undef : $answer =~ /"id":"(rt_\w+)"/;
    }
    reap($client);
    my $uncut = json_of(slurp($out));

    report(4, "a change through the API, durable, p99, ms", ms(p99(@took)),
           '<= 5', p99(@took) <= 0.005,
           sprintf('p50 %s, max %s, %d creations and deletions, %d routes',
                   ms(median(@took)), ms((sort { $b <=> $a } @took)[0]),
                   scalar @took, $routes_most));
    report(4, 'connections cut, requests failed meanwhile',
           $uncut->{closed} + $uncut->{errors}, '<= 0',
           $uncut->{closed} + $uncut->{errors} == 0,
           "$uncut->{closed} cut, $uncut->{errors} failed $uncut->{bad} of "
           . "$uncut->{requests} requests");

    my %ask = (port => 8001, path => '/healthz', interval => 100,
               seconds => $quick ? 1 : 3);
    my (@ratio, @rate, @p99);
    for (1 .. ($quick ? 2 : 7)) {
        my $quiet = run(%ask);
        my $busy = run(%ask, patch => '/routes/rt_aaaaaaaaaaaaaaaa');
        push @ratio, $busy->{p99} / $quiet->{p99};
        push @rate, $busy->{patches} / $busy->{seconds};
        push @p99, "$quiet->{p99}/$busy->{p99}";
    }
    report(4, 'p99 of /healthz while routes are written, by quiet',
           sprintf('%.2f', median(@ratio)), '<= 2', median(@ratio) <= 2,
           sprintf('%.0f changes a second, eight at once; us: %s',
                   median(@rate), join ' ', @p99));
    stop_server($server);
    system('rm', '-rf', $disk);
}

# --- the peers, with 100 000 ---

my $to = sub { "127.1.0.$_[0]" };

# a new map, and nginx -s reload
{
    my @pairs = pairs(1, 100_000);
    my $map = sub {
        my ($address) = @_;
        write_file("$dir/map.address", join '', "changed.hatch.local "
            . "$address:$backend;\n", map "$_->[0] $_->[1]:$backend;\n",
            @pairs);
    };
    $map->($to->(1));
    my $server = start_server('reloads', <<"END");
    map_hash_max_size 524288;
    map_hash_bucket_size 128;
    map \$host \$address { include $dir/map.address; }
    server {
        listen 127.0.0.1:8004;
        location / { return 200 \$address; }
    }
END
    my (@first, @last, @more);
    for my $round (1 .. ($quick ? 2 : 5)) {
        my $old = keep(8004);
        my $ask = sub {
            my $answer = keep(8004)->('GET', '/', undef, 'changed.hatch.local');
            return $answer && $answer =~ /127\.1\.0\.$_[0]:/;
        };
        $old->('GET', '/', undef, 'changed.hatch.local');
        my $rss = sub {
            my $kb = 0;
            $kb += slurp("/proc/$_/smaps_rollup") =~ /^Pss:\s+(\d+)/m ? $1 : 0
                for split ' ', slurp("/proc/$server->{master}/task/"
                                     . "$server->{master}/children");
            return $kb;
        };
        my $before = $rss->();
        $map->($to->(1 + $round));
        # a slow client: half a request
        my $slow = IO::Socket::INET->new(PeerAddr => '127.0.0.1:8004');
        syswrite $slow, "GET / HTTP/1.1\r\n";
        my $began = time;
        kill 'HUP', $server->{master};
        push @first, until_right($began, sub { $ask->(1 + $round) });
        # the last old answer: from then on ten in turn are new
        my $right = 0;
        push @last, until_right($began, sub {
            $right = $ask->(1 + $round) ? $right + 1 : 0;
            return $right >= 10;
        });
        push @more, $rss->() - $before;
        close $slow;
    }
    report(4, 'peer: nginx reload with a map, first new answer, ms',
           ms(median(@first)), undef, undef,
           sprintf('no more old ones after %s; %.0f MiB more while a slow client '
                   . 'keeps the old worker; idle connections are cut',
                   ms(median(@last)), median(@more) / 1024));
    stop_server($server);
}

# HAProxy's map over its socket
{
    my @pairs = pairs(1, 100_000);
    my $pid = start_haproxy(@pairs);
    my $tell = sub {
        my $socket = IO::Socket::UNIX->new(Peer => "$dir/haproxy.sock") or die;
        print $socket "$_[0]\n";
        return join '', <$socket>;
    };
    my @took;
    for my $n (1 .. ($quick ? 50 : 300)) {
        my $began = time;
        $tell->("set map $dir/haproxy.map n0000000.hatch.local "
                . $to->($n % 200));
        push @took, time - $began;
    }
    report(4, 'peer: HAProxy runtime map, ms, not durable', ms(median(@took)),
           undef, undef, 'p99 ' . ms(p99(@took)));
    kill_pid('KILL', $pid);
    reap($pid);
}

# a Lua dictionary through a location of its own
my ($main) = lua();
if ($lua_module) {
    my $server = start_server('dict', <<"END", $main);
    lua_shared_dict routes 64m;
    server {
        listen 127.0.0.1:8006;
        location / {
            content_by_lua_block {
                ngx.shared.routes:set(ngx.var.arg_name, ngx.var.arg_to)
                ngx.say("set")
            }
        }
    }
END
    my $ask = keep(8006);
    my @took;
    for my $n (1 .. ($quick ? 50 : 300)) {
        my $began = time;
        $ask->('GET', "/?name=n&to=" . $to->($n % 200));
        push @took, time - $began;
    }
    report(4, 'peer: Lua dictionary over HTTP, ms, not durable',
           ms(median(@took)), undef, undef, 'p99 ' . ms(p99(@took)));
    stop_server($server);
}

1;
