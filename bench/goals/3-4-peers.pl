# Goal 3: ahead of its peers, on the same work in the same run, each tuned as
# its own documentation says: nginx with a map, Lua with a shared dictionary,
# HAProxy with a map and a pool that is large enough.

use strict;
use warnings;

our ($dir, $backend, $quick, $limits);

# name => address of what it has to reach, as hatch_route finds it
sub pairs {
    my ($vms, $routes) = @_;
    return map {
        my $n = $_ % $vms;
        [sprintf('n%07d.hatch.local', $_),
         sprintf('127.1.%d.%d', $n >> 8, $n & 255)];
    } 0 .. $routes - 1;
}

our $lua_module;
sub lua {
    ($lua_module) = glob '/usr/lib/nginx/modules/ngx_http_lua_module.so';
    return ('', '', '') if !$lua_module;
    my $main = join '', map "load_module $_;\n",
               grep -e, '/usr/lib/nginx/modules/ndk_http_module.so',
               $lua_module;
    my $http = <<"END";
    lua_shared_dict routes 64m;
    init_by_lua_block {
        local routes = ngx.shared.routes
        for line in io.lines("$dir/pairs") do
            local name, address = line:match("(%S+) (%S+)")
            routes:set(name, address)
        end
        balancer = require "ngx.balancer"
    }
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            balancer.set_current_peer(ngx.ctx.address, $backend)
        }
        keepalive 2048;
        keepalive_requests 100000000;
    }
END
    my $server = proxy(8006, 'lua', <<'END');
            access_by_lua_block {
                local address = ngx.shared.routes:get(ngx.var.host)
                if not address then return ngx.exit(404) end
                ngx.ctx.address = address
            }
END
    return ($main, $http, $server);
}

sub nginx_peers {
    my (@pairs) = @_;
    write_file("$dir/map.address",
               join '', map "$_->[0] $_->[1]:$backend;\n", @pairs);
    write_file("$dir/map.named",
               join '', map "$_->[0] u$_->[1];\n", @pairs);
    my %seen;
    write_file("$dir/named", join '', map {
        $seen{$_->[1]}++ ? '' : "upstream u$_->[1] { server $_->[1]:$backend; "
                                . "keepalive 64; "
                                . "keepalive_requests 100000000; }\n" } @pairs);
    write_file("$dir/pairs", join '', map "$_->[0] $_->[1]\n", @pairs);

    my ($main, $http, $server) = lua();
    my ($to, $named) = (proxy(8004, '$address'), proxy(8005, '$named'));
    return start_server('peers', <<"END", $main);
    map_hash_max_size 524288;
    map_hash_bucket_size 128;
    map \$host \$address { include $dir/map.address; }
    map \$host \$named { include $dir/map.named; }
    include $dir/named;
$http
$to
$named
$server
END
}

sub start_haproxy {
    my (@pairs) = @_;
    write_file("$dir/haproxy.map", join '', map "$_->[0] $_->[1]\n", @pairs);
    write_file("$dir/haproxy.cfg", <<"END");
global
    nbthread 1
    cpu-map auto:1/1 0
    maxconn 8000
    tune.pool-low-fd-ratio 90
    tune.pool-high-fd-ratio 95
    stats socket $dir/haproxy.sock level admin
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s
frontend f
    bind 127.0.0.1:8007
    default_backend b
backend b
    http-reuse always
    http-request set-dst req.hdr(host),lower,map_str($dir/haproxy.map)
    http-request set-dst-port int($backend)
    server s 0.0.0.0:0 pool-max-conn -1 pool-low-conn 8000 pool-purge-delay 60s
END
    my $pid = spawn("$dir/logs/haproxy.log", 'sh', '-c', "$limits exec "
                    . "haproxy -db -f $dir/haproxy.cfg");
    wait_until('HAProxy listens',
               sub { Test::Hatch::connect_to('127.0.0.1:8007') }, 60)
        or die slurp("$dir/logs/haproxy.log");
    return $pid;
}

my @cases = !wanted(3) ? () : $quick ? [1, 100_000]
          : ([1, 100_000], [1000, 100_000]);

for my $case (@cases) {
    my ($vms, $routes) = @$case;
    my $server = proxies($vms, $routes);
    my @pairs = pairs($vms, $routes);
    my $peers = nginx_peers(@pairs);
    my $haproxy = start_haproxy(@pairs);
    my %with = (names => $routes, backend => $backend, warm => 0.3);

    for my $peer (['nginx map to an address', 8004, $peers->{worker}],
                  ['nginx map to named upstreams', 8005, $peers->{worker}],
                  $lua_module ? ['Lua balancer', 8006, $peers->{worker}] : (),
                  ['HAProxy with a map', 8007, $haproxy])
    {
        my ($name, $port, $pid) = @$peer;
        run(%with, port => $_, warm => $vms > 1 ? 1 : 0.3, seconds => 0.1)
            for 8003, $port;
        my $c = compare("$name by Hatch, $vms VMs",
            { %with, port => 8003, pid => $server->{worker} },
            { %with, port => $port, pid => $pid });
        report_ratio(3, $c, undef, 1, $c->{error} ? '' : sprintf(
            ', %.3f new connections a request', $c->{accepted}));
    }

    kill_pid('KILL', $haproxy);
    reap($haproxy);
    stop_server($peers);
    stop_server($server);
}

1;
