#!/usr/bin/perl

# Random requests at every kind of location, in an nginx with sanitizers where
# there is one.  Each answer must be well-formed, no worker may die or log
# anything above an error, and memory, descriptors and connections must be flat.
#
#   FUZZ_SECONDS FUZZ_EXECUTIONS   whichever is first
#   FUZZ_SEED                      another seed; or a case, to repeat it with
#                                  FUZZ_EXECUTIONS=1

use strict;
use warnings;

use POSIX qw(WNOHANG);
use Test::Hatch world => 'plain';
use Test::More;

my $seconds = $ENV{FUZZ_SECONDS} // 30;
my $executions = $ENV{FUZZ_EXECUTIONS} // 10_000_000;
my $seed = $ENV{FUZZ_SEED} // int rand 1 << 30;
my $fuzz = "$Test::Hatch::build/unit/requests";
my $asan = $Test::Hatch::nginx =~ /asan/;
my $found = "$top/build-fuzz";

mkdir $found;
note("FUZZ_SEED=$seed");

# Many connections are made: their ports may be used again at once, and a full
# queue must not look as if nginx were deaf.
write_file('/proc/sys/net/ipv4/tcp_tw_reuse', 1);
write_file('/proc/sys/net/ipv4/ip_local_port_range', '10000 65000');
write_file('/proc/sys/net/core/somaxconn', 4096);

# --- the world of the requests ---

my @vms = map split, (
    'vm_running222222222 running 127.0.0.1', 'vm_six2222222222222 running ::1',
    'vm_stopped222222222 stopped 127.0.0.1',
    'vm_paused2222222222 paused 127.0.0.1',
    'vm_asleep2222222222 snapshotted 127.0.0.1',
    'vm_error22222222222 error 127.0.0.1', 'vm_noaddress2222222 running -',
);
my @routes = map split, (
    'rt_aaaaaaaaaaaaaaaa vm_running222222222 demo 1985',
    'rt_bbbbbbbbbbbbbbbb vm_six2222222222222 six 1985',
    'rt_cccccccccccccccc vm_stopped222222222 stopped 1985!',
    'rt_dddddddddddddddd vm_paused2222222222 paused 1985!',
    'rt_eeeeeeeeeeeeeeee vm_asleep2222222222 asleep 1985',
    'rt_ffffffffffffffff vm_error22222222222 error 1985',
    'rt_gggggggggggggggg vm_noaddress2222222 noaddress 1985',
    'rt_hhhhhhhhhhhhhhhh vm_gone222222222222 gone 1985',
    'rt_iiiiiiiiiiiiiiii vm_running222222222 refused 1',
);
mkdir "$dir/routes", 0755;
is(system("$Test::Hatch::build/unit/zone-poke", '--figures', '--more=100',
          "$dir/run/zone", 1024, @vms), 0, 'a zone');
is(system("$Test::Hatch::build/unit/route-poke", "$dir/routes", @routes), 0,
   'routes');
system('chown', '-R', 'www-data:', "$dir/routes");

write_file("$dir/api_keys", 'alice '
           . qx(printf %s right-key | sha256sum | cut -d' ' -f1));
write_file("$dir/file", join '', map chr(97 + $_ % 26), 1 .. 5000);
write_file("$dir/big", 'z' x 300_000);
write_file("$dir/page", '<!--#include virtual="/echo"--> and '
           . '<!--#include virtual="/metrics"--> '
           . '<!--#echo var="hatch_vm_id" -->');
write_file("$dir/proxy.conf", <<'END');
proxy_pass http://vms;
proxy_http_version 1.1;
proxy_set_header Connection "";
proxy_set_header Host $host;
END
chmod 0644, map "$dir/$_", qw(api_keys file big page);

my $load = -e "$Test::Hatch::build/ngx_http_hatch_module.so"
           ? "load_module $Test::Hatch::build/ngx_http_hatch_module.so;" : '';
my $temp = join "\n    ", map "${_}_temp_path $dir/$_;",
           qw(client_body proxy fastcgi uwsgi scgi);

my $guest = "hatch_route hatch.local;\n            include $dir/proxy.conf;";
my $main = <<"END";
$load
user www-data;
worker_processes 2;
worker_rlimit_nofile 8192;
pid $dir/nginx.pid;
error_log $dir/logs/error.log crit;
events { worker_connections 4096; }
END

my $http = <<"END";
    access_log off;
    $temp
    keepalive_timeout 3s;
    client_header_timeout 5s;
    client_body_timeout 5s;
    client_max_body_size 64k;
    limit_req_zone \$binary_remote_addr zone=limit:1m rate=50r/s;
    proxy_cache_path $dir/cache keys_zone=cache:1m max_size=1m;
    hatch_zone $dir/run/zone;
    hatch_route_store $dir/routes size=64m;
    hatch_agent unix:$dir/run/wake.sock max_held=200 max_held_per_vm=50;
    hatch_wake_timeout 30ms;
    upstream vms { hatch keepalive=32 keepalive_timeout=2s; }
END

# the API, open and with keys
my $api_servers = <<"END";
    server {
        listen 8080 backlog=4096;
        listen 8091 http2 backlog=4096;
        location = /healthz { hatch_healthz; }
        location = /readyz { hatch_readyz; }
        location = /metrics { hatch_metrics; }
        location = /summary { hatch_metrics summary; }
        location = /stub { stub_status; }
        location /nested {
            hatch_api;
            if (\$arg_x) { return 200 "x\\n"; }
            location /nested/if { hatch_healthz; if (\$args) { set \$a b; } }
        }
        location / {
            hatch_api;
            proxy_pass http://unix:$dir/run/agent.sock:;
        }
    }
    server {
        listen 8081 backlog=4096;
        hatch_api_keys $dir/api_keys;
        location = /healthz { hatch_healthz; }
        location = /metrics { hatch_metrics; }
        location / { hatch_api; error_page 401 404 = /own; }
        location = /own { internal; return 418 "own\\n"; }
    }
END

my $proxy_server = <<"END";
    server {
        listen 9090 backlog=4096;
        listen 9091 http2 backlog=4096;
        error_page 504 \@named;
        location / { $guest }
        location = /metrics { hatch_metrics summary; }
        location = /healthz { hatch_healthz; }
        location \@named { $guest }
        location = /inner { internal; return 200 "inner\\n"; }
        location /slice/ {
            slice 1k;
            $guest
            proxy_set_header Range \$slice_range;
            proxy_cache cache;
            proxy_cache_key \$host\$uri\$slice_range;
            proxy_cache_valid 200 206 1s;
            rewrite ^/slice(.*) \$1 break;
        }
        location /cache/ {
            $guest
            proxy_cache cache;
            proxy_cache_key \$host\$uri;
            proxy_cache_valid 1s;
            proxy_cache_use_stale updating;
            proxy_cache_background_update on;
            proxy_cache_lock on;
        }
        location /auth/ { auth_request /authorize; $guest }
        location = /authorize {
            internal;
            $guest
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
        }
        location /mirror/ { mirror /mirrored; $guest }
        location = /mirrored { internal; $guest }
        location /ssi/ {
            ssi on;
            ssi_types *;
            $guest
            rewrite ^/ssi(.*) \$1 break;
        }
        location /error/ {
            error_page 404 500 502 503 /inner;
            proxy_intercept_errors on;
            $guest
        }
        location /named/ {
            error_page 404 502 503 = \@named;
            recursive_error_pages on;
            proxy_intercept_errors on;
            $guest
        }
        location /nobuf/ {
            proxy_request_buffering off;
            proxy_buffering off;
            $guest
        }
        location /try/ {
            root $dir/none;
            hatch_route hatch.local;
            try_files \$uri \@named;
        }
        location /limit/ {
            limit_req zone=limit burst=5;
            satisfy any;
            deny all;
            hatch_api_keys $dir/api_keys;
            $guest
        }
        location /old/ { hatch_route hatch.local; proxy_pass http://vms; }
        location /nowake/ { hatch_wake off; hatch_asleep_status 200; $guest }
    }
END

# a guest, an agent's API, and a look at nginx
my $peers = <<"END";
    server {
        listen 127.0.0.1:1985 backlog=4096;
        listen [::1]:1985 backlog=4096;
        keepalive_timeout 1s;
        keepalive_requests 20;
        location / { return 200 "\$request_method \$host\\n"; }
        location = /file { alias $dir/file; }
        location = /big { alias $dir/big; }
        location = /page { default_type text/html; alias $dir/page; }
        location = /close { return 444; }
        location = /authorize { return 204; }
        location ~ /missing\$ { return 404 "none\\n"; }
        location = /accel {
            add_header X-Accel-Redirect /inner;
            return 200 "accel\\n";
        }
    }
    server {
        listen unix:$dir/run/agent.sock;
        default_type application/json;
        location / { return 200 '{"agent":true}'; }
    }
    server { listen 127.0.0.1:8099; location / { stub_status; } }
END

# t/lib/watched-nginx: freed memory is not kept for long, or it would grow
$ENV{HATCH_REPORTS} = "$dir/reports";
$ENV{HATCH_ASAN_OPTIONS} = 'quarantine_size_mb=8';
mkdir "$dir/reports";
chmod 01777, "$dir/reports";

start_nginx(conf => "${main}http {\n$http$api_servers$proxy_server$peers}\n")
    or die slurp("$dir/logs/nginx.out");

my @workers = wait_until('two workers', sub { (() = workers()) == 2 })
              ? workers() : ();

# --- what must be flat ---

sub figures {
    my %f = (memory => 0, descriptors => 0);

    for my $pid (@workers) {
        my ($kb) = slurp("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m or next;
        my @fds = glob "/proc/$pid/fd/*";
        $f{memory} += $kb;
        $f{descriptors} += @fds;
    }

    ($f{connections}) = http('127.0.0.1:8099', 'GET', '/')->{body}
                        =~ /connections: (\d+)/;
    return \%f;
}

# Its figures when all that was kept alive is over.
sub settled {
    my $f;

    wait_until('all connections are closed', sub {
        $f = figures();
        return $f->{connections} <= 1;
    }, 60);
    return $f;
}

# newer nginx would rather have "http2 on", which 1.22 does not know
sub logged { return nginx_log() =~ s/^.*\[warn\].*\n//gmr }

# empty ones are no reports
sub reports { return grep -s, glob "$dir/reports/*" }

# Runs the fuzzer, and looks meanwhile whether nginx complains.
sub run {
    my ($time, $count, $from) = @_;
    my $log = "$dir/logs/requests.out";
    my $pid = spawn($log, $fuzz, $time, $count, $count > 1 ? 2 : 1, $from,
                    $found);
    my $status;

    wait_until('the fuzzer ends', sub {
        if (waitpid($pid, WNOHANG) == $pid) {
            $status = $? >> 8;
            return 1;
        }

        kill 'TERM', $pid if reports() || logged();
        return 0;
    }, $time + 60);

    my $out = slurp($log);
    note($out);
    diag($1) while $out =~ /^(wrong: .*)/mg;
    ok($out =~ /: (\d+) requests on/ && $1 > 0, 'requests were sent');
    unlink $log;
    delete $Test::Hatch::pids{$pid};
    return $status;
}

# --- the run: a part of it first, for all that is made once ---

my $one = $executions == 1;
is(run($one ? 60 : 1 + int($seconds / 10), $one ? 1 : 1 + int($executions / 10),
       $seed), 0, 'every answer is well-formed');

if (!$one) {
    my $before = settled();

    is(run($seconds, $executions, $seed + 1_000_000_000), 0,
       'and in the long run');

    my $after = settled();

    note(explain({ before => $before, after => $after }));
    cmp_ok($after->{memory}, '<', $before->{memory} + ($asan ? 32768 : 8192),
           'memory is flat, KiB of all workers');
    cmp_ok($after->{descriptors}, '<=', $before->{descriptors} + 4,
           'descriptors are flat');
}

is_deeply([workers()], \@workers, 'no worker died');
ok(stop_nginx(), 'nginx ends');
is(logged(), '', 'nothing above an error was logged');
is(join('', map slurp($_), reports()), '', 'no sanitizer reports anything');
done();
