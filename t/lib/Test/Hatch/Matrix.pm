package Test::Hatch::Matrix;

# A table of configurations, and what is answered in each.
#
#   use Test::Hatch world => 'plain';
#   use Test::Hatch::Matrix;
#
#   matrix(\%common,
#       'what it is' => [q{ location / { ROUTE PASS } },
#           'GET a /x' => '200 A GET /x',
#           'GET none /x' => '404 route_not_found'],
#       ...);
#
# Each row is a server of its own on a port of its own; all of them are one
# nginx, with a real agent over libvirt's test driver.  The guests are A, B (and
# C, without a VM): another nginx that says who was asked for what.  In a
# configuration
#
#   ROUTE   hatch_route hatch.localhost
#   PASS    proxy_pass to upstream vms, with kept connections and the Host
#   KEYS    hatch_api_keys, with the key "secret" of "me"
#   DIR     the test's folder; DIR/www has files
#   plain   one more upstream, that is no VM
#
# A question is METHOD NAME PATH, then " + Header: value" for each header and
# " = body".  NAME is a route (a, b; refused: a port of A where nobody listens;
# never: a VM that does not get ready; asleep: a stopped VM that its route does
# not wake; none: no such route), or a whole host where it has a dot or is
# localhost.  The answer is the status and the text; of JSON errors their code.
# A list has more: headers that it must have (text, pattern, or undef: not).
# Code in place of an answer gets the port and a name.
#
# Rows in which A answers are asked once more with A asleep: the answers must
# be the same, and A awake.  Options stand in front of the configuration:
#
#   held => 0       not so
#   h2 => 1         by HTTP/2
#   listen => ...   parameters of "listen"
#   http => ...     directives in front of the server
#
# \%common has directives of the http block (http => ...), the number of workers
# (workers => 2), and code that changes the whole configuration (change => ...).
#
# With TEST_NGINX_USE_HUP a configuration comes by a reload.

use strict;
use warnings;

use Encode ();
use Errno;
use Exporter ();
use Socket qw(inet_aton sockaddr_in PF_INET SOCK_NONBLOCK SOCK_STREAM);
use Test::Hatch;
use Test::More;

our @ISA = ('Exporter');
our @EXPORT = qw(matrix ask check refused %vm row_port guest_log
                 guest_pid requests_total sleep_now);

our %vm;
my (%port, $guest, @full);
my $next = 20000;

# the SHA-256 of "secret"
my $secret = '2bb80d537b1da3e38bd30361aa855686'
           . 'bde0eacd7162fef6a25fe97bf527a25b';


# --- guests ---

sub guest_server {
    my ($name, $address) = @_;
    return <<"END";
    server {
        listen $address:80;
        location / {
            proxy_pass http://127.55.0.1:81;
            proxy_set_header Host \$host;
            proxy_set_header X-Name $name;
            add_header X-Body "\$request_body" always;
            add_header X-Upgrade "\$http_upgrade" always;
            add_header X-Authorization "\$http_authorization" always;
            add_header X-Key "\$http_x_api_key" always;
            proxy_ignore_headers X-Accel-Redirect X-Accel-Limit-Rate
                                 X-Accel-Charset X-Accel-Expires;
            proxy_pass_header X-Accel-Redirect;
            proxy_pass_header X-Accel-Limit-Rate;
            proxy_pass_header X-Accel-Charset;
            proxy_pass_header X-Accel-Expires;
        }
    }
END
}


# What stands behind the three, and says what it was asked.
my $behind = <<'END';
    server {
        listen 127.55.0.1:81;
        access_log DIR/guest.access guest;
        location / {
            return 200 "$http_x_name $request_method $request_uri";
        }
        location /file { alias DIR/www/guest-file; }
        location /big { alias DIR/www/guest-big; etag off; }
        location /teapot { return 418; }
        location /missing { return 404 "the guest's own"; }
        location /broken { return 502 "the guest's own"; }
        location /no { return 403 "no"; }
        location /page {
            default_type text/html;
            set $include '<!--#include virtual="$arg_of" -->';
            return 200 "<b>$http_x_name $include</b>";
        }
        location /accel {
            add_header X-Accel-Redirect $arg_redirect;
            add_header X-Accel-Limit-Rate $arg_rate;
            add_header X-Accel-Charset $arg_charset;
            add_header X-Accel-Expires $arg_expires;
            default_type text/plain;
            return 200 "$http_x_name $request_method $uri";
        }
        location /hops {
            add_header Upgrade h2,h2c;
            add_header Proxy-Connection keep-alive;
            return 200 "$http_x_name $request_method $uri";
        }
    }
END


sub start_guests {
    my $servers = guest_server('A', '127.55.0.2')
                . guest_server('B', '127.55.0.3')
                . guest_server('C', '127.55.0.6')
                . guest_server('plain', '127.55.0.1')
                . expand($behind);
    write_file("$dir/www/guest-file", 'x' x 1000 . 'y' x 1000 . 'z' x 500);
    write_file("$dir/guest.conf", <<"END");
worker_processes 1;
pid $dir/guest.pid;
error_log $dir/logs/guest.log;
events { }
http {
    log_format guest '\$http_x_name \$request_method \$request_uri';
    access_log off;
    client_body_temp_path $dir/guest.body;
    proxy_temp_path $dir/guest.proxy;
    fastcgi_temp_path $dir/guest.fastcgi;
    uwsgi_temp_path $dir/guest.uwsgi;
    scgi_temp_path $dir/guest.scgi;
$servers
}
END
    my $status = reap(spawn("$dir/logs/guest.out", $Test::Hatch::nginx, '-c',
                            "$dir/guest.conf", '-e', "$dir/logs/guest.log"));
    die slurp("$dir/logs/guest.log") if $status;
    ($guest) = slurp("$dir/guest.pid") =~ /(\d+)/;
}


# A listener whose queue is full: connections to it neither come nor fail.
sub never_ready {
    my ($address, $port) = @_;
    my $where = sockaddr_in($port, inet_aton($address));

    for my $n (0 .. 4) {
        socket(my $s, PF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0) or die $!;
        push @full, $s;
        next if $n && (connect($s, $where) || $!{EINPROGRESS});
        die $! if $n || !bind($s, $where) || !listen($s, 0);
    }
}


sub start_vms {
    start_agent(env => { HATCH_BRIDGE_CIDR => '127.55.0.1/24',
                         HATCH_LOG_LEVEL => 'debug' });
    my %address = (a => '127.55.0.2', b => '127.55.0.3',
                   asleep => '127.55.0.4', never => '127.55.0.9');
    never_ready('127.55.0.9', 80);

    for my $name (sort keys %address) {
        my $new = create_vm({ guest_ip => $address{$name},
                              idle_timeout => undef }) or die 'no VM';
        $vm{$name} = $new->{id};
    }
}


sub create_routes {
    my %route = (a => [$vm{a}, 80], b => [$vm{b}, 80], refused => [$vm{a}, 1],
                 never => [$vm{never}, 80]);
    create_route($route{$_}[0], $_, $route{$_}[1]) or die for sort keys %route;
    my $r = api('POST', "/vms/$vm{asleep}/routes",
                { subdomain => 'asleep', target_port => 80,
                  auto_wake => JSON::PP::false });
    die $r->{body} if $r->{status} != 201;
    $r = api('POST', "/vms/$vm{asleep}/stop", { force => JSON::PP::true });
    die $r->{body} if $r->{status} != 200;
    wait_state($vm{asleep}, 'stopped');
}


# A is paused, if it is not; it wakes with the next request for it.
sub sleep_now {
    my $r = http("$dir/run/agent.sock", 'POST', "/vms/$vm{a}/pause");
    die 'cannot pause it: ', $r ? $r->{body} : 'no answer'
        if !$r || $r->{status} != 200 && $r->{body} !~ /it is paused/;
    return wait_state($vm{a}, 'paused');
}


# The worker of the nginx that is all guests.
sub guest_pid {
    return slurp("/proc/$guest/task/$guest/children") =~ /(\d+)/ && $1;
}


# What guests were asked for so far.
sub guest_log { return slurp("$dir/guest.access") }


sub requests_total { return metrics('/metrics')->{hatch_requests_total} // 0 }


# --- the configuration ---

sub expand {
    my ($conf) = @_;
    $conf =~ s/\bROUTE\b/hatch_route hatch.localhost;/g;
    $conf =~ s/\bKEYS\b/hatch_api_keys DIR\/keys;/g;
    $conf =~ s{\bPASS\b}{proxy_pass http://vms; proxy_http_version 1.1;
                         proxy_set_header Connection "";
                         proxy_set_header Host \$host;}g;
    $conf =~ s/\bDIR\b/$dir/g;
    return $conf;
}


sub common_http {
    my ($common) = @_;
    return expand(<<'END' . ($common->{http} // ''));
    upstream plain { server 127.55.0.1:80; }
    proxy_cache_path DIR/cache keys_zone=cache:1m;
END
}


# The options, the server's text and the questions of a row.
sub parse_row {
    my ($name, $row) = @_;
    my @row = @$row;
    my %opt = ref $row[0] eq 'HASH' ? %{ shift @row } : ();
    my $conf = expand(shift @row);
    my $port = $port{$name} = $next++;
    my $listen = $opt{listen} // '';
    my $http = expand($opt{http} // '');
    return { name => $name, opt => \%opt, port => $port, asks => \@row,
             conf => "$http\nserver { listen 127.0.0.1:$port $listen;\n"
                     . "$conf }\n" };
}


sub row_port { return $port{$_[0]} // die "no row $_[0]" }


sub whole_conf {
    my ($common, @rows) = @_;
    my $conf = nginx_conf(workers => $common->{workers} // 2,
                          http => join '', common_http($common),
                          map $_->{conf}, @rows);
    return $common->{change} ? $common->{change}->($conf) : $conf;
}


# The rows that nginx takes; each of the others is a test that failed.
sub usable {
    my ($common, @rows) = @_;
    my ($status) = nginx_t(whole_conf($common, @rows));
    return @rows if $status == 0;

    my @usable;
    for my $row (@rows) {
        my ($status, $out) = nginx_t(whole_conf($common, $row));
        push @usable, $row and next if $status == 0;
        fail("$row->{name}: nginx takes it");
        diag($out);
    }
    return @usable;
}


sub serve {
    my ($common, @rows) = @_;
    my $conf = whole_conf($common, @rows);
    my $n = $common->{workers} // 2;

    if (!$ENV{TEST_NGINX_USE_HUP}) {
        stop_nginx();
        unlink "$dir/nginx.pid";
        return start_nginx(conf => $conf)
               && wait_until('its workers', sub { workers() == $n });
    }

    my @old = workers();
    write_file("$dir/nginx.conf", $conf);
    kill 'HUP', Test::Hatch::nginx_pid();
    return wait_until('a reload', sub {
        my %now = map { $_ => 1 } workers();
        %now == $n && !grep $now{$_}, @old;
    });
}


# --- asking ---

sub parse_question {
    my ($question) = @_;
    my $body = $question =~ s/ = (.*)$//s ? $1 : undef;
    my ($line, @headers) = split / \+ /, $question;
    my ($method, $name, $path) = split ' ', $line;
    my %headers = map { /^([^:]+):\s*(.*)$/s ? ($1, $2) : die $_ } @headers;
    $headers{Host} //= $name =~ /\.|^localhost$/ ? $name
                       : "$name.hatch.localhost";
    return ($method, $path, $body, %headers);
}


# curl loses answers that come before the body, so those have none here.
sub by_http2 {
    my ($port, $method, $path, $body, %headers) = @_;
    my @args = map "-H '$_: $headers{$_}'", sort keys %headers;
    push @args, "--data-binary '$body'" if defined $body;
    push @args, $method eq 'HEAD' ? '-I' : "-X $method";
    my $text = qx(curl -s -i --max-time 30 --http2-prior-knowledge @args \\
                  'http://127.0.0.1:$port$path' 2>&1);
    my ($head, $rest) = split /\r\n\r\n/, $text, 2;
    return undef if !defined $head || $head !~ s/^HTTP\/2 (\d+).*\r\n//;
    return { status => $1, body => $rest // '',
             headers => { map { /^([^:]+):\s*(.*)$/ ? (lc $1, $2) : () }
                          split /\r\n/, $head } };
}


sub ask {
    my ($port, $question, $h2) = @_;
    my ($method, $path, $body, %headers) = parse_question($question);
    return by_http2($port, $method, $path, $body, %headers) if $h2;
    return scalar http("127.0.0.1:$port", $method, $path, $body, %headers);
}


# "STATUS text"; of our errors the code, which have to be well-formed.
sub text_of {
    my ($r) = @_;
    return 'no answer' if !$r;
    my $body = $r->{body};
    my $utf8 = $body;
    return "$r->{status} that is not UTF-8"
        if !eval { Encode::decode('UTF-8', $utf8, Encode::FB_CROAK()); 1 };
    my $error = $body =~ /^\{"error"/ ? eval { json($body) } : undef;
    my $type = $r->{headers}{'content-type'} // 'none';
    return "$r->{status} of type $type: $body"
        if $error && $type ne 'application/json';
    $body = $error->{code} if $error && defined $error->{code};
    $body =~ s/\s+/ /g;
    $body =~ s/ $//;
    return $body eq '' ? $r->{status} : "$r->{status} $body";
}


# Newer nginx refuses by itself a Host that is none (since 1.29).
sub refused_by_nginx {
    my ($r, $text) = @_;
    return $text eq '403 host_forbidden' && $r && $r->{status} == 400
           && $r->{body} =~ m{<center>nginx/1\.(?:29|[3-9]\d)\.};
}


sub check {
    my ($name, $r, $expected) = @_;
    my ($text, %headers) = ref $expected eq 'ARRAY' ? @$expected : $expected;
    my $got = text_of($r);

    return ok(1, "$name: nginx refuses it") if refused_by_nginx($r, $text);

    my $ok = ref $text ? like($got, $text, $name) : is($got, $text, $name);

    for (sort keys %headers) {
        my ($value, $had) = ($headers{$_}, $r ? $r->{headers}{lc $_} : undef);
        $ok = (ref $value ? like($had // '', $value, "$name: $_")
                          : is($had, $value, "$name: $_")) && $ok;
    }
    return $ok;
}


# All questions of a row; with A asleep those that it answers.
sub run_row {
    my ($row, $asleep) = @_;
    my @asks = @{ $row->{asks} };
    my $name = $row->{name} . ($asleep ? ', asleep' : '');

    while (my ($question, $expected) = splice @asks, 0, 2) {
        if (ref $expected eq 'CODE') {
            $expected->($row->{port}, "$name: $question") if !$asleep;
            next;
        }
        my $first = ref $expected eq 'ARRAY' ? $expected->[0] : $expected;
        my $by_a = $question =~ /^\S+ a / && $first =~ /\bA [A-Z]+ /;
        next if $asleep && !$by_a;
        sleep_now() if $asleep;
        check("$name: $question", ask($row->{port}, $question, $row->{opt}{h2}),
              $expected);
        is(Test::Hatch::state($vm{a}), 'running', "$name: it is awake")
            if $asleep;
    }
}


# nginx does not take it, and says this.  What begins with "http:" stands in
# the http block.
sub refused {
    my ($name, $conf, $says) = @_;
    my $http = $conf =~ s/^\s*http:// ? expand($conf)
             : 'server { listen 127.0.0.1:19999; ' . expand($conf) . ' }';
    my ($status, $out) = nginx_t(whole_conf({ http => $http }));
    is($status, 1, "$name: refused");
    like($out, $says, "$name: says why");
}


# Guests, agent, VMs and routes; nginx with its usual configuration.
sub begin {
    mkdir "$dir/www";
    start_guests();
    start_vms();
    write_file("$dir/keys", "me $secret\n");
    start_nginx(@_);
    create_routes();
}


sub matrix {
    my ($common, @table) = @_;
    begin() if !%vm;

    my @rows;
    while (my ($name, $row) = splice @table, 0, 2) {
        push @rows, parse_row($name, $row);
    }

    @rows = usable($common, @rows);
    serve($common, @rows) or die nginx_log();
    is(http('127.55.0.2:80', 'GET', '/')->{body}, 'A GET /', 'the guest');
    my @workers = workers();

    for my $row (@rows) {
        run_row($row);
        run_row($row, 1) if $row->{opt}{held} // 1;
    }

    is_deeply([workers()], \@workers, 'no worker has died');
}


END {
    local $?;
    kill 'TERM', $guest if $guest;
}


1;
