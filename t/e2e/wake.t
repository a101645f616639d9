#!/usr/bin/perl

# A request for a VM that sleeps is held and the VM woken: up the whole
# ladder, for every kind of request, once however many wait.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;
use Time::HiRes qw(time);

start_agent(connect => 'qemu:///system', env => { HATCH_LOG_LEVEL => 'info' });

my $proxy = <<'EOF';
            hatch_route hatch.localhost;
            proxy_pass http://vms;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Connection $http_connection;
            proxy_set_header Upgrade $http_upgrade;
            client_max_body_size 8m;
            access_log DIR/logs/wake.access.log wake;
EOF
$proxy =~ s/DIR/$dir/;

start_nginx(http => <<"EOF");
    log_format wake '\$host \$status vm=\$hatch_vm_id wake=\$hatch_wake '
                    'time=\$hatch_wake_time';
    server {
        listen 127.0.0.1:9443 http2;
        location / {
$proxy
        }
    }
    server {
        listen 127.0.0.1:9091;
        location / {
$proxy
        }
    }
EOF

my $vm = create_vm({ idle_timeout => undef, save_after => undef });
my $id = $vm->{id};
create_route($id, 'web');
create_route($id, 'socket', 7000);

sub act {
    my ($action, $body) = @_;
    my $r = api('POST', "/vms/$id/$action", $body // {});
    $r->{status} < 300 or diag $r->{body};
}

my %to_sleep = (
    resume => sub { act('pause') },
    restore => sub { act('pause'); virsh("managedsave --running $id");
                     wait_state($id, 'snapshotted') },
    boot => sub { act('stop', { force => JSON::PP::true }) },
);

# one that was just created and still boots: the first request waits for it
is(page('web')->{status}, 200, 'the first request waits for the boot');

# --- the ladder ---

for my $kind (qw(resume restore boot)) {
    $to_sleep{$kind}->();
    my $r = page('web', '/cgi-bin/info?x');
    is($r->{status}, 200, "$kind: answered");
    like($r->{body}, qr/^method GET\nquery x$/m, 'by the guest itself');
    like($r->{headers}{'server-timing'},
         qr/^hatch-wake;desc="$kind";dur=\d+\.\d$/, 'Server-Timing');
    # the agent says so when it has answered
    wait_until('the wake is told', sub { woken($id)->{$kind} });
    is(woken($id)->{$kind}, 1, 'one wake');
    is(page('web')->{headers}{'server-timing'}, undef,
       'none on a response that did not wait');
}
is(api('GET', "/vms/$id")->{json}{guest_ip}, $vm->{guest_ip}, 'same address');

# --- every kind of request is held whole ---

my $large = 'x' x 3_000_000;
my %kinds = (
    'a large body' => sub {
        my $r = http('127.0.0.1:9091', 'POST', '/cgi-bin/info', $large,
                     Host => 'web.hatch.localhost');
        return $r->{status} == 200 && $r->{body} =~ /^3000000$/m;
    },
    'a chunked body' => sub {
        my $r = request('127.0.0.1:9091', "POST /cgi-bin/info HTTP/1.1\r\n"
                        . "Host: web.hatch.localhost\r\nConnection: close\r\n"
                        . "Transfer-Encoding: chunked\r\n\r\n"
                        . "5\r\nhello\r\n0\r\n\r\n");
        return $r && $r->{status} == 200 && $r->{body} =~ /^5$/m;
    },
    'HTTP/1.0' => sub {
        my $r = request('127.0.0.1:9090', "GET /cgi-bin/info HTTP/1.0\r\n"
                        . "Host: web.hatch.localhost\r\n\r\n");
        return $r && $r->{status} == 200 && $r->{body} =~ /method GET/;
    },
    'HEAD' => sub { page('web', '/', 'HEAD')->{status} == 200 },
    'HTTP/2 with a body' => sub {
        write_file("$dir/large", $large);
        my $out = qx(curl -s --max-time 60 --http2-prior-knowledge \\
                     -H 'Host: web.hatch.localhost' \\
                     --data-binary '\@$dir/large' \\
                     http://127.0.0.1:9443/cgi-bin/info);
        return $out =~ /^3000000$/m;
    },
    'a WebSocket' => sub {
        my $s = Test::Hatch::connect_to('127.0.0.1:9091');
        print $s "GET / HTTP/1.1\r\nHost: socket.hatch.localhost\r\n"
               . "Upgrade: websocket\r\nConnection: Upgrade\r\n"
               . "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
               . "Sec-WebSocket-Version: 13\r\n\r\n";
        $s->flush;
        my $head = '';
        while (defined(my $line = <$s>)) {
            $head .= $line;
            last if $line eq "\r\n";
        }
        print $s "hello\n";
        $s->flush;
        return $head =~ / 101 / && <$s> eq "hello\n"
               && $head =~ /s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=/;
    },
);
for my $kind (sort keys %kinds) {
    for my $sleep (qw(resume restore)) {
        $to_sleep{$sleep}->();
        ok($kinds{$kind}->(), "$kind, held for a $sleep");
    }
}

# --- many at once: one wake ---

sub many {
    my ($n, $to, $text) = @_;
    my @sockets;
    for (1 .. $n) {
        my $s = Test::Hatch::connect_to($to) or return ();
        print $s $text;
        $s->flush;
        push @sockets, $s;
    }
    my %status;
    for my $s (@sockets) {
        local $/;
        my $answer = <$s> // '';
        $status{$answer =~ m{^HTTP/1\.1 (\d+)} ? $1 : 'none'}++;
    }
    return %status;
}

for my $kind (qw(resume restore)) {
    $to_sleep{$kind}->();
    my $before = woken($id)->{$kind};
    is_deeply({ many(100, '127.0.0.1:9090', "GET / HTTP/1.1\r\n"
                     . "Host: web.hatch.localhost\r\nConnection: close\r\n\r\n")
              }, { 200 => 100 }, "$kind: 100 at once are answered");
    wait_until('the wake is told', sub { woken($id)->{$kind} > $before });
    is(woken($id)->{$kind} - $before, 1, 'by one wake');
}

# --- a client that leaves cancels nothing ---

$to_sleep{restore}->();
my $gone = Test::Hatch::connect_to('127.0.0.1:9090');
print $gone "GET / HTTP/1.1\r\nHost: web.hatch.localhost\r\n\r\n";
$gone->flush;
wait_until('it is being woken',
           sub { Test::Hatch::state($id) ne 'snapshotted' });
close $gone;
ok(wait_state($id, 'running'), 'a client that leaves does not cancel the wake');

# --- connections that nginx kept ---

is(page('web')->{status}, 200, 'a connection to the guest is kept');
virsh("reset $id");
is(page('web', '/cgi-bin/info', 'POST', 'body')->{status}, 200,
   'a POST right after the guest rebooted');
is(page('web')->{status}, 200, 'kept again');
act('stop', { force => JSON::PP::true });
act('start');
is(page('web', '/cgi-bin/info', 'POST', 'body')->{status}, 200,
   'and after it was stopped and started');

# --- the log ---

like(slurp("$dir/logs/wake.access.log"),
     qr/^socket\S* 101 vm=$id wake=resume time=\d\.\d{3}$/m,
     'the access log has the variables');

done();
