# bench/goals.pl - what bench/run measures, goal by goal.  Uses its functions.

use strict;
use warnings;

our ($dir, $build, $vms_most, $routes_most, $quick, $backend, $reference);

say(machine());
say('');

my $json = '{"status":"ok","vm_count":10000,"route_count":1000}';

# Port 8001: "return 200", which tells the pace, and our own answers.
sub reference {
    $reference = 8001;
    return <<"END";
    server {
        listen 127.0.0.1:8001;
        keepalive_requests 100000000;
        location = /ref {
            default_type application/json;
            return 200 '$json';
        }
        location = /healthz { hatch_healthz; }
        location = /metrics { hatch_metrics; }
    }
END
}

sub health {
    my ($vms) = @_;
    return start_server("health$vms", zone_and_routes("health$vms", $vms, 1000)
                        . reference());
}

sub instructions_of {
    my ($goal, $name, $server, $limit, %opt) = @_;
    my ($user, $kernel) = counted($server->{worker}, %opt);
    return report($goal, $name, 'none', $limit, undef,
                  'no counters on this machine') if !defined $user;
    report($goal, $name, sprintf('%.2f k', $user / 1000),
           $limit ? "<= $limit k" : '',
           $limit ? $user <= $limit * 1000 : undef,
           sprintf('user; kernel %.2f k', $kernel / 1000));
    return $user;
}

# --- 1: /healthz beside "return 200" ---

if (wanted(1)) {
    for my $vms (0, $vms_most) {
        my $server = health($vms);
        my %a = (port => 8001, path => '/ref');
        my %b = (port => 8001, path => '/healthz');
        report_ratio(1, compare("/healthz by return 200, $vms VMs", \%a, \%b),
                     0.98);
        instructions_of(1, "its instructions, $vms VMs", $server, 8.0, %b);
        instructions_of(1, 'those of return 200', $server, undef, %a)
            if $vms;

        if ($vms) {
            my $publisher = spawn("$dir/logs/publish.log", 'taskset', '-c', 1,
                                  "$build/unit/fill", 'publish',
                                  "$dir/health$vms.zone", 600);
            report_ratio(1, compare('/healthz by return 200, while 100 000 '
                                    . 'states a second change', \%a, \%b),
                         0.98);
            kill 'KILL', $publisher;
        }
        stop_server($server);
    }
}

# --- 2: the proxy beside a static upstream ---

sub proxies {
    my ($vms, $routes) = @_;
    my $reference_server = reference();
    my $static = proxy(8002, 'static');
    my $hatch = proxy(8003, 'vms', 'hatch_route hatch.local;');
    return start_server("proxy$vms-$routes",
        zone_and_routes("proxy$vms-$routes", $vms, $routes) . <<"END");
    upstream static {
        server 127.1.0.0:$backend;
        keepalive 128;
        keepalive_requests 100000000;
    }
    upstream vms {
        hatch keepalive=16384 keepalive_requests=1000000;
    }
$reference_server
$static
$hatch
END
}

if (wanted(2)) {
    for my $case ([1, 1], [1, 1000], [1, 100_000], [1, $routes_most],
                  [32, 100_000], [1000, 100_000], [$vms_most, 100_000])
    {
        my ($vms, $routes) = @$case;
        next if $quick && $routes == 1000;
        my $server = proxies($vms, $routes);
        my %a = (port => 8002, host => 'static', backend => $backend);
        my %b = (port => 8003, names => $routes, backend => $backend,
                 # until each VM has its connections
                 warm => $vms > 1000 ? 3 : 0.5);
        my $least = $vms >= 10_000 ? 0.90 : $vms >= 1000 ? 0.93 : 0.97;
        my $c = compare("proxy by static upstream, $routes routes, $vms VMs",
                        \%a, \%b);
        report_ratio(2, $c, $least);
        report(2, 'new backend connections a request',
               sprintf('%.4f', $c->{accepted}), '<= 0.02',
               $c->{accepted} <= 0.02) if defined $c->{accepted};
        my ($mine) = counted($server->{worker}, %b);
        my ($static) = counted($server->{worker}, %a);
        report(2, 'its user instructions by the static one\'s',
               sprintf('%.3f', $mine / $static), '<= 1.06',
               $mine / $static <= 1.06,
               sprintf('%.1f k by %.1f k', $mine / 1000, $static / 1000))
            if defined $mine && defined $static;
        stop_server($server);
    }
}

# --- 3: ahead of its peers, on the same work ---

# name => address:port of what it has to reach, as hatch_route finds it
sub pairs {
    my ($vms, $routes) = @_;
    return map {
        my $n = $_ % $vms;
        [sprintf('n%07d.hatch.local', $_),
         sprintf('127.1.%d.%d', $n >> 8, $n & 255)];
    } 0 .. $routes - 1;
}

sub nginx_peers {
    my ($vms, @pairs) = @_;
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

    my ($lua) = glob '/usr/lib/nginx/modules/ngx_http_lua_module.so';
    my $main = $lua ? join '', map "load_module $_;\n",
                      grep -e, '/usr/lib/nginx/modules/ndk_http_module.so', $lua
                    : '';
    my $http = $lua ? <<"END" : '';
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
    my $server = $lua ? proxy(8006, 'lua', <<'END') : '';
            access_by_lua_block {
                local address = ngx.shared.routes:get(ngx.var.host)
                if not address then return ngx.exit(404) end
                ngx.ctx.address = address
            }
END
    my ($to, $named) = (proxy(8004, '$address'), proxy(8005, '$named'));
    return (start_server('peers', <<"END", $main), $lua);
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

sub haproxy_peer {
    my (@pairs) = @_;
    write_file("$dir/haproxy.map", join '', map "$_->[0] $_->[1]\n", @pairs);
    write_file("$dir/haproxy.cfg", <<"END");
global
    nbthread 1
    cpu-map auto:1/1 0
    maxconn 8000
    tune.pool-low-fd-ratio 90
    tune.pool-high-fd-ratio 95
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
    server s 0.0.0.0:$backend pool-max-conn -1 pool-purge-delay 60s
END
    my $pid = spawn("$dir/logs/haproxy.log", 'haproxy', '-db', '-f',
                    "$dir/haproxy.cfg");
    wait_until('HAProxy listens',
               sub { Test::Hatch::connect_to('127.0.0.1:8007') }, 60)
        or die slurp("$dir/logs/haproxy.log");
    return $pid;
}

if (wanted(3)) {
    for my $case ([1, 100_000], $quick ? () : [1000, 100_000]) {
        my ($vms, $routes) = @$case;
        my $server = proxies($vms, $routes);
        my @pairs = pairs($vms, $routes);
        my ($peers, $lua) = nginx_peers($vms, @pairs);
        my $haproxy = haproxy_peer(@pairs);
        my %with = (names => $routes, backend => $backend,
                    warm => $vms > 1 ? 1 : 0.3);
        for my $peer (['nginx map to an address', 8004],
                      ['nginx map to named upstreams', 8005],
                      $lua ? ['Lua balancer', 8006] : (),
                      ['HAProxy with a map', 8007])
        {
            my ($name, $port) = @$peer;
            my $c = compare("$name by Hatch, $vms VMs",
                            { port => 8003, %with }, { port => $port, %with });
            report(3, $c->{name}, 'none', '<= 1', undef, $c->{error}), next
                if $c->{error};
            report(3, $c->{name}, sprintf('%.3f', $c->{ratio}), '< 1',
                   $c->{ratio} < 1,
                   sprintf('%.3f-%.3f, %d of %d rounds, %s; %.0f k/s by '
                           . '%.0f k/s, %.3f new connections a request',
                           $c->{low}, $c->{high}, $c->{kept}, $c->{rounds},
                           $c->{pace}, $c->{b} / 1000, $c->{a} / 1000,
                           $c->{accepted}));
        }
        kill_pid('KILL', $haproxy);
        reap($haproxy);
        stop_server($peers);
        stop_server($server);
    }
}

# --- 5: starting, reloading, memory ---

sub rss {
    my ($pid) = @_;
    return slurp("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m && $1;
}

if (wanted(5)) {
    my (%start, %reload, %rss);
    for my $round (1 .. ($quick ? 3 : 7)) {
        for my $routes (0, $routes_most) {
            my $name = "start$routes";
            my $conf = $round == 1 ? zone_and_routes($name, 100, $routes)
                     : "hatch_zone $dir/$name.zone;\n"
                       . "hatch_route_store $dir/$name.routes size=2g;\n";
            my $proxy = proxy(8003, 'vms', 'hatch_route hatch.local;');
            my $began = time;
            my $server = start_server($name, "$conf upstream vms { hatch; }\n"
                                             . $proxy);
            wait_until('it answers', sub {
                http('127.0.0.1:8003', 'GET', '/', undef, Host => 'x.y');
            });
            push @{ $start{$routes} }, time - $began;

            $began = time;
            kill 'HUP', $server->{master};
            my $new;
            wait_until('a new worker', sub {
                ($new) = grep $_ != $server->{worker}, split ' ', slurp(
                    "/proc/$server->{master}/task/$server->{master}/children");
                return $new && !-e "/proc/$server->{worker}";
            });
            push @{ $reload{$routes} }, time - $began;
            run(port => 8003, names => $routes || 1, backend => $backend,
                seconds => 1);
            push @{ $rss{$routes} }, rss($new);
            stop_server($server);
        }
    }
    for (['start', \%start], ['reload', \%reload],
         ['memory of a worker', \%rss])
    {
        my ($what, $of) = @$_;
        my $ratio = median(@{ $of->{$routes_most} }) / median(@{ $of->{0} });
        report(5, "$what with $routes_most routes by none",
               sprintf('%.2f', $ratio), '<= 1.1', $ratio <= 1.1,
               $what =~ /memory/
               ? sprintf('%.1f MB by %.1f MB', map median(@{ $of->{$_} }) / 1024,
                         $routes_most, 0)
               : sprintf('%.0f ms by %.0f ms', map 1000 * median(@{ $of->{$_} }),
                         $routes_most, 0));
    }
}

# --- 8: /metrics ---

sub cpu_ns { return (split ' ', slurp("/proc/$_[0]/schedstat"))[0] }

if (wanted(8)) {
    my $server = health($vms_most);
    my %ask = (port => 8001, path => '/healthz', interval => 100,
               seconds => $quick ? 1 : 3);
    my (@time, @ratio);
    for my $round (1 .. ($quick ? 3 : 7)) {
        my $quiet = run(%ask);
        my $before = cpu_ns($server->{worker});
        my $busy = run(%ask, scrape => '/metrics', warm => 0);
        my $used = cpu_ns($server->{worker}) - $before;
        next if !$busy->{scrapes};
        push @time, $used / $busy->{scrapes} / 1e6;
        push @ratio, $busy->{p99} / $quiet->{p99};
        say("     8   round $round: quiet p99 $quiet->{p99} us, with scrapes "
            . "$busy->{p99} us, $busy->{scrapes} scrapes");
    }
    report(8, "/metrics of $vms_most VMs, worker's time, ms",
           sprintf('%.1f', median(@time)), '<= 50', median(@time) <= 50);
    report(8, 'p99 of /healthz during scrapes by quiet',
           sprintf('%.2f', median(@ratio)), '<= 2', median(@ratio) <= 2);
    stop_server($server);
}

# --- 9: what a VM and a route take ---

if (wanted(9)) {
    zone_and_routes('size', 100, 100_000);
    my $vm = (-s "$dir/size.zone") / 16384 + 64;
    my $route = (-s "$dir/size.routes/data.mdb") / 100_000;
    report(9, 'bytes per VM, zone and zone.activity', sprintf('%.0f', $vm),
           undef, undef, sprintf('%.1f million VMs per GiB', 2**30 / $vm / 1e6));
    report(9, 'bytes per route, store', sprintf('%.0f', $route), undef, undef,
           sprintf('%.1f million routes per GiB', 2**30 / $route / 1e6));
}

1;
