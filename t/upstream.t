#!/usr/bin/perl

# upstream { hatch; }: one block for plain, TLS and gRPC locations, whose
# connections stay apart; each connection and each try is for the guest that
# the request began with, whoever has its address now.

use strict;
use warnings;

use IO::Select;
use IO::Socket::IP;
use Test::Hatch world => 'plain';
use Test::More;

# --- guests, at every address ---
#
# On port 7000 all protocols: what begins like TLS or HTTP/2 goes on to a
# server of nginx that speaks it.  On port 7010 files, slice by slice: the
# first waits half-way for "go", and "who" is what they are made of.

sub guest_of_all_protocols {
    my @listeners = map IO::Socket::IP->new(Listen => 100, LocalAddr => $_,
                                            LocalPort => 7000, V6Only => 1,
                                            ReuseAddr => 1) || die("$_: $@"),
                    '0.0.0.0', '::';
    my $pid = fork // die;
    return $pid if $pid;

    my $select = IO::Select->new(@listeners);
    my (%other);

    while (my @ready = $select->can_read) {
        for my $s (@ready) {
            if (grep $_ == $s, @listeners) {
                $select->add($s->accept);
                next;
            }

            my $n = sysread $s, my $data, 65536;
            if ($n && !$other{$s}) {
                my $port = $data =~ /^\x16/ ? 7002 : $data =~ /^PRI/ ? 7003
                                                                      : 7001;
                my $to = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port");
                @other{$s, $to} = ($to, $s);
                $select->add($to);
            }
            my $to = $other{$s};
            if ($n) {
                syswrite $to, $data;
                next;
            }
            $select->remove($_) for $s, $to // ();
            delete @other{$s, $to // ()};
            close $_ for $s, $to // ();
        }
    }
    POSIX::_exit(0);
}

sub guest_of_files {
    my $listener = IO::Socket::INET->new(Listen => 10, ReuseAddr => 1,
                                         LocalAddr => '0.0.0.0:7010') or die $!;
    my $pid = fork // die;
    return $pid if $pid;

    while (my $s = $listener->accept) {
        while (sysread $s, my $request, 65536) {
            my ($size) = $request =~ m{^GET /(\d+)};
            my ($from, $to) = $request =~ /bytes=(\d+)-(\d+)/;
            $to = $size - 1 if $to >= $size;
            my $length = $to - $from + 1;
            my $body = slurp("$dir/who") x $length;
            syswrite $s, "HTTP/1.1 206 Partial Content\r\n"
                       . "Content-Length: $length\r\nETag: \"same\"\r\n"
                       . "Content-Range: bytes $from-$to/$size\r\n\r\n";
            syswrite $s, substr $body, 0, $length / 2, '';
            write_file("$dir/half", $from);
            wait_until('it may go on', sub { -e "$dir/go" });
            while (length $body) {
                substr $body, 0, syswrite($s, $body) // last, '';
            }
            write_file("$dir/sent", $from);
        }
    }
    POSIX::_exit(0);
}

my @guests = (guest_of_all_protocols(), guest_of_files());

# --- VMs, and nginx ---

sub poke {
    system("$Test::Hatch::build/unit/zone-poke", @_[1 .. $#_], "$dir/run/zone",
           16384, @{ $_[0] }) == 0 or die;
}

my ($four, $six, $next) = map "vm_$_", 'four222222222222', 'six2222222222222',
                                       'next222222222222';
poke([$four, 'running', '127.0.0.2', $six, 'running', '::1']);

system("openssl genrsa -out $dir/key.pem 2048 2>/dev/null") == 0 or die;
for my $name ('guest', 'anna', 'bert') {
    system("openssl req -x509 -key $dir/key.pem -days 2 -subj /CN=$name "
         . "-out $dir/$name.pem 2>/dev/null") == 0 or die;
}
chmod 0644, "$dir/key.pem";

my %locations = (
    http => 'proxy_pass http://vms;',
    https => 'proxy_pass https://vms;',
    named => 'proxy_pass https://vms; proxy_ssl_server_name on; '
           . 'proxy_ssl_name $host;',
    client => 'proxy_pass https://vms; '
            . "proxy_ssl_certificate $dir/\$http_x_user.pem; "
            . "proxy_ssl_certificate_key $dir/key.pem;",
    grpc => 'grpc_pass grpc://vms;',
    grpcs => 'grpc_pass grpcs://vms;',
    file => 'slice 1000; postpone_output 0; proxy_pass http://vms/; '
          . 'proxy_set_header Range $slice_range;',
    big => 'slice 8m; proxy_pass http://vms/; '
         . 'proxy_set_header Range $slice_range;',
);
# HTTP/2 without TLS or gRPC, of nginx 1.29.4 and later
my ($major, $minor, $patch) = qx($Test::Hatch::nginx -v 2>&1)
                              =~ m{nginx/(\d+)\.(\d+)\.(\d+)} or die;
my $has_http2 = $major * 1e6 + $minor * 1e3 + $patch >= 1_029_004;
$locations{http2} = 'proxy_pass http://vms; proxy_http_version 2;'
    if $has_http2;

my $locations = join "\n", map "location /$_/ { $locations{$_} }",
                           sort keys %locations;

start_nginx(workers => 1, http => <<"EOF");
    server {
        listen 127.0.0.1:9091;
        hatch_route hatch.localhost;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        $locations
    }
    server {
        listen 127.0.0.1:9092;
        location / {
            hatch_route hatch.localhost;
            proxy_pass http://vms;
            error_page 502 = \@again;
        }
        location \@again { proxy_pass http://vms; }
    }
    server {
        listen 127.0.0.1:7001;
        listen 127.0.0.1:7002 ssl http2;
        listen 127.0.0.1:7003 http2;
        ssl_certificate $dir/guest.pem;
        ssl_certificate_key $dir/key.pem;
        ssl_verify_client optional_no_ca;
        location /client/ {
            return 200 "\$connection \$ssl_client_s_dn";
        }
        location / {
            return 200
                "\$connection \$server_protocol \$https \$ssl_server_name";
        }
    }
EOF

create_route(@$_) or die for [$four, 'four', 7000], [$four, 'other', 7000],
                             [$six, 'six', 7000], [$four, 'files', 7010],
                             [$four, 'fails', 7020];

sub ask {
    my ($path, $host, %headers) = @_;
    my $r = http('127.0.0.1:9091', 'GET', "/$path", undef,
                 Host => "$host.hatch.localhost", %headers);
    return $r ? $r->{status} == 200 ? $r->{body} : $r->{status} : 'none';
}

# --- protocols ---

my %speaks = (http => 'HTTP/1.1 ', https => 'HTTP/1.1 on', grpc => 'HTTP/2.0 ',
              grpcs => 'HTTP/2.0 on',
              named => 'HTTP/1.1 on four.hatch.localhost',
              $has_http2 ? (http2 => 'HTTP/2.0 ') : ());
my (%first, %all);

for my $turn (1 .. 3) {
    for my $kind (sort keys %speaks) {
        my ($number, $spoken) = split / /, ask("$kind/", 'four'), 2;
        $spoken //= '';
        is($spoken =~ s/ *$//r, $speaks{$kind} =~ s/ *$//r,
           "$kind, turn $turn");
        $first{$kind} //= $number;
        is($number, $first{$kind}, 'on the same connection');
        $all{$number} = 1;
    }
}
is(scalar keys %all, scalar keys %speaks, 'each its own');

like(ask('named/', 'other'), qr/ other\.hatch\.localhost$/,
     'another name of the VM: another TLS connection');
like(ask('named/', 'four'), qr/^$first{named} .* four\.hatch\.localhost$/,
     'and the first one is still there');

for my $user ('anna', 'bert', 'anna', 'bert') {
    like(ask('client/', 'four', 'X-User' => $user), qr/ CN=$user$/,
         "by the certificate of $user");
}

# --- guests, and who has their addresses ---

for ([$four, 'four', '127.0.0.2'], [$six, 'six', '::1']) {
    my ($id, $name, $address) = @$_;
    my ($number) = ask('http/', $name) =~ /^(\d+)/;
    is((ask('http/', $name) =~ /^(\d+)/)[0], $number, "$name: kept");
    poke([$id, 'running', $address], '--incarnation=7');
    my $other = ask('http/', $name);
    like($other, qr/^\d+ HTTP/, 'after a reboot there is an answer');
    unlike($other, qr/^$number /, 'on a new connection');
}

# a body comes in while the VM is deleted, and another has its address
{
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1:9091') or die;
    print $s "POST /http/ HTTP/1.1\r\nHost: four.hatch.localhost\r\n"
           . "Content-Length: 4\r\nConnection: close\r\n\r\nab";
    $s->flush;
    wait_until('the request has begun', sub {
        my ($vm) = grep $_->{id} eq $four, @{ zone()->{vms} };
        return $vm->{requests};
    });
    poke([$four, 'gone', '-', $next, 'running', '127.0.0.2']);
    print $s 'cd';
    $s->flush;
    local $/;
    like(scalar <$s>, qr{^HTTP/1.1 502 }, 'the body is not sent to another VM');
    poke([$next, 'gone', '-', $four, 'running', '127.0.0.2']);
}

# a guest fails while the VM is deleted, and the error page leads there again
{
    my $guest = IO::Socket::INET->new(Listen => 5, ReuseAddr => 1,
                                      LocalAddr => '127.0.0.2:7020') or die;
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1:9092') or die;
    print $s "GET / HTTP/1.1\r\nHost: fails.hatch.localhost\r\n"
           . "Connection: close\r\n\r\n";
    $s->flush;
    my $first = $guest->accept;
    sysread $first, my $request, 4096;
    poke([$four, 'gone', '-', $next, 'running', '127.0.0.2']);
    close $first;
    my $select = IO::Select->new($s, $guest);
    my ($ready) = $select->can_read(10);
    is($ready, $s, 'the other VM is not asked');
    close $guest;
    local $/;
    like(scalar <$s>, qr{^HTTP/1.1 502 }, 'the client is told');
    poke([$next, 'gone', '-', $four, 'running', '127.0.0.2']);
}

# --- slices ---

sub get {
    my ($path) = @_;
    unlink "$dir/half", "$dir/sent", "$dir/go";
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1:9091') or die;
    print $s "GET /$path HTTP/1.1\r\nHost: files.hatch.localhost\r\n"
           . "Connection: close\r\n\r\n";
    $s->flush;
    wait_until('the guest has sent half a slice', sub { -s "$dir/half" });
    return $s;
}

sub body {
    my ($s) = @_;
    local $/;
    return (split /\r\n\r\n/, scalar <$s>, 2)[1];
}

write_file("$dir/who", 'a');
my $s = get('file/2500');
write_file("$dir/go", '');
is(body($s), 'a' x 2500, 'three slices');
is(slurp("$dir/sent"), 2000, 'asked for one by one');

# while a client takes its time, the VM is in use
{
    my $s = get('big/16777216');
    write_file("$dir/go", '');
    wait_until('the first slice is sent', sub { -s "$dir/sent" });
    my ($stamps, $last) = (0, 0);
    ok(wait_until('the VM is stamped, and again', sub {
        my ($vm) = grep $_->{id} eq $four, @{ zone()->{vms} };
        $stamps++ if $vm->{last_request_age_ms} < $last;
        $last = $vm->{last_request_age_ms};
        return $stamps == 4;
    }, 10), 'between two slices the VM is kept awake');
    is(slurp("$dir/sent"), 0, 'no other slice was asked for meanwhile');
    close $s;
}

# the VM is deleted, and another one has its address
{
    my $s = get('file/2500');
    poke([$four, 'gone', '-', $next, 'running', '127.0.0.2']);
    write_file("$dir/who", 'b');
    write_file("$dir/go", '');
    is(body($s), 'a' x 1000, 'the first slice, and nothing of the other VM');
    is(slurp("$dir/sent"), 0, 'which was not asked');
}

kill 'KILL', @guests;
allow_log(qr/hatch: the guest of $four that the request began with is gone/,
          qr/unexpected status code 502 in slice response/,
          qr/upstream prematurely closed .* host: "fails\./);
done();
