package Test::Hatch;

# Helpers of the black-box tests: a private world, agent and nginx of the
# test's own, HTTP over TCP and unix sockets, and waiting for conditions.
#
#   use Test::Hatch world => 'libvirt';     # or 'plain': no libvirtd
#
# Importing runs the test again inside t/lib/world, so that it sees no
# network, mounts or processes but its own.  When the test ends, everything
# that it started is stopped and all logs are asserted to be clean; what a
# test causes on purpose it allows with allow_log().

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter ();
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use IO::Socket::UNIX;
use JSON::PP;
use POSIX qw(:sys_wait_h setsid);
use Test::More;
use Time::HiRes qw(time);

our @ISA = ('Exporter');
our @EXPORT = qw(
    $dir $top api nginx_t healthz metrics readyz http request json wait_until everywhere spawn reap stop_all
    start_agent stop_agent agent_log start_nginx stop_nginx nginx_conf
    nginx_log allow_log kill_pid qemu_pid zone slurp write_file virsh create_vm
    create_route page state wait_state woken start_libvirtd stop_libvirtd workers note_answer done
);

our $top = abs_path(dirname(__FILE__) . '/../../..');
our $build = $ENV{HATCH_BUILD} ? abs_path($ENV{HATCH_BUILD}) : "$top/build";
our ($dir, %pids, @allowed, $agent, $nginx_started);

# What no log may contain unless a test asked for it.
my $bad = qr/\[(?:alert|crit|emerg|error)\]|^\S+ error: |Sanitizer|runtime error/m;


sub import {
    my ($class, %opt) = @_;

    if ($opt{world} && !$ENV{HATCH_WORLD}) {
        my @cmd = ("$top/t/lib/world");
        push @cmd, '--no-libvirt' if $opt{world} eq 'plain';
        exec @cmd, $^X, "-I$top/t/lib", abs_path($0), @ARGV
            or die "cannot run @cmd: $!";
    }

    # on the world's tmpfs: a slow disk is no part of what is tested
    $dir = tempdir('test.XXXXXX', DIR => $ENV{HATCH_WORLD} ? '/run' : '/tmp',
                   CLEANUP => 1);
    chmod 0755, $dir;
    mkdir "$dir/$_" for qw(run logs);
    $ENV{HATCH_ROUTE_STORE} = "$dir/routes";


    Exporter::export_to_level($class, 1, $class);
}


# --- waiting ---

# Polls until the code returns true; fails the test after the deadline.
sub wait_until {
    my ($what, $code, $seconds) = @_;
    my $deadline = time + ($seconds // 20);

    while (1) {
        my $value = eval { $code->() };
        return $value if $value;
        last if time > $deadline;
        select undef, undef, undef, 0.005;
    }

    fail("in time: $what");
    diag($@) if $@;
    return;
}


# Polls until every worker agrees: true 20 times in a row.
sub everywhere {
    my ($what, $code) = @_;
    return wait_until($what, sub {
        for (1 .. 20) { return 0 if !$code->() }
        return 1;
    });
}


sub slurp {
    my ($file) = @_;
    open my $fh, '<', $file or return '';
    local $/;
    return scalar <$fh> // '';
}


sub write_file {
    my ($file, $text) = @_;
    open my $fh, '>', $file or die "$file: $!";
    print $fh $text;
    close $fh or die "$file: $!";
}


# --- processes ---

# Starts a command in a session of its own, with output to a log.
sub spawn {
    my ($log, @cmd) = @_;
    my $pid = fork // die "fork: $!";

    if (!$pid) {
        setsid();
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', $log or die;
        open STDERR, '>&', \*STDOUT or die;
        exec @cmd or POSIX::_exit(127);
    }

    $pids{$pid} = "@cmd";
    return $pid;
}


# Waits for a process to end and returns its wait status.
sub reap {
    my ($pid, $seconds) = @_;
    my $status;

    wait_until("$pids{$pid} ends", sub {
        return 0 if waitpid($pid, WNOHANG) != $pid;
        $status = $?;
        return 1;
    }, $seconds);
    delete $pids{$pid};
    return $status;
}


sub kill_pid {
    my ($signal, $pid) = @_;
    kill $signal, $pid or die "kill $signal, $pid: $!";
}


# --- HTTP ---

sub json { return JSON::PP->new->utf8->canonical->allow_nonref->decode($_[0]) }


sub connect_to {
    my ($to) = @_;
    return $to =~ m{^/} ? IO::Socket::UNIX->new(Peer => $to)
                        : IO::Socket::INET->new(PeerAddr => $to,
                                                Timeout => 5);
}


# Sends the raw text of a request and reads one answer up to its end (the
# connection's, or Content-Length).  Returns undef if there was none.
sub request {
    my ($to, $text, $seconds) = @_;
    my $socket = connect_to($to) or return;
    my $answer = '';
    my $deadline = time + ($seconds // 60);

    local $SIG{PIPE} = 'IGNORE';
    print $socket $text;
    $socket->flush;

    while (time < $deadline) {
        my $in = '';
        vec($in, fileno $socket, 1) = 1;
        next if !select $in, undef, undef, $deadline - time;
        my $n = sysread $socket, $answer, 65536, length $answer;
        last if !$n || complete($text, $answer);
    }

    return if $answer !~ s/^HTTP\/1\.[01] (\d{3})[^\r\n]*\r\n//;
    my %r = (status => $1, headers => {}, body => '');
    my ($head, $body) = split /\r\n\r\n/, $answer, 2;

    for (split /\r\n/, $head) {
        $r{headers}{lc $1} = $2 if /^([^:]+):\s*(.*)$/;
    }

    $body //= '';
    if (($r{headers}{'transfer-encoding'} // '') eq 'chunked') {
        my $plain = '';
        while ($body =~ s/^([0-9a-fA-F]+)\r\n//) {
            my $n = hex $1 or last;
            $plain .= substr $body, 0, $n + 2, '';
            $plain = substr $plain, 0, -2;
        }
        $body = $plain;
    }
    $r{body} = $body;
    return \%r;
}


sub complete {
    my ($text, $answer) = @_;
    my ($head, $body) = split /\r\n\r\n/, $answer, 2;
    return 0 if !defined $body;
    return 1 if $text =~ /^HEAD /;
    return $head =~ /^Content-Length:\s*(\d+)/mi && length $body >= $1;
}


# http(TO, METHOD, PATH, BODY, HEADER => VALUE, ...)
sub http {
    my ($to, $method, $path, $body, %headers) = @_;
    $headers{Host} //= 'localhost';
    $headers{Connection} //= 'close';
    $headers{'Content-Length'} //= length $body if defined $body;

    my $text = "$method $path HTTP/1.1\r\n"
             . join('', map "$_: $headers{$_}\r\n", sort keys %headers)
             . "\r\n" . ($body // '');
    return request($to, $text);
}


# The API through nginx if it runs, else at the agent; answers are decoded.
sub api {
    my ($method, $path, $body) = @_;
    my $to = $nginx_started ? '127.0.0.1:8080' : "$dir/run/agent.sock";
    $body = JSON::PP->new->utf8->canonical->encode($body) if ref $body;
    my $r = http($to, $method, $path, $body) or return;
    $r->{json} = eval { json($r->{body}) };
    note_answer($method, $path, $body, $r);
    return $r;
}


# Every answer of the API is checked against the contract when the test ends.
our @answers;

sub note_answer {
    my ($method, $path, $sent, $r) = @_;
    push @answers, JSON::PP->new->ascii->canonical->encode({
        method => $method, path => $path, sent => $sent,
        status => $r->{status}, headers => $r->{headers}, body => $r->{body},
    });
}


sub clean_answers {
    return if !@answers;
    write_file("$dir/answers", join '', map "$_\n", @answers);
    my $wrong = qx('$top/t/lib/check-answers' '$top/contract/hatch_api.yaml' \
                   < '$dir/answers' 2>&1);
    is($wrong, '', 'every answer is as contract/hatch_api.yaml says');
}


sub healthz {
    my $r = http('127.0.0.1:8080', 'GET', '/healthz') or return;
    $r->{json} = eval { json($r->{body}) };
    return $r;
}


# /metrics: "name{labels}" => value.
sub metrics {
    my ($path) = @_;
    my $r = http('127.0.0.1:8080', 'GET', $path // '/metrics') or return {};
    return { $r->{body} =~ /^([a-z]\S*) (\S+)$/mg };
}


sub readyz {
    my $r = http('127.0.0.1:8080', 'GET', '/readyz') or return {};
    note_answer('GET', '/readyz', undef, $r);
    my $j = eval { json($r->{body}) } // {};
    return { %$j, code => $r->{status} };
}


# --- the agent ---

# start_agent(connect => URI, args => [...], env => {...}, wait => 0)
sub start_agent {
    my (%opt) = @_;
    my $connect = $opt{connect} // 'test:///default';

    local %ENV = (
        %ENV,
        HATCH_DEFAULT_KERNEL_PATH => "$build/image/vmlinuz",
        HATCH_DEFAULT_INITRD_PATH => "$build/image/initrd",
        HATCH_DEFAULT_MEM_MIB => 128,
        HATCH_LOG_LEVEL => 'debug',
        %{ $opt{env} // {} },
    );

    $agent = spawn("$dir/logs/agent.log", "$build/hatch-agent",
                   '--connect', $connect, '--zone', "$dir/run/zone",
                   '--socket', "$dir/run/agent.sock",
                   '--wake-socket', "$dir/run/wake.sock",
                   '--state-dir', "$dir/state", '--image-dir', "$dir/images",
                   @{ $opt{args} // [] });

    if ($opt{wait} // 1) {
        wait_until('the agent publishes', sub {
            my $z = zone();
            $z && $z->{agent_pid} == $agent && $z->{libvirt} eq 'connected'
                && defined $z->{published_age_ms}
                && connect_to("$dir/run/agent.sock");
        }) or diag(agent_log());
    }

    return $agent;
}


sub stop_agent {
    my ($signal) = @_;
    return if !$agent;
    kill_pid($signal // 'TERM', $agent);
    my $status = reap($agent);
    undef $agent;
    return $status;
}


sub agent_log { return slurp("$dir/logs/agent.log") }


# What hatch-zone prints, decoded; undef while there is no zone.
sub zone {
    my $text = qx('$build/hatch-zone' '$dir/run/zone' 2>/dev/null);
    return $? == 0 ? json($text) : undef;
}


# --- nginx ---

# The usual configuration; `http` and `main` add lines.  A binary upgrade hands
# on only the variables that "env" names: a sanitizer's runtime comes by these.
sub nginx_conf {
    my (%opt) = @_;
    my $workers = $opt{workers} // 2;
    my $http = $opt{http} // '';
    my $main = $opt{main} // '';
    my $module = "$build/ngx_http_hatch_module.so";
    my $load = -e $module ? "load_module $module;" : '';   # else it is static

    return <<"EOF";
$load
user www-data;
worker_processes $workers;
pid $dir/nginx.pid;
error_log $dir/logs/error.log info;
env LD_PRELOAD;
env ASAN_OPTIONS;
$main
events {
    worker_connections 1024;
}
http {
    access_log $dir/logs/access.log;
    client_body_temp_path $dir/body;
    proxy_temp_path $dir/proxy;
    fastcgi_temp_path $dir/fastcgi;
    uwsgi_temp_path $dir/uwsgi;
    scgi_temp_path $dir/scgi;
    hatch_zone $dir/run/zone;
    hatch_route_store $dir/routes size=64m;
    hatch_agent unix:$dir/run/wake.sock;
    upstream vms {
        hatch;
    }
    server {
        listen 127.0.0.1:8080;
        location = /healthz {
            hatch_healthz;
        }
        location = /readyz {
            hatch_readyz max_age=3s;
        }
        location = /metrics {
            hatch_metrics;
        }
        location / {
            hatch_api;
            proxy_pass http://unix:$dir/run/agent.sock:;
            proxy_read_timeout 120s;
        }
    }
    server {
        listen 127.0.0.1:9090;
        location / {
            hatch_route hatch.localhost;
            proxy_pass http://vms;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host \$host;
        }
    }
    $http
}
EOF
}


# By its full path: a binary upgrade executes argv[0] again.
our ($nginx) = grep -x, $ENV{TEST_NGINX_BINARY} // (),
               map "$_/nginx", split(/:/, $ENV{PATH}), '/usr/sbin';


# nginx -t of a configuration: exit status and output.
sub nginx_t {
    my ($conf) = @_;
    write_file("$dir/test.conf", $conf);
    my $out = qx($nginx -t -q -c '$dir/test.conf' -e '$dir/logs/t.log' 2>&1);
    return ($? >> 8, $out);
}


sub start_nginx {
    my (%opt) = @_;
    write_file("$dir/nginx.conf", $opt{conf} // nginx_conf(%opt));
    my $pid = spawn("$dir/logs/nginx.out", $nginx, '-c', "$dir/nginx.conf",
                    '-e', "$dir/logs/error.log");
    my $status = reap($pid);
    return 0 if !defined $status || $status != 0;
    $nginx_started = 1;
    return wait_until('nginx listens', sub { connect_to('127.0.0.1:8080') });
}


sub nginx_pid { my ($pid) = slurp("$dir/nginx.pid") =~ /(\d+)/; return $pid }


sub nginx_log { return slurp("$dir/logs/error.log") }


# Process ids of the workers of the running master.
sub workers {
    my $master = nginx_pid() or return;
    my @workers = split ' ', slurp("/proc/$master/task/$master/children");
    return grep { slurp("/proc/$_/cmdline") =~ /worker process\b/
                  && slurp("/proc/$_/cmdline") !~ /shutting down/ } @workers;
}


sub stop_nginx {
    my ($signal) = @_;
    my $pid = nginx_pid() or return;
    kill $signal // 'QUIT', $pid;
    undef $nginx_started;
    return wait_until('nginx ends', sub { !-e "/proc/$pid" });
}


# --- libvirt ---

sub virsh { return scalar qx(virsh -q -c qemu:///system @_ 2>&1) }


sub qemu_pid {
    my ($id) = @_;
    return slurp("/run/libvirt/qemu/$id.pid") =~ /(\d+)/ && $1;
}


sub start_libvirtd {
    system('libvirtd', '-d') == 0 or die 'libvirtd does not start';
    return wait_until('libvirtd answers',
                      sub { virsh('version'); $? == 0 });
}


sub stop_libvirtd {
    my ($signal) = @_;
    my ($pid) = slurp('/run/libvirtd.pid') =~ /(\d+)/ or return;
    kill $signal // 'TERM', $pid;
    return wait_until('libvirtd ends', sub { !-e "/proc/$pid" });
}


# --- shorthands ---

sub create_vm {
    my ($fields) = @_;
    my $r = api('POST', '/vms', $fields // {});
    return $r->{json} if $r && $r->{status} == 201;
    diag('POST /vms: ', $r ? $r->{body} : 'no answer');
    return;
}


sub create_route {
    my ($vm, $subdomain, $port) = @_;
    my $r = api('POST', "/vms/$vm/routes",
                { target_port => $port // 80,
                  $subdomain ? (subdomain => $subdomain) : () });
    return $r->{json} if $r && $r->{status} == 201;
    diag('POST routes: ', $r ? $r->{body} : 'no answer');
    return;
}


# --- sleep and wake ---

# A request to a VM by its route's name: page(NAME, PATH, METHOD, BODY,
# HEADER => VALUE ...).
sub page {
    my ($name, $path, $method, $body, %headers) = @_;
    return http('127.0.0.1:9090', $method // 'GET', $path // '/', $body,
                Host => "$name.hatch.localhost", %headers);
}


# The state of a VM, as the zone has it: looking is not using.
sub state {
    my ($id) = @_;
    my ($vm) = grep $_->{id} eq $id, @{ (zone() // { vms => [] })->{vms} };
    return $vm ? $vm->{state} : 'none';
}


sub wait_state {
    my ($id, $state, $seconds) = @_;
    return wait_until("$id is $state", sub { Test::Hatch::state($id) eq $state },
                      $seconds) || do { diag(agent_log()); 0 };
}


# How often a VM has been woken so far, by kind.
sub woken {
    my ($id) = @_;
    my %n = (resume => 0, restore => 0, boot => 0);
    my $log = agent_log();
    $n{$1}++ while $log =~ /$id: woken, (\w+)/g;
    return \%n;
}


# --- the end ---

# Lines that match are not held against the test.
sub allow_log { push @allowed, @_ }


sub clean_logs {
    my @bad;

    for my $file (glob "$dir/logs/*") {
        next if $file =~ /access\.log$/;
        for my $line (split /\n/, slurp($file)) {
            next if $line !~ $bad || grep { $line =~ $_ } @allowed;
            push @bad, "$file: $line";
        }
    }

    ok(!@bad, 'no error in any log') or diag(join "\n", @bad);
}


sub stop_all {
    stop_nginx() if nginx_pid() && -e '/proc/' . nginx_pid();
    stop_agent() if $agent;

    for my $pid (keys %pids) {
        kill 'KILL', $pid;
        waitpid $pid, 0;
        delete $pids{$pid};
    }
}


# Call it last: stops everything, checks the logs, ends the plan.
sub done {
    stop_all();
    clean_answers();
    clean_logs();
    done_testing();
}


END {
    local $?;
    kill 'KILL', keys %pids if %pids;
}


1;
