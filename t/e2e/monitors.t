#!/usr/bin/perl

# Those who ask whether Hatch is well: HAProxy, with failover; the kubelet;
# Docker's health check; monitors on the internet.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

start_agent();
start_nginx(http => <<'END');
    server {
        # the other host: it stands by
        listen 127.0.0.1:8180;
        location = /readyz { return 200 'ready'; }
        location / { return 200 'standby'; }
    }
    server {
        listen 127.0.0.1:8280;
        location / { return 200 'primary'; }
    }
END
create_vm({ name => 'one' });

# --- HAProxy ---

sub start_haproxy {
    my (@backends) = @_;
    write_file("$dir/haproxy.cfg", <<"END" . join '', @backends);
global
    stats socket $dir/haproxy.sock
defaults
    mode http
    timeout connect 2s
    timeout client 5s
    timeout server 5s
END
    my $pid = spawn("$dir/logs/haproxy.log", 'haproxy', '-db', '-f',
                    "$dir/haproxy.cfg");
    wait_until('HAProxy is up', sub { connect_haproxy('show info') });
    return $pid;
}

sub connect_haproxy {
    my ($command) = @_;
    my $s = IO::Socket::UNIX->new(Peer => "$dir/haproxy.sock") or return;
    print $s "$command\n";
    local $/;
    return scalar <$s>;
}

# status, check status and code of a server, as HAProxy has them
sub checked {
    my ($backend) = @_;
    my ($head, @lines) = split /\n/, connect_haproxy('show stat') // '';
    my @names = split /,/, $head =~ s/^# //r;
    for (@lines) {
        my %of;
        @of{@names} = split /,/;
        return \%of if $of{pxname} eq $backend && $of{svname} eq 's';
    }
    return {};
}

my $check = "    server s 127.0.0.1:8080 check inter 200ms rise 1 fall 1\n";
my $haproxy = start_haproxy(<<"END");
backend plain
    option httpchk GET /healthz
$check
backend http10
    option httpchk GET /healthz
    http-check expect status 200
$check
backend http11
    option httpchk
    http-check send meth GET uri /healthz ver HTTP/1.1 hdr Host hatch.example
    http-check expect string "\\"status\\":\\"ok\\""
$check
backend head
    option httpchk HEAD /healthz HTTP/1.0
$check
backend options
    option httpchk /healthz
$check
backend options_ready
    option httpchk OPTIONS /readyz
$check
backend text
    option httpchk
    http-check send meth GET uri /healthz hdr Accept text/plain
    http-check expect rstring hatch_vms\\ 1
$check
backend ready
    option httpchk GET /readyz
    http-check expect string "\\"status\\":\\"ready\\""
$check
backend wrong
    option httpchk GET /healthz
    http-check expect string "no such text"
$check
frontend www
    bind 127.0.0.1:8000
    default_backend hosts
backend hosts
    option httpchk GET /readyz
    http-check expect status 200
    server s 127.0.0.1:8280 check port 8080 inter 200ms rise 1 fall 2
    server b 127.0.0.1:8180 check inter 200ms rise 1 fall 2 backup
END

for my $backend (qw(plain http10 http11 head text ready hosts)) {
    wait_until("$backend is checked", sub {
        checked($backend)->{check_status} eq 'L7OK';
    }) or diag(explain(checked($backend)));
    my $s = checked($backend);
    is($s->{status}, 'UP', "$backend: up");
    is($s->{check_code}, 200, "$backend: 200");
}
# what HAProxy sends where no method is named: OPTIONS
for my $backend (qw(options options_ready)) {
    wait_until("$backend is checked", sub {
        checked($backend)->{check_status} eq 'L7OK';
    }) or diag(explain(checked($backend)));
    is(checked($backend)->{status}, 'UP', "$backend: up");
    is(checked($backend)->{check_code}, 204, "$backend: 204");
}

wait_until('the wrong one is down', sub {
    checked('wrong')->{status} eq 'DOWN';
});

# failover: a host whose agent is dead gives its traffic to the other
sub front { return (http('127.0.0.1:8000', 'GET', '/') // {})->{body} // '' }
is(front(), 'primary', 'traffic goes to the first host');
stop_agent('KILL');
wait_until('to the other one', sub { front() eq 'standby' }, 15);
is(checked('hosts')->{check_code}, 503, 'readyz is 503');
is(checked('http10')->{status}, 'UP', 'healthz is not: alive all the same');
is(checked('options')->{status}, 'UP', 'also by OPTIONS');
wait_until('readyz is not ready by OPTIONS', sub {
    checked('options_ready')->{status} eq 'DOWN';
});
is(checked('options_ready')->{check_code}, 503, 'nor its OPTIONS');
start_agent();
wait_until('and back', sub { front() eq 'primary' }, 15);
is(checked('hosts')->{check_code}, 200, 'readyz is 200');
kill_pid('TERM', $haproxy);
reap($haproxy);

# --- the kubelet: its probes as it sends them ---

sub probe {
    my ($path) = @_;
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1:8080') or die $!;
    print $s "GET $path HTTP/1.1\r\nHost: 10.0.0.7:8080\r\n"
             . "User-Agent: kube-probe/1.29\r\nAccept: */*\r\n"
             . "Connection: close\r\n\r\n";
    local $/;
    my $answer = <$s>;
    return { status => $answer =~ m{^HTTP/1\.1 (\d+)}, text => $answer };
}

for my $path ('/healthz', '/readyz') {
    my $r = probe($path);
    is($r->{status}, 200, "kubelet: $path");
    like($r->{text}, qr{^Content-Type: application/json\r$}m, 'JSON');
    like($r->{text}, qr{^Connection: close\r$}m, 'and it ends');
}

stop_agent('KILL');
wait_until('not ready', sub { probe('/readyz')->{status} == 503 }, 10);
is(probe('/healthz')->{status}, 200, 'alive: no reason to restart it');
start_agent();
wait_until('ready', sub { probe('/readyz')->{status} == 200 }, 10);

# --- the line of the compose file, as it stands there ---

my $compose = slurp("$top/deploy/compose/compose.yaml");
my ($line) = $compose =~ /test: \["CMD", (.*healthz.*)\]/ or die;
my @command = $line =~ /"([^"]+)"/g;
is("@command", 'curl -f http://localhost:8080/healthz', 'the documented line');
my $out = qx(@command 2> /dev/null);
is($?, 0, 'it is healthy');
like($out, qr/^\{"status":"ok","vm_count":\d,"route_count":\d\}$/, 'and says');

my $agent_line = join ' ', $compose =~ /test: \["CMD", "curl", "-f", ("--unix-socket".*?)\]/s;
my @agent = $agent_line =~ /"([^"]+)"/g;
s{/run/hatch}{$dir/run} for @agent;
$out = qx(curl -sf @agent);
is($?, 0, "the agent's, too");

stop_nginx();
qx(@command 2> /dev/null);
isnt($?, 0, 'without nginx it is not');

# before any agent has published
unlink "$dir/run/zone";
stop_agent();
unlink "$dir/run/zone";
start_nginx();
qx(@command 2> /dev/null);
is($? >> 8, 22, 'nor before an agent was there: 503');

allow_log(qr{haproxy.log}, qr/zone .* was removed and has been made anew/);
done();
